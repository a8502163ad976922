//! The seal: what is encrypted for this machine and for no other.

mod change;
pub(crate) mod machine;
pub(crate) mod passphrase;
mod place;
mod record;
mod start;
pub(crate) mod status;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use zeroize::Zeroizing;

use crate::key::{CryptoError, Key};
use record::{GenerationId, Opened, Record};

pub use change::{ChangeError, Unlocked};
pub use place::Place;
pub use start::LockReason;

/// How whatever is sealed begins: what it is, and the version of its form.
const MAGIC: &[u8; 4] = b"HVS\x01";
/// Magic and generation.
const HEADER: usize = MAGIC.len() + size_of::<GenerationId>();

/// Seals and opens; a clone is the same seal. Opening and sealing take microseconds.
#[derive(Clone)]
pub struct Seal(Arc<Inner>);

struct Inner {
    place: Place,
    state: RwLock<State>,
    /// Held while the record is changed.
    changing: Mutex<()>,
}

/// Locked or not.
#[derive(Clone)]
enum State {
    Open {
        record: Arc<Record>,
        keys: Arc<Opened>,
    },
    Locked {
        /// What of the record can be read.
        record: Option<Arc<Record>>,
        reason: Arc<LockReason>,
    },
}

/// Why something cannot be sealed or opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SealedError {
    /// Nobody has opened the seal.
    #[error("the secrets of this machine are locked: {reason}")]
    Locked {
        /// Why.
        reason: Arc<LockReason>,
    },
    /// It is not what was sealed.
    #[error("what is sealed as {context} was edited, swapped or cut off")]
    Damaged {
        /// As what it was to be opened.
        context: String,
    },
    /// It belongs to another machine or time.
    #[error(
        "{context} is sealed with a key that this machine's seal does not have: it comes from another machine, or the seal is older"
    )]
    Foreign {
        /// As what it was to be opened.
        context: String,
    },
    /// There are no random bytes.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal")
            .field("place", &self.0.place)
            .finish_non_exhaustive()
    }
}

impl Seal {
    /// Bytes with which whatever is sealed says under which key it is.
    pub const BEGINNING: usize = HEADER;

    fn with(place: Place, state: State) -> Self {
        Self(Arc::new(Inner {
            place,
            state: RwLock::new(state),
            changing: Mutex::default(),
        }))
    }

    /// Seals `plain` so that only this seal opens it, and only with the same `context` (such as
    /// `certificate/<id>`).
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, SealedError> {
        let keys = self.keys()?;
        let header = header(&keys.newest);
        let sealed = use_key(&keys.keys[&keys.newest], context)
            .encrypt(&[&header[..], context.as_bytes()], plain)?;
        Ok([&header[..], &sealed].concat())
    }

    /// What was sealed with this `context`.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealedError> {
        let keys = self.keys()?;
        let damaged = || SealedError::Damaged {
            context: context.to_owned(),
        };
        let generation = generation(sealed).ok_or_else(damaged)?;
        let key = keys
            .keys
            .get(&generation)
            .ok_or_else(|| SealedError::Foreign {
                context: context.to_owned(),
            })?;
        use_key(key, context)
            .decrypt(
                &[&header(&generation)[..], context.as_bytes()],
                &sealed[HEADER..],
            )
            .ok_or_else(damaged)
    }

    /// Whether `sealed`, of which the first [`Seal::BEGINNING`] bytes are enough, is to be sealed anew, since
    /// there is a newer key than the one it is under. What is under no key of this seal is not.
    pub fn is_outdated(&self, sealed: &[u8]) -> Result<bool, SealedError> {
        let keys = self.keys()?;
        let under = generation(sealed).filter(|under| keys.keys.contains_key(under));
        Ok(under.is_some_and(|under| under != keys.newest))
    }

    /// The same, sealed by the newest key. `None`: it is so already, or it does not open, which who needs it is
    /// told.
    pub fn renewed(&self, context: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>, SealedError> {
        if !self.is_outdated(sealed)? {
            return Ok(None);
        }
        match self.open(context, sealed) {
            Ok(plain) => self.seal(context, &plain).map(Some),
            Err(SealedError::Damaged { .. } | SealedError::Foreign { .. }) => Ok(None),
            Err(error @ (SealedError::Locked { .. } | SealedError::Crypto(_))) => Err(error),
        }
    }

    /// Tells this seal from others; none while there is no record that can be read.
    pub fn id(&self) -> Option<String> {
        Some(self.record()?.id.clone())
    }

    /// The id of the key by which the audit trail is signed, as it was noted.
    pub fn trail(&self) -> Option<String> {
        self.record()?.trail.clone()
    }

    /// Why nothing can be sealed or opened; none: it can.
    pub fn locked(&self) -> Option<Arc<LockReason>> {
        match self.state() {
            State::Open { .. } => None,
            State::Locked { reason, .. } => Some(reason),
        }
    }

    fn keys(&self) -> Result<Arc<Opened>, SealedError> {
        match self.state() {
            State::Open { keys, .. } => Ok(keys),
            State::Locked { reason, .. } => Err(SealedError::Locked { reason }),
        }
    }

    fn record(&self) -> Option<Arc<Record>> {
        match self.state() {
            State::Open { record, .. } => Some(record),
            State::Locked { record, .. } => record,
        }
    }

    fn state(&self) -> State {
        let state = self.0.state.read();
        state.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: State) {
        let mut place = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        *place = state;
    }
}

fn header(generation: &GenerationId) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    header[MAGIC.len()..].copy_from_slice(generation);
    header
}

fn generation(sealed: &[u8]) -> Option<GenerationId> {
    let rest = sealed.strip_prefix(MAGIC)?;
    rest.first_chunk().copied()
}

fn use_key(key: &Key, context: &str) -> Key {
    key.derive(&[b"havre seal use 1", context.as_bytes()])
}

#[cfg(test)]
mod tests;
