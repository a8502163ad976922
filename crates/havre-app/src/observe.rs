//! From what the engine sees to what the planner needs to know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use havre_engine::{Exit, HealthStatus, Observed as Container, State};
use havre_model::Protocol;
use havre_release::{
    Contents, ExitInfo, Health, Instance, InstanceState, LiveContents, Release, ReplicaId, Verdict,
    release_of,
};
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

    /// As it is shown.
    pub(crate) fn instance(&self) -> Instance {
        let Self { place, container } = self;
        Instance {
            id: self.id(),
            service: place.service.clone(),
            release: place.release,
            role: place.role.clone(),
            state: match &container.state {
                State::Creating => InstanceState::Creating,
                State::Failed { reason } => InstanceState::Failed {
                    reason: reason.clone(),
                },
                State::Running { pid, started_at } => InstanceState::Running {
                    pid: Some(*pid),
                    since: *started_at,
                },
                State::BackOff { .. } => InstanceState::BackOff,
                State::Exited => InstanceState::Exited,
                State::Lost => InstanceState::Lost,
            },
            restarts: container.restarts,
            last_exit: container
                .last_exit
                .as_ref()
                .map(|exit| havre_release::Exit {
                    at: exit.at,
                    info: exit_info(Some(exit)),
                    memory_peak_bytes: exit.memory_peak_bytes,
                }),
            health: container.health.as_ref().map(health),
            liveness: container.liveness.as_ref().map(health),
            address: place.address().map(IpAddr::V4),
            contents: self.contents(),
        }
    }

    /// What it has of secrets that change as it runs; while it is being set up nothing is to be changed.
    pub(crate) fn contents(&self) -> Option<Contents> {
        match self.container.state {
            State::Running { .. } | State::BackOff { .. } => {}
            State::Creating | State::Failed { .. } | State::Exited | State::Lost => return None,
        }
        let given = self.container.given.as_ref()?;
        Some(Contents {
            given: LiveContents(given.contents.clone()),
            loaded: given.loaded,
        })
    }

    pub(crate) fn id(&self) -> ReplicaId {
        ReplicaId(self.container.id.0.clone())
    }
}

fn health(health: &havre_engine::Health) -> Health {
    Health {
        verdict: match health.status {
            HealthStatus::Starting => Verdict::Starting,
            HealthStatus::Healthy => Verdict::Healthy,
            HealthStatus::Unhealthy => Verdict::Unhealthy,
        },
        failing_streak: health.failing_streak,
        last: health
            .last
            .as_ref()
            .map(|last| (last.exit_code, last.output.clone())),
    }
}

/// Ports whose acceptance makes a replica of this place ready.
pub(crate) fn probe_ports(
    place: &ContainerLabels,
    releases: &BTreeMap<u64, Release>,
) -> BTreeSet<(Protocol, u16)> {
    release_of(&place.service, &place.role, place.release, releases)
        .map(|release| release.probe_ports(&place.service))
        .unwrap_or_default()
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
