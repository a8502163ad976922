//! Which numbers of replicas are refused.

use std::collections::BTreeMap;

use havre_api::{ApiError, ErrorCode};
use havre_model::{DatabaseSign, FoundDatabases, ServiceName};
use havre_release::{Release, StrategyReason};

/// Refuses a second server on one database, which would destroy it: whoever is sure that the
/// program can share it says so in the file.
pub(crate) fn check(
    release: &Release,
    found: &FoundDatabases,
    replicas: &BTreeMap<ServiceName, u32>,
) -> Result<(), ApiError> {
    for (name, count) in replicas.iter().filter(|(_, count)| **count > 1) {
        let Some(kept) = release.sole_database(name, found).and_then(kept) else {
            continue;
        };
        let message = format!(
            "service `{name}` would have {count} replicas that write to {kept}: two servers on one \
             database destroy it"
        );
        let hint = format!(
            "if they can share it, write `deploy: {{replicas: {count}}}` to the service and run \
             `havre up`"
        );
        return Err(ApiError::new(ErrorCode::Invalid, message).with_hint(hint));
    }
    Ok(())
}

fn kept(reason: StrategyReason) -> Option<String> {
    let shown = |what: String, sign: DatabaseSign| format!("{what} ({sign})");
    match reason {
        StrategyReason::ExclusiveVolume { volume, database } => {
            Some(shown(format!("volume {volume}"), database?))
        }
        StrategyReason::ExclusiveFolder { folder, database } => {
            Some(shown(folder.display().to_string(), database?))
        }
        StrategyReason::Asked
        | StrategyReason::Answers
        | StrategyReason::HostNetwork
        | StrategyReason::Worker
        | StrategyReason::Default => None,
    }
}

#[cfg(test)]
mod tests {
    use havre_model::{LoadOptions, load};

    use super::*;

    /// What `havre scale db=2` is refused for with this file.
    fn refused(services: &str) -> Option<ApiError> {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("name: shop\nservices: {services}\nvolumes: {{data: }}\n");
        std::fs::write(folder.path().join("compose.yaml"), text).unwrap();
        let options = LoadOptions {
            directory: folder.path().to_owned(),
            ..LoadOptions::default()
        };
        let project = load(&options).unwrap().project;
        let release = Release::new(&project, &BTreeMap::new(), &BTreeMap::new());
        let two = BTreeMap::from([(ServiceName::new("db"), 2)]);
        check(&release, &FoundDatabases::default(), &two).err()
    }

    #[test]
    fn a_second_server_on_one_database_is_refused() {
        for services in [
            "{db: {image: 'postgres:17', volumes: ['data:/var/lib/postgresql/data']}}",
            "{db: {image: 'postgres:17', volumes: ['/srv/pg-17.1:/pg'], deploy: {update_config: {order: start-first}}}}",
        ] {
            let error = refused(services).expect("two servers");
            assert_eq!(error.code, ErrorCode::Invalid, "{services}");
            assert!(error.message.contains("postgres:17"), "{}", error.message);
            let hint = error.hint.expect("how to insist");
            assert!(hint.contains("deploy: {replicas: 2}"), "{hint}");
        }
    }

    #[test]
    fn what_shares_nothing_or_is_asked_for_is_not() {
        for services in [
            "{db: {image: 'acme/web:1', volumes: ['data:/uploads']}}",
            "{db: {image: 'redis:7'}}",
            "{db: {image: 'acme/db:1', volumes: ['data:/var/lib/mysql'], deploy: {replicas: 2}}}",
            "{pg: {image: 'postgres:17', volumes: ['data:/data']}, db: {image: 'a:1', network_mode: 'service:pg'}}",
        ] {
            let error = refused(services);
            assert!(error.is_none(), "{services}: {error:?}");
        }
    }
}
