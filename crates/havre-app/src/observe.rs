//! From what the engine sees to what the planner needs to know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use havre_engine::{Exit, Health, HealthStatus, Observed as Container, State};
use havre_model::Protocol;
use havre_release::{ExitInfo, Release, Replica, ReplicaId, ReplicaState, Role};
use tokio::net::{TcpStream, UdpSocket};

use crate::labels::Place;

/// A replica without a health check and without a port to try counts as ready after this time.
const SETTLE: Duration = Duration::from_secs(1);
const CONNECT_DEADLINE: Duration = Duration::from_millis(200);
/// A port for datagrams where nobody listens says so sooner.
const REFUSAL_DEADLINE: Duration = Duration::from_millis(50);

/// A container and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) place: Place,
    pub(crate) container: Container,
}

impl Seen {
    /// Reads a container of the engine's list; `None` when it is no replica or job.
    pub(crate) fn new(container: Container) -> Option<Self> {
        Some(Self {
            place: Place::read(&container.labels)?,
            container,
        })
    }

    pub(crate) fn id(&self) -> ReplicaId {
        ReplicaId(self.container.id.0.clone())
    }
}

/// Judges replicas; remembers only what may be forgotten with the daemon.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// Replicas without a health check that have shown that they answer.
    proven: BTreeSet<ReplicaId>,
    /// When a replica was first seen unable to start.
    stuck: BTreeMap<ReplicaId, SystemTime>,
    /// Replicas that were told to stop.
    stopping: BTreeSet<ReplicaId>,
}

impl Judge {
    /// Notes that a replica was told to stop.
    pub(crate) fn note_stop(&mut self, id: &ReplicaId) {
        self.stopping.insert(id.clone());
    }

    /// Forgets replicas that are gone.
    pub(crate) fn forget_all_but(&mut self, seen: &[Seen]) {
        let ids: BTreeSet<ReplicaId> = seen.iter().map(Seen::id).collect();
        self.proven.retain(|id| ids.contains(id));
        self.stuck.retain(|id, _| ids.contains(id));
        self.stopping.retain(|id| ids.contains(id));
    }

    /// The planner's view of one container. `ports`: what routes lead to.
    pub(crate) async fn judge(
        &mut self,
        seen: &Seen,
        ports: &BTreeSet<(Protocol, u16)>,
        now: SystemTime,
    ) -> Replica {
        let id = seen.id();
        let state = match &seen.container.state {
            State::Creating => ReplicaState::Starting { since: now },
            State::Failed { reason } => {
                let since = Some(*self.stuck.entry(id.clone()).or_insert(now));
                ReplicaState::CannotStart {
                    reason: reason.clone(),
                    since,
                }
            }
            State::Running { .. } if self.stopping.contains(&id) => ReplicaState::Stopping,
            State::Running { started_at, .. } => {
                self.judge_running(&id, seen, ports, *started_at, now).await
            }
            State::BackOff { .. } => ReplicaState::Restarting {
                exit: exit_info(seen.container.last_exit.as_ref()),
                restarts: seen.container.restarts,
            },
            State::Exited => ReplicaState::Ended {
                exit: exit_info(seen.container.last_exit.as_ref()),
            },
            State::Lost => ReplicaState::Lost,
        };
        Replica {
            id,
            service: seen.place.service.clone(),
            role: seen.place.role.clone(),
            state,
        }
    }

    async fn judge_running(
        &mut self,
        id: &ReplicaId,
        seen: &Seen,
        ports: &BTreeSet<(Protocol, u16)>,
        started_at: SystemTime,
        now: SystemTime,
    ) -> ReplicaState {
        let starting = ReplicaState::Starting { since: started_at };
        if matches!(seen.place.role, Role::Job { .. }) {
            return starting;
        }
        match &seen.container.health {
            Some(Health { status, last, .. }) => match status {
                HealthStatus::Starting => starting,
                HealthStatus::Healthy => ReplicaState::Ready,
                HealthStatus::Unhealthy => ReplicaState::Unhealthy {
                    probe: last
                        .as_ref()
                        .map(|probe| probe.output.clone())
                        .unwrap_or_default(),
                },
            },
            None if self.proven.contains(id) => ReplicaState::Ready,
            None => {
                let settled = now.duration_since(started_at).unwrap_or_default() >= SETTLE;
                if !settled || !accepts(seen.place.address(), ports).await {
                    return starting;
                }
                self.proven.insert(id.clone());
                ReplicaState::Ready
            }
        }
    }
}

/// Whether every port accepts a connection, or does not refuse a datagram; true where there is none
/// to try.
async fn accepts(address: Option<Ipv4Addr>, ports: &BTreeSet<(Protocol, u16)>) -> bool {
    let Some(address) = address else { return true };
    for (protocol, port) in ports {
        let target = SocketAddr::from((address, *port));
        let open = match protocol {
            Protocol::Tcp => {
                let attempt = TcpStream::connect(target);
                matches!(
                    tokio::time::timeout(CONNECT_DEADLINE, attempt).await,
                    Ok(Ok(_))
                )
            }
            Protocol::Udp => !refuses_datagrams(target).await,
        };
        if !open {
            return false;
        }
    }
    true
}

/// Whether an empty datagram is answered by the kernel: nobody listens there.
async fn refuses_datagrams(target: SocketAddr) -> bool {
    let attempt = async {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(target).await?;
        socket.send(&[]).await?;
        socket.recv(&mut [0]).await
    };
    matches!(
        tokio::time::timeout(REFUSAL_DEADLINE, attempt).await,
        Ok(Err(_))
    )
}

/// Ports whose acceptance makes a replica of this place ready.
pub(crate) fn probe_ports(
    place: &Place,
    releases: &BTreeMap<u64, Release>,
) -> BTreeSet<(Protocol, u16)> {
    release_of(place, releases)
        .map(|release| release.edge_ports(&place.service))
        .unwrap_or_default()
}

/// The release in play that a replica or job of this place belongs to: the one that made it, or,
/// where that is history, a newer one that has kept it.
pub(crate) fn release_of<'a>(
    place: &Place,
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
