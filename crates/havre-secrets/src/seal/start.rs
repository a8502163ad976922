//! The seal at the daemon's start: made, opened by the machine itself, or locked with a reason.

use std::path::PathBuf;
use std::sync::Arc;

use super::machine::{self, MachineError, MachineKind};
use super::place::Unread;
use super::record::{Opener, Record};
use super::{Place, Seal, State};

/// Why the seal is locked. All but [`LockReason::NoRecord`], [`LockReason::Damaged`] and
/// [`LockReason::NotMade`] is cured by unlocking it.
#[derive(Debug, thiserror::Error)]
pub enum LockReason {
    /// The machine's part is not to be had.
    #[error("the machine's own key does not open them")]
    Machine {
        /// Why.
        source: MachineError,
    },
    /// It is there, and belongs to something else.
    #[error("the machine's own key is that of another seal")]
    OtherMachine,
    /// There is none.
    #[error("there is no machine slot, so that somebody has to unlock them after every start")]
    NoMachineSlot,
    /// Something is sealed, and the seal is gone.
    #[error("{path} is missing, which opens what is sealed: restore it from a backup", path = path.display())]
    NoRecord {
        /// It.
        path: PathBuf,
    },
    /// It is not what it has to be.
    #[error("{path} cannot be used: {why}", path = path.display())]
    Damaged {
        /// It.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A new seal could not be made.
    #[error("no seal could be made: {why}")]
    NotMade {
        /// Why.
        why: String,
    },
}

impl Seal {
    /// Opens the seal of `place` with what the machine has, and makes it where there is none. `sealed`:
    /// something has been sealed before, so that a seal that is gone is missed. `now`: seconds since the
    /// epoch.
    ///
    /// Where it cannot be opened it is locked, and everything else goes on.
    pub fn start(place: Place, sealed: bool, now: i64) -> Self {
        let record = match place.read() {
            Ok(record) => record,
            Err(Unread::Missing) if sealed => {
                let path = place.record();
                return locked(place, None, LockReason::NoRecord { path });
            }
            Err(Unread::Missing) => match make(&place, now) {
                Ok(record) => record,
                Err(why) => return locked(place, None, LockReason::NotMade { why }),
            },
            Err(Unread::Io(error)) => return damaged(place, None, error.to_string()),
            Err(Unread::Damaged(why)) => return damaged(place, None, why),
        };
        let mut reason = LockReason::NoMachineSlot;
        for slot in record.slots.iter().filter(|slot| slot.opener.is_machine()) {
            let identity = match machine::identity(&slot.opener, &slot.recipient, &place.machine) {
                Some(Ok(identity)) => identity,
                Some(Err(source)) => {
                    reason = LockReason::Machine { source };
                    continue;
                }
                None => continue,
            };
            let Some((_, root)) = record.unlock(&identity, |one| one.number == slot.number) else {
                reason = LockReason::OtherMachine;
                continue;
            };
            return match record.open(root) {
                Ok(keys) => {
                    let (record, keys) = (Arc::new(record), Arc::new(keys));
                    Self::with(place, State::Open { record, keys })
                }
                Err(error) => damaged(place, Some(record), error.to_string()),
            };
        }
        locked(place, Some(record), reason)
    }
}

fn damaged(place: Place, record: Option<Record>, why: String) -> Seal {
    let path = place.record();
    locked(place, record, LockReason::Damaged { path, why })
}

fn locked(place: Place, record: Option<Record>, reason: LockReason) -> Seal {
    let (record, reason) = (record.map(Arc::new), Arc::new(reason));
    Seal::with(place, State::Locked { record, reason })
}

/// A new seal with the machine's slot. Killed in between, it leaves the machine's key, which the next
/// attempt uses.
fn make(place: &Place, now: i64) -> Result<Record, String> {
    let one_line = |error: &dyn std::error::Error| havre_base::one_line(error);
    let (mut record, root) = Record::new(now).map_err(|error| one_line(&error))?;
    let (identity, opener): (_, Opener) =
        machine::make(MachineKind::File, &place.machine, record.next_slot)
            .map_err(|error| one_line(&error))?;
    let number = record
        .add_slot(&root, opener, &identity.recipient(), now)
        .map_err(|error| one_line(&error))?;
    record.opened(number, now);
    place
        .write(&record)
        .map_err(|error| format!("cannot write {}: {error}", place.record().display()))?;
    // What will be read at the next start.
    place
        .read()
        .map_err(|_| format!("{} does not read as written", place.record().display()))
}
