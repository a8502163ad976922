//! What the driver has going on: one task per thing, none twice.

use std::collections::HashMap;
use std::future::Future;

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};

use super::AGAIN;
use crate::book::Inner;
use crate::error::RunsError;
use crate::ports::LegKey;

/// What a task is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TaskKey {
    Leg(Kind, LegKey),
    /// Starts what follows, or what a time starts.
    Feed,
    /// Forgets what is kept for too long.
    Clean,
}

/// What is done for a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Asks its gate until that is open.
    Gate,
    /// Starts and follows its box.
    Box,
    /// Begins the run that it calls.
    Call,
}

/// Whether a leg is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    Not,
    /// After cleaning up.
    Softly,
    AtOnce,
}

struct Task {
    abort: AbortHandle,
    stop: watch::Sender<Stop>,
}

pub(super) struct Tasks {
    set: JoinSet<Result<(), RunsError>>,
    by: HashMap<TaskKey, Task>,
    keys: HashMap<Id, TaskKey>,
    /// What failed, and when it may be tried again.
    later: HashMap<TaskKey, u64>,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self {
            set: JoinSet::new(),
            by: HashMap::new(),
            keys: HashMap::new(),
            later: HashMap::new(),
        }
    }

    /// Begins a task, unless it is there already or failed just now.
    pub(super) fn spawn<F>(&mut self, key: TaskKey, make: impl FnOnce(watch::Receiver<Stop>) -> F)
    where
        F: Future<Output = Result<(), RunsError>> + Send + 'static,
    {
        if self.by.contains_key(&key) || self.later.contains_key(&key) {
            return;
        }
        let (stop, stopped) = watch::channel(Stop::Not);
        let abort = self.set.spawn(make(stopped));
        self.keys.insert(abort.id(), key.clone());
        self.by.insert(key, Task { abort, stop });
    }

    pub(super) fn has(&self, key: &TaskKey) -> bool {
        self.by.contains_key(key)
    }

    pub(super) fn any(&self, is: impl Fn(&TaskKey) -> bool) -> bool {
        self.by.keys().any(is)
    }

    pub(super) fn boxes(&self) -> impl Iterator<Item = &LegKey> {
        self.by.keys().filter_map(|key| match key {
            TaskKey::Leg(Kind::Box, leg) => Some(leg),
            TaskKey::Leg(Kind::Gate | Kind::Call, _) | TaskKey::Feed | TaskKey::Clean => None,
        })
    }

    /// Tells a task to end what it is about.
    pub(super) fn stop(&self, key: &TaskKey, how: Stop) {
        if let Some(task) = self.by.get(key) {
            task.stop.send_if_modified(|stop| {
                let more = how > *stop;
                if more {
                    *stop = how;
                }
                more
            });
        }
    }

    /// Ends a task that leaves nothing behind; it is there until it has ended.
    pub(super) fn abort(&self, key: &TaskKey) {
        if let Some(task) = self.by.get(key) {
            task.abort.abort();
        }
    }

    /// When something that failed may be tried again.
    pub(super) fn again_ms(&self) -> impl Iterator<Item = u64> {
        self.later.values().copied()
    }

    /// Waits until a task has ended, or may be tried again; what driving ends with, where it does.
    pub(super) async fn ended(&mut self, inner: &Inner) -> Result<(), RunsError> {
        let now = inner.now();
        let waiting = self.later.len();
        self.later.retain(|_, at| *at > now);
        if self.later.len() < waiting {
            return Ok(());
        }
        let Some(ended) = self.set.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (id, failed) = match ended {
            Ok((id, Ok(()))) => (id, None),
            Ok((id, Err(error))) => {
                if inner.settings.gives_up {
                    return Err(error);
                }
                (id, Some(havre_base::one_line(&error)))
            }
            Err(error) if error.is_cancelled() => (error.id(), None),
            Err(error) => (error.id(), Some(error.to_string())),
        };
        if let Some(key) = self.keys.remove(&id) {
            self.by.remove(&key);
            if let Some(error) = failed {
                tracing::error!(task = ?key, error, "something due cannot be done; it is tried again");
                self.later.insert(key, now + AGAIN.as_millis() as u64);
            }
        }
        Ok(())
    }
}
