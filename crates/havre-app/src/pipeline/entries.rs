//! By what jobs were let into their environments.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use havre_api::PromotionId;
use havre_model::EnvironmentName;
use havre_runs::LegKey;

/// By what jobs were let in, for their `up` and `promote`: asked for just before each starts.
#[derive(Clone, Default)]
pub(super) struct Entries(Arc<Mutex<HashMap<LegKey, Entry>>>);

/// What a job was let into, and by what.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) environment: EnvironmentName,
    pub(super) promotion: PromotionId,
}

impl Entries {
    pub(super) fn note(&self, key: &LegKey, entry: Entry) {
        self.lock().insert(key.clone(), entry);
    }

    pub(super) fn of(&self, key: &LegKey) -> Option<Entry> {
        self.lock().get(key).cloned()
    }

    pub(super) fn forget(&self, key: &LegKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LegKey, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
