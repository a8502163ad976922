//! Slots that come and go, a new root key, and unlocking. Each change is one replaced file: whoever is
//! killed leaves what was or what is.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::machine::{self, MachineError, MachineKind};
use super::passphrase::{self, Cost, Kdf, PassphraseError};
use super::record::{Opened, Opener, Record, RecordError, Slot};
use super::start::LockReason;
use super::{Seal, State};
use crate::age::{Identity, Recipient};
use crate::key::CryptoError;

/// Why the seal is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It is to be unlocked first.
    #[error("the secrets of this machine are locked: {reason}")]
    Locked {
        /// Why.
        reason: Arc<LockReason>,
    },
    /// There is nothing that could be unlocked.
    #[error("nothing can be unlocked: {reason}")]
    Unusable {
        /// Why.
        reason: Arc<LockReason>,
    },
    /// No slot opens.
    #[error("this opens no slot")]
    WrongSecret,
    /// It does not open what it was just given.
    #[error("the second entry does not open the new slot: nothing is changed")]
    NotConfirmed,
    /// No such slot.
    #[error("there is no slot {number}")]
    NoSlot {
        /// Its number.
        number: u32,
    },
    /// It is there already.
    #[error("slot {number} is for this recipient already")]
    Twice {
        /// The slot.
        number: u32,
    },
    /// More than the record may have.
    #[error("there are {MOST_SLOTS} slots, which is the most")]
    TooMany,
    /// What would be left is known to open by nobody.
    #[error("slot {number} stays: no other slot has been seen to open")]
    LastSlot {
        /// The slot.
        number: u32,
    },
    /// A passphrase that is none.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// The machine's part.
    #[error("the machine's slot cannot be made")]
    Machine {
        /// Why.
        source: MachineError,
    },
    /// A key file that is no longer needed is still there.
    #[error("the slot is gone, and its key is not")]
    NotWiped {
        /// Why.
        source: MachineError,
    },
    /// The record cannot be written.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// It.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It is not what it has to be.
    #[error("the seal's record cannot be used: {why}")]
    Record {
        /// Why.
        why: String,
    },
    /// There are no random bytes.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Most slots.
const MOST_SLOTS: usize = 16;

/// What opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlocked {
    /// The slot.
    pub slot: u32,
    /// It was locked before.
    pub was_locked: bool,
}

impl From<RecordError> for ChangeError {
    fn from(error: RecordError) -> Self {
        Self::Record {
            why: error.to_string(),
        }
    }
}

impl Seal {
    /// Opens the seal with a passphrase, or an age identity in its text form. One that is open stays so:
    /// it is seen that the slot opens. Takes a while for each passphrase slot.
    pub fn unlock(&self, secret: &str, now: i64) -> Result<Unlocked, ChangeError> {
        let _changing = self.changing();
        let (mut record, was_locked) = match self.state() {
            State::Open { record, .. } => (Record::clone(&record), false),
            State::Locked {
                record: Some(record),
                ..
            } => (Record::clone(&record), true),
            State::Locked {
                record: None,
                reason,
            } => return Err(ChangeError::Unusable { reason }),
        };
        let (slot, root) = match secret.parse::<Identity>() {
            Ok(identity) => record.unlock(&identity, |_| true),
            Err(_) => by_passphrase(&record, secret),
        }
        .ok_or(ChangeError::WrongSecret)?;
        let keys = record.open(root)?;
        record.opened(slot, now);
        // That it opened is written down if it can be: a full disk keeps nobody out.
        let written = self.write(&record);
        self.set(State::Open {
            record: Arc::new(record),
            keys: Arc::new(keys),
        });
        match was_locked {
            true => Ok(Unlocked { slot, was_locked }),
            false => written.map(|()| Unlocked { slot, was_locked }),
        }
    }

    /// Adds a slot for a passphrase, which `again` opens once before it counts. Takes a while.
    pub fn add_passphrase(
        &self,
        passphrase: &str,
        again: &str,
        now: i64,
    ) -> Result<u32, ChangeError> {
        self.add_passphrase_of(passphrase, again, Cost::USUAL, now)
    }

    pub(super) fn add_passphrase_of(
        &self,
        passphrase: &str,
        again: &str,
        cost: Cost,
        now: i64,
    ) -> Result<u32, ChangeError> {
        passphrase::check(passphrase)?;
        self.change(|record, keys| {
            let kdf = Kdf::new(cost)?;
            let recipient = kdf.identity(passphrase)?.recipient();
            let opener = Opener::Passphrase { kdf };
            let number = record.add_slot(&keys.root, opener, &recipient, now)?;
            let slot = record.slots.last().filter(|slot| slot.number == number);
            let opens = match slot.map(|slot| &slot.opener) {
                Some(Opener::Passphrase { kdf }) => {
                    let identity = kdf.identity(again)?;
                    record
                        .unlock(&identity, |slot| slot.number == number)
                        .is_some()
                }
                _ => false,
            };
            match opens {
                true => record.opened(number, now),
                false => return Err(ChangeError::NotConfirmed),
            }
            Ok(number)
        })
    }

    /// Adds a slot for an age recipient. Whether its identity opens it is not known before
    /// [`Seal::unlock`] was given it once.
    pub fn add_age(&self, recipient: &Recipient, now: i64) -> Result<u32, ChangeError> {
        self.change(|record, keys| {
            let text = recipient.to_string();
            if let Some(slot) = record.slots.iter().find(|slot| slot.recipient == text) {
                return Err(ChangeError::Twice {
                    number: slot.number,
                });
            }
            Ok(record.add_slot(&keys.root, Opener::Age, recipient, now)?)
        })
    }

    /// Gives the machine a slot, in the place of those that it has.
    pub fn add_machine(&self, kind: MachineKind, now: i64) -> Result<u32, ChangeError> {
        let mut before = Vec::new();
        let number = self.change(|record, keys| {
            let dir = &self.0.place.machine;
            let (identity, opener) = machine::make(kind, dir, record.next_slot)
                .map_err(|source| ChangeError::Machine { source })?;
            // Read again, as the next start does.
            let read = machine::identity(&opener, &identity.recipient().to_string(), dir);
            let read = read.transpose();
            let read = read.map_err(|source| ChangeError::Machine { source })?;
            if read.map(|read| read.recipient()) != Some(identity.recipient()) {
                return Err(ChangeError::NotConfirmed);
            }
            let number = record.add_slot(&keys.root, opener, &identity.recipient(), now)?;
            record.opened(number, now);
            let gone = |slot: &Slot| slot.opener.is_machine() && slot.number != number;
            // What a slot that is not ours names is nothing to be wiped.
            before = record
                .slots
                .iter()
                .filter(|slot| gone(slot) && record.is_own(&keys.root, slot))
                .cloned()
                .collect();
            record.slots.retain(|slot| !gone(slot));
            Ok(number)
        })?;
        for slot in &before {
            self.forget(slot)?;
        }
        Ok(number)
    }

    /// Removes a slot. Who has an older copy of the record and what opened the slot has the root key
    /// still, until [`Seal::rekey`].
    pub fn remove_slot(&self, number: u32) -> Result<(), ChangeError> {
        let gone = self.change(|record, keys| {
            let at = record.slots.iter().position(|slot| slot.number == number);
            let at = at.ok_or(ChangeError::NoSlot { number })?;
            let opens = |slot: &Slot| {
                slot.number != number && slot.opened_at.is_some() && record.is_own(&keys.root, slot)
            };
            if !record.slots.iter().any(opens) {
                return Err(ChangeError::LastSlot { number });
            }
            let own = record.is_own(&keys.root, &record.slots[at]);
            Ok(Some(record.slots.remove(at)).filter(|_| own))
        })?;
        gone.map_or(Ok(()), |slot| self.forget(&slot))
    }

    /// Wipes the key of a slot of ours that is gone.
    fn forget(&self, slot: &Slot) -> Result<(), ChangeError> {
        let forgotten = machine::forget(slot, &self.0.place.machine);
        forgotten.map_err(|source| ChangeError::NotWiped { source })
    }

    /// Makes a new root key for the slots that are there, and a key under it that seals from now on; what
    /// was sealed before opens still. Slots that something else put into the record are left out: their
    /// numbers are returned.
    pub fn rekey(&self, now: i64) -> Result<Vec<u32>, ChangeError> {
        self.change(|record, keys| {
            let (fresh, root, dropped) = record.renew(&keys.root, now)?;
            *keys = fresh.open(root)?;
            *record = fresh;
            Ok(dropped)
        })
    }

    /// Notes the id of the key by which the audit trail is signed.
    pub fn note_trail(&self, key: String) -> Result<(), ChangeError> {
        self.change(|record, _| {
            record.trail = Some(key);
            Ok(())
        })
    }

    /// Changes a copy of the record and its keys, writes it, and takes it over if it is written.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Record, &mut Opened) -> Result<T, ChangeError>,
    ) -> Result<T, ChangeError> {
        let _changing = self.changing();
        let (mut record, mut keys) = match self.state() {
            State::Open { record, keys } => (Record::clone(&record), Opened::clone(&keys)),
            State::Locked { reason, .. } => return Err(ChangeError::Locked { reason }),
        };
        let done = change(&mut record, &mut keys)?;
        if record.slots.len() > MOST_SLOTS {
            return Err(ChangeError::TooMany);
        }
        self.write(&record)?;
        self.set(State::Open {
            record: Arc::new(record),
            keys: Arc::new(keys),
        });
        Ok(done)
    }

    fn write(&self, record: &Record) -> Result<(), ChangeError> {
        let place = &self.0.place;
        place.write(record).map_err(|source| ChangeError::Write {
            path: place.record(),
            source,
        })
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        let changing = self.0.changing.lock();
        changing.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot that a passphrase opens.
fn by_passphrase(record: &Record, secret: &str) -> Option<(u32, crate::key::Key)> {
    record.slots.iter().find_map(|slot| {
        let Opener::Passphrase { kdf } = &slot.opener else {
            return None;
        };
        // Parameters that were edited open nothing.
        let identity = kdf.identity(secret).ok()?;
        record.unlock(&identity, |one| one.number == slot.number)
    })
}

impl Record {
    /// Notes that a slot was seen to open.
    pub(super) fn opened(&mut self, number: u32, now: i64) {
        for slot in self.slots.iter_mut().filter(|slot| slot.number == number) {
            slot.opened_at = Some(now);
        }
    }
}
