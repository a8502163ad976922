//! Boxes that are being made. Who removes one waits until its making has ended, so that nothing comes after.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// By their ids.
#[derive(Default)]
pub struct Starting {
    boxes: Mutex<BTreeMap<String, Making>>,
}

#[derive(Clone, Default)]
struct Making {
    cancel: CancellationToken,
    ended: CancellationToken,
}

impl Starting {
    /// Begins; its token tells that it is to end. `None`: one of that id is being made.
    pub fn begin(&self, id: &str) -> Option<CancellationToken> {
        match self.boxes().entry(id.to_owned()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => Some(place.insert(Making::default()).cancel.clone()),
        }
    }

    /// It is made, or all that was made of it is removed.
    pub fn end(&self, id: &str) {
        if let Some(making) = self.boxes().remove(id) {
            making.ended.cancel();
        }
    }

    /// Asks it to end; whether it is being made.
    pub fn cancel(&self, id: &str) -> bool {
        let boxes = self.boxes();
        let making = boxes.get(id).inspect(|making| making.cancel.cancel());
        making.is_some()
    }

    /// Asks it to end, and returns when it has.
    pub async fn stop(&self, id: &str) {
        let making = self.boxes().get(id).cloned();
        if let Some(making) = making {
            making.cancel.cancel();
            making.ended.cancelled().await;
        }
    }

    /// Asks all to end.
    pub fn cancel_all(&self) {
        for making in self.boxes().values() {
            making.cancel.cancel();
        }
    }

    fn boxes(&self) -> MutexGuard<'_, BTreeMap<String, Making>> {
        // Each change is whole.
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
