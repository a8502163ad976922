//! The seal of this installation and what is kept under it.

pub(crate) mod calls;
pub(crate) mod needed;
pub(crate) mod scope;
pub(crate) mod slots;
mod uses;

use std::sync::Arc;

use havre_secrets::{Place, Seal, Secrets};
use havre_store::{Store, StoreError, now};

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
    for finding in finish_rekey(&secrets) {
        tracing::warn!(finding, "secrets");
    }
    Ok((seal, secrets))
}

/// Does what waits for an open seal; what could not be done is told.
pub(crate) fn resume(platform: &Platform) -> Vec<String> {
    let mut undone = finish_rekey(&platform.secrets);
    undone.extend(renewed(platform));
    take_over(platform);
    undone
}

/// Seals anew what is under an older key.
fn renewed(platform: &Platform) -> Option<String> {
    let renewed = platform.contents.renew();
    renewed.err().map(|error| havre_base::one_line(&error))
}

/// Seals contents that earlier versions kept in clear, where the seal is open. While it is not they lie as
/// they lay, and what runs goes on.
pub(crate) fn take_over(platform: &Platform) {
    if platform.seal.locked().is_some() {
        return;
    }
    let clear = platform.root.state_dir().join("secrets");
    let run = platform.root.run_dir();
    let taken = contents::take_over(&clear, run, &platform.contents, &platform.tables);
    if let Err(error) = taken {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "secrets of an earlier version lie in clear still"
        );
    }
}

/// Goes on with a rekeying that was killed after the root key was written.
fn finish_rekey(secrets: &Secrets) -> Vec<String> {
    match secrets.is_outdated() {
        Ok(true) => match secrets.renew() {
            Ok(_) => Vec::new(),
            Err(error) => vec![havre_base::one_line(&error)],
        },
        // Locked, or of another machine: whoever needs one is told.
        Ok(false) | Err(_) => Vec::new(),
    }
}
