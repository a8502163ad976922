//! A network for the next box, made behind the one before: making one takes as long as all else together.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use havre_net::Net;

use crate::error::BoxError;
use crate::network::{self, Prepared};

/// Networks of boxes to come: one at most.
pub struct Spare {
    net: Arc<Net>,
    exe: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ready: Option<Prepared>,
    /// The name of one that is being made.
    coming: Option<String>,
    /// None is made any more.
    closed: bool,
}

impl Spare {
    /// None yet; `exe` runs resolvers.
    pub fn new(net: Arc<Net>, exe: PathBuf) -> Self {
        Self {
            net,
            exe,
            state: Mutex::default(),
        }
    }

    /// The network that is there, or a new one. Its name is noted by `note` before it is a box's. Blocks.
    pub fn take(&self, note: impl Fn(&str) -> Result<(), BoxError>) -> Result<Prepared, BoxError> {
        let ready = {
            let mut state = self.state();
            if let Some(ready) = &state.ready {
                note(&ready.environment)?;
            }
            state.ready.take()
        };
        match ready {
            Some(ready) => Ok(ready),
            None => {
                let name = new_name();
                note(&name)?;
                network::prepare(&self.net, &self.exe, &name)
            }
        }
    }

    /// Makes one, unless there is one. Blocks.
    pub fn make(&self) {
        let name = new_name();
        {
            let mut state = self.state();
            if state.closed || state.coming.is_some() || state.ready.is_some() {
                return;
            }
            state.coming = Some(name.clone());
        }
        let made = network::prepare(&self.net, &self.exe, &name);
        let failed = made.as_ref().err().map(|error| havre_base::one_line(error));
        if let Some(error) = failed {
            // The next box makes its own, and says why it cannot.
            tracing::warn!(error, "cannot make the network of the next box");
            for error in self.remove(&name) {
                tracing::warn!(error, "cannot remove a network");
            }
        }
        let mut state = self.state();
        state.coming = None;
        state.ready = made.ok();
    }

    /// What is there or comes, which is no box's.
    pub fn names(&self) -> BTreeSet<String> {
        let state = self.state();
        let ready = state.ready.as_ref().map(|it| it.environment.clone());
        state.coming.iter().cloned().chain(ready).collect()
    }

    /// From now on none is made.
    pub fn close(&self) {
        self.state().closed = true;
    }

    /// Removes what is there; what could not be. Blocks.
    pub fn remove_ready(&self) -> Vec<String> {
        let ready = self.state().ready.take();
        ready.map_or_else(Vec::new, |spare| self.remove(&spare.environment))
    }

    /// Removes a network; what could not be. Blocks.
    pub fn remove(&self, name: &str) -> Vec<String> {
        let errors = self.net.remove_environment(name);
        errors
            .iter()
            .map(|error| havre_base::one_line(error))
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that no network had before.
fn new_name() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.unwrap_or_default().as_nanos();
    format!("box-{}-{nanos:x}", std::process::id())
}
