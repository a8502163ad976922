//! All that workflows use, directly or not.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use havre_git::{RemoteError, RemoteName, Remotes};
use havre_workflow::action::{self, Runs};
use havre_workflow::lock::{self, Lock, Locked, key};
use havre_workflow::{CalledWorkflow, Limits, Remote, Spanned, Step, UsedAction, Work, Workflow};
use indexmap::IndexMap;

use crate::error::Failure;
use crate::exit::Exit;

/// Largest file that is read of a repository.
const MOST_FILE_BYTES: u64 = 1 << 20;

pub struct Gather<'a> {
    root: &'a Path,
    remotes: &'a Remotes,
    before: &'a Lock,
    updated: &'a BTreeSet<String>,
    /// Whether nothing is asked for: what is new has no commit then.
    is_check: bool,
    pub found: IndexMap<String, Locked>,
    /// Folders of actions that were looked into, by key.
    seen: BTreeSet<(String, String)>,
}

impl<'a> Gather<'a> {
    pub fn new(
        root: &'a Path,
        remotes: &'a Remotes,
        before: &'a Lock,
        updated: &'a BTreeSet<String>,
        is_check: bool,
    ) -> Self {
        Self {
            root,
            remotes,
            before,
            updated,
            is_check,
            found: IndexMap::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Whether something that is used is called so.
    pub fn is_known(&self, name: &str) -> bool {
        self.found.keys().any(|key| is_called(key, name))
    }

    /// Keys of all that a workflow uses.
    pub async fn workflow(
        &mut self,
        path: &str,
        workflow: &Workflow,
    ) -> Result<Vec<Spanned<String>>, Failure> {
        let mut left: VecDeque<Remote> = VecDeque::new();
        for used in lock::used(workflow) {
            left.extend(self.direct(&used.value, path, 0)?);
        }
        for job in workflow.jobs.values() {
            if let Work::Call(call) = &job.work
                && let CalledWorkflow::Remote(remote) = &call.uses.value
            {
                left.push_back(remote.clone());
            }
        }
        let mut keys = BTreeSet::new();
        while let Some(remote) = left.pop_front() {
            let key = key(&remote);
            left.extend(self.remote(path, &remote).await?);
            keys.insert(key.clone());
            let locked = self.found.get(&key);
            let uses = locked.map(|locked| locked.uses.clone()).unwrap_or_default();
            // Of what stood in the file before, nobody has looked into it.
            let unknown = uses.iter().filter(|key| !self.found.contains_key(*key));
            left.extend(
                unknown
                    .filter(|key| !keys.contains(*key))
                    .filter_map(|key| of(key)),
            );
            self.add(&uses, &mut keys);
        }
        let span = lock::nowhere();
        let keys = keys.into_iter();
        Ok(keys.map(|value| Spanned { value, span }).collect())
    }

    /// Keys of what is known already, with all that it uses.
    fn add(&self, uses: &[String], keys: &mut BTreeSet<String>) {
        let mut left: Vec<&String> = uses.iter().collect();
        while let Some(key) = left.pop() {
            if let Some(locked) = self.found.get(key)
                && keys.insert(key.clone())
            {
                left.extend(&locked.uses);
            }
        }
    }

    /// What is used of other repositories by an action of this one, or is one.
    fn direct(&self, used: &UsedAction, path: &str, depth: usize) -> Result<Vec<Remote>, Failure> {
        match used {
            UsedAction::Remote(remote) => Ok(vec![remote.clone()]),
            UsedAction::Image(_) | UsedAction::Workspace(_) => Ok(Vec::new()),
            UsedAction::Own(folder) => {
                let shown = format!("$/{folder}");
                let file = ["action.yml", "action.yaml"]
                    .map(|name| self.root.join(folder).join(name))
                    .into_iter()
                    .find(|file| file.is_file());
                let fail = |why: String| {
                    let message = format!("{path} uses `{shown}`, which cannot be read");
                    let mut failure = Failure::new(Exit::Usage, message);
                    failure.causes.push(why);
                    failure
                };
                let file = file.ok_or_else(|| fail("there is no action.yml in it".to_owned()))?;
                if depth > 10 {
                    return Err(fail("it uses itself, or too much is within it".to_owned()));
                }
                let text = havre_base::read_small(&file, MOST_FILE_BYTES);
                let text = text.map_err(|error| fail(error.to_string()))?;
                let mut remotes = Vec::new();
                for step in steps(&file, &text).map_err(fail)? {
                    for used in lock::of_steps(&[step]) {
                        remotes.extend(self.direct(&used.value, path, depth + 1)?);
                    }
                }
                Ok(remotes)
            }
        }
    }

    /// Looks an action up, and into it; what it uses.
    async fn remote(&mut self, path: &str, remote: &Remote) -> Result<Vec<Remote>, Failure> {
        let key = key(remote);
        if !self.seen.insert((key.clone(), remote.path.clone())) {
            return Ok(Vec::new());
        }
        let is_updated = self.updated.iter().any(|name| is_called(&key, name));
        let before = self.before.dependencies.get(&key).filter(|_| !is_updated);
        if let Some(before) = before {
            let uses = self.found.entry(key).or_insert_with(|| before.clone());
            uses.uses.clone_from(&before.uses);
            return Ok(Vec::new());
        }
        if self.is_check {
            self.found.entry(key).or_insert_with(|| Locked {
                key: lock::nowhere(),
                reference: remote.reference.clone(),
                commit: String::new(),
                owner: None,
                repository: None,
                uses: Vec::new(),
            });
            return Ok(Vec::new());
        }
        let fail = |error: &dyn std::error::Error| {
            let message = format!("`{remote}`, which {path} uses, cannot be looked up");
            Failure::new(Exit::Failed, message).caused_by(error)
        };
        let (commit, uses) = self.look(remote).await.map_err(|error| match error {
            Looked::Remote(error) => fail(&error),
            Looked::Other(why) => {
                let mut failure = Failure::new(
                    Exit::Failed,
                    format!("`{remote}`, which {path} uses, cannot be looked into"),
                );
                failure.causes.push(why);
                failure
            }
        })?;
        let entry = self.found.entry(key).or_insert_with(|| Locked {
            key: lock::nowhere(),
            reference: remote.reference.clone(),
            commit,
            owner: None,
            repository: None,
            uses: Vec::new(),
        });
        entry.uses.extend(uses.iter().map(lock::key));
        entry.uses.sort();
        entry.uses.dedup();
        Ok(uses)
    }

    async fn look(&self, remote: &Remote) -> Result<(String, Vec<Remote>), Looked> {
        let name = RemoteName::new(&remote.owner, &remote.repository)?;
        let commit = self.remotes.resolve(&name, &remote.reference).await?;
        let objects = self.remotes.fetch(&name, &commit).await?;
        // A workflow that is called has a lock file of its own.
        let is_workflow = remote.path.starts_with(".github/workflows/");
        let mut uses = Vec::new();
        let mut left = vec![remote.path.clone()];
        let mut seen = BTreeSet::new();
        while let Some(path) = left.pop().filter(|_| !is_workflow) {
            if !seen.insert(path.clone()) {
                continue;
            }
            let mut file = None;
            for name in ["action.yml", "action.yaml"] {
                let name = match path.as_str() {
                    "" => name.to_owned(),
                    path => format!("{path}/{name}"),
                };
                let found = objects.file(&commit, &name, MOST_FILE_BYTES).await;
                let found = found.map_err(|error| Looked::Other(havre_base::one_line(&error)))?;
                file = file.or(found.map(|bytes| (name, bytes)));
            }
            // The root is asked for again where something in it was locked before.
            let Some((name, bytes)) = file else { continue };
            let shown = Path::new(&remote.to_string()).join(name);
            let text = String::from_utf8_lossy(&bytes);
            let steps = steps(&shown, &text).map_err(Looked::Other)?;
            for used in lock::of_steps(&steps) {
                match &used.value {
                    UsedAction::Remote(remote) => uses.push(remote.clone()),
                    UsedAction::Own(path) => left.push(path.clone()),
                    UsedAction::Image(_) | UsedAction::Workspace(_) => {}
                }
            }
        }
        Ok((commit.to_string(), uses))
    }
}

enum Looked {
    Remote(RemoteError),
    Other(String),
}

impl From<RemoteError> for Looked {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error)
    }
}

fn steps(file: &Path, text: &str) -> Result<Vec<Step>, String> {
    match action::read(file, text, &Limits::default()) {
        Ok(action) => Ok(match action.runs {
            Runs::Composite(steps) => steps,
            Runs::JavaScript { .. } | Runs::Container(_) => Vec::new(),
        }),
        Err(failure) => {
            let first = failure.errors.first().map(ToString::to_string);
            Err(first.unwrap_or_default())
        }
    }
}

/// The root of what a key names.
fn of(key: &str) -> Option<Remote> {
    let (place, reference) = key.split_once('@')?;
    let (owner, repository) = place.split_once('/')?;
    Some(Remote {
        owner: owner.to_owned(),
        repository: repository.to_owned(),
        path: String::new(),
        reference: reference.to_owned(),
    })
}

/// `name` is a key, or all of it before `@`.
fn is_called(key: &str, name: &str) -> bool {
    let repository = key.split('@').next().unwrap_or_default();
    key.eq_ignore_ascii_case(name) || repository == name
}
