//! What both the secrets and their seal say of themselves.

use std::time::{Duration, UNIX_EPOCH};

use havre_api::Timestamp;
use havre_secrets::LockReason;

/// What to do where there is no second way to open the seal.
pub(super) const SET_UP: &str = "only this machine opens the secrets: `havre secret seal add-slot passphrase` \
     (or age) adds a way that survives it";

/// What opens a seal that is locked.
pub(super) fn to_open(reason: &LockReason) -> &'static str {
    match reason {
        LockReason::Machine { .. } | LockReason::OtherMachine | LockReason::NoMachineSlot => {
            "`havre secret seal unlock` opens them with a passphrase or an age identity"
        }
        LockReason::NoRecord { .. } | LockReason::Damaged { .. } => {
            "restore the folder `seal` of the state from a backup, and restart the daemon"
        }
        LockReason::NotMade { .. } => {
            "nothing is sealed yet: restart the daemon when that is mended, and it makes a seal"
        }
    }
}

/// From seconds since the epoch.
pub(super) fn time(seconds: i64) -> Timestamp {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    Timestamp::from(UNIX_EPOCH + since)
}
