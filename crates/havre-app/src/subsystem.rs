//! What a part of the platform brings to the daemon.
//!
//! A subsystem is a crate of its own and a file of adapters in `subsystems/`; the daemon names each in
//! one line of `app::PARTS`.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use havre_api::Routes;
use havre_release::Answer;
use havre_store::{Schema, Store};

use crate::daemon::Daemon;
use crate::gateway::Mount;
use crate::supervisor::Supervised;

/// A subsystem before it runs.
pub(crate) struct Part {
    /// Its tables, versioned by itself.
    pub(crate) schema: Option<Schema>,
    /// Makes it for a daemon, whose other parts it may use when it is called.
    pub(crate) build: fn(&Arc<Daemon>, &Arc<Store>) -> Box<dyn Subsystem>,
}

/// A subsystem of a daemon. What it does not say it does not have.
pub(crate) trait Subsystem: Send + Sync {
    /// The calls of the API that it answers, each with a state of its choice. Each is told who asks.
    fn calls(&self) -> Option<Routes<()>> {
        None
    }

    /// What runs until the daemon ends.
    fn tasks(&self) -> Vec<Task> {
        Vec::new()
    }

    /// What it serves to others by their own protocols, on hosts of its own behind the edge.
    fn mount(&self) -> Option<Mount> {
        None
    }

    /// What it serves by their own protocols beside the API's calls, at its socket and its host: it finds out by itself
    /// who asks.
    fn beside(&self) -> Option<Router> {
        None
    }

    /// Ends it, after the last call and the last task, within `app::DRAIN_DEADLINE`.
    fn drain(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A long-lived task; it is started again should it end, and `havre daemon status` shows it.
pub(crate) struct Task {
    pub(crate) name: &'static str,
    pub(crate) run: Box<dyn Fn(Supervised) -> Answer<'static, ()> + Send>,
}

impl Task {
    pub(crate) fn new<R>(name: &'static str, run: impl Fn(Supervised) -> R + Send + 'static) -> Self
    where
        R: Future<Output = ()> + Send + 'static,
    {
        Self {
            name,
            run: Box::new(move |task| Box::pin(run(task))),
        }
    }
}
