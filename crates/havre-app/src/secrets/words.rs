//! What all that is said of secrets and their seal has in common.

use std::time::{Duration, UNIX_EPOCH};

use havre_api::{ApiError, ErrorCode, Timestamp};
use havre_redact::MIN_BYTES;
use havre_secrets::{LockReason, RotationStep, SealedError, SecretError, SecretName};

use crate::platform::Platform;

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

/// What should be known of a value.
pub(super) fn warnings(platform: &Platform, name: &SecretName, value: &[u8]) -> Vec<String> {
    let mut warnings = Vec::new();
    if value.trim_ascii().len() < MIN_BYTES {
        warnings.push(format!(
            "`{name}` is shorter than {MIN_BYTES} bytes: it cannot be masked in logs and output"
        ));
    }
    if !platform.seal.status().is_set_up() {
        warnings.push(SET_UP.to_owned());
    }
    warnings
}

pub(super) fn named(name: &str) -> Result<SecretName, ApiError> {
    let name = name.parse::<SecretName>();
    name.map_err(|error| ApiError::from_error(ErrorCode::Invalid, &error))
}

/// How a user is told.
pub(crate) fn refusal(error: SecretError) -> ApiError {
    let (code, hint) = match &error {
        SecretError::NotFound { .. } => (
            ErrorCode::NotFound,
            Some("`havre secret ls` lists those that there are"),
        ),
        SecretError::NoVersion { .. } => (
            ErrorCode::NotFound,
            Some("`havre secret history` lists its versions"),
        ),
        SecretError::Rotating { step, .. } => (
            ErrorCode::Conflict,
            Some(match step {
                RotationStep::Aborting => "`havre secret rotate NAME --abort` goes on with it",
                RotationStep::Retiring => "`havre secret rotate NAME` goes on with it",
                RotationStep::Staged
                | RotationStep::Switched
                | RotationStep::Done
                | RotationStep::Aborted => {
                    "`havre secret rotate NAME` goes on with it, with --abort back"
                }
            }),
        ),
        SecretError::OutOfUse { .. } => (
            ErrorCode::Conflict,
            Some("set its value anew, if it works: `havre secret set`"),
        ),
        SecretError::NotThere { .. } => (
            ErrorCode::Conflict,
            Some("`havre secret ls` tells how far a rotation is"),
        ),
        SecretError::SameValue { .. } => (ErrorCode::Invalid, None),
        SecretError::Damaged { .. } => (
            ErrorCode::Failed,
            Some(
                "restore state.db from a backup, or remove the secret with `havre secret rm` and set it again",
            ),
        ),
        SecretError::Sealed(SealedError::Locked { reason }) => {
            (ErrorCode::Failed, Some(to_open(reason)))
        }
        SecretError::Sealed(_) => (
            ErrorCode::Failed,
            Some("`havre secret seal status` says what is wrong"),
        ),
        SecretError::NoRoom { .. } => (
            ErrorCode::Invalid,
            Some("`havre secret ls` tells their sizes; `havre secret rm` makes room"),
        ),
        SecretError::Empty | SecretError::TooLarge { .. } | SecretError::TooMany { .. } => {
            (ErrorCode::Invalid, None)
        }
        SecretError::Database(_) | SecretError::Crypto(_) => (ErrorCode::Failed, None),
    };
    let refused = ApiError::from_error(code, &error);
    match hint {
        Some(hint) => refused.with_hint(hint),
        None => refused,
    }
}
