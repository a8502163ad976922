//! The seal of this installation and what is kept under it.

use havre_secrets::{Place, Seal};
use havre_store::{Store, StoreError, now};

use crate::root::Root;

/// Opens the seal, or makes it. One that stays locked says so, and all else goes on.
pub(crate) fn open(root: &Root, store: &Store) -> Result<Seal, StoreError> {
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
    Ok(seal)
}
