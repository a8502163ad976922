//! Control groups of git.

use havre_base::{in_place, one_line};
use havre_engine::{Engine, Group, Limits};
use havre_git::{Bound, Bounds};

use crate::steps::BUILD_ENVIRONMENT;

/// Memory of each git with all it starts.
const MOST_MEMORY: u64 = 2 << 30;
/// Its processes and threads.
const MOST_TASKS: u64 = 128;

/// Groups beside those of builds: production goes first.
pub(super) struct Groups(pub(super) Engine);

/// Removing one may wait a moment.
struct Held(Option<Group>);

impl Bounds for Groups {
    fn group(&self, name: &str) -> Option<Bound> {
        let limits = Limits {
            memory_bytes: Some(MOST_MEMORY),
            pids: Some(MOST_TASKS),
            ..Limits::default()
        };
        let made = in_place(|| self.0.group(BUILD_ENVIRONMENT, name, &limits));
        let warn = |error: &dyn std::error::Error| {
            let error = one_line(error);
            tracing::warn!(error, "the processes of a git have no bound together");
        };
        let group = made.inspect_err(|error| warn(error)).ok()?;
        let doors = group.doors().inspect_err(|error| warn(error)).ok()?;
        Some(Bound {
            doors,
            held: Box::new(Held(Some(group))),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let group = self.0.take();
        in_place(|| drop(group));
    }
}
