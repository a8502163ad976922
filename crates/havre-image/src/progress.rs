//! What a transfer tells while it goes on.

use crate::Digest;

/// One step of a transfer. `done` and `total` are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The blob or layer it is about.
    pub digest: Digest,
    /// What happens to it.
    pub phase: TransferPhase,
    /// How far it got.
    pub done: u64,
    /// How far it has to go, where known.
    pub total: Option<u64>,
}

/// What happens to a blob or layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferPhase {
    /// It was there already.
    Present,
    /// It is being fetched or copied.
    Transferring,
    /// The fetch was cut and goes on where it stopped.
    Retrying,
    /// It is being unpacked.
    Unpacking,
    /// It is complete.
    Done,
}

/// Receives the steps of a transfer; called often, must not block for long.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// For who does not want to know.
pub fn silent(_: Progress) {}
