//! `actions/checkout`.

mod origin;
mod plan;

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::failure::{Failure, refused};
use crate::git::Git;
use crate::step::Step;
use origin::{Origin, UPLOAD_PACK, is_own_repository, persist};
use plan::{Target, Wanted};

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    match step.needed("HAVRE_SOURCES")? {
        "tree" => tree(step),
        "repository" => repository(step),
        other => refused(format!(
            "HAVRE_SOURCES is `{other}`; it must be `tree` or `repository`"
        )),
    }
}

/// Takes back what `persist-credentials` left, and nothing else.
pub(crate) fn post(step: &Step) -> Result<(), Failure> {
    let (Some(folder), Some(key)) = (step.state("folder"), step.state("key")) else {
        return Ok(());
    };
    let folder = Path::new(folder);
    let git = Git::new(step, folder);
    // A step may have removed the folder, or the setting: then there is nothing to take back.
    if folder.is_dir() && git.ask(&["config", "--local", "--get", key])?.is_some() {
        git.ask(&["config", "--local", "--unset-all", key])?;
        step.say("The token is no longer in the repository's configuration.");
    }
    Ok(())
}

/// The workspace is a working tree already.
fn tree(step: &Step) -> Result<(), Failure> {
    if !is_own_repository(step)? {
        return refused(format!(
            "`repository: {}` cannot be checked out here: the workspace is the working tree itself; push the commit, \
             and the pipeline of the server checks it out",
            step.input("repository")
        ));
    }
    let (reference, commit) = (step.needed("GITHUB_REF")?, step.needed("GITHUB_SHA")?);
    let asked = step.input("ref");
    let same = [
        "",
        reference,
        commit,
        step.var("GITHUB_REF_NAME").unwrap_or_default(),
    ];
    if !same.contains(&asked.as_str()) {
        return refused(format!(
            "`ref: {asked}` cannot be checked out here: the workspace is the working tree itself, at {reference}; \
             push, and the pipeline of the server checks out what is asked for"
        ));
    }
    if !matches!(step.input("path").as_str(), "" | "." | "./") {
        return refused(
            "`path` has no place here: the workspace is the working tree itself, which cannot be put elsewhere; leave \
             `path` out",
        );
    }
    let workspace = step.workspace()?;
    step.say("The workspace is the working tree as it is, with what is not committed.");
    trust(step, &workspace)?;
    step.output("ref", reference)?;
    step.output("commit", commit)
}

fn repository(step: &Step) -> Result<(), Failure> {
    let workspace = step.workspace()?;
    let folder = inside(&workspace, &step.input("path"))?;
    let origin = origin::find(step)?;
    let event = if origin.own {
        Some((step.needed("GITHUB_REF")?, step.needed("GITHUB_SHA")?))
    } else {
        None
    };
    let mut wanted = Wanted::new(&step.input("ref"), event);
    fs::create_dir_all(&folder).map_err(Failure::io(format!("make {}", folder.display())))?;
    let mut git = Git::new(step, &folder);
    if let Some((server, header)) = &origin.credentials {
        step.mask(header);
        git = git.with_credentials(server, header.clone());
    }

    step.group("Preparing the repository");
    prepare(step, &git, &folder, &origin)?;
    trust(step, &folder)?;
    step.end_group();
    if wanted
        == (Wanted {
            reference: String::new(),
            commit: String::new(),
        })
    {
        wanted = default_branch(&git)?;
    }
    step.group("Fetching");
    fetch(step, &git, &wanted, &origin)?;
    step.end_group();
    step.group("Checking out");
    sparse(step, &git, &folder)?;
    check_out(&git, wanted.target())?;
    step.end_group();
    persist(step, &folder, &origin)?;

    let commit = git.ask(&["log", "-1", "--format=%H"])?;
    let Some(commit) = commit else {
        return refused("nothing was checked out");
    };
    step.output("ref", &wanted.reference)?;
    step.output("commit", &commit)
}

/// `path` below the workspace, which it may not leave.
fn inside(workspace: &Path, path: &str) -> Result<PathBuf, Failure> {
    let asked = Path::new(path);
    let asked = asked.strip_prefix(workspace).unwrap_or(asked);
    let mut folder = workspace.to_owned();
    for part in asked.components() {
        match part {
            Component::Normal(name) => folder.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return refused(format!(
                    "`path: {path}` leaves the workspace; name a folder below it"
                ));
            }
        }
    }
    Ok(folder)
}

/// An empty repository with its origin, or the one that is there, cleaned.
fn prepare(step: &Step, git: &Git<'_>, folder: &Path, origin: &Origin) -> Result<(), Failure> {
    let address = &origin.address;
    let there = folder.join(".git").exists();
    if there
        && git
            .ask(&["config", "--local", "--get", "remote.origin.url"])?
            .as_ref()
            == Some(address)
    {
        git.ask(&["checkout", "--detach"])?;
        if step.flag("clean", true)? {
            git.run(&["clean", "-ffdx"])?;
            git.ask(&["reset", "--hard", "HEAD"])?;
        }
        return Ok(());
    }
    empty(folder).map_err(Failure::io(format!("empty {}", folder.display())))?;
    git.run(&["init", "--quiet", "."])?;
    git.run(&["remote", "add", "origin", address])?;
    if origin.own {
        // Later steps fetch from there as well, e.g. what else there is of the history.
        git.run(&["config", "--local", "remote.origin.uploadpack", UPLOAD_PACK])?;
    }
    git.run(&["config", "--local", "gc.auto", "0"])
}

fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn trust(step: &Step, folder: &Path) -> Result<(), Failure> {
    if !step.flag("set-safe-directory", true)? {
        return Ok(());
    }
    let folder = folder.to_string_lossy();
    let git = Git::new(step, Path::new("/"));
    let known = git
        .ask(&["config", "--global", "--get-all", "safe.directory"])?
        .unwrap_or_default();
    if known.lines().any(|line| line == folder) {
        return Ok(());
    }
    if git
        .ask(&["config", "--global", "--add", "safe.directory", &folder])?
        .is_none()
    {
        step.warning("git's own configuration cannot be written: git in later steps may refuse the workspace");
    }
    Ok(())
}

fn default_branch(git: &Git<'_>) -> Result<Wanted, Failure> {
    let answer = git
        .ask(&["ls-remote", "--symref", "origin", "HEAD"])?
        .unwrap_or_default();
    let branch = answer
        .lines()
        .find_map(|line| line.strip_prefix("ref: ")?.split_whitespace().next());
    match branch {
        Some(branch) => Ok(Wanted {
            reference: branch.to_owned(),
            commit: String::new(),
        }),
        None => refused(
            "the repository's default branch cannot be found out: it is not there, not reachable from this job, or \
             needs a `token`",
        ),
    }
}

fn fetch(step: &Step, git: &Git<'_>, wanted: &Wanted, origin: &Origin) -> Result<(), Failure> {
    let depth = step.number("fetch-depth", 0, 1)?;
    let filter = match step.given("filter") {
        Some(filter) => Some(filter),
        None => {
            (!origin.own && step.given("sparse-checkout").is_some()).then(|| "blob:none".to_owned())
        }
    };
    let mut options = vec!["--no-tags".to_owned(), "--no-recurse-submodules".to_owned()];
    options.extend(filter.map(|filter| format!("--filter={filter}")));
    if step.flag("show-progress", false)? {
        options.push("--progress".to_owned());
    }
    let run = |more: &[&str], refspecs: &[String]| {
        let mut words = vec!["fetch"];
        words.extend(options.iter().map(String::as_str));
        words.extend(more);
        words.push("origin");
        words.extend(refspecs.iter().map(String::as_str));
        git.run(&words)
            .map_err(|failure| unreachable(step, origin, failure))
    };
    let mut refspecs = wanted.refspecs();
    if depth > 0 {
        if step.flag("fetch-tags", false)? {
            refspecs.push(plan::TAGS.to_owned());
        }
        return run(&["--prune", &format!("--depth={depth}")], &refspecs);
    }
    let shallow = git
        .ask(&["rev-parse", "--is-shallow-repository"])?
        .as_deref()
        == Some("true");
    let more: &[&str] = if shallow {
        &["--prune", "--unshallow"]
    } else {
        &["--prune"]
    };
    run(more, &plan::EVERYTHING.map(str::to_owned))?;
    // The branch may have moved on meanwhile, or the commit be of none.
    if wanted.commit.is_empty() {
        Ok(())
    } else {
        run(&[], &refspecs)
    }
}

fn unreachable(step: &Step, origin: &Origin, failure: Failure) -> Failure {
    let asked = step.input("ref");
    match failure {
        Failure::Program { .. } if !origin.own => origin::unreachable(step, origin),
        Failure::Program { .. } if !asked.is_empty() => {
            let why = format!("there is no branch and no tag `{asked}`, and no such commit");
            Failure::Refused(why)
        }
        failure => failure,
    }
}

fn sparse(step: &Step, git: &Git<'_>, folder: &Path) -> Result<(), Failure> {
    let patterns = step.lines("sparse-checkout");
    if patterns.is_empty() {
        // One of an earlier checkout.
        git.ask(&["sparse-checkout", "disable"])?;
        return Ok(());
    }
    if step.flag("sparse-checkout-cone-mode", true)? {
        let mut words = vec!["sparse-checkout", "set", "--cone"];
        words.extend(patterns.iter().map(String::as_str));
        return git.run(&words);
    }
    git.run(&["config", "core.sparseCheckout", "true"])?;
    let path = folder.join(".git/info/sparse-checkout");
    let doing = format!("write {}", path.display());
    let written = fs::create_dir_all(folder.join(".git/info"));
    written
        .and_then(|()| fs::write(&path, patterns.join("\n") + "\n"))
        .map_err(Failure::io(doing))
}

fn check_out(git: &Git<'_>, target: Target) -> Result<(), Failure> {
    match target {
        Target::Branch { name, start } => git.run(&["checkout", "--force", "-B", &name, &start]),
        Target::Detached(what) => git.run(&["checkout", "--force", "--detach", &what]),
        Target::BranchOrTag(name) => {
            let (branch, tag) = (
                format!("refs/remotes/origin/{name}"),
                format!("refs/tags/{name}"),
            );
            let there = |what: &str| git.ask(&["rev-parse", "--verify", "--quiet", what]);
            if there(&branch)?.is_some() {
                check_out(
                    git,
                    Target::Branch {
                        name,
                        start: branch,
                    },
                )
            } else if there(&tag)?.is_some() {
                check_out(git, Target::Detached(tag))
            } else {
                refused(format!("there is no branch and no tag `{name}`"))
            }
        }
    }
}
