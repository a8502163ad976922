//! What a target knows of an environment: all that is shown of it is made from this one value.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use havre_model::ServiceName;

use crate::{
    Contents, Desired, ExitInfo, Failure, FailureKind, Intent, Observed, Release, ReplicaId, Role,
    Routing, ServiceRelease,
};

/// An environment as its target last saw it.
#[derive(Clone, Debug, Default)]
pub struct TargetStatus {
    /// Whether the target has looked since the daemon began: before that nothing is known of what
    /// runs.
    pub looked_at: bool,
    /// Grows with each change of what is desired.
    pub revision: u64,
    /// What it should be, as it is on record.
    pub desired: Desired,
    /// The releases that `desired` names, and those of replicas that are still there.
    pub releases: Arc<BTreeMap<u64, Release>>,
    /// What runs, has ended or could not be started.
    pub instances: Vec<Instance>,
    /// The same in the planner's words, with what the edge says.
    pub observed: Observed,
    /// Services that wait for another one.
    pub waiting: BTreeMap<ServiceName, ServiceName>,
    /// Who answers for each service.
    pub routing: Routing,
    /// What stands in the way, for a person.
    pub problems: Vec<String>,
    /// All that is wanted runs, nothing else is there.
    pub settled: bool,
    /// What ended the newest rollout.
    pub failure: Option<Arc<Evidence>>,
    /// The environment is gone; `Some` holds what could not be removed.
    pub gone: Option<Arc<Vec<String>>>,
}

impl TargetStatus {
    /// Nothing moves, and nothing set by hand stands against the files.
    pub fn is_as_wanted(&self) -> bool {
        let desired = &self.desired;
        !self.is_going() && desired.rollout.is_none() && desired.scale.is_empty() && self.settled
    }

    /// The environment is being taken down.
    pub fn is_going(&self) -> bool {
        match self.desired.intent {
            Intent::Run => false,
            Intent::Down { .. } => true,
        }
    }

    /// Nothing was ever written of it, and nothing is there.
    pub fn is_blank(&self) -> bool {
        self.revision == 0
            && self.desired == Desired::default()
            && self.releases.is_empty()
            && self.instances.is_empty()
    }

    /// Something of it serves, runs or is about to.
    pub fn has_something_up(&self) -> bool {
        self.desired.current.is_some()
            || self.desired.rollout.is_some()
            || !self.instances.is_empty()
    }

    /// The release that serves.
    pub fn serving(&self) -> Option<(u64, &Release)> {
        let number = self.desired.current?;
        Some((number, self.releases.get(&number)?))
    }

    /// The release that is being reached, else the one that serves.
    pub fn target(&self) -> Option<&Release> {
        let rollout = self.desired.rollout.as_ref();
        let number = rollout.map(|rollout| rollout.to).or(self.desired.current)?;
        self.releases.get(&number)
    }

    /// The release that an instance belongs to; see [`release_of`].
    pub fn release_of(&self, one: &Instance) -> Option<&Release> {
        release_of(&one.service, &one.role, one.release, &self.releases)
    }

    /// The release that failed, where none has served before it and nothing moves.
    pub fn failed_first(&self) -> Option<(u64, &Release)> {
        let number = self.desired.last_failed?;
        let nothing_else = self.desired.current.is_none() && self.desired.rollout.is_none();
        let release = self.releases.get(&number)?;
        nothing_else.then_some((number, release))
    }
}

/// The release in play that a replica or job belongs to: the one that made it, or, where that is
/// history, a newer one that has kept it.
pub fn release_of<'a>(
    service: &ServiceName,
    role: &Role,
    made_by: u64,
    releases: &'a BTreeMap<u64, Release>,
) -> Option<&'a Release> {
    let keeps = |release: &&Release| match role {
        Role::Replica { digest, .. } => release
            .services
            .get(service)
            .is_some_and(|service| service.digest() == digest),
        Role::Job { .. } => false,
    };
    let made = releases.get(&made_by);
    made.or_else(|| releases.values().rev().find(keeps))
}

/// A replica or a job as it runs: a container here, a pod or a task elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Identity.
    pub id: ReplicaId,
    /// Its service.
    pub service: ServiceName,
    /// The release that made it.
    pub release: u64,
    /// What it is there for.
    pub role: Role,
    /// State of its process.
    pub state: InstanceState,
    /// Starts after the first.
    pub restarts: u32,
    /// How its last process ended, kept while the next one runs.
    pub last_exit: Option<Exit>,
    /// What its health check says; `None` without one.
    pub health: Option<Health>,
    /// What its liveness probe says; `None` without one.
    pub liveness: Option<Health>,
    /// Where it answers.
    pub address: Option<IpAddr>,
    /// What it has of secrets that change as it runs.
    pub contents: Option<Contents>,
}

/// State of an instance's process.
#[derive(Clone, Debug, PartialEq)]
pub enum InstanceState {
    /// Being set up.
    Creating,
    /// The process could not be started; no restart follows.
    Failed {
        /// Why, for a person.
        reason: String,
    },
    /// Running.
    Running {
        /// Its process, where it runs on this machine.
        pid: Option<u32>,
        /// Since when.
        since: SystemTime,
    },
    /// Ended, the next start is planned.
    BackOff,
    /// Ended for good.
    Exited,
    /// Vanished with what kept it.
    Lost,
}

/// How a process ended, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// When.
    pub at: SystemTime,
    /// How.
    pub info: ExitInfo,
    /// Most bytes that it had used until then, where that is known.
    pub memory_peak_bytes: Option<u64>,
}

/// What a probe says.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Verdict.
    pub verdict: Verdict,
    /// Failures in a row.
    pub failing_streak: u32,
    /// Exit code of the newest run, if it ended by itself, and its output.
    pub last: Option<(Option<i32>, String)>,
}

/// Verdict of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// None yet.
    Starting,
    /// The last run passed.
    Healthy,
    /// Too many failures in a row.
    Unhealthy,
}

/// What was known of a failure while what showed it was still there.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The failure.
    pub failure: Failure,
    /// The one that failed, as it was.
    pub instance: Option<Instance>,
    /// Its service, as released.
    pub service: Option<ServiceRelease>,
    /// The rollout stands still and what failed stays, as `on_failure: pause` asks.
    pub stays: bool,
    /// What it printed last.
    pub log: Vec<String>,
    /// The health check that its image brings, where it has no other.
    pub inherited_probe: Option<String>,
    /// What the target knows to do about it.
    pub hint: Option<String>,
}

impl Evidence {
    /// A person gave the rollout up: nothing failed.
    pub fn is_abort(&self) -> bool {
        self.failure.kind == FailureKind::Aborted
    }
}
