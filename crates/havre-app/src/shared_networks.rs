//! Networks of the machine, which environments share on purpose.
//!
//! A network's record in the database says that there is one of its name; an environment is on it by
//! its releases. In those it has a name that no compose file can give, so that a network that was the
//! environment's own before is another one, and replicas are replaced by such that are on it.

pub(crate) mod calls;
pub(crate) mod tables;

use std::collections::BTreeMap;

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_model::{Attachment, NetworkName, Project};
use havre_net::DOMAIN;
use havre_release::Release;
use havre_store::StoreError;

use tables::Tables;

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

fn cannot_read(error: StoreError) -> ApiError {
    ApiError::from_error(ErrorCode::Failed, &error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use havre_model::ServiceName;
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
