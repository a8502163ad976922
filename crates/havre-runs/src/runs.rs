//! What others do with runs.

use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use havre_pipeline::run::{Again, Conclusion, LegState, Run, rerun};
use havre_pipeline::{Event, Reference};
use havre_store::Store;
use indexmap::IndexMap;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::begin::{Begun, How, Outcome};
use crate::book::{Book, Changed, Inner, Live, Wait};
use crate::clean::unremoved;
use crate::defined::{self, Defined};
use crate::driver::{drive, refresh};
use crate::error::RunsError;
use crate::logs::{Logs, Part};
use crate::ports::{LegKey, RunId};
use crate::record::Record;
use crate::settings::{Ports, Settings};
use crate::tables::{Consumed, Filter, Listed, Tables};
use crate::trigger::{Source, Trigger};

/// Most runs of a page.
const MAX_PAGE: u32 = 200;
/// How long a reader of a log waits before it looks again by itself.
const LOOK: Duration = Duration::from_secs(5);

/// All runs of a machine, or of a folder where they are run locally.
#[derive(Clone)]
pub struct Runs {
    inner: Arc<Inner>,
}

/// A run in full.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What a list says of it.
    pub run: Listed,
    /// The run that nobody called.
    pub root: RunId,
    /// The leg that called it.
    pub parent: Option<LegKey>,
    /// Its jobs and legs, in all attempts.
    pub state: Run,
    /// The concurrency group that it waits for.
    pub waits_for: Option<String>,
    /// Why it ended as it did, where its jobs do not say it.
    pub why: Option<String>,
    /// What was told of its legs, in all attempts.
    pub legs: Vec<LegShown>,
}

/// An attempt of a leg.
#[derive(Clone, Debug, PartialEq)]
pub struct LegShown {
    /// Which.
    pub key: LegKey,
    /// What it told.
    pub record: Option<Record>,
    /// Why it ended as it did, where it did not say it itself.
    pub why: Option<String>,
    /// What its gate waits for.
    pub waits: Option<Wait>,
    /// The run that it called.
    pub called: Option<RunId>,
}

/// A log that is read while it grows: never more than a part of it is in memory, and who is slow misses nothing.
pub struct Log {
    inner: Arc<Inner>,
    project: String,
    key: LegKey,
    next: u64,
    follows: bool,
}

/// Somebody asks for a workflow.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// Whose.
    pub project: String,
    /// The workflow: its file's path, or its name below `.github/workflows`.
    pub workflow: String,
    /// What it runs on.
    pub on: Reference,
    /// What is there.
    pub source: Source,
    /// Inputs, as they were written.
    pub inputs: IndexMap<String, String>,
    /// Who.
    pub actor: String,
}

impl Runs {
    /// Takes up runs of a store whose tables have [`crate::SCHEMA`], with logs below a folder.
    pub fn open(
        store: Arc<Store>,
        logs: PathBuf,
        ports: Ports,
        settings: Settings,
    ) -> Result<Self, RunsError> {
        let inner = Inner::new(Tables(store), Logs::new(logs), ports, settings);
        inner.load()?;
        Ok(Self { inner })
    }

    /// Drives all runs until told to stop; nothing that runs is ended by it. One at a time.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), RunsError> {
        drive(self.inner.clone(), stop).await
    }

    /// Something happened: starts what it starts.
    pub async fn begin(&self, trigger: &Trigger) -> Result<Outcome, RunsError> {
        let how = How {
            only: None,
            except: Vec::new(),
            jobs: Vec::new(),
            chain: 0,
            consumed: Consumed::Nothing,
        };
        self.inner.begin(trigger, how).await
    }

    /// The same, but for the workflows of these files, which nothing is said of.
    pub async fn begin_but(
        &self,
        trigger: &Trigger,
        except: &[String],
    ) -> Result<Outcome, RunsError> {
        let how = How {
            only: None,
            except: except.to_vec(),
            jobs: Vec::new(),
            chain: 0,
            consumed: Consumed::Nothing,
        };
        self.inner.begin(trigger, how).await
    }

    /// The same, for the workflow of one file alone.
    pub async fn begin_one(&self, trigger: &Trigger, path: &str) -> Result<Outcome, RunsError> {
        let how = How {
            only: Some(path.to_owned()),
            except: Vec::new(),
            jobs: Vec::new(),
            chain: 0,
            consumed: Consumed::Nothing,
        };
        self.inner.begin(trigger, how).await
    }

    /// The same, for these jobs and what they need alone; all others count as skipped. `path`: of one file alone. A
    /// workflow that lacks one of them does not start.
    pub async fn begin_jobs(
        &self,
        trigger: &Trigger,
        path: Option<&str>,
        jobs: &[String],
    ) -> Result<Outcome, RunsError> {
        let how = How {
            only: path.map(str::to_owned),
            except: Vec::new(),
            jobs: jobs.to_vec(),
            chain: 0,
            consumed: Consumed::Nothing,
        };
        self.inner.begin(trigger, how).await
    }

    /// Starts one workflow with inputs.
    pub async fn dispatch(&self, asked: Dispatch) -> Result<Begun, RunsError> {
        let path = match asked.workflow.contains('/') {
            true => asked.workflow.clone(),
            false => format!(".github/workflows/{}", asked.workflow),
        };
        let trigger = Trigger {
            project: asked.project,
            event: Event::Dispatch {
                on: asked.on,
                inputs: asked.inputs,
            },
            source: asked.source,
            before: None,
            forced: false,
            actor: asked.actor,
            payload: None,
            foreign: false,
        };
        let how = How {
            only: Some(path.clone()),
            except: Vec::new(),
            jobs: Vec::new(),
            chain: 0,
            consumed: Consumed::Nothing,
        };
        let outcome = self.inner.begin(&trigger, how).await?;
        match (
            outcome.begun.into_iter().next(),
            outcome.not_started.first(),
        ) {
            (Some(begun), _) => Ok(begun),
            (None, Some(not)) => Err(RunsError::Refused(not.why.clone())),
            (None, None) => Err(RunsError::Refused(format!(
                "there is no workflow {path} in the commit"
            ))),
        }
    }

    /// Takes the times of a project's workflows from the newest commit of its default branch, after that changed; what is
    /// wrong with them, for a person.
    pub async fn refresh_schedules(&self, project: &str) -> Result<Vec<String>, RunsError> {
        refresh(&self.inner, project).await
    }

    /// Gates may have changed: an approval came, or a secret.
    pub fn gates_changed(&self) {
        self.inner.gates.send_modify(|count| *count += 1);
    }

    /// Runs of a project that nobody called, the newest first, before one; at most 200.
    pub fn list(
        &self,
        project: &str,
        filter: &Filter,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<Listed>, RunsError> {
        Ok(self
            .inner
            .tables
            .list(project, filter, before, limit.min(MAX_PAGE))?)
    }

    /// The run of a number.
    pub fn numbered(&self, project: &str, number: u64) -> Result<Option<RunId>, RunsError> {
        Ok(self.inner.tables.numbered(project, number)?)
    }

    /// A run in full.
    pub fn show(&self, run: RunId) -> Result<Shown, RunsError> {
        let listed = self.inner.tables.listed(run)?;
        let row = self.inner.tables.row(run)?;
        let (Some(listed), Some(row)) = (listed, row) else {
            return Err(RunsError::NoSuchRun(run));
        };
        let mut legs: Vec<LegShown> = Vec::new();
        for (key, record, why) in self.inner.tables.records(run)? {
            let leg = leg_of(&mut legs, &key);
            (leg.record, leg.why) = (record, why);
        }
        for (key, called) in self.inner.tables.called(run)? {
            leg_of(&mut legs, &key).called = Some(called);
        }
        let book = self.inner.book();
        let waits = book.waits.iter().filter(|(key, _)| key.run == run);
        for (key, wait) in waits {
            leg_of(&mut legs, key).waits = Some(wait.clone());
        }
        let ended = listed.conclusion.is_some();
        let group = row.facts.group.map(|group| group.name);
        Ok(Shown {
            run: listed,
            root: row.root,
            parent: row.parent,
            waits_for: group.filter(|_| !row.change.entered && !ended),
            state: row.change.state,
            why: row.change.why,
            legs,
        })
    }

    /// Why each job of a run is as it is, for a person.
    pub fn whys(&self, run: RunId) -> Result<Vec<(String, String)>, RunsError> {
        let live = self.ended_run(run)?;
        let (state, of) = (&live.row.change.state, live.defined.of());
        let each = state.jobs.iter().filter_map(|job| {
            let why = havre_pipeline::run::why(state, &of, &job.id)?;
            Some((job.id.clone(), why))
        });
        Ok(each.collect())
    }

    /// Summaries of an attempt of a leg, in Markdown, by their steps.
    pub fn summaries(&self, key: &LegKey) -> Result<Vec<(u32, String)>, RunsError> {
        Ok(self.inner.tables.summaries(key)?)
    }

    /// The log of an attempt of a leg, from a byte where a part began (0: its beginning). Following, it ends when the leg
    /// has.
    pub fn log(&self, key: LegKey, from: u64, follows: bool) -> Result<Log, RunsError> {
        let row = self.inner.tables.listed(key.run)?;
        let row = row.ok_or(RunsError::NoSuchRun(key.run))?;
        Ok(Log {
            inner: self.inner.clone(),
            project: row.project,
            key,
            next: from,
            follows,
        })
    }

    /// Counts changes of a run; closed when the run, and what called it, has ended.
    pub fn watch(&self, run: RunId) -> Option<watch::Receiver<u64>> {
        let book = self.inner.book();
        book.live.get(&run).map(|live| live.changed.subscribe())
    }

    /// All that changes; who is slow is told how much was missed.
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        self.inner.changes.subscribe()
    }

    /// Waits for the end of a run.
    pub async fn ended(&self, run: RunId) -> Result<Conclusion, RunsError> {
        loop {
            let watch = self.watch(run);
            let listed = self.inner.tables.listed(run)?;
            let listed = listed.ok_or(RunsError::NoSuchRun(run))?;
            match (listed.conclusion, watch) {
                (Some(conclusion), _) => return Ok(conclusion),
                (None, Some(mut watch)) => {
                    // Closed where it ended: looked up once more.
                    drop(tokio::time::timeout(LOOK, watch.changed()).await);
                }
                (None, None) => return Err(RunsError::Refused(format!("run {run} is not driven"))),
            }
        }
    }

    /// Cancels a run: jobs go on whose `if` asks for it; forced, none does, and boxes end at once. Whether it changed
    /// anything: cancelling what has ended does not.
    pub fn cancel(&self, run: RunId, force: bool) -> Result<bool, RunsError> {
        let mut book = self.inner.book();
        let Some(live) = book.live.get(&run) else {
            drop(book);
            let found = self.inner.tables.listed(run)?;
            return found.map(|_| false).ok_or(RunsError::NoSuchRun(run));
        };
        if live.row.change.conclusion().is_some() {
            return Ok(false);
        }
        let at_once = force || !live.row.change.entered;
        self.inner.change(&mut book, run, None, |change, of, now| {
            crate::driver::cancelled(change, of, now, at_once)
        })
    }

    /// Runs jobs again as one more attempt, also while others of the run go on. Its number.
    pub fn rerun(&self, run: RunId, what: &Again) -> Result<u32, RunsError> {
        let mut book = self.inner.book();
        if let Entry::Vacant(place) = book.live.entry(run) {
            let live = self.ended_run(run)?;
            called(&live)?;
            place.insert(live);
        }
        let again = self.again(&mut book, run, what);
        self.inner.poke.notify_one();
        again
    }

    fn again(&self, book: &mut Book, run: RunId, what: &Again) -> Result<u32, RunsError> {
        let live = book.live.get_mut(&run).ok_or(RunsError::NoSuchRun(run))?;
        called(live)?;
        let now = self.inner.now();
        let before = live.defined.clone();
        let ended = live.row.change.conclusion().is_some();
        let attempt = live.row.change.state.attempt + 1;
        let defined = Defined {
            known: live.row.contexts.known(attempt),
            ..before.clone()
        };
        let next = rerun(&live.row.change.state, &defined.of(), now, what)
            .map_err(|refusal| RunsError::Refused(refusal.to_string()))?
            .0;
        live.defined = defined;
        if ended {
            live.row.queued_ms = now;
        }
        let waits = ended && live.row.facts.group.is_some();
        let kept = self.inner.change(book, run, None, |mut change, _, _| {
            change.state = next;
            change.forced = false;
            change.why = None;
            change.entered &= !waits;
            change
        });
        if let (Err(_), Some(live)) = (&kept, book.live.get_mut(&run)) {
            live.defined = before;
        }
        kept.map(|_| attempt)
    }

    fn ended_run(&self, run: RunId) -> Result<Live, RunsError> {
        let row = self
            .inner
            .tables
            .row(run)?
            .ok_or(RunsError::NoSuchRun(run))?;
        let workflow = defined::workflow(&row.path, &row.text).map_err(RunsError::Refused)?;
        let known = row.contexts.known(row.change.state.attempt);
        let workflow = Arc::new(workflow);
        Ok(Live::new(row, Defined { workflow, known }))
    }

    /// Forgets all runs of a project that is gone, and what they left; its numbers are not given again.
    pub fn forget_project(&self, project: &str) -> Result<(), RunsError> {
        let inner = &self.inner;
        let book = inner.book();
        let mut live = book.live.values().map(|live| &live.row);
        if let Some(row) = live.find(|row| row.project == project) {
            unless_live(&book, row.root)?;
        }
        drop(book);
        inner.tables.put_schedules(project, Vec::new())?;
        for (root, _, _) in inner
            .tables
            .finished()?
            .into_iter()
            .filter(|(_, of, _)| of == project)
        {
            for run in inner.tables.family(root)? {
                let removed = inner.logs.remove(project, run);
                removed.map_err(|source| unremoved(run, source))?;
            }
            inner.tables.forget(root)?;
        }
        Ok(())
    }

    /// Removes all logs of a run that has ended, and of those that it called.
    pub fn remove_logs(&self, run: RunId) -> Result<(), RunsError> {
        let row = self
            .inner
            .tables
            .row(run)?
            .ok_or(RunsError::NoSuchRun(run))?;
        unless_live(&self.inner.book(), row.root)?;
        for run in self.inner.tables.family(row.root)? {
            let removed = self.inner.logs.remove(&row.project, run);
            removed.map_err(|source| unremoved(run, source))?;
        }
        Ok(())
    }
}

/// What was called is run again with what called it.
fn called(live: &Live) -> Result<(), RunsError> {
    match live.row.parent {
        None => Ok(()),
        Some(_) => Err(RunsError::Refused(format!(
            "run {} was called by another: run {} again",
            live.row.id, live.row.root
        ))),
    }
}

/// Whether a log or a run can be removed.
fn unless_live(book: &Book, root: RunId) -> Result<(), RunsError> {
    match book.live.contains_key(&root) {
        true => Err(RunsError::Refused(format!(
            "run {root} has not ended: cancel it first"
        ))),
        false => Ok(()),
    }
}

fn leg_of<'l>(legs: &'l mut Vec<LegShown>, key: &LegKey) -> &'l mut LegShown {
    let at = legs.iter().position(|leg| leg.key == *key);
    let at = at.unwrap_or_else(|| {
        legs.push(LegShown {
            key: key.clone(),
            record: None,
            why: None,
            waits: None,
            called: None,
        });
        legs.len() - 1
    });
    &mut legs[at]
}

impl Log {
    /// The next part; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Part>, RunsError> {
        loop {
            let grows = self.grows();
            let part = self.inner.logs.read(&self.project, &self.key, self.next);
            let part = part.map_err(|source| RunsError::Log {
                attempt: "read",
                of: self.key.to_string(),
                source,
            })?;
            if !part.told.is_empty() {
                self.next = part.next;
                return Ok(Some(part));
            }
            let Some(mut grows) = grows.filter(|_| self.follows) else {
                return Ok(None);
            };
            // Closed where the run ended: looked at once more.
            drop(tokio::time::timeout(LOOK, grows.changed()).await);
        }
    }

    /// Told when it may have grown; `None` where it grows no more.
    fn grows(&self) -> Option<watch::Receiver<u64>> {
        let book = self.inner.book();
        let live = book.live.get(&self.key.run)?;
        let ended = match book.leg_state(&self.key) {
            Some(LegState::Ended { .. }) => true,
            Some(_) => false,
            // Its job has not begun, or is in another attempt.
            None => {
                live.row.change.conclusion().is_some()
                    || live.row.change.state.attempt > self.key.leg.attempt
            }
        };
        (!ended).then(|| live.logged.subscribe())
    }
}
