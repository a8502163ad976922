//! What all that is said of secrets and their seal has in common.

use std::time::{Duration, UNIX_EPOCH};

use havre_api::{ApiError, ErrorCode, Principal, Timestamp};
use havre_redact::MIN_BYTES;
use havre_secrets::{LockReason, RotationStep, Scope, SealedError, SecretError, SecretName};

use super::scope::environment_of;
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
pub(super) fn warnings(name: &SecretName, value: &[u8]) -> Vec<String> {
    let mut warnings = Vec::new();
    if value.trim_ascii().len() < MIN_BYTES {
        warnings.push(format!(
            "`{name}` is shorter than {MIN_BYTES} bytes: it cannot be masked in logs and output"
        ));
    }
    warnings
}

/// What should be done of the seal when the first secret is kept under it. Afterwards `havre status` says so, and no
/// command that sets one.
pub(super) fn of_first(platform: &Platform, version: u32) -> Option<String> {
    // What cannot be counted is none the less set, and its status says it.
    let is_first = version == 1 && platform.secrets.few().is_ok_and(|few| few == 1);
    (is_first && !platform.seal.status().is_set_up()).then(|| SET_UP.to_owned())
}

/// The same, for as long as there are secrets. It waits for nothing.
pub(crate) fn advice(platform: &Platform) -> Option<String> {
    let status = platform.seal.status();
    let is_lacking = status.id.is_some() && !status.is_set_up();
    (is_lacking && platform.secrets.were_seen()).then(|| SET_UP.to_owned())
}

pub(super) fn named(name: &str) -> Result<SecretName, ApiError> {
    let name = name.parse::<SecretName>();
    name.map_err(|error| ApiError::from_error(ErrorCode::Invalid, &error))
}

/// Most environments that are told to have a secret, or to use one.
const MOST_TOLD: usize = 5;

/// How a user is told. Of a secret that is not there, they are told too where there is one of its name, as far as
/// they may see that: who left out `-E` is not to believe that there is none.
pub(super) fn refusal_to(platform: &Platform, by: &Principal, error: SecretError) -> ApiError {
    let SecretError::NotFound { scope, name } = &error else {
        return refusal(error);
    };
    let Ok(found) = platform.secrets.scopes_of(name) else {
        return refusal(error);
    };
    let has_machine = found.contains(&Scope::Machine);
    let message = match (scope, has_machine) {
        (Scope::Machine, _) => {
            format!("this machine has no secret `{name}` for all environments")
        }
        (_, true) => format!("{scope} has no secret `{name}` of its own"),
        (_, false) => format!("{scope} has no secret `{name}`, and neither has this machine"),
    };
    let mut places = Vec::new();
    if has_machine {
        places
            .push("this machine (without -E), which environments get that have no own".to_owned());
    }
    let seen = found.iter().filter_map(environment_of);
    let seen = seen.filter(|id| by.grant.sees(id));
    places.extend(seen.map(|id| format!("{id} (-p {} -E {})", id.project, id.environment)));
    let hint = match places.len() {
        0 => "`havre secret ls` lists those that there are".to_owned(),
        _ => format!("there is one of {}", some(&places)),
    };
    ApiError::new(ErrorCode::NotFound, message).with_hint(hint)
}

/// The first of them, and how many more there are.
pub(super) fn some(all: &[String]) -> String {
    let told = all[..all.len().min(MOST_TOLD)].join(", ");
    match all.len().saturating_sub(MOST_TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

/// How a user is told, where it does not matter who they are.
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
