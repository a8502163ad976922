//! The environment of a process: which variables win over which.

use std::path::{Path, PathBuf};

use havre_job::{Document, paths};
use havre_pipeline::{Object, Value};
use indexmap::IndexMap;

/// Names and values of variables.
pub(crate) type Env = IndexMap<String, String>;

/// Where nothing says where programs are.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Keys of `github` that are variables as well.
const OF_GITHUB: [&str; 39] = [
    "action",
    "action_path",
    "action_ref",
    "action_repository",
    "actor",
    "actor_id",
    "api_url",
    "artifacts",
    "artifacts_list",
    "base_ref",
    "env",
    "event_name",
    "event_path",
    "graphql_url",
    "head_ref",
    "job",
    "output",
    "path",
    "ref",
    "ref_name",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "retention_days",
    "run_attempt",
    "run_id",
    "run_number",
    "server_url",
    "sha",
    "state",
    "step_summary",
    "triggering_actor",
    "workflow",
    "workflow_ref",
    "workflow_sha",
    "workspace",
];

/// What the runner itself was given, and what the document adds.
pub(crate) fn inherited(document: &Document) -> Env {
    let own = std::env::vars_os();
    let mut env: Env = own
        .map(|(name, value)| {
            let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
            (text(name), text(value))
        })
        .collect();
    env.extend(document.env.clone());
    env.entry("HOME".to_owned())
        .or_insert_with(|| paths::HOME.to_owned());
    env
}

/// The variables of a process: `env` is that of the step with all that is around it, `folders` come first in PATH, the
/// last one at the front.
pub(crate) fn variables(
    document: &Document,
    inherited: &Env,
    env: &Env,
    folders: &[String],
    github: &Object,
) -> Env {
    let mut all = inherited.clone();
    all.extend(env.clone());
    all.entry("CI".to_owned())
        .or_insert_with(|| "true".to_owned());
    all.insert("GITHUB_ACTIONS".to_owned(), "true".to_owned());
    for key in OF_GITHUB {
        let name = format!("GITHUB_{}", key.to_uppercase());
        match github.get(key) {
            None | Some(Value::Null) => {}
            Some(value) => drop(all.insert(name, value.to_text().into_owned())),
        }
    }
    let runner = &document.runner;
    for (name, value) in [
        ("RUNNER_NAME", runner.name.as_str()),
        ("RUNNER_OS", "Linux"),
        ("RUNNER_ARCH", &runner.arch),
        ("RUNNER_TEMP", &runner.temp),
        ("RUNNER_TOOL_CACHE", &runner.tool_cache),
        ("RUNNER_WORKSPACE", parent(&runner.workspace)),
        ("RUNNER_ENVIRONMENT", "self-hosted"),
    ] {
        all.insert(name.to_owned(), value.to_owned());
    }
    if document.debug {
        all.insert("RUNNER_DEBUG".to_owned(), "1".to_owned());
    }
    let own = !runner.in_container;
    let path = path(all.get("PATH").map(String::as_str), folders, own);
    all.insert("PATH".to_owned(), path);
    // What cannot be a variable would keep the process from starting.
    all.retain(|name, value| {
        !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
    });
    all
}

/// The folder that a workspace is in.
pub(crate) fn parent(workspace: &str) -> &str {
    let parent = Path::new(workspace).parent();
    parent.and_then(Path::to_str).unwrap_or(workspace)
}

/// `own`: programs are the machine's own, whose `docker` would find no daemon.
fn path(given: Option<&str>, folders: &[String], own: bool) -> String {
    let mut parts: Vec<&str> = folders.iter().rev().map(String::as_str).collect();
    let given = given
        .filter(|path| !path.is_empty())
        .unwrap_or(DEFAULT_PATH);
    let lacks = |wanted: &str| {
        let has = given.split(':').any(|folder| folder == wanted);
        !has && Path::new(wanted).is_dir()
    };
    let docker = lacks(paths::DOCKER).then_some(paths::DOCKER);
    parts.extend(docker.filter(|_| own));
    parts.push(given);
    parts.extend(lacks(paths::PROGRAMS).then_some(paths::PROGRAMS));
    parts.extend(docker.filter(|_| !own));
    parts.join(":")
}

/// Where a program is, by a PATH; a name with `/` is taken from `folder`.
pub(crate) fn program(name: &str, path: &str, folder: &Path) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(folder.join(name));
    }
    let folders = path.split(':').filter(|folder| !folder.is_empty());
    folders
        .map(|place| folder.join(place).join(name))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let found = std::fs::metadata(path);
    found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_were_added_last_come_first() {
        let added = ["/a".to_owned(), "/b".to_owned()];
        assert_eq!(path(Some("/bin"), &added, true), "/b:/a:/bin");
        assert_eq!(path(None, &[], false), DEFAULT_PATH);
    }
}
