//! From what the engine sees to what the planner needs to know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use havre_engine::{Exit, Observed as Container};
use havre_model::Protocol;
use havre_release::{ExitInfo, Release, ReplicaId, Role};
use tokio::time::Instant;

use crate::labels::ContainerLabels;

/// A container and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObservedContainer {
    pub(crate) place: ContainerLabels,
    pub(crate) container: Container,
}

impl ObservedContainer {
    /// Reads a container of the engine's list; `None` when it is no replica or job.
    pub(crate) fn new(container: Container) -> Option<Self> {
        Some(Self {
            place: ContainerLabels::read(&container.labels)?,
            container,
        })
    }

    pub(crate) fn id(&self) -> ReplicaId {
        ReplicaId(self.container.id.0.clone())
    }
}

/// Ports whose acceptance makes a replica of this place ready.
pub(crate) fn probe_ports(
    place: &ContainerLabels,
    releases: &BTreeMap<u64, Release>,
) -> BTreeSet<(Protocol, u16)> {
    release_of(place, releases)
        .map(|release| release.probe_ports(&place.service))
        .unwrap_or_default()
}

/// The release in play that a replica or job of this place belongs to: the one that made it, or,
/// where that is history, a newer one that has kept it.
pub(crate) fn release_of<'a>(
    place: &ContainerLabels,
    releases: &'a BTreeMap<u64, Release>,
) -> Option<&'a Release> {
    let keeps = |release: &&Release| match &place.role {
        Role::Replica { digest, .. } => release
            .services
            .get(&place.service)
            .is_some_and(|service| service.digest() == digest),
        Role::Job { .. } => false,
    };
    let made = releases.get(&place.release);
    made.or_else(|| releases.values().rev().find(keeps))
}

/// The planner's form of an exit; one that was not recorded counts as a kill.
pub(crate) fn exit_info(exit: Option<&Exit>) -> ExitInfo {
    match exit {
        Some(exit) => ExitInfo {
            code: exit.code,
            signal: exit.signal,
            oom_killed: exit.oom_killed,
            requested: exit.requested,
        },
        None => ExitInfo {
            code: 137,
            signal: Some(9),
            oom_killed: false,
            requested: false,
        },
    }
}

/// How long until something that only time decides may have changed.
pub(crate) fn tick(settled: bool, busy_since: Option<Instant>) -> Duration {
    match (settled, busy_since) {
        (true, _) => Duration::from_secs(5),
        // What takes long is watched less closely.
        (false, Some(since)) if since.elapsed() > Duration::from_secs(30) => {
            Duration::from_millis(500)
        }
        (false, _) => Duration::from_millis(100),
    }
}
