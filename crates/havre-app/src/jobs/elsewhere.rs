//! What jobs use of other repositories: fetched before their boxes are made, and shown to them.
//!
//! ```text
//! workflow of a leg ─► uses: ─► lock file, or the server ─► commit ─► fetched once ─► a folder of the box
//!                        ▲                                              │ action.yml
//!                        └────────────── composite: uses ◄──────────────┘
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use havre_base::one_line;
use havre_box::Action;
use havre_git::{Objects, Oid, RemoteError, RemoteName, Remotes};
use havre_job::{Actions, paths};
use havre_runs::{Elsewhere, LegStart, Sources, SourcesError, lock_of};
use havre_workflow::action::{self, Runs};
use havre_workflow::lock::{self, Lock, key};
use havre_workflow::{Limits, Location, Read, Remote, Spanned, UsedAction, Work};

/// Most repositories of one job.
const MOST: usize = 100;
/// Actions within each other; GitHub's bound.
const MOST_DEEP: usize = 10;
/// Largest file that is read of a repository.
const MOST_FILE_BYTES: u64 = 1 << 20;

/// What there is of other repositories.
pub(crate) struct Fetched {
    /// As the runner is told.
    pub(crate) actions: Actions,
    /// As the box shows it.
    pub(crate) folders: Vec<Action>,
}

/// Fetches what jobs use.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub(crate) remotes: Remotes,
    pub(crate) sources: Arc<dyn Sources>,
}

/// Where an action was named.
#[derive(Clone)]
struct Place {
    /// `FILE:LINE:COLUMN` in the workflow.
    shown: String,
    /// Actions around it, from the outermost.
    within: Vec<String>,
    /// The repository that `$/` is; the workflow's own without.
    of: Option<(Objects, Oid)>,
}

impl Fetcher {
    /// Fetches all that a leg uses; what of it cannot be had, and where it is named.
    pub(crate) async fn fetch(&self, leg: &LegStart) -> Result<Fetched, String> {
        let path = Path::new(&leg.path);
        let limits = Limits::default();
        let read = havre_workflow::read(Path::new(""), path, &leg.workflow, &limits);
        let read = read.map_err(|_| format!("{} cannot be read again", leg.path))?;
        let lock = lock_of(
            self.sources.as_ref(),
            &leg.project,
            &leg.commit,
            leg.origin.as_ref(),
        );
        let own = leg.origin.as_ref().map_or(&leg.path, |origin| &origin.path);
        let lock = lock.await?.filter(|lock| lock.lists(own));
        if let Some(lock) = &lock
            && let Some(error) = lock::check(&read, own, lock).first()
        {
            return Err(error.to_string());
        }
        let mut work = Fetching {
            fetcher: self,
            leg,
            lock: lock.as_ref().map(|lock| (lock, own.as_str())),
            there: BTreeMap::new(),
            folders: Vec::new(),
            own: None,
        };
        let mut left = VecDeque::new();
        for used in steps(&read, leg) {
            let at = read.sources.location(used.span);
            left.push_back((place(&at), used.value.clone()));
        }
        while let Some((place, used)) = left.pop_front() {
            left.extend(work.take(place, used).await?);
        }
        let pinned = lock.iter().flat_map(|lock| &lock.dependencies);
        Ok(Fetched {
            actions: Actions {
                server: self.remotes.server().to_owned(),
                there: work.there,
                pinned: pinned
                    .map(|(key, locked)| (key.clone(), locked.commit.clone()))
                    .collect(),
                locked: lock.is_some(),
                own: work.own,
                ..Actions::default()
            },
            folders: work.folders,
        })
    }

    /// A file of another repository.
    pub(crate) async fn file(
        remotes: &Remotes,
        remote: &Remote,
        commit: Option<&str>,
    ) -> Result<Elsewhere, SourcesError> {
        let (objects, commit) = found(remotes, remote, commit)
            .await
            .map_err(|error| SourcesError(told(&error)))?;
        let file = objects.file(&commit, &remote.path, MOST_FILE_BYTES).await;
        Ok(Elsewhere {
            file: file.map_err(|error| SourcesError(one_line(&error)))?,
            commit: commit.to_string(),
        })
    }
}

/// Actions that the steps of a leg name.
fn steps<'r>(read: &'r Read, leg: &LegStart) -> Vec<&'r Spanned<UsedAction>> {
    let job = read.workflow.jobs.get(&leg.key.leg.job);
    match job.map(|job| &job.work) {
        Some(Work::Steps(job)) => lock::of_steps(&job.steps),
        Some(Work::Call(_)) | None => Vec::new(),
    }
}

fn place(at: &Location) -> Place {
    Place {
        shown: format!("{}:{}:{}", at.file.display(), at.line, at.column),
        within: Vec::new(),
        of: None,
    }
}

/// A repository that has the commit.
async fn found(
    remotes: &Remotes,
    remote: &Remote,
    commit: Option<&str>,
) -> Result<(Objects, Oid), RemoteError> {
    let name = RemoteName::new(&remote.owner, &remote.repository)?;
    let commit = match commit {
        Some(commit) => commit
            .parse()
            .map_err(|_| RemoteError::Name(commit.to_owned()))?,
        None => remotes.resolve(&name, &remote.reference).await?,
    };
    Ok((remotes.fetch(&name, &commit).await?, commit))
}

/// What is wrong, and what to do.
fn told(error: &RemoteError) -> String {
    let hint = match error {
        RemoteError::Ask { .. } => {
            "see that there is such a repository, that it is public, and that this machine reaches its server"
        }
        RemoteError::Reference { .. } => "name a branch, a tag or a full commit that is there",
        RemoteError::Fetch { .. } => {
            "see that the repository has this commit, and that this machine reaches its server"
        }
        RemoteError::Large { .. } => {
            "use a smaller one, or copy what is needed into this repository"
        }
        RemoteError::Name(_)
        | RemoteError::Server(_)
        | RemoteError::Look { .. }
        | RemoteError::Keep { .. } => return one_line(error),
    };
    format!("{}; {hint}", one_line(error))
}

struct Fetching<'a> {
    fetcher: &'a Fetcher,
    leg: &'a LegStart,
    /// And the workflow's path in it.
    lock: Option<(&'a Lock, &'a str)>,
    there: BTreeMap<String, String>,
    folders: Vec<Action>,
    /// What `$/` is in a workflow of another repository.
    own: Option<String>,
}

impl Fetching<'_> {
    /// Fetches an action; what it uses itself.
    async fn take(
        &mut self,
        place: Place,
        used: UsedAction,
    ) -> Result<Vec<(Place, UsedAction)>, String> {
        match used {
            UsedAction::Image(_) => Ok(Vec::new()),
            // Of another repository, it is in the workspace all the same.
            UsedAction::Workspace(path) => {
                let path = path.replace('\\', "/");
                let path = path.trim_start_matches("./").trim_matches('/');
                let is_plain = !path.split('/').any(|part| part == "..");
                match place.of.is_none() && self.leg.origin.is_none() && is_plain {
                    true => self.own(&place, path, false).await,
                    false => Ok(Vec::new()),
                }
            }
            UsedAction::Own(path) => match place.of.clone() {
                Some((objects, commit)) => {
                    self.inside(&place, &format!("$/{path}"), &path, &objects, &commit)
                        .await
                }
                None => {
                    self.show_own(&place).await?;
                    self.own(&place, &path, true).await
                }
            },
            UsedAction::Remote(remote) => {
                let found = havre_actions::find(&remote.owner, &remote.repository, &remote.path);
                match found {
                    Some(_) => Ok(Vec::new()),
                    None => self.remote(place, &remote).await,
                }
            }
        }
    }

    async fn remote(
        &mut self,
        place: Place,
        remote: &Remote,
    ) -> Result<Vec<(Place, UsedAction)>, String> {
        let fail = |why: String| {
            let within = place.within.iter().map(|name| format!(" in `{name}`"));
            let within: String = within.rev().collect();
            format!(
                "{}: error: action `{remote}`{within} cannot be fetched: {why}",
                place.shown
            )
        };
        let key = key(remote);
        let pinned = match self.lock {
            None => None,
            Some((lock, path)) => {
                let commit = lock.commit(path, &key);
                let commit = commit.ok_or_else(|| {
                    fail(format!(
                        "`{key}` is not in the lock file; `havre ci lock` puts it there"
                    ))
                })?;
                Some(commit)
            }
        };
        let remotes = &self.fetcher.remotes;
        let (objects, commit) = found(remotes, remote, pinned)
            .await
            .map_err(|error| fail(told(&error)))?;
        if !self.there.contains_key(&key) {
            if self.there.len() >= MOST {
                return Err(fail(format!("a job uses at most {MOST} repositories")));
            }
            let shown = self.show(remote, &commit).await;
            shown.map_err(|error| fail(told(&error)))?;
            self.there.insert(key, commit.to_string());
        }
        let shown = remote.to_string();
        self.inside(&place, &shown, &remote.path, &objects, &commit)
            .await
    }

    /// Shows the box a commit; where.
    async fn show(&mut self, remote: &Remote, commit: &Oid) -> Result<String, RemoteError> {
        let name = RemoteName::new(&remote.owner, &remote.repository)?;
        let files = self.fetcher.remotes.folder(&name, commit).await?;
        let place = format!("{}/{}", remote.owner, remote.repository).to_lowercase();
        let target = format!("{}/{place}/{commit}", paths::ACTIONS);
        // Two references may be one commit.
        if !self.folders.iter().any(|folder| folder.target == target) {
            let target = target.clone();
            self.folders.push(Action { files, target });
        }
        Ok(target)
    }

    /// Shows the box the repository of a workflow of another one.
    async fn show_own(&mut self, place: &Place) -> Result<(), String> {
        let Some(origin) = self.leg.origin.clone().filter(|_| self.own.is_none()) else {
            return Ok(());
        };
        let remote = origin.file("");
        let fail = |why: String| format!("{}: error: `{remote}` cannot be had: {why}", place.shown);
        let commit = origin.commit.parse();
        let commit = commit.map_err(|_| fail(format!("{} is no commit", origin.commit)))?;
        let shown = self.show(&remote, &commit).await;
        self.own = Some(shown.map_err(|error| fail(told(&error)))?);
        Ok(())
    }

    /// What an action of another repository uses.
    async fn inside(
        &self,
        place: &Place,
        shown: &str,
        path: &str,
        objects: &Objects,
        commit: &Oid,
    ) -> Result<Vec<(Place, UsedAction)>, String> {
        let mut file = None;
        for name in action_files(path) {
            let found = objects.file(commit, &name, MOST_FILE_BYTES).await;
            let found = found.map_err(|error| {
                format!("{}: error: `{shown}`: {}", place.shown, one_line(&error))
            })?;
            file = file.or(found);
        }
        let file = file.ok_or_else(|| {
            let shown = format!("{}: error: `{shown}` is no action", place.shown);
            format!("{shown}: there is no action.yml in it")
        })?;
        let place = Place {
            of: Some((objects.clone(), commit.clone())),
            ..place.clone()
        };
        uses(&place, shown, &file)
    }

    /// What an action of the workflow's own repository uses; one that is `needed` has to be there.
    async fn own(
        &self,
        place: &Place,
        path: &str,
        needed: bool,
    ) -> Result<Vec<(Place, UsedAction)>, String> {
        let (leg, sources) = (self.leg, &self.fetcher.sources);
        let mut file = None;
        for name in action_files(path) {
            let found = match &leg.origin {
                None => sources.file(&leg.project, &leg.commit, &name).await,
                Some(origin) => {
                    let remote = origin.file(&name);
                    let found = sources.elsewhere(&remote, Some(&origin.commit)).await;
                    found.map(|found| found.file)
                }
            };
            match found {
                Ok(found) => file = file.or(found),
                Err(_) if !needed => {}
                Err(error) => return Err(format!("{}: error: `$/{path}`: {error}", place.shown)),
            }
        }
        match file {
            // It may come about in the job.
            None if !needed => Ok(Vec::new()),
            None => Err(format!(
                "{}: error: `$/{path}` is no action: there is no action.yml in it",
                place.shown
            )),
            Some(file) => match uses(place, path, &file) {
                Err(_) if !needed => Ok(Vec::new()),
                used => used,
            },
        }
    }
}

fn action_files(path: &str) -> [String; 2] {
    ["action.yml", "action.yaml"].map(|name| match path {
        "" => name.to_owned(),
        path => format!("{path}/{name}"),
    })
}

/// What the file of an action names.
fn uses(place: &Place, shown: &str, file: &[u8]) -> Result<Vec<(Place, UsedAction)>, String> {
    let mut within = place.within.clone();
    within.push(shown.to_owned());
    if within.len() > MOST_DEEP {
        return Err(format!(
            "{}: error: more than {MOST_DEEP} actions are within each other, up to `{shown}`",
            place.shown
        ));
    }
    let text = String::from_utf8_lossy(file);
    let path = Path::new(shown).join("action.yml");
    let read = action::read(&path, &text, &Limits::default()).map_err(|failure| {
        let first = failure.errors.first().map(ToString::to_string);
        format!("{}: error: {}", place.shown, first.unwrap_or_default())
    })?;
    let Runs::Composite(steps) = &read.runs else {
        return Ok(Vec::new());
    };
    let place = Place {
        within,
        ..place.clone()
    };
    let used = lock::of_steps(steps).into_iter();
    Ok(used
        .map(|used| (place.clone(), used.value.clone()))
        .collect())
}
