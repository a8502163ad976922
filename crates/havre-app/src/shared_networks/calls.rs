//! Networks that environments share, as users make, see and remove them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use havre_api::{
    ApiError, EnvironmentId, ErrorCode, Grant, NetworkCreateRequest, NetworkMember,
    NetworkRemoveRequest, NetworkService, SharedNetwork,
};
use havre_model::ServiceName;
use havre_release::Release;
use tokio::sync::MutexGuard;

use super::tables::{NetworkRow, Tables};
use super::{cannot_read, full_name, is_reserved, key, of};
use crate::daemon::Daemon;
use crate::labels::environment_key;

/// As many as anybody could keep apart; far fewer can be in use at a time.
const MOST: usize = 1000;

/// Makes the networks that the release is to be on. None of them is removed as long as the answer is
/// held, which is to be until others can see that the environment is on them.
pub(crate) async fn make<'a>(
    daemon: &'a Daemon,
    release: &Release,
) -> Result<Option<MutexGuard<'a, ()>>, ApiError> {
    if of(release).next().is_none() {
        return Ok(None);
    }
    let guard = daemon.networks.lock().await;
    let tables = &daemon.platform.networks;
    for (_, name, internal) in of(release) {
        put(tables, name, internal)?;
    }
    Ok(Some(guard))
}

/// Whether there was none.
fn put(tables: &Tables, name: &str, internal: bool) -> Result<bool, ApiError> {
    let networks = tables.networks().map_err(cannot_read)?;
    if networks.len() >= MOST && networks.iter().all(|network| network.name != name) {
        let message = format!("there are {MOST} networks already");
        return Err(ApiError::new(ErrorCode::Conflict, message)
            .with_hint("`havre network rm` removes those that nobody is on"));
    }
    let made = tables.network_put(name, internal);
    made.map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))
}

/// What `plan` says of the networks that the release is on, to somebody who may do so much.
pub(crate) async fn dry_run(
    daemon: &Arc<Daemon>,
    by: &Grant,
    id: &EnvironmentId,
    release: &Release,
) -> Result<Vec<String>, ApiError> {
    let mut told = Vec::new();
    for (_, name, _) in of(release) {
        let tables = &daemon.platform.networks;
        let known = tables.network(name).map_err(cannot_read)?;
        let mut others = members(daemon, name).await?;
        others.retain(|member| &member.environment != id);
        let (seen, unseen): (Vec<_>, Vec<_>) = others
            .iter()
            .map(|one| &one.environment)
            .partition(|id| by.sees(id));
        let mut others: Vec<String> = seen.iter().map(ToString::to_string).collect();
        if !unseen.is_empty() {
            others.push("environments that you do not see".to_owned());
        }
        told.push(match (known, others.is_empty()) {
            (None, _) => format!("network {name} is made, for other environments to join"),
            (Some(_), true) => format!("network {name} is shared, and nobody else is on it yet"),
            (Some(_), false) => format!("network {name} is shared with {}", others.join(", ")),
        });
    }
    Ok(told)
}

/// Lists them.
pub(crate) async fn list(daemon: &Arc<Daemon>) -> Result<Vec<SharedNetwork>, ApiError> {
    let tables = &daemon.platform.networks;
    let rows = tables.networks().map_err(cannot_read)?;
    let mut networks = Vec::with_capacity(rows.len());
    for row in rows {
        let members = members(daemon, &row.name).await?;
        networks.push(summary(row, members));
    }
    Ok(networks)
}

/// Makes one.
pub(crate) async fn create(
    daemon: &Arc<Daemon>,
    request: NetworkCreateRequest,
) -> Result<SharedNetwork, ApiError> {
    let NetworkCreateRequest { name, internal } = request;
    let _guard = daemon.networks.lock().await;
    let tables = &daemon.platform.networks;
    if !put(tables, &name, internal)? {
        let message = format!("there is a network {name} already");
        return Err(ApiError::new(ErrorCode::Conflict, message)
            .with_hint("`havre network ls` shows who is on it"));
    }
    let row = tables.network(&name).map_err(cannot_read)?;
    let row = row.ok_or_else(|| not_there(&name))?;
    Ok(summary(row, Vec::new()))
}

/// Removes one that no environment is on.
pub(crate) async fn remove(
    daemon: &Arc<Daemon>,
    request: NetworkRemoveRequest,
) -> Result<(), ApiError> {
    let NetworkRemoveRequest { name } = request;
    let _guard = daemon.networks.lock().await;
    let tables = &daemon.platform.networks;
    let known = tables.network(&name).map_err(cannot_read)?;
    if known.is_none() {
        return Err(not_there(&name));
    }
    let members = members(daemon, &name).await?;
    let mut users: Vec<String> = members
        .iter()
        .map(|member| member.environment.to_string())
        .collect();
    // Also those that cannot be read, or are about to leave.
    let known: Vec<String> = members
        .iter()
        .map(|member| environment_key(&member.environment))
        .collect();
    let attached = daemon.targets.attached(key(&name).as_str());
    let attached = attached.map_err(|error| ApiError::from_error(ErrorCode::Failed, &*error))?;
    users.extend(attached.into_iter().filter(|key| !known.contains(key)));
    if !users.is_empty() {
        let message = format!("network {name} is in use by {}", users.join(", "));
        return Err(ApiError::new(ErrorCode::Conflict, message)
            .with_hint("take them down, or bring them up without it, and remove it then"));
    }
    let removed = tables.network_remove(&name);
    removed
        .map(drop)
        .map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))
}

/// Who is on a network: by the releases that serve, or are to.
async fn members(daemon: &Arc<Daemon>, name: &str) -> Result<Vec<NetworkMember>, ApiError> {
    let key = key(name);
    let mut members = Vec::new();
    for handle in daemon.environments().await {
        let snapshot = handle.status();
        let mut services: BTreeMap<&ServiceName, Vec<String>> = BTreeMap::new();
        let mut is_member = false;
        for release in snapshot.releases.values() {
            is_member |= of(release).any(|(known, ..)| *known == key);
            for (service, config) in &release.services {
                let Some(attachment) = config.service.networks.get(&key) else {
                    continue;
                };
                let names = services
                    .entry(service)
                    .or_insert_with(|| vec![service.to_string()]);
                for alias in attachment.aliases.iter().filter(|name| !is_reserved(name)) {
                    if !names.contains(alias) {
                        names.push(alias.clone());
                    }
                }
            }
        }
        if is_member {
            let services = services.into_iter().map(|(service, names)| NetworkService {
                service: service.clone(),
                full_name: full_name(&handle.id, service.as_str()),
                names,
            });
            members.push(NetworkMember {
                environment: handle.id.clone(),
                services: services.collect(),
            });
        }
    }
    Ok(members)
}

fn summary(row: NetworkRow, members: Vec<NetworkMember>) -> SharedNetwork {
    let since = Duration::from_secs(u64::try_from(row.created_at).unwrap_or(0));
    SharedNetwork {
        name: row.name,
        internal: row.internal,
        created: (UNIX_EPOCH + since).into(),
        members,
    }
}

fn not_there(name: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("no network {name}"))
        .with_hint("`havre network ls` lists those that environments share")
}
