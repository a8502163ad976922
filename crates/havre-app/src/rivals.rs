//! Two environments whose database servers would keep their data in one place. Each has namespaces of
//! its own, so that the locks by which servers find each other say nothing.

use std::sync::Arc;

use havre_api::{ApiError, EnvironmentId};
use havre_model::FoundDatabases;
use havre_release::{Release, WriteContext};

use crate::conflict::Conflict;
use crate::daemon::Daemon;
use crate::labels::environment_key;
use crate::way::real_or_itself;

/// Fails where a release would bring a second server to the data of another environment's.
pub(crate) async fn check(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    release: &Release,
    databases: &FoundDatabases,
) -> Result<(), ApiError> {
    match rival(daemon, id, release, databases).await {
        Some(conflict) => Err(conflict.into_error()),
        None => Ok(()),
    }
}

/// The same for a person who wants to know before.
pub(crate) async fn finding(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    release: &Release,
    databases: &FoundDatabases,
) -> Option<String> {
    let conflict = rival(daemon, id, release, databases).await?;
    Some(conflict.finding())
}

async fn rival(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    release: &Release,
    databases: &FoundDatabases,
) -> Option<Conflict> {
    let key = environment_key(id);
    let ground = WriteContext {
        environment: &key,
        databases,
    };
    let environments = daemon.environments().await;
    environments
        .iter()
        .filter(|other| &other.id != id)
        .find_map(|other| {
            let snapshot = other.status();
            let their_key = environment_key(&other.id);
            let theirs = WriteContext {
                environment: &their_key,
                databases: &snapshot.desired.databases,
            };
            snapshot.releases.values().find_map(|running| {
                let (name, rival, kept) =
                    release.served_twice(ground, running, theirs, &real_or_itself)?;
                let other = &other.id;
                Some(Conflict {
                    sentence: format!(
                        "`{name}` and `{rival}` of {other} would be two database servers on {kept}"
                    ),
                    hint: format!("give `{name}` a place of its own, or take {other} down before"),
                })
            })
        })
}
