//! Which environments use a secret of the store.

use std::collections::BTreeSet;
use std::sync::Arc;

use havre_api::{EnvironmentId, SecretDiffers};
use havre_model::ServiceName;
use havre_secrets::{Scope, SecretName};

use super::differing::differing;
use super::scope::scope_of;
use crate::daemon::Daemon;

/// One environment that does.
pub(crate) struct Using {
    pub(crate) environment: EnvironmentId,
    pub(crate) release: u64,
    /// Whether it is the environment's own; if not, the machine's.
    pub(crate) own: bool,
    /// None: builds alone.
    pub(crate) services: Vec<ServiceName>,
    pub(crate) version: u32,
    /// Fingerprints of its values.
    pub(crate) contents: BTreeSet<String>,
    /// Whose it is.
    pub(crate) scope: Scope,
    pub(crate) differing: Vec<SecretDiffers>,
}

/// The environments whose release has a secret of this name, their own or the machine's; only one, where it is named.
pub(crate) async fn of(
    daemon: &Arc<Daemon>,
    of: Option<&EnvironmentId>,
    name: &SecretName,
) -> Vec<Using> {
    let mut using = Vec::new();
    for environment in daemon.environments().await {
        if of.is_some_and(|id| *id != environment.id) {
            continue;
        }
        let status = environment.status();
        let Some(number) = status.desired.current else {
            continue;
        };
        let release = status.releases.get(&number);
        let Some(release) = release else {
            continue;
        };
        let Some(used) = release.secrets.get(name.as_str()) else {
            continue;
        };
        let contents = release.secret_contents(name.as_str(), None);
        using.push(Using {
            environment: environment.id.clone(),
            release: number,
            own: used.own,
            services: used.services.iter().cloned().collect(),
            version: used.version,
            contents: contents.into_iter().map(str::to_owned).collect(),
            scope: scope_of(used.own.then_some(&environment.id)),
            differing: differing(&status, Some(name.as_str())),
        });
    }
    using
}
