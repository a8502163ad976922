//! `havre ci lock`: which commit each action of the workflows is, written to `.github/workflows/actions.lock`.

mod gather;
mod numbers;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use havre_base::{Durability, replace};
use havre_git::{RemoteSettings, Remotes};
use havre_model::LoadFailure;
use havre_workflow::lock::{self, Lock};
use havre_workflow::repository::{File, Findings};
use havre_workflow::{Limits, Workflow};

use super::files;
use crate::cli::FindingsForm;
use crate::cli::ci::CiLockArgs;
use crate::commands::block_on;
use crate::commands::findings::{self, Checked};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;

use gather::Gather;

pub fn run(context: &Context, args: &CiLockArgs) -> Outcome {
    let paths: Vec<PathBuf> = args.path.iter().cloned().collect();
    if let Some(path) = paths.iter().find(|path| !path.is_dir()) {
        let message = format!("{} is no folder", path.display());
        return Err(Failure::new(Exit::Usage, message).hint("name the repository's folder"));
    }
    let found = files::find(&paths, &Limits::default())?;
    let Findings { errors, warnings } = found.findings;
    // What the lock file lacks is what this command is for.
    let others = |error: &havre_model::Diagnostic| error.code != lock::CODE;
    let errors: Vec<_> = errors.into_iter().filter(others).collect();
    if !errors.is_empty() {
        let form = FindingsForm {
            json: args.json,
            sarif: false,
        };
        let found = Err(LoadFailure { errors, warnings });
        return findings::print(context, Checked::Workflows, found, false, form);
    }
    let workflows: Vec<(&File, Workflow)> = found.files.iter().filter_map(read).collect();
    let root = workflows.first().and_then(|(file, _)| root_of(file));
    let root = files::named_folder(root.unwrap_or(Path::new("."))).to_owned();
    let path = root.join(lock::PATH);
    let before = existing(&path)?;
    let wanted = wanted(&workflows, context);
    let updated: BTreeSet<String> = args.update.iter().map(|name| name.to_lowercase()).collect();
    let next = block_on(next(context, args, &root, &before, &wanted, &updated))?;
    let (old, new) = (before.text(), next.text());
    let changes = changes(&before, &next);
    let is_new = old != new;
    if args.json.json {
        context.ui.json(&serde_json::json!({
            "path": path.display().to_string(),
            "changed": is_new,
            "changes": changes,
        }))?;
    } else {
        for change in &changes {
            context.ui.data(&format!("{change}\n"))?;
        }
    }
    if args.check {
        return match is_new {
            false => Ok(Exit::Ok),
            true => {
                let message = format!("{} does not say what the workflows use", path.display());
                Err(Failure::new(Exit::Failed, message).hint("`havre ci lock` writes it"))
            }
        };
    }
    if is_new {
        let written = replace(&path, new.as_bytes(), 0o644, Durability::Durable);
        written.map_err(|error| {
            let message = format!("cannot write {}", path.display());
            Failure::new(Exit::Failed, message).caused_by(&error)
        })?;
    }
    let count = next.dependencies.len() as u64;
    let what = crate::human::count(count, "action");
    context.ui.say(&format!("{} has {what}", path.display()));
    Ok(Exit::Ok)
}

fn read(file: &File) -> Option<(&File, Workflow)> {
    let text = String::from_utf8_lossy(&file.bytes);
    let shown = &file.shown;
    let read = havre_workflow::read(Path::new(""), shown, &text, &Limits::default());
    Some((file, read.ok()?.workflow))
}

fn root_of(file: &File) -> Option<&Path> {
    let depth = Path::new(file.path.as_ref()?).components().count();
    file.shown.ancestors().nth(depth)
}

fn existing(path: &Path) -> Result<Lock, Failure> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(Lock::empty());
    }
    let cannot = |cause: String| {
        let message = format!("{} cannot be used", path.display());
        let mut failure = Failure::new(Exit::Usage, message);
        failure.causes.push(cause);
        failure.hint("mend it, or remove it to begin anew")
    };
    let text = havre_base::read_small(path, Limits::default().bytes as u64);
    let text = text.map_err(|error| cannot(error.to_string()))?;
    lock::read(path, &text).map_err(|failure| {
        let first = failure.errors.first().map(ToString::to_string);
        cannot(first.unwrap_or_default())
    })
}

/// Workflows that can be locked, and their paths.
fn wanted<'w>(
    workflows: &'w [(&File, Workflow)],
    context: &Context,
) -> Vec<(&'w str, &'w Workflow)> {
    let each = workflows.iter().filter_map(|(file, workflow)| {
        let path = file.path.as_deref()?;
        let used = lock::used(workflow);
        let local = used.iter().find_map(|used| match &used.value {
            havre_workflow::UsedAction::Workspace(path) => Some(path),
            _ => None,
        });
        match local {
            None => Some((path, workflow)),
            Some(local) => {
                let text = format!(
                    "{path} is not locked: it uses `{local}`, whose files only a job knows"
                );
                let hint = "name actions of this repository by `$/PATH`";
                context.ui.warn(&text, Some(hint));
                None
            }
        }
    });
    each.collect()
}

async fn next(
    context: &Context,
    args: &CiLockArgs,
    root: &Path,
    before: &Lock,
    workflows: &[(&str, &Workflow)],
    updated: &BTreeSet<String>,
) -> Result<Lock, Failure> {
    let cannot = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failed, "cannot look up what the workflows use").caused_by(error)
    };
    let kept = tempfile::tempdir().map_err(|error| cannot(&error))?;
    let settings = RemoteSettings {
        server: args.server.clone(),
        folder: kept.path().to_owned(),
        confined: None,
    };
    let remotes = Remotes::open(settings, None).map_err(|error| cannot(&error))?;
    let mut gather = Gather::new(root, &remotes, before, updated, args.check);
    let mut next = Lock::empty();
    next.version.clone_from(&before.version);
    for (path, workflow) in workflows {
        let pins = gather.workflow(path, workflow).await?;
        next.workflows.insert((*path).to_owned(), pins);
    }
    for name in updated {
        if !gather.is_known(name) {
            let message = format!("no workflow uses `{name}`");
            let hint = "name OWNER/REPOSITORY or OWNER/REPOSITORY@REF as a `uses` does";
            return Err(Failure::new(Exit::NotFound, message).hint(hint));
        }
    }
    next.dependencies = gather.found;
    if !args.check {
        numbers::complete(context, &args.server, before, &mut next).await;
    }
    Ok(next)
}

/// What differs, a line each.
fn changes(before: &Lock, next: &Lock) -> Vec<String> {
    let mut lines = Vec::new();
    let short = |commit: &str| commit.chars().take(12).collect::<String>();
    for (key, locked) in &next.dependencies {
        match before.dependencies.get(key) {
            None if locked.commit.is_empty() => lines.push(format!("+ {key}")),
            None => lines.push(format!("+ {key} {}", short(&locked.commit))),
            Some(old) if old.commit != locked.commit => {
                let (old, new) = (short(&old.commit), short(&locked.commit));
                lines.push(format!("~ {key} {old} -> {new}"));
            }
            Some(_) => {}
        }
    }
    let gone = before.dependencies.keys();
    let gone = gone.filter(|key| !next.dependencies.contains_key(*key));
    lines.extend(gone.map(|key| format!("- {key}")));
    for path in next.workflows.keys() {
        if !before.workflows.contains_key(path) {
            lines.push(format!("+ {path}"));
        }
    }
    let gone = before.workflows.keys();
    let gone = gone.filter(|path| !next.workflows.contains_key(*path));
    lines.extend(gone.map(|path| format!("- {path}")));
    lines
}
