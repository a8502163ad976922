//! The key by which the trail is signed: random, and kept under the seal.

use havre_audit::{AppendError, Key, Trail};
use havre_base::one_line;
use havre_secrets::{ChangeError, Seal, SealedError};
use havre_store::StoreError;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// As what it is sealed.
const CONTEXT: &str = "audit/key";

/// Why the trail has no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("the key cannot be opened")]
    Sealed(#[from] SealedError),
    #[error("what was sealed is no key")]
    Length,
    #[error("there are no random bytes")]
    Random(#[from] Errno),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the seal cannot take note of it")]
    Seal(#[from] ChangeError),
}

/// Gives the trail its key, where it has none and the seal is open, which takes note of it. Without one records are written
/// and not signed, and say so.
pub(crate) fn give(trail: &Trail, seal: &Seal) {
    if seal.locked().is_some() {
        return;
    }
    let given = match trail.key_id() {
        Some(_) => Ok(()),
        None => opened(trail, seal),
    };
    if let Err(error) = given {
        let error = one_line(&error);
        tracing::error!(error, "the audit trail is not signed");
    } else if let Err(error) = noted(trail, seal) {
        let error = one_line(&error);
        tracing::error!(error, "the seal does not know the audit trail's key");
    }
}

/// Has the seal know the key once there is a record of it, and a line in the file of heads, and no sooner: what it knows is
/// missed.
fn noted(trail: &Trail, seal: &Seal) -> Result<(), KeyError> {
    match trail.key_id() {
        Some(key) if seal.trail().as_ref() != Some(&key) && trail.is_copied() => {
            Ok(seal.note_trail(key)?)
        }
        Some(_) | None => Ok(()),
    }
}

/// Seals the trail's key anew, where it is under an older key of the seal.
pub(crate) fn renew(trail: &Trail, seal: &Seal) -> Result<(), KeyError> {
    if let Some(before) = trail.sealed_key()?
        && let Some(after) = seal.renewed(CONTEXT, &before)?
    {
        trail.put_sealed_key(before, after)?;
    }
    Ok(())
}

fn opened(trail: &Trail, seal: &Seal) -> Result<(), KeyError> {
    match trail.sealed_key()? {
        Some(sealed) => {
            let bytes = seal.open(CONTEXT, &sealed)?;
            let bytes: &[u8; Key::BYTES] =
                bytes.as_slice().try_into().map_err(|_| KeyError::Length)?;
            trail.use_key(Key::new(bytes), seal.trail())?;
        }
        None => {
            let mut bytes = zeroize::Zeroizing::new([0; Key::BYTES]);
            let mut filled = 0;
            while filled < bytes.len() {
                filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
            }
            let sealed = seal.seal(CONTEXT, &bytes[..])?;
            trail.adopt_key(Key::new(&bytes), sealed, seal.trail())?;
        }
    }
    Ok(())
}
