//! What is done before the first step: actions of other repositories are fetched, inputs of built-in ones judged.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use havre_job::{Document, Sources, paths};
use havre_workflow::action::Runs;
use havre_workflow::{Action, Remote, Step, UsedAction};

use crate::action::{self, Loaded};
use crate::fetch;
use crate::processes::Processes;

/// Most actions within each other; GitHub's.
pub(crate) const MAX_DEPTH: usize = 10;

/// Actions of other repositories, by how steps name them.
#[derive(Default)]
pub(crate) struct Prepared {
    remote: HashMap<String, Arc<Loaded>>,
}

/// What is needed to fetch.
pub(crate) struct Preparing<'a> {
    /// Runs git.
    pub processes: &'a Processes,
    /// Says where from.
    pub document: &'a Document,
    /// What is there already.
    pub prepared: Prepared,
}

impl Prepared {
    /// An action that was fetched before.
    pub fn get(&self, remote: &Remote) -> Option<Arc<Loaded>> {
        self.remote.get(&remote.to_string()).cloned()
    }
}

impl Preparing<'_> {
    /// Prepares a step; why it cannot run.
    pub fn step(&mut self, step: &Step, depth: usize) -> Result<(), String> {
        let Action::Uses { action, with } = &step.action else {
            return Ok(());
        };
        match &action.value {
            UsedAction::Image(_) | UsedAction::Workspace(_) | UsedAction::Own(_) => Ok(()),
            UsedAction::Remote(remote) => {
                let found = havre_actions::find(&remote.owner, &remote.repository, &remote.path);
                match (found, action::written(with.as_ref())) {
                    (Some(built_in), Some(given)) => action::judge(built_in, given.iter().copied()),
                    (Some(built_in), None) => built_in.refusal().map_or(Ok(()), Err),
                    (None, _) => self.remote(remote, depth),
                }
            }
        }
    }

    fn remote(&mut self, remote: &Remote, depth: usize) -> Result<(), String> {
        let name = remote.to_string();
        if self.prepared.remote.contains_key(&name) {
            return Ok(());
        }
        if depth >= MAX_DEPTH {
            return Err(format!(
                "`{name}`: more than {MAX_DEPTH} actions are within each other"
            ));
        }
        let root = fetch::fetch(self.processes, self.document, remote)?;
        let loaded = load_remote(root, remote)?;
        let loaded = Arc::new(loaded);
        self.prepared
            .remote
            .insert(name.clone(), Arc::clone(&loaded));
        match &loaded.file.runs {
            Runs::Container(_) | Runs::JavaScript { .. } => Ok(()),
            Runs::Composite(steps) => {
                for step in steps {
                    let within = self.step(step, depth + 1);
                    within.map_err(|why| format!("in `{name}`: {why}"))?;
                }
                Ok(())
            }
        }
    }
}

fn load_remote(root: PathBuf, remote: &Remote) -> Result<Loaded, String> {
    if remote.path.split('/').any(|part| part == "..") {
        return Err(format!("`{remote}` leads out of its repository"));
    }
    let folder = root.join(&remote.path);
    let file = action::load(&folder, &remote.to_string())?;
    let repository = format!("{}/{}", remote.owner, remote.repository);
    Ok(Loaded {
        folder,
        root: Some(root),
        origin: Some((repository, remote.reference.clone())),
        file,
    })
}

/// Where the files of the own repository are, for `$/`.
pub(crate) fn own_root(
    processes: &Processes,
    document: &Document,
    commit: &str,
) -> Result<PathBuf, String> {
    if let Some(own) = &document.actions.own {
        return Ok(PathBuf::from(own));
    }
    match document.sources {
        Sources::Tree => Ok(PathBuf::from(&document.runner.workspace)),
        Sources::Repository => {
            fetch::own(processes, document, Path::new(paths::REPOSITORY), commit)
        }
    }
}
