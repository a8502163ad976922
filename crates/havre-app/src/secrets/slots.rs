//! What users do with the seal.

use std::sync::Arc;

use havre_api::{
    ApiError, ErrorCode, MachineSlot, SealAddRequest, SealOutcome, SealRemoveRequest, SealReport,
    SealSlot, SealUnlockRequest,
};
use havre_secrets::{ChangeError, MachineKind, SealStatus, SlotKind, SlotStatus};
use havre_store::now;

use super::Resumed;
use super::words::{SET_UP, time, to_open};
use crate::daemon::Daemon;
use crate::platform::Platform;

pub(crate) fn report(platform: &Platform) -> SealReport {
    let status = platform.seal.status();
    SealReport {
        set_up: status.is_set_up(),
        findings: findings(platform, &status),
        id: status.id,
        locked: status.locked,
        keys: status.generations,
        slots: status.slots.iter().map(slot).collect(),
    }
}

/// What should be looked at.
fn findings(platform: &Platform, status: &SealStatus) -> Vec<String> {
    let mut findings = Vec::new();
    if !status.is_set_up() && status.id.is_some() {
        findings.push(SET_UP.to_owned());
    }
    for slot in &status.slots {
        let number = slot.number;
        if slot.foreign {
            findings.push(format!(
                "slot {number} was added or edited by something else than Havre: remove it, and `havre \
                 secret seal rekey`"
            ));
        } else if slot.opened_at.is_none() {
            findings.push(format!(
                "nobody has seen slot {number} open: `havre secret seal unlock` with its key shows it"
            ));
        }
        if let SlotKind::MachineFile(path) = &slot.kind
            && platform
                .root
                .base()
                .is_some_and(|base| path.starts_with(base))
        {
            findings.push(format!(
                "{} is in the same folder as the state: a copy of the whole folder opens the secrets",
                path.display()
            ));
        }
    }
    let has_machine = status.slots.iter().any(|slot| is_machine(&slot.kind));
    if !has_machine && status.id.is_some() {
        findings.push(
            "there is no machine slot: after a reboot somebody has to unlock the secrets before anything \
             that needs one starts"
                .to_owned(),
        );
    }
    for stray in &status.strays {
        findings.push(format!(
            "{} belongs to no slot: remove it, unless it opens a backup of the state",
            stray.display()
        ));
    }
    findings
}

pub(crate) fn add(daemon: &Arc<Daemon>, request: &SealAddRequest) -> Result<SealOutcome, ApiError> {
    let seal = &daemon.platform.seal;
    let now = now();
    let mut warnings = Vec::new();
    let number = match request {
        SealAddRequest::Passphrase { passphrase, again } => {
            seal.add_passphrase(passphrase.text(), again.text(), now)
        }
        SealAddRequest::Age { recipient } => {
            let recipient = recipient
                .parse()
                .map_err(|error| ApiError::from_error(ErrorCode::Invalid, &error))?;
            let added = seal.add_age(&recipient, now);
            if let Ok(number) = &added {
                warnings.push(format!(
                    "slot {number} counts when it has opened once: `havre secret seal unlock --stdin < \
                     IDENTITY-FILE`"
                ));
            }
            added
        }
        SealAddRequest::Machine { with } => {
            let kind = match with {
                MachineSlot::File => MachineKind::File,
                MachineSlot::Host => MachineKind::Host,
                MachineSlot::Tpm => MachineKind::HostAndTpm,
            };
            seal.add_machine(kind, now)
        }
    }
    .map_err(not_changed)?;
    Ok(SealOutcome {
        slot: Some(number),
        warnings,
    })
}

pub(crate) fn remove(
    daemon: &Arc<Daemon>,
    request: SealRemoveRequest,
) -> Result<SealOutcome, ApiError> {
    let platform = &daemon.platform;
    platform
        .seal
        .remove_slot(request.slot)
        .map_err(not_changed)?;
    let mut warnings = vec![
        "who has an older copy of the state and opens the slot in it has the keys still: `havre secret seal \
         rekey` makes others"
            .to_owned(),
    ];
    let status = platform.seal.status();
    warnings.extend(findings(platform, &status));
    Ok(SealOutcome {
        slot: Some(request.slot),
        warnings,
    })
}

pub(crate) fn unlock(
    daemon: &Arc<Daemon>,
    request: &SealUnlockRequest,
) -> Result<SealOutcome, ApiError> {
    let platform = &daemon.platform;
    let unlocked = platform
        .seal
        .unlock(request.secret.text(), now())
        .map_err(not_changed)?;
    let mut warnings = Vec::new();
    if unlocked.was_locked {
        tracing::info!(slot = unlocked.slot, "secrets are unlocked");
        warnings.push(
            "they are open until the daemon ends: `havre secret seal add-slot machine` lets this machine open \
             them by itself"
                .to_owned(),
        );
        let Resumed {
            undone,
            damaged,
            is_stale,
        } = super::resume(platform);
        warnings.extend(undone);
        warnings.extend(damaged.iter().map(|what| still_damaged(what)));
        if is_stale {
            warnings.push(
                "contents that an earlier version kept in clear are sealed now: restart the daemon, so that \
                 environments find them"
                    .to_owned(),
            );
        }
    }
    Ok(SealOutcome {
        slot: Some(unlocked.slot),
        warnings,
    })
}

pub(crate) fn rekey(daemon: &Arc<Daemon>) -> Result<SealOutcome, ApiError> {
    let platform = &daemon.platform;
    let dropped = platform.seal.rekey(now()).map_err(not_changed)?;
    let mut warnings: Vec<String> = dropped
        .iter()
        .map(|slot| format!("slot {slot} was not made by Havre, and is gone"))
        .collect();
    let Resumed {
        undone, damaged, ..
    } = super::resume(platform);
    warnings.extend(damaged.iter().map(|what| still_damaged(what)));
    if undone.is_empty() {
        return Ok(SealOutcome {
            slot: None,
            warnings,
        });
    }
    let mut error = ApiError::new(
        ErrorCode::Failed,
        "the root key is a new one, and not all is under it yet",
    );
    error.causes = undone.into_iter().chain(warnings).collect();
    Err(error.with_hint("the daemon goes on with it when it is restarted"))
}

fn still_damaged(what: &str) -> String {
    format!("{what} was damaged before, and is so still")
}

/// How a user is told.
pub(super) fn not_changed(error: ChangeError) -> ApiError {
    let (code, hint) = match &error {
        ChangeError::Locked { reason } | ChangeError::Unusable { reason } => {
            (ErrorCode::Failed, Some(to_open(reason)))
        }
        ChangeError::NoSlot { .. } => (
            ErrorCode::NotFound,
            Some("`havre secret seal status` lists the slots"),
        ),
        ChangeError::LastSlot { .. } => (
            ErrorCode::Conflict,
            Some(
                "add another slot and open it once: `havre secret seal add-slot`, `havre secret seal unlock`",
            ),
        ),
        ChangeError::WrongSecret
        | ChangeError::NotConfirmed
        | ChangeError::Twice { .. }
        | ChangeError::TooMany
        | ChangeError::Passphrase(_) => (ErrorCode::Invalid, None),
        ChangeError::Machine { .. }
        | ChangeError::NotWiped { .. }
        | ChangeError::Write { .. }
        | ChangeError::Record { .. }
        | ChangeError::Crypto(_) => (ErrorCode::Failed, None),
    };
    let refused = ApiError::from_error(code, &error);
    match hint {
        Some(hint) => refused.with_hint(hint),
        None => refused,
    }
}

fn is_machine(kind: &SlotKind) -> bool {
    match kind {
        SlotKind::MachineFile(_) | SlotKind::MachineHost | SlotKind::MachineHostAndTpm => true,
        SlotKind::Passphrase | SlotKind::Age => false,
    }
}

fn slot(slot: &SlotStatus) -> SealSlot {
    let (kind, about) = match &slot.kind {
        SlotKind::MachineFile(path) => (
            "machine",
            format!(
                "{}: protects backups and copies of the state folder, not a copy of the whole disk",
                path.display()
            ),
        ),
        SlotKind::MachineHost => (
            "machine",
            "systemd's host key: protects copies of the state folder, not a copy of the whole disk"
                .to_owned(),
        ),
        SlotKind::MachineHostAndTpm => (
            "machine",
            "systemd's host key and the TPM: protects copies of the whole disk too, not the machine itself"
                .to_owned(),
        ),
        SlotKind::Passphrase => (
            "passphrase",
            "as safe as it is hard to guess by who has the state folder".to_owned(),
        ),
        SlotKind::Age => ("age", format!("kept elsewhere: {}", slot.recipient)),
    };
    SealSlot {
        number: slot.number,
        kind: kind.to_owned(),
        about,
        created: time(slot.created_at),
        opened: slot.opened_at.map(time),
    }
}
