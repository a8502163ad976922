//! The audit trail in the daemon: where it is kept, which calls are written down, and what is answered of it.
//!
//! ```text
//! call ─► Recording ─► the guard that decides ─► handler
//!            │ begun, before anything is done; ended, before the caller is answered
//!            ▼
//!          Trail ◄─ what the daemon does by itself
//! ```

mod answers;
mod guard;
mod key;
mod rules;

use std::sync::Arc;

use havre_api::Guard;
use havre_audit::{Entry, Outcome, Principal, Trail};
use havre_store::{Store, StoreError};

use crate::platform::Platform;
use crate::root::Root;

pub(crate) use answers::{export, log, verify};
use guard::Recording;
pub(crate) use key::{give as give_key, renew as renew_key};

/// The trail of an installation.
pub(crate) fn trail(root: &Root, store: &Arc<Store>) -> Trail {
    Trail::new(Arc::clone(store), root.state_dir().join("audit.head"))
}

/// Takes the trail up: signs with its key, if the seal is open, and compares it with what is noted outside the database.
pub(crate) fn start(platform: &Platform) {
    let trail = &platform.trail;
    if let Some(what_tells) = what_tells_of_it(platform) {
        trail.was_begun(what_tells);
    }
    key::give(trail, &platform.seal);
    trail.resume();
    note_daemon(trail, "daemon/start");
}

/// Who decides on each call, and has each written down: whatever serves the API goes by it.
pub(crate) fn guard(platform: &Platform) -> Arc<dyn Guard> {
    let door: Arc<dyn Guard> = Arc::clone(&platform.door) as _;
    Arc::new(Recording::new(platform.trail.clone(), door))
}

/// What is there only after something was written to the trail.
fn what_tells_of_it(platform: &Platform) -> Option<String> {
    if let Some(key) = platform.seal.trail() {
        return Some(format!("the seal knows one that key {key} signs"));
    }
    let is_there = |found: Result<bool, StoreError>| {
        found.unwrap_or_else(|error| {
            let error = havre_base::one_line(&error);
            tracing::error!(error, "whether there was an audit trail is not known");
            false
        })
    };
    let register = &platform.door.register;
    let environments = platform.tables.environments();
    let left = [
        ("secrets", is_there(platform.secrets.is_any_kept())),
        ("tokens", !register.tokens().is_empty()),
        ("users", !register.users().is_empty()),
        (
            "environments",
            is_there(environments.map(|environments| !environments.is_empty())),
        ),
    ];
    let left = left.iter().find(|(_, is_there)| *is_there);
    left.map(|(what, _)| format!("there are {what}"))
}

/// Writes down what the daemon does by itself. Where that cannot be written it is done all the same: what keeps
/// applications running does not wait for room on a disk.
pub(crate) fn note(trail: &Trail, entry: Entry) {
    let action = entry.action.clone();
    if let Err(error) = trail.append(entry) {
        let error = havre_base::one_line(&error);
        tracing::error!(action, error, "not in the audit trail");
    }
}

/// That the daemon has started, or ends: a trail without the end of one tells that it was killed.
pub(crate) fn note_daemon(trail: &Trail, action: &str) {
    let entry = Entry {
        subject: Some(concat!("havre ", env!("CARGO_PKG_VERSION")).to_owned()),
        ..Entry::new(Principal::havre(), action, Outcome::Ok)
    };
    note(trail, entry);
}

#[cfg(test)]
mod tests;
