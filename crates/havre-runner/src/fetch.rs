//! Actions of other repositories, fetched by git; and those of the own one, at the commit that runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use havre_base::clipped;
use havre_job::{Actions, Document};
use havre_workflow::Remote;
use havre_workflow::lock::key;

use crate::capture::{Captured, capture};
use crate::processes::Processes;

/// Longest for one action.
const MAX_TIME: Duration = Duration::from_secs(300);

/// The folder of a repository at a reference, fetched if it is not there.
pub(crate) fn fetch(
    processes: &Processes,
    document: &Document,
    remote: &Remote,
) -> Result<PathBuf, String> {
    let actions = &document.actions;
    let Remote {
        owner,
        repository,
        reference,
        ..
    } = remote;
    let named = |name: &str| {
        !name.is_empty() && !name.starts_with(['-', '.']) && !name.contains(['\0', '\n'])
    };
    let key = key(remote);
    if let Some((_, commit)) = actions.there.iter().find(|(name, _)| **name == key) {
        let place = format!("{owner}/{repository}").to_lowercase();
        return Ok(Path::new(&actions.folder).join(place).join(commit));
    }
    let steps_out = reference
        .split('/')
        .any(|part| part == ".." || part.is_empty());
    if ![owner, repository, reference]
        .iter()
        .all(|name| named(name))
        || steps_out
    {
        return Err(format!(
            "`{remote}` names no repository that can be fetched"
        ));
    }
    let pin = pinned(actions, &key);
    if actions.locked && pin.is_none() {
        return Err(format!(
            "action `{key}` is not in the lock file of the workflow: `havre ci lock` puts it there, unless an action \
             names it that only the job knows"
        ));
    }
    let folder = Path::new(&actions.folder)
        .join(owner)
        .join(repository)
        .join(reference);
    let done = beside(&folder, "complete");
    if done.is_file() {
        return Ok(folder);
    }
    let wanted = pin.unwrap_or(reference);
    let server = actions.server.trim_end_matches('/');
    let address = format!("{server}/{owner}/{repository}");
    let fail = |error: std::io::Error| format!("{}: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(fail)?;
    }
    fs::create_dir_all(&folder).map_err(fail)?;
    let git = |arguments: &[&str]| {
        let mut command = git(document);
        command.arg("-C").arg(&folder).args(arguments);
        capture(processes, &mut command, MAX_TIME)
    };
    let steps: [&[&str]; 3] = [
        &["init", "--quiet"],
        &[
            "fetch",
            "--quiet",
            "--depth",
            "1",
            "--no-tags",
            "--end-of-options",
            &address,
            wanted,
        ],
        &["checkout", "--quiet", "--detach", "FETCH_HEAD"],
    ];
    for step in steps {
        said(git(step)?, |said| {
            format!(
                "action `{remote}` cannot be fetched from {address}: {said}; see that the repository and the reference exist and the box may reach it, or put the action into this repository and use `./PATH`"
            )
        })?;
    }
    if let Some(pin) = pin {
        let head = git(&["rev-parse", "HEAD"])?.stdout;
        if !head.trim().eq_ignore_ascii_case(pin) {
            let head = head.trim();
            return Err(format!(
                "action `{remote}` is commit {head}, but the lock file says {pin}"
            ));
        }
    }
    fs::write(&done, "").map_err(fail)?;
    Ok(folder)
}

/// A file next to a folder, whose name may hold dots.
fn beside(folder: &Path, what: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(format!(".{what}"));
    name.into()
}

fn pinned<'a>(actions: &'a Actions, key: &str) -> Option<&'a str> {
    let mut pinned = actions.pinned.iter();
    let found = pinned.find(|(name, _)| *name == key);
    found.map(|(_, commit)| commit.strip_prefix("sha1-").unwrap_or(commit))
}

/// The own repository at a commit, out of `repository`, a bare one that nobody may write to.
pub(crate) fn own(
    processes: &Processes,
    document: &Document,
    repository: &Path,
    commit: &str,
) -> Result<PathBuf, String> {
    let is_commit = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_commit {
        return Err("`$/` needs the commit that runs, which nobody gave".to_owned());
    }
    let folder = Path::new(&document.actions.folder)
        .join("_own")
        .join(commit);
    let done = beside(&folder, "complete");
    if done.is_file() {
        return Ok(folder);
    }
    let fail = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(&folder).map_err(fail)?;
    let mut command = git(document);
    command
        .env("GIT_INDEX_FILE", beside(&folder, "index"))
        .arg(format!("--git-dir={}", repository.display()))
        .arg(format!("--work-tree={}", folder.display()))
        .args(["checkout", "--quiet", "--force", commit, "--", "."]);
    let captured = capture(processes, &mut command, MAX_TIME)?;
    said(captured, |said| {
        format!("commit {commit} cannot be taken from the repository: {said}")
    })?;
    fs::write(&done, "").map_err(fail)?;
    Ok(folder)
}

/// Asks nobody anything, and takes repositories of any user.
fn git(document: &Document) -> Command {
    let mut command = Command::new("git");
    command
        .envs(&document.env)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_COUNT", "4")
        .env("GIT_CONFIG_KEY_2", "gc.auto")
        .env("GIT_CONFIG_VALUE_2", "0")
        .env("GIT_CONFIG_KEY_3", "maintenance.auto")
        .env("GIT_CONFIG_VALUE_3", "false")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_CONFIG_KEY_1", "advice.detachedHead")
        .env("GIT_CONFIG_VALUE_1", "false");
    command
}

fn said(captured: Captured, why: impl FnOnce(&str) -> String) -> Result<(), String> {
    if captured.success {
        return Ok(());
    }
    let lines = captured
        .stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let text = lines.collect::<Vec<_>>().join("; ");
    Err(why(match text.is_empty() {
        true => "git failed and said nothing",
        false => clipped(&text, 1000),
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use havre_job::{Runner, Sources, VERSION};

    use super::*;

    fn document(folder: &Path) -> Document {
        let runner = Runner {
            name: String::new(),
            arch: String::new(),
            workspace: String::new(),
            temp: String::new(),
            tool_cache: String::new(),
            in_container: false,
            job_context: String::new(),
        };
        Document {
            version: VERSION,
            path: String::new(),
            workflow: String::new(),
            job: String::new(),
            contexts: BTreeMap::new(),
            masks: Vec::new(),
            runner,
            sources: Sources::Repository,
            results: None,
            doors: Vec::new(),
            actions: Actions {
                folder: folder.join("actions").to_string_lossy().into_owned(),
                ..Actions::default()
            },
            env: BTreeMap::new(),
            debug: false,
        }
    }

    #[test]
    fn the_own_repository_is_taken_at_its_commit_and_not_written_to() {
        let folder = tempfile::tempdir().expect("there is a folder for tests");
        let (tree, bare) = (folder.path().join("tree"), folder.path().join("bare.git"));
        fs::create_dir_all(tree.join("act")).expect("made");
        let processes = Processes::of_tests();
        let document = document(folder.path());
        let run = |arguments: &[&str]| {
            let mut command = git(&document);
            command
                .arg("-C")
                .arg(&tree)
                .args(["-c", "user.name=a", "-c", "user.email=a@b"]);
            let captured =
                capture(&processes, command.args(arguments), MAX_TIME).expect("git runs");
            assert!(captured.success, "{}", captured.stderr);
            captured.stdout.trim().to_owned()
        };
        run(&["init", "--quiet"]);
        let mut commits = Vec::new();
        for text in ["one", "two"] {
            fs::write(tree.join("act/action.yml"), text).expect("written");
            run(&["add", "."]);
            run(&["commit", "--quiet", "-m", text]);
            commits.push(run(&["rev-parse", "HEAD"]));
        }
        run(&["clone", "--quiet", "--bare", ".", &bare.to_string_lossy()]);
        fs::set_permissions(&bare, fs::Permissions::from_mode(0o555)).expect("set");
        for (commit, text) in commits.iter().zip(["one", "two"]) {
            for _ in 0..2 {
                let taken = own(&processes, &document, &bare, commit).expect("it is taken");
                let found = fs::read_to_string(taken.join("act/action.yml"));
                assert_eq!(found.expect("it is there"), text);
            }
        }
        assert!(!bare.join("index").exists());
        let none = own(&processes, &document, &bare, &"1".repeat(40));
        assert!(none.is_err_and(|why| why.contains("cannot be taken")));
        assert!(own(&processes, &document, &bare, "main").is_err());
    }
}
