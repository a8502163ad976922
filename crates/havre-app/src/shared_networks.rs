//! Networks of the machine, which environments share on purpose.
//!
//! A network's record in the database says that there is one of its name; an environment is on it by
//! its releases. In those it has a name that no compose file can give, so that a network that was the
//! environment's own before is another one, and replicas are replaced by such that are on it.

pub(crate) mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use havre_api::{
    ApiError, EnvironmentId, ErrorCode, NetworkCreateRequest, NetworkMember, NetworkRemoveRequest,
    NetworkService, SharedNetwork,
};
use havre_model::{Attachment, NetworkName, Project, ServiceName};
use havre_net::DOMAIN;
use havre_release::Release;
use havre_store::StoreError;
use tokio::sync::MutexGuard;
use tokio::task::block_in_place;

use crate::daemon::Daemon;
use crate::labels::environment_key;
use tables::{NetworkRow, Tables};

/// As many as anybody could keep apart; far fewer can be in use at a time.
const MOST: usize = 1000;
/// The environment whose services need no mention of it.
const PRODUCTION: &str = "production";

/// Its name in releases, and in the networks of each environment.
fn key(name: &str) -> NetworkName {
    NetworkName::new(format!("{name}@shared"))
}

/// The name of a service that is nobody else's.
fn full_name(id: &EnvironmentId, service: &str) -> String {
    match id.environment.as_str() {
        PRODUCTION => format!("{service}.{}.{DOMAIN}", id.project),
        environment => format!("{service}.{environment}.{}.{DOMAIN}", id.project),
    }
}

/// Names of a service on a shared network beside those that it has on any: for those who know another
/// service of that name.
pub(crate) fn full_names(id: &EnvironmentId, service: &str) -> [String; 2] {
    let (environment, project) = (&id.environment, &id.project);
    [
        full_name(id, service),
        format!("{service}.{environment}.{project}.{DOMAIN}"),
    ]
}

/// Whether a name is one that only Havre gives.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.rsplit('.')
        .next()
        .is_some_and(|last| last.eq_ignore_ascii_case(DOMAIN))
}

/// Finds which networks of the project are the machine's: those that havre.yaml shares, and external ones
/// that there are.
pub(crate) fn resolve(tables: &Tables, project: &mut Project) -> Result<(), ApiError> {
    let mut shared = BTreeMap::new();
    for (own, network) in &project.networks {
        let known = match network.shared.as_ref().or(network.external.as_ref()) {
            Some(name) => tables.network(name).map_err(cannot_read)?,
            None => None,
        };
        let name = match (&network.shared, &known) {
            (Some(name), _) => name.clone(),
            (None, Some(known)) => known.name.clone(),
            (None, None) => continue,
        };
        let mut network = network.clone();
        network.internal = known.map_or(network.internal, |known| known.internal);
        network.shared = Some(name.clone());
        shared.insert(own.clone(), (key(&name), network));
    }
    for (own, (key, network)) in shared {
        project.networks.remove(&own);
        project.networks.insert(key.clone(), network);
        for service in project.services.values_mut() {
            let Some(Attachment { aliases }) = service.networks.remove(&own) else {
                continue;
            };
            let attachment = service.networks.entry(key.clone()).or_default();
            attachment.aliases.extend(aliases);
        }
    }
    Ok(())
}

/// Networks of the machine that the release is on, by their names in it.
fn of(release: &Release) -> impl Iterator<Item = (&NetworkName, &str, bool)> {
    let networks = release.networks.iter();
    networks.filter_map(|(key, network)| Some((key, network.shared.as_deref()?, network.internal)))
}

/// Whether a network in these releases is one of the machine's.
pub(crate) fn is_shared(releases: &BTreeMap<u64, Release>, key: &str) -> bool {
    releases
        .values()
        .flat_map(of)
        .any(|(known, ..)| known.as_str() == key)
}

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
        block_in_place(|| put(tables, name, internal))?;
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

/// What `plan` says of the networks that the release is on.
pub(crate) async fn dry_run(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    release: &Release,
) -> Result<Vec<String>, ApiError> {
    let mut told = Vec::new();
    for (_, name, _) in of(release) {
        let tables = &daemon.platform.networks;
        let known = block_in_place(|| tables.network(name)).map_err(cannot_read)?;
        let mut others = members(daemon, name).await?;
        others.retain(|member| &member.environment != id);
        let others: Vec<String> = others
            .iter()
            .map(|one| one.environment.to_string())
            .collect();
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
    let rows = block_in_place(|| tables.networks()).map_err(cannot_read)?;
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
    if !block_in_place(|| put(tables, &name, internal))? {
        let message = format!("there is a network {name} already");
        return Err(ApiError::new(ErrorCode::Conflict, message)
            .with_hint("`havre network ls` shows who is on it"));
    }
    let row = block_in_place(|| tables.network(&name)).map_err(cannot_read)?;
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
    let known = block_in_place(|| tables.network(&name)).map_err(cannot_read)?;
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
    let attached = daemon.platform.net.members(key(&name).as_str());
    let attached = attached.map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
    users.extend(attached.into_iter().filter(|key| !known.contains(key)));
    if !users.is_empty() {
        let message = format!("network {name} is in use by {}", users.join(", "));
        return Err(ApiError::new(ErrorCode::Conflict, message)
            .with_hint("take them down, or bring them up without it, and remove it then"));
    }
    let removed = block_in_place(|| tables.network_remove(&name));
    removed
        .map(drop)
        .map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))
}

/// Who is on a network: by the releases that serve, or are to.
async fn members(daemon: &Arc<Daemon>, name: &str) -> Result<Vec<NetworkMember>, ApiError> {
    let key = key(name);
    let mut members = Vec::new();
    for handle in daemon.environments().await {
        let snapshot = handle.snapshot();
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

fn cannot_read(error: StoreError) -> ApiError {
    ApiError::from_error(ErrorCode::Failed, &error)
}

#[cfg(test)]
mod tests {
    use havre_store::Store;

    use super::*;

    /// The networks of the project and of its service, once those of the machine are known.
    fn resolved(havre_yaml: &str, of_machine: &[&str]) -> (Vec<String>, Vec<String>) {
        let folder = tempfile::tempdir().expect("a folder");
        let compose = "services:\n  web:\n    image: i\n    networks: {default: {}, proxy: \
                       {aliases: [a]}, same: {aliases: [b]}}\nnetworks:\n  proxy: {external: \
                       true}\n  same: {external: true, name: proxy}\n";
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
        write("compose.yaml", compose).expect("written");
        write("havre.yaml", havre_yaml).expect("written");
        let options = havre_model::LoadOptions {
            directory: folder.path().to_owned(),
            ..Default::default()
        };
        let mut project = havre_model::load(&options).expect("a project").project;
        let store =
            Store::open(&folder.path().join("state.db"), &[tables::SCHEMA]).expect("a database");
        let tables = Tables::new(Arc::new(store));
        for name in of_machine {
            tables.network_put(name, true).expect("made");
        }
        resolve(&tables, &mut project).expect("resolved");
        let networks = project.networks.iter().map(|(key, network)| {
            let shared = network.shared.as_deref().unwrap_or("own");
            format!("{key}: {shared}, internal: {}", network.internal)
        });
        let service = &project.services[&ServiceName::new("web")];
        let attachments = service.networks.iter();
        let attachments =
            attachments.map(|(key, one)| format!("{key}: {}", one.aliases.join(", ")));
        (networks.collect(), attachments.collect())
    }

    #[test]
    fn external_networks_are_the_machines_where_it_has_them() {
        let (networks, attachments) = resolved("", &[]);
        assert_eq!(
            networks,
            [
                "default: own, internal: false",
                "proxy: own, internal: false",
                "same: own, internal: false"
            ]
        );
        assert_eq!(attachments, ["default: ", "proxy: a", "same: b"]);
        let (networks, attachments) = resolved("", &["proxy"]);
        let shared = "proxy@shared: proxy, internal: true";
        assert_eq!(networks, ["default: own, internal: false", shared]);
        assert_eq!(attachments, ["default: ", "proxy@shared: a, b"]);
        // By the word of havre.yaml it need not be there yet.
        let (networks, _) = resolved("networks: {proxy: {shared: true}}\n", &[]);
        assert_eq!(networks[1], "proxy@shared: proxy, internal: false");
    }

    #[test]
    fn full_names_are_nobody_elses() {
        let id = |environment: &str| EnvironmentId {
            project: havre_model::ProjectName::new("shop"),
            environment: havre_model::EnvironmentName::new(environment),
        };
        let production = full_names(&id("production"), "db");
        assert_eq!(production, ["db.shop.havre", "db.production.shop.havre"]);
        assert!(production.iter().all(|name| is_reserved(name)));
        assert_eq!(full_names(&id("staging"), "db")[0], "db.staging.shop.havre");
        assert!(is_reserved("HAVRE") && !is_reserved("havre.example.org"));
    }
}
