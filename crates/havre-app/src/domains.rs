//! Hosts and paths that a project wants to answer at: whether another environment does already.

use std::collections::BTreeSet;
use std::sync::Arc;

use havre_api::{ApiError, EnvironmentId};
use havre_model::{Project, Route};
use havre_release::Release;

use crate::conflict::Conflict;
use crate::daemon::Daemon;

/// A host and a path below it, without its last slash.
type Address = (String, String);

/// Fails where another environment answers already: the proxy would find out when the release is to
/// serve, and send requests to one of the two. What the environment itself answers at it may keep.
pub(crate) async fn check(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    project: &Project,
) -> Result<(), ApiError> {
    free(daemon, id, addresses(&project.hosts, &project.routes)).await
}

/// The same for a release that is about to begin.
pub(crate) async fn check_release(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    release: &Release,
) -> Result<(), ApiError> {
    free(daemon, id, addresses(&release.hosts, &release.routes)).await
}

async fn free(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    wanted: BTreeSet<Address>,
) -> Result<(), ApiError> {
    match taken(daemon, id, wanted).await {
        Some(conflict) => Err(conflict.into_error()),
        None => Ok(()),
    }
}

/// The same for a person who wants to know before.
pub(crate) async fn finding(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    project: &Project,
) -> Option<String> {
    let wanted = addresses(&project.hosts, &project.routes);
    let conflict = taken(daemon, id, wanted).await?;
    Some(conflict.finding())
}

async fn taken(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    mut wanted: BTreeSet<Address>,
) -> Option<Conflict> {
    let environments = daemon.environments().await;
    let of = |handle: &crate::handle::EnvironmentHandle| {
        let snapshot = handle.status();
        let releases = snapshot.releases.values();
        releases
            .flat_map(|release| addresses(&release.hosts, &release.routes))
            .collect::<BTreeSet<Address>>()
    };
    for own in environments.iter().filter(|handle| &handle.id == id) {
        let own = of(own);
        wanted.retain(|address| !own.contains(address));
    }
    let own = daemon.platform.hub.own_hosts().await;
    if let Some((host, path)) = wanted.iter().find(|(host, _)| own.contains(host)) {
        return Some(Conflict {
            sentence: format!("Havre itself answers at {host}{path}/"),
            hint: format!("give {id} another `domain` in havre.yaml"),
        });
    }
    let mut others = environments.iter().filter(|handle| &handle.id != id);
    others.find_map(|handle| {
        let theirs = of(handle);
        let (host, path) = wanted.intersection(&theirs).next()?;
        let other = &handle.id;
        let sentence = format!("{other} answers at {host}{path}/ already");
        let hint = format!(
            "give {id} a `domain` or a path of its own in havre.yaml, or take {other} down before"
        );
        Some(Conflict { sentence, hint })
    })
}

fn addresses(hosts: &[String], routes: &[Route]) -> BTreeSet<Address> {
    let of_route = |route: &Route| {
        let hosts = match &route.host {
            Some(host) => vec![host.to_ascii_lowercase()],
            None => hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        };
        let path = route.path.trim_end_matches('/').to_owned();
        hosts.into_iter().map(move |host| (host, path.clone()))
    };
    routes.iter().flat_map(of_route).collect()
}
