//! Environments of branches: made for the first job of a branch that asks for one, removed with the branch or after a
//! time.
//!
//! ```text
//! job: environment: preview ─► gate ─► claim: written down ─► preview-BRANCH: secrets of preview ─► havre up
//! keeper: the branch is gone, or nobody came for long ─► goes: written down ─► down, with volumes ─► forgotten
//! ```
//!
//! What is written down here is all that is removed. An environment that somebody else made, or whose volumes somebody
//! has, is nobody's preview.

pub(crate) mod keeper;
pub(crate) mod tables;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_base::{clipped, in_place, one_line};
use havre_model::{EnvironmentGates, EnvironmentName, Previews, ProjectName};
use havre_secrets::SecretError;
use sha2::{Digest as _, Sha256};

use crate::daemon::Daemon;
use crate::platform::Platform;
use crate::secrets::scope::scope_of;
use crate::volumes::owner;
use tables::{Claim, Preview};

/// Longest name of an environment.
const MOST_NAME: usize = 40;
/// Hex digits of a branch's digest, where its name alone does not do.
const DIGITS: usize = 6;
/// Branches that are named where there is no room.
const MOST_SHOWN: usize = 10;

/// Why a job does not get an environment of its branch's own.
pub(crate) enum Refusal {
    /// It is to ask again.
    Later(String),
    /// Never.
    Never(String),
}

/// The environment of `branch`, of those of `gates`; it is written down before it is told.
pub(crate) async fn claim(
    daemon: &Arc<Daemon>,
    project: &ProjectName,
    known: &[EnvironmentGates],
    gates: &EnvironmentGates,
    previews: &Previews,
    branch: &str,
) -> Result<EnvironmentId, Refusal> {
    // No `up` begins to make one of that name meanwhile.
    let _beginning = daemon.beginning.lock().await;
    in_place(|| {
        let platform = &daemon.platform;
        let later = |error: &dyn std::error::Error| Refusal::Later(one_line(error));
        let id = |environment: &str| EnvironmentId {
            project: project.clone(),
            environment: EnvironmentName::new(environment),
        };
        let mut free = Vec::new();
        for name in names(gates.name.as_str(), branch) {
            let is_named = known.iter().any(|one| one.name.as_str() == name);
            if !is_named && is_nobody_s(platform, &id(&name)).map_err(|error| later(&error))? {
                free.push(name);
            }
        }
        let now = now();
        let wanted = Preview {
            project: project.to_string(),
            environment: String::new(),
            of: gates.name.to_string(),
            branch: branch.to_owned(),
            made_ms: now,
            used_ms: now,
            after_ms: millis(previews.after),
            goes: None,
            why: None,
        };
        let claimed = platform.previews.claim(wanted, free, previews.most);
        match claimed.map_err(|error| later(&error))? {
            Claim::Granted(name) => Ok(id(&name)),
            Claim::Goes => Err(Refusal::Later(format!(
                "the environment of {branch} is being removed; another one is made then"
            ))),
            Claim::Full(others) => {
                let shown = others.iter().take(MOST_SHOWN).map(String::as_str);
                let shown: Vec<&str> = shown.collect();
                Err(Refusal::Never(format!(
                    "there are {} environments of branches already, as many as there may be (`previews: most` of \
                     {project}): delete one of {}",
                    others.len(),
                    shown.join(", ")
                )))
            }
            Claim::Taken => Err(Refusal::Never(format!(
                "somebody has environments or volumes by the names that {branch} would have ({})",
                names(gates.name.as_str(), branch).join(", ")
            ))),
        }
    })
}

/// Which environment a job is in that was let into the one that its workflow names: its branch's, of a preview. Blocks.
pub(crate) fn of(
    platform: &Platform,
    named: &EnvironmentId,
    reference: &str,
) -> Result<EnvironmentId, String> {
    let all = platform.previews.all().map_err(|error| one_line(&error))?;
    let branch = reference.strip_prefix("refs/heads/");
    let own = all.into_iter().find(|one| {
        one.project == named.project.as_str()
            && one.of == named.environment.as_str()
            && Some(one.branch.as_str()) == branch
    });
    Ok(EnvironmentId {
        project: named.project.clone(),
        environment: own.map_or(named.environment.clone(), |one| {
            EnvironmentName::new(one.environment)
        }),
    })
}

/// Whether there is nothing by that name that was not made for a branch. Blocks.
fn is_nobody_s(platform: &Platform, id: &EnvironmentId) -> Result<bool, ApiError> {
    let failed = |error: &dyn std::error::Error| ApiError::new(ErrorCode::Failed, one_line(error));
    let rows = platform
        .tables
        .environments()
        .map_err(|error| failed(&error))?;
    let is_there = rows.iter().any(|row| {
        (row.project.as_str(), row.environment.as_str())
            == (id.project.as_str(), id.environment.as_str())
    });
    if is_there {
        return Ok(false);
    }
    let owned = owner::has_any(&platform.volumes_dir(), id).map_err(|error| failed(&error))?;
    if owned {
        return Ok(false);
    }
    let scope = scope_of(Some(id));
    let secrets = platform.secrets.list(|other| *other == scope);
    Ok(secrets.map_err(|error| failed(&error))?.is_empty())
}

/// Gives a branch's environment the secrets of the one that havre.yaml names. Blocks.
pub(crate) fn give_secrets(
    platform: &Platform,
    from: &EnvironmentId,
    to: &EnvironmentId,
) -> Result<(), SecretError> {
    let (from, to) = (scope_of(Some(from)), scope_of(Some(to)));
    let secrets = &platform.secrets;
    for one in secrets.list(|scope| *scope == from)? {
        let Ok(name) = one.name.parse() else { continue };
        match secrets.get(&from, &name, None) {
            Ok(value) => {
                secrets.set(&to, &name, &value.plain, "havre", "set")?;
            }
            // Removed meanwhile.
            Err(SecretError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What an environment of `branch` may be called, the best first. Pure.
fn names(of: &str, branch: &str) -> Vec<String> {
    let mut plain = String::new();
    for c in branch.chars().map(|c| c.to_ascii_lowercase()) {
        match c.is_ascii_lowercase() || c.is_ascii_digit() {
            true => plain.push(c),
            false if plain.is_empty() || plain.ends_with('-') => {}
            false => plain.push('-'),
        }
    }
    let plain = plain.trim_end_matches('-');
    let digest = Sha256::digest(branch);
    let digest: String = digest
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .take(DIGITS / 2)
        .collect();
    let room = MOST_NAME.saturating_sub(of.len() + 1);
    let cut = clipped(plain, room.saturating_sub(DIGITS + 1)).trim_end_matches('-');
    let by_digest = match cut.is_empty() {
        true => format!("{of}-{digest}"),
        false => format!("{of}-{cut}-{digest}"),
    };
    match plain.is_empty() || plain.len() > room {
        true => vec![by_digest],
        false => vec![format!("{of}-{plain}"), by_digest],
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, millis)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use havre_model::valid_environment;

    use super::*;

    #[test]
    fn a_branch_s_environment_is_called_as_it_is() {
        assert_eq!(names("preview", "login")[0], "preview-login");
        assert_eq!(
            names("preview", "feature/Log_In!")[0],
            "preview-feature-log-in"
        );
        let long = "a-very-long-name-of-a-branch-that-nobody-reads";
        let other = "a-very-long-name-of-a-branch-that-somebody-reads";
        assert_ne!(names("preview", long), names("preview", other));
        for branch in [
            "login",
            "feature/Log_In!",
            long,
            "ä",
            "日本",
            "-",
            "a.b",
            "A",
            &"x".repeat(200),
            "--a--",
        ] {
            for of in ["preview", "p", &"p".repeat(20)] {
                let names = names(of, branch);
                assert!(
                    names.iter().all(|name| valid_environment(name)),
                    "{names:?}"
                );
                assert!(
                    names.iter().all(|name| name.starts_with(&format!("{of}-"))),
                    "{names:?}"
                );
            }
        }
        let [plain, digest] = &names("preview", "a/b")[..] else {
            panic!()
        };
        assert_eq!(plain, &names("preview", "a-b")[0]);
        assert_ne!(digest, &names("preview", "a-b")[1]);
    }
}
