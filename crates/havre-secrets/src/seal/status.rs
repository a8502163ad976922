//! What there is to tell of the seal: nothing of it is secret.

use std::path::{Path, PathBuf};

use super::machine;
use super::record::{Opener, Slot};
use super::{Seal, State};

/// The seal as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealStatus {
    /// Which; none where there is no record.
    pub id: Option<String>,
    /// Why it is locked; none: it is open.
    pub locked: Option<String>,
    /// Ways to open it.
    pub slots: Vec<SlotStatus>,
    /// Keys under the root key, of which the last one seals.
    pub generations: usize,
    /// Key files of the machine that belong to no slot.
    pub strays: Vec<PathBuf>,
}

/// One way to open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotStatus {
    /// By which it is named.
    pub number: u32,
    /// What opens it.
    pub kind: SlotKind,
    /// Its public key.
    pub recipient: String,
    /// When it was made.
    pub created_at: i64,
    /// When it was last seen to open.
    pub opened_at: Option<i64>,
    /// Something else than Havre put it there, or edited it; unknown while locked.
    pub foreign: bool,
}

/// What opens a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// A file that only root can read.
    MachineFile(PathBuf),
    /// A credential of systemd's, by the host's key.
    MachineHost,
    /// The same, with the TPM.
    MachineHostAndTpm,
    /// A passphrase.
    Passphrase,
    /// An age identity that is kept elsewhere.
    Age,
}

impl SealStatus {
    /// Whether it can be opened without this machine, as far as anybody has seen: only then is it set up.
    pub fn is_set_up(&self) -> bool {
        self.slots.iter().any(|slot| {
            let elsewhere = matches!(slot.kind, SlotKind::Passphrase | SlotKind::Age);
            elsewhere && slot.opened_at.is_some() && !slot.foreign
        })
    }
}

impl Seal {
    /// How it is.
    pub fn status(&self) -> SealStatus {
        let (record, locked, keys) = match self.state() {
            State::Open { record, keys } => (Some(record), None, Some(keys)),
            State::Locked { record, reason } => {
                (record, Some(havre_base::one_line(&*reason)), None)
            }
        };
        let slots = record.iter().flat_map(|record| &record.slots);
        let dir = &self.0.place.machine;
        let strays = machine::strays(dir, slots.clone());
        let slots = slots.map(|slot| {
            let judge = record.as_ref().zip(keys.as_ref());
            let foreign = judge.is_some_and(|(record, keys)| !record.is_own(&keys.root, slot));
            told(slot, foreign, dir)
        });
        SealStatus {
            id: record.as_ref().map(|record| record.id.clone()),
            locked,
            slots: slots.collect(),
            generations: record.as_ref().map_or(0, |record| record.generations.len()),
            strays,
        }
    }
}

fn told(slot: &Slot, foreign: bool, dir: &Path) -> SlotStatus {
    SlotStatus {
        number: slot.number,
        kind: match &slot.opener {
            Opener::MachineFile { path } => {
                SlotKind::MachineFile(machine::located(path, &slot.recipient, dir))
            }
            Opener::MachineCredential { tpm: false, .. } => SlotKind::MachineHost,
            Opener::MachineCredential { tpm: true, .. } => SlotKind::MachineHostAndTpm,
            Opener::Passphrase { .. } => SlotKind::Passphrase,
            Opener::Age => SlotKind::Age,
        },
        recipient: slot.recipient.clone(),
        created_at: slot.created_at,
        opened_at: slot.opened_at,
        foreign,
    }
}
