//! Mirrors of repositories in the daemon: when they are fetched and pushed, by whose token, and who is told of it.
//!
//! ```text
//! havre git mirror ─► calls ─► Tables ◄─► keeper ─► havre_git: ls-remote, fetch, push
//! POST /hooks/PROJECT ─► hook: HMAC ─┘       └─► as a push: checks, runs
//! runs ─► statuses ─► the other side's API
//! ```
//!
//! Whom a machine fetches from is for its admin to say, and never for what is fetched. Tokens and the secrets of
//! webhooks are secrets of the store, in an environment of the project that no job gets into.

pub(crate) mod calls;
pub(crate) mod hook;
pub(crate) mod keeper;
pub(crate) mod statuses;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use havre_base::one_line;
use havre_git::Remote;
use havre_mirror::{Mirror, Tables, Way};
use havre_secrets::{Scope, Secrets};
use havre_store::{Store, StoreError};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// The environment whose secrets are those of mirrors.
pub(crate) const ENVIRONMENT: &str = "mirror";
/// By which the other side signs what it tells.
const WEBHOOK: &str = "MIRROR_WEBHOOK";
/// Who GitHub wants the holder of a token to be; others do not mind.
const USER: &str = "x-access-token";

/// The mirrors of an installation.
pub(crate) struct Mirrors {
    pub(crate) tables: Tables,
    /// Grows when something is to be done now.
    changes: watch::Sender<u64>,
}

impl Mirrors {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self {
            tables: Tables::new(store),
            changes: watch::Sender::new(0),
        }
    }

    fn wake(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Has one tried now; whether there is one. Blocks.
    pub(crate) fn hurry(&self, project: &str, way: Way) -> Result<bool, StoreError> {
        let is_there = self.tables.hurry(project, way, now())?;
        if is_there {
            self.wake();
        }
        Ok(is_there)
    }

    /// All are tried soon. Blocks.
    fn begin_anew(&self) -> Result<(), StoreError> {
        for mirror in self.tables.all()? {
            self.tables.hurry(&mirror.project, mirror.way, now())?;
        }
        Ok(())
    }

    /// Where the repository of a project comes from. Blocks.
    pub(crate) fn origin(&self, project: &str) -> Result<Option<String>, StoreError> {
        let mirror = self.tables.get(project, Way::From)?;
        Ok(mirror.map(|mirror| mirror.url))
    }
}

/// Whose secrets those of a project's mirrors are.
fn scope(project: &str) -> Scope {
    Scope::Environment {
        project: project.to_owned(),
        environment: ENVIRONMENT.to_owned(),
    }
}

/// The value of one; why it cannot be had, for a person. Blocks.
fn secret(secrets: &Secrets, project: &str, name: &str) -> Result<Zeroizing<String>, String> {
    let parsed = name.parse().map_err(|error| one_line(&error))?;
    let value = secrets.resolve(&scope(project), &parsed);
    let value = value.map_err(|error| {
        format!(
            "{}: `havre secret set {name} -p {project} -E {ENVIRONMENT}`",
            one_line(&error)
        )
    })?;
    let text = std::str::from_utf8(&value.plain).map(str::trim_end);
    let text = text.map_err(|_| format!("the secret {name} is no text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The other side of a mirror, as who has its token; why not, for a person. Blocks.
fn remote(secrets: &Secrets, mirror: &Mirror) -> Result<Remote, String> {
    let token = mirror.token.as_deref();
    let token = token
        .map(|name| secret(secrets, &mirror.project, name))
        .transpose()?;
    let identity = token
        .as_ref()
        .map(|token| (mirror.user.as_str(), token.as_str()));
    Remote::new(&mirror.url, identity).map_err(|error| one_line(&error))
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

fn later(wait: std::time::Duration) -> i64 {
    now().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}
