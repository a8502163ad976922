//! The event that a command line tells of.

use std::fs;
use std::path::Path;

use havre_base::read_small;
use havre_pipeline::{Event, Reference};
use havre_workflow::Workflow;

use super::files;
use crate::cli::ci::{CiEvent, CiEventArgs};
use crate::error::Failure;
use crate::exit::Exit;

/// Most bytes of a file in which git keeps a name.
const MAX_NAME: u64 = 16 << 10;

pub fn reference(args: &CiEventArgs, folder: &Path) -> Result<Reference, Failure> {
    match (&args.branch, &args.tag) {
        (Some(branch), _) => Ok(Reference::Branch(branch.clone())),
        (None, Some(tag)) => Ok(Reference::Tag(tag.clone())),
        (None, None) => match checked_out(folder) {
            Some(branch) => Ok(Reference::Branch(branch)),
            None => Err(
                Failure::new(Exit::Usage, "which branch? None is checked out here")
                    .hint("name it: `--branch NAME`, or `--tag NAME`"),
            ),
        },
    }
}

/// The branch that is checked out in the repository around a folder, by what git keeps there.
fn checked_out(folder: &Path) -> Option<String> {
    let folder = fs::canonicalize(files::named_folder(folder)).ok()?;
    let git = folder
        .ancestors()
        .map(|folder| folder.join(".git"))
        .find(|git| git.exists())?;
    // In a worktree of its own, it is a file that names the place.
    let git = match read_small(&git, MAX_NAME) {
        Ok(text) => git.parent()?.join(text.strip_prefix("gitdir:")?.trim()),
        Err(_) => git,
    };
    let head = read_small(&git.join("HEAD"), MAX_NAME).ok()?;
    let branch = head.trim().strip_prefix("ref: refs/heads/")?;
    Some(branch.to_owned())
}

pub fn event(args: &CiEventArgs, on: &Reference, workflow: &Workflow) -> Result<Event, Failure> {
    let branch = on.name().to_owned();
    let changed = args.changed.clone();
    let message = args.message.clone();
    let kind = |usual: &str| args.kind.clone().unwrap_or_else(|| usual.to_owned());
    Ok(match args.event {
        CiEvent::Push => Event::Push {
            to: on.clone(),
            changed,
            message,
        },
        CiEvent::PullRequest => Event::PullRequest {
            action: kind("opened"),
            base: args.base.clone(),
            head: branch,
            changed,
            message,
        },
        CiEvent::WorkflowDispatch => Event::Dispatch {
            on: on.clone(),
            inputs: args.input.iter().cloned().collect(),
        },
        // At the first of its own times.
        CiEvent::Schedule => Event::Schedule {
            cron: match workflow.on.schedule.first() {
                Some(time) => time.cron.value.clone(),
                None => String::new(),
            },
            branch,
        },
        CiEvent::WorkflowCall => Event::Call { on: on.clone() },
        CiEvent::RepositoryDispatch => Event::Repository {
            kind: args.kind.clone().ok_or_else(|| {
                Failure::new(Exit::Usage, "which type of repository_dispatch?")
                    .hint("name it: `--type NAME`")
            })?,
            branch,
        },
        CiEvent::WorkflowRun => Event::WorkflowRun {
            workflow: args.workflow.clone().ok_or_else(|| {
                Failure::new(Exit::Usage, "which workflow does it follow?")
                    .hint("name it: `--workflow NAME`")
            })?,
            action: kind("completed"),
            ran_on: branch.clone(),
            branch,
        },
    })
}
