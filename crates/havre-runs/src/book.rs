//! Runs that did not end, in memory as they are in the database: each change is kept before it counts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use havre_pipeline::run::{self, Conclusion, Definition, Event, LegId, LegResult, LegState};
use tokio::sync::{Notify, broadcast, watch};

use crate::defined::{self, Defined};
use crate::error::RunsError;
use crate::logs::Logs;
use crate::ports::{LegKey, RunId};
use crate::row::{Change, Row};
use crate::settings::{Ports, Settings};
use crate::start::{Chain, Link};
use crate::tables::{Consumed, Tables};

/// Changes that a reader may be behind.
const CHANGES: usize = 256;

/// A run changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which.
    pub run: RunId,
    /// The run that nobody called.
    pub root: RunId,
    /// Whose.
    pub project: String,
    /// How it ended, if it has.
    pub conclusion: Option<Conclusion>,
}

/// Why a leg waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For what.
    pub why: String,
    /// When its gate is asked again at the latest, in milliseconds since 1970.
    pub until: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) row: Row,
    pub(crate) defined: Defined,
    /// Counts changes of the run.
    pub(crate) changed: watch::Sender<u64>,
    /// Counts times that logs grew.
    pub(crate) logged: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    /// The run that nobody called stays until it ends, and so do all that were called for it.
    pub(crate) live: BTreeMap<RunId, Live>,
    pub(crate) called: HashMap<LegKey, RunId>,
    /// Legs of which there is, or may be, something in a box.
    pub(crate) there: HashSet<LegKey>,
    /// Legs whose gates are open.
    pub(crate) ready: HashSet<LegKey>,
    pub(crate) waits: HashMap<LegKey, Wait>,
    /// Whether somebody may want to follow a run.
    pub(crate) outbox: bool,
    /// When the next workflow starts by itself.
    pub(crate) schedule_ms: Option<u64>,
}

pub(crate) struct Inner {
    pub(crate) tables: Tables,
    pub(crate) logs: Logs,
    pub(crate) ports: Ports,
    pub(crate) settings: Settings,
    pub(crate) book: Mutex<Book>,
    /// Something may be due.
    pub(crate) poke: Notify,
    /// Counts times that gates may have changed.
    pub(crate) gates: watch::Sender<u64>,
    pub(crate) changes: broadcast::Sender<Changed>,
    /// Held by who drives.
    pub(crate) driver: tokio::sync::Mutex<()>,
}

impl Live {
    pub(crate) fn new(row: Row, defined: Defined) -> Self {
        Self {
            row,
            defined,
            changed: watch::Sender::new(0),
            logged: watch::Sender::new(0),
        }
    }
}

impl Book {
    /// A leg's run, the run that called it, and so on.
    pub(crate) fn chain(&self, run: RunId) -> Chain {
        let mut chain = Chain::new();
        let mut at = Some(run);
        while let Some(live) = at.and_then(|id| self.live.get(&id)) {
            chain.push(Link {
                row: live.row.clone(),
                defined: live.defined.clone(),
            });
            at = live.row.parent.as_ref().map(|parent| parent.run);
        }
        chain
    }

    pub(crate) fn leg_state(&self, key: &LegKey) -> Option<&LegState> {
        let live = self.live.get(&key.run)?;
        let mut legs = live.row.change.state.legs();
        let found = legs.find(|(id, _)| *id == key.leg);
        found.map(|(_, leg)| &leg.state)
    }
}

impl Inner {
    pub(crate) fn new(tables: Tables, logs: Logs, ports: Ports, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            tables,
            logs,
            ports,
            settings,
            book: Mutex::default(),
            poke: Notify::new(),
            gates: watch::Sender::new(0),
            changes: broadcast::Sender::new(CHANGES),
            driver: tokio::sync::Mutex::new(()),
        })
    }

    /// Never held over an await. A panic under it leaves what was kept before.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> u64 {
        self.ports.clock.now_ms()
    }

    /// Takes up what did not end.
    pub(crate) fn load(&self) -> Result<(), RunsError> {
        let rows = self.tables.live()?;
        let mut book = self.book();
        for row in rows {
            match defined::workflow(&row.path, &row.text) {
                Ok(workflow) => {
                    let known = row.contexts.known(row.change.state.attempt);
                    let workflow = Arc::new(workflow);
                    put(&mut book, Live::new(row, Defined { workflow, known }));
                }
                Err(why) => {
                    let why = format!("this version cannot read its workflow any more: {why}");
                    tracing::warn!(run = row.id.0, why, "a run cannot go on");
                    self.tables.give_up(row.id, &why, self.now())?;
                }
            }
        }
        book.outbox = true;
        book.schedule_ms = self.tables.schedules()?.first().map(|at| at.next_ms);
        Ok(())
    }

    /// Keeps runs that begin.
    pub(crate) fn insert(
        &self,
        book: &mut Book,
        runs: Vec<(Row, Defined)>,
        consumed: Consumed,
    ) -> Result<(), RunsError> {
        let rows = runs.iter().map(|(row, _)| row.clone()).collect();
        let outbox = self.settings.starts_by_itself;
        self.tables.insert(rows, consumed, outbox)?;
        book.outbox |= outbox && !runs.is_empty();
        for (row, defined) in runs {
            let live = Live::new(row, defined);
            self.tell(&live);
            put(book, live);
        }
        self.poke.notify_one();
        Ok(())
    }

    /// Changes a run, and keeps it before it counts; `why` says why a leg ended.
    pub(crate) fn change(
        &self,
        book: &mut Book,
        run: RunId,
        why: Option<(LegKey, String)>,
        change: impl FnOnce(Change, &Definition<'_>, u64) -> Change,
    ) -> Result<bool, RunsError> {
        let now = self.now();
        let Some(live) = book.live.get_mut(&run) else {
            return Ok(false);
        };
        let before = live.row.change.clone();
        let mut next = change(before.clone(), &live.defined.of(), now);
        if next == before {
            return Ok(false);
        }
        let ends = next.conclusion().is_some();
        next.ended_ms = match (ends, next.ended_ms) {
            (false, _) => None,
            (true, None) => Some(now),
            (true, ended) => ended,
        };
        let follows = self.settings.starts_by_itself && live.row.parent.is_none();
        let outbox = (follows && ends && before.conclusion().is_none()).then_some("completed");
        let mut row = live.row.clone();
        row.change = next;
        self.tables.update(&row, outbox, why)?;
        live.row = row;
        live.changed.send_modify(|count| *count += 1);
        live.logged.send_modify(|count| *count += 1);
        self.tell(live);
        book.outbox |= outbox.is_some();
        self.poke.notify_one();
        Ok(true)
    }

    /// Has something happen to a run.
    pub(crate) fn event(
        &self,
        book: &mut Book,
        run: RunId,
        why: Option<(LegKey, String)>,
        event: Event,
    ) -> Result<bool, RunsError> {
        self.change(book, run, why, |mut change, of, now| {
            change.state = run::step(change.state, of, now, event).0;
            change
        })
    }

    /// A leg ended.
    pub(crate) fn finish(
        &self,
        book: &mut Book,
        key: &LegKey,
        ended: LegEnd,
    ) -> Result<bool, RunsError> {
        let why = ended.why.map(|why| (key.clone(), why));
        let event = Event::Finished {
            leg: key.leg.clone(),
            result: ended.result,
            outputs: ended.outputs,
        };
        let changed = self.event(book, key.run, why, event)?;
        book.ready.remove(key);
        book.waits.remove(key);
        Ok(changed)
    }

    fn tell(&self, live: &Live) {
        let row = &live.row;
        // Nobody may be listening.
        drop(self.changes.send(Changed {
            run: row.id,
            root: row.root,
            project: row.project.clone(),
            conclusion: row.change.conclusion(),
        }));
    }
}

/// How a leg ended.
#[derive(Clone, Debug)]
pub(crate) struct LegEnd {
    pub(crate) result: LegResult,
    pub(crate) outputs: Vec<(String, String)>,
    pub(crate) why: Option<String>,
}

impl LegEnd {
    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self {
            result: LegResult::Failure,
            outputs: Vec::new(),
            why: Some(why.into()),
        }
    }

    pub(crate) fn cancelled() -> Self {
        Self {
            result: LegResult::Cancelled,
            outputs: Vec::new(),
            why: None,
        }
    }
}

fn put(book: &mut Book, live: Live) {
    if let Some(parent) = &live.row.parent {
        book.called.insert(parent.clone(), live.row.id);
    }
    book.live.insert(live.row.id, live);
}

/// A leg of a run.
pub(crate) fn key(run: RunId, leg: LegId) -> LegKey {
    LegKey { run, leg }
}

/// Whether a leg is started, runs, or is to end: it may have a box, or a run that it called.
pub(crate) fn is_under_way(state: &LegState) -> bool {
    match state {
        LegState::Starting | LegState::Running { .. } | LegState::Cancelling { .. } => true,
        LegState::Queued | LegState::Entering { .. } | LegState::Ended { .. } => false,
    }
}
