//! The seal of this installation and what is kept under it.

pub(crate) mod calls;
pub(crate) mod differing;
pub(crate) mod needed;
pub(crate) mod rotation;
pub(crate) mod scope;
pub(crate) mod slots;
mod uses;
mod words;

pub(crate) use words::advice;

use std::sync::Arc;

use havre_base::one_line;
use havre_secrets::{Place, Seal, Secrets};
use havre_store::{Store, StoreError, now};

use crate::audit;
use crate::contents;
use crate::platform::Platform;
use crate::root::Root;

/// Opens the seal, or makes it. One that stays locked says so, and all else goes on.
pub(crate) fn open(root: &Root, store: &Arc<Store>) -> Result<(Seal, Secrets), StoreError> {
    let place = Place {
        state: root.state_dir().join("seal"),
        machine: root.etc_dir().to_owned(),
    };
    let sealed = havre_secrets::is_anything_sealed(store)?;
    let seal = Seal::start(place, sealed, now());
    if let Some(reason) = seal.locked() {
        tracing::error!(
            reason = &*reason as &dyn std::error::Error,
            "secrets are locked"
        );
    }
    if let Some(id) = seal.id() {
        havre_secrets::note_seal(store, &id)?;
    }
    let secrets = Secrets::new(Arc::clone(store), seal.clone());
    Ok((seal, secrets))
}

/// What came of what waits for an open seal.
#[derive(Debug, Default)]
pub(crate) struct Resumed {
    /// What is still to be done, and why.
    pub(crate) undone: Vec<String>,
    /// Secrets that were edited or cut off before.
    pub(crate) damaged: Vec<String>,
    /// Environments that are in memory name contents as they were named before.
    pub(crate) is_stale: bool,
}

/// Does what waits for an open seal, before environments are known: what could not be done is logged.
pub(crate) fn start(platform: &Platform) {
    if let Err(error) = platform.secrets.few() {
        tracing::error!(error = one_line(&error), "secrets cannot be counted");
    }
    let resumed = resume(platform);
    for undone in resumed.undone {
        tracing::error!(undone, "what is sealed is not as it should be");
    }
    for damaged in resumed.damaged {
        tracing::warn!(damaged, "a secret was edited, swapped or cut off");
    }
}

/// Does what waits for an open seal: goes on with a rekeying that was killed after the root key was written, and
/// seals what lies in clear. Each part is tried, whatever became of the others. While the seal is locked all
/// lies as it lay, and what runs goes on.
pub(crate) fn resume(platform: &Platform) -> Resumed {
    let mut resumed = Resumed::default();
    if platform.seal.locked().is_some() {
        return resumed;
    }
    let Resumed {
        undone, damaged, ..
    } = &mut resumed;
    // What was written while it was locked is vouched for from now on.
    audit::give_key(&platform.trail, &platform.seal);
    match platform.secrets.renew() {
        Ok(broken) => damaged.extend(broken),
        Err(error) => undone.push(one_line(&error)),
    }
    let left = platform.contents.renew();
    undone.extend(left.iter().map(|error| one_line(error)));
    if let Err(error) = platform.authorities.seal_anew() {
        undone.push(one_line(&error));
    }
    if let Err(error) = audit::renew_key(&platform.trail, &platform.seal) {
        undone.push(format!("the key of the audit trail: {}", one_line(&error)));
    }
    if let Err(error) = platform.identities.issuer.seal_anew() {
        undone.push(one_line(&error));
    }
    let clear = platform.root.state_dir().join("secrets");
    let run = platform.root.run_dir();
    match contents::take_over(&clear, run, &platform.contents, &platform.tables) {
        Ok(is_renamed) => resumed.is_stale = is_renamed,
        Err(error) => undone.push(format!(
            "secrets of an earlier version lie in clear still: {}",
            one_line(&error)
        )),
    }
    resumed
}

#[cfg(test)]
mod tests;
