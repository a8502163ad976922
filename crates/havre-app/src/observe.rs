//! From what the engine sees to what the planner needs to know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use havre_engine::{Exit, Health, HealthStatus, Observed as Container, State};
use havre_model::Protocol;
use havre_release::{ExitInfo, FailedProbe, Release, Replica, ReplicaId, ReplicaState, Role};
use tokio::net::{TcpStream, UdpSocket};

use crate::labels::Place;

/// A replica without a health check and without a port to try counts as ready after this time.
const SETTLE: Duration = Duration::from_secs(1);
const CONNECT_DEADLINE: Duration = Duration::from_millis(200);
/// A port for datagrams where nobody listens says so sooner.
const REFUSAL_DEADLINE: Duration = Duration::from_millis(50);

/// A container and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObservedContainer {
    pub(crate) place: Place,
    pub(crate) container: Container,
}

impl ObservedContainer {
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
pub(crate) struct ReadinessTracker {
    /// Replicas without a health check that have shown that they answer.
    proven: BTreeSet<ReplicaId>,
    /// When a replica was first seen unable to start.
    stuck: BTreeMap<ReplicaId, SystemTime>,
    /// Replicas that were told to stop.
    stopping: BTreeSet<ReplicaId>,
    /// When a process was first seen to run, by the caller's clock, and when it started by the
    /// wall clock, which tells one process of a replica from the next.
    running: BTreeMap<ReplicaId, (SystemTime, SystemTime)>,
    /// Replicas that were seen before they were ready.
    starting: BTreeSet<ReplicaId>,
    /// How long the process of a replica took to be ready.
    ready_after: BTreeMap<ReplicaId, Duration>,
    /// Rounds so far.
    rounds: u64,
}

impl ReadinessTracker {
    /// Notes that a replica was told to stop.
    pub(crate) fn note_stop(&mut self, id: &ReplicaId) {
        self.stopping.insert(id.clone());
    }

    /// Begins a round: forgets replicas that are gone.
    pub(crate) fn begin_round(&mut self, seen: &[ObservedContainer]) {
        self.rounds += 1;
        let ids: BTreeSet<ReplicaId> = seen.iter().map(ObservedContainer::id).collect();
        self.proven.retain(|id| ids.contains(id));
        self.stuck.retain(|id, _| ids.contains(id));
        self.stopping.retain(|id| ids.contains(id));
        self.running.retain(|id, _| ids.contains(id));
        self.starting.retain(|id| ids.contains(id));
        self.ready_after.retain(|id, _| ids.contains(id));
    }

    /// The planner's view of one container. `ports`: what routes lead to.
    pub(crate) async fn assess(
        &mut self,
        seen: &ObservedContainer,
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
                let since = self.since(&id, *started_at, now);
                self.assess_running(&id, seen, ports, since, now).await
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
        self.measure(&id, &state, now);
        Replica {
            ready_after: self.ready_after.get(&id).copied(),
            id,
            service: seen.place.service.clone(),
            role: seen.place.role.clone(),
            state,
            restarts: seen.container.restarts,
            last_exit: seen
                .container
                .last_exit
                .as_ref()
                .map(|exit| exit_info(Some(exit))),
            start: seen.place.start.clone(),
            joined: seen.place.joined.clone(),
        }
    }

    /// Since when the process of a replica runs that was judged before.
    pub(crate) fn runs_since(&self, id: &ReplicaId) -> Option<SystemTime> {
        self.running.get(id).map(|(seen, _)| *seen)
    }

    /// Notes how long a process took to be ready that was seen before it was.
    fn measure(&mut self, id: &ReplicaId, state: &ReplicaState, now: SystemTime) {
        match state {
            ReplicaState::Starting { .. } => {
                self.starting.insert(id.clone());
            }
            ReplicaState::Ready if self.starting.remove(id) => {
                let since = self.runs_since(id);
                let took = since.and_then(|since| now.duration_since(since).ok());
                self.ready_after.extend(took.map(|took| (id.clone(), took)));
            }
            ReplicaState::Creating | ReplicaState::Ready => {}
            // What ended, or fell ill, is not what a start is.
            ReplicaState::Unhealthy { .. }
            | ReplicaState::Restarting { .. }
            | ReplicaState::CannotStart { .. }
            | ReplicaState::Stopping
            | ReplicaState::Ended { .. }
            | ReplicaState::Interrupted
            | ReplicaState::Lost => {
                self.starting.remove(id);
            }
        }
    }

    /// Since when this process runs, by the clock of `now`.
    fn since(&mut self, id: &ReplicaId, started_at: SystemTime, now: SystemTime) -> SystemTime {
        match self.running.get(id) {
            Some((seen, of)) if *of == started_at => *seen,
            Some(_) | None => {
                // What runs already when the daemon begins has run since it started.
                let seen = if self.rounds <= 1 {
                    started_at.min(now)
                } else {
                    now
                };
                self.running.insert(id.clone(), (seen, started_at));
                seen
            }
        }
    }

    async fn assess_running(
        &mut self,
        id: &ReplicaId,
        seen: &ObservedContainer,
        ports: &BTreeSet<(Protocol, u16)>,
        since: SystemTime,
        now: SystemTime,
    ) -> ReplicaState {
        let starting = ReplicaState::Starting { since };
        if matches!(seen.place.role, Role::Job { .. }) {
            return starting;
        }
        let failing = |health: &Option<Health>| {
            let health = health.as_ref()?;
            let output = || Some(health.last.as_ref()?.output.clone());
            (health.status == HealthStatus::Unhealthy).then(|| output().unwrap_or_default())
        };
        let Container {
            health, liveness, ..
        } = &seen.container;
        if let Some(probe) = failing(liveness) {
            let failed = FailedProbe::Liveness;
            return ReplicaState::Unhealthy { failed, probe };
        }
        if let Some(probe) = failing(health) {
            let failed = match liveness {
                Some(_) => FailedProbe::HealthOnly,
                None => FailedProbe::Health,
            };
            return ReplicaState::Unhealthy { failed, probe };
        }
        match health {
            Some(Health { status, .. }) => match status {
                HealthStatus::Healthy => ReplicaState::Ready,
                HealthStatus::Starting | HealthStatus::Unhealthy => starting,
            },
            None if self.proven.contains(id) => ReplicaState::Ready,
            None => {
                let settled = now.duration_since(since).unwrap_or_default() >= SETTLE;
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
        .map(|release| release.probe_ports(&place.service))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_wall_clock_makes_no_process_older_or_younger() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let id = |name: &str| ReplicaId(name.to_owned());
        let mut readiness = ReadinessTracker::default();
        readiness.begin_round(&[]);
        assert_eq!(readiness.since(&id("adopted"), at(500), at(1000)), at(500));
        assert_eq!(readiness.since(&id("ahead"), at(9000), at(1000)), at(1000));
        readiness.rounds += 1;
        // The wall clock was set back, or forth, after the daemon began.
        assert_eq!(readiness.since(&id("back"), at(10), at(1001)), at(1001));
        assert_eq!(readiness.since(&id("forth"), at(9000), at(1002)), at(1002));
        assert_eq!(readiness.since(&id("back"), at(10), at(1005)), at(1001));
        // Another process of the same replica.
        assert_eq!(readiness.since(&id("back"), at(12), at(1006)), at(1006));
        assert_eq!(readiness.runs_since(&id("back")), Some(at(1006)));
    }

    #[test]
    fn a_start_is_measured_when_it_was_seen_from_its_beginning() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let id = ReplicaId("web".to_owned());
        let took =
            |readiness: &ReadinessTracker| readiness.ready_after.get(&id).map(Duration::as_secs);
        let mut readiness = ReadinessTracker {
            rounds: 2,
            ..ReadinessTracker::default()
        };
        // One that an earlier daemon has started.
        readiness.measure(&id, &ReplicaState::Ready, at(90));
        assert_eq!(took(&readiness), None);
        let since = readiness.since(&id, at(100), at(100));
        readiness.measure(&id, &ReplicaState::Starting { since }, at(100));
        readiness.measure(&id, &ReplicaState::Ready, at(131));
        readiness.measure(&id, &ReplicaState::Ready, at(150));
        assert_eq!(took(&readiness), Some(31));
    }
}
