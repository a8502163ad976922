//! What an environment should be: persisted, the only input of a reconciler that survives a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use havre_model::{FoundDatabases, ServiceName};
use serde::{Deserialize, Serialize};

use crate::{ExitInfo, FailedProbe, Release, ReplicaId, ServiceDigest, Traffic};

/// An environment's desired state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Run or go.
    #[serde(default)]
    pub intent: Intent,
    /// The release that serves; `None` before the first rollout has succeeded.
    pub current: Option<u64>,
    /// When `current` began to serve.
    pub current_since: Option<SystemTime>,
    /// The move to another release, while it lasts.
    pub rollout: Option<Rollout>,
    /// Numbers of replicas set by hand; cleared by the next `up`.
    #[serde(default)]
    pub scale: BTreeMap<ServiceName, u32>,
    /// Why the newest rollout went back; cleared by the next success.
    pub last_failure: Option<Failure>,
    /// The release of that rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failed: Option<u64>,
    /// Services whose replicas were replaced since they were not well.
    #[serde(default)]
    pub heals: BTreeMap<ServiceName, Heal>,
    /// Slots of services with `restart: no` whose one start is behind them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub begun: BTreeSet<Begun>,
    /// What was found where services write, when the newest rollout began.
    #[serde(default, skip_serializing_if = "FoundDatabases::is_empty")]
    pub databases: FoundDatabases,
    /// How long each service took to be ready when it was last seen to start.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub starts: BTreeMap<ServiceName, Duration>,
}

/// A slot of a service that is started once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Begun {
    /// The service.
    pub service: ServiceName,
    /// Its configuration: another one is another start.
    pub digest: ServiceDigest,
    /// 0-based.
    pub slot: u32,
}

/// What was done for a service that was not well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heal {
    /// Replicas replaced without a longer time of peace in between.
    pub count: u32,
    /// When the newest was chosen.
    pub last: SystemTime,
    /// The one that is to end, until it has.
    pub replica: Option<ReplicaId>,
}

/// Whether the environment is wanted at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "intent", rename_all = "snake_case")]
pub enum Intent {
    /// Run the current release.
    #[default]
    Run,
    /// Stop everything, then forget the environment.
    Down {
        /// Names on this machine of the volumes that are removed too. Not one that is not named
        /// here: whoever goes on with this may not know any more which there were.
        #[serde(default)]
        remove_volumes: BTreeSet<String>,
    },
}

/// A move from one release to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The release before; `None` for the first.
    pub from: Option<u64>,
    /// The release to reach.
    pub to: u64,
    /// When it began.
    pub started_at: SystemTime,
    /// How far it is.
    pub phase: RolloutPhase,
    /// Jobs of `to` that have ended with 0.
    #[serde(default)]
    pub jobs_done: BTreeSet<JobId>,
    /// `to` is known to be good: it is neither tried on a share of the requests nor watched.
    #[serde(default, alias = "trusted")]
    pub skip_analysis: bool,
    /// When the first request could go to `to`.
    #[serde(default)]
    pub shifted_at: Option<SystemTime>,
    /// It stands still.
    #[serde(default)]
    pub pause: Option<Pause>,
    /// Services whose replicas are replaced group by group.
    #[serde(default)]
    pub groups: BTreeMap<ServiceName, Group>,
    /// What was counted of the whole environment when it began; `None`: not looked yet.
    #[serde(default)]
    pub total: Option<Traffic>,
    /// What was counted of each service before requests went to `to`.
    #[serde(default)]
    pub before: BTreeMap<ServiceName, Traffic>,
    /// Where each replica's counters stood when the phase began; `None`: not looked yet.
    #[serde(default)]
    pub marks: Option<BTreeMap<ReplicaId, Mark>>,
    /// Where they stood when half of the time was over in which the release is watched; `None`:
    /// not yet.
    #[serde(default)]
    pub warm: Option<BTreeMap<ReplicaId, Mark>>,
}

/// How far a rollout is. What is finer than this is seen from the replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum RolloutPhase {
    /// Jobs run and new replicas come up; traffic goes to the old ones.
    Preparing,
    /// A share of the visitors is served by the new replicas.
    Canary {
        /// Index of the share.
        step: u32,
        /// Since when.
        since: SystemTime,
    },
    /// Traffic goes to the new replicas and is watched; the old ones of routed services wait.
    Baking {
        /// Since when.
        since: SystemTime,
    },
    /// The new release is there to stay; what is left of the old one drains and ends.
    Finishing {
        /// Since when.
        since: SystemTime,
    },
    /// New replicas end; those of the old release that had ended start again.
    #[serde(alias = "going_back")]
    RollingBack {
        /// What forced it.
        failure: Failure,
        /// Since when.
        since: SystemTime,
    },
}

/// A rollout that stands still.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// Since when.
    pub since: SystemTime,
    /// What stopped it; `None`: a person's wish.
    pub failure: Option<Failure>,
}

/// How far the replacement of a service's replicas has come that goes group by group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Slots below this one are replaced or being replaced.
    pub slots: u32,
    /// When all of these were ready; `None`: not yet.
    pub ready_at: Option<SystemTime>,
}

/// A replica's counters at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Requests.
    pub traffic: Traffic,
    /// Starts after the first.
    pub restarts: u32,
}

/// A job of a release: a `pre_start` hook or a service that runs to completion.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId {
    /// The service.
    pub service: ServiceName,
    /// Index of the `pre_start` hook; `None`: the service itself.
    pub hook: Option<u32>,
}

/// Why a rollout cannot succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The service.
    pub service: ServiceName,
    /// The replica or job, where one is to blame.
    pub replica: Option<ReplicaId>,
    /// What happened.
    pub kind: FailureKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FailureKind {
    /// The process could not be started.
    CannotStart {
        /// The engine's reason.
        reason: String,
    },
    /// The process keeps ending.
    Crashed {
        /// The newest end.
        exit: ExitInfo,
        /// Starts after the first.
        restarts: u32,
    },
    /// A probe fails.
    Unhealthy {
        /// Which.
        #[serde(default)]
        failed: FailedProbe,
        /// Its newest output.
        probe: String,
    },
    /// Neither ready nor dead within the deadline.
    NotReady {
        /// The deadline.
        after: Duration,
    },
    /// A job ended with other than 0.
    JobFailed {
        /// Its end.
        exit: ExitInfo,
    },
    /// More requests fail than before.
    Errors {
        /// Answers with 5xx and requests without an answer.
        errors: u64,
        /// Among so many.
        requests: u64,
        /// The same of the release before.
        errors_before: u64,
        /// Among so many.
        requests_before: u64,
    },
    /// Answers take much longer than before.
    Slow {
        /// 95 of 100 take at most so many milliseconds.
        p95_ms: u32,
        /// The same of the release before.
        before_ms: u32,
    },
    /// Its program was told in vain that its secrets are others.
    NotReloaded {
        /// Why.
        reason: String,
    },
    /// A person or a signal asked for it.
    Aborted,
}

/// Deadlines that no release sets for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a whole rollout may take until traffic moves.
    pub rollout_deadline: Duration,
    /// Ends of a new replica's process, in a row, that count as a crash loop.
    pub crash_limit: u32,
    /// Tolerated exits of a replica's process while its release is watched: anybody may kill
    /// a process once.
    pub bake_crash_limit: u32,
    /// Old replicas keep running at least this long after the shift: what was asked of them inside
    /// the environment is seen by nobody, and not every program ends its requests first.
    pub min_drain: Duration,
    /// Pause after a replica that was not well was replaced; twice as long after each further one.
    pub heal_pause: Duration,
    /// That pause at most.
    pub longest_heal_pause: Duration,
    /// After so much time in peace a service counts as never replaced.
    pub heal_memory: Duration,
    /// Time that a replica that is not well gets to end, where others may run beside it.
    pub unhealthy_grace: Duration,
    /// Pause after a reload that failed; twice as long after each further one, up to
    /// `longest_heal_pause`.
    pub reload_pause: Duration,
    /// Reloads of one replica that fail in a row until the release that brings the secrets fails.
    pub reload_tries: u32,
    /// Pause before a replica that could not be started is tried again outside a rollout.
    pub retry: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            rollout_deadline: Duration::from_secs(900),
            crash_limit: 3,
            bake_crash_limit: 1,
            min_drain: Duration::from_millis(600),
            heal_pause: Duration::from_secs(10),
            longest_heal_pause: Duration::from_secs(300),
            heal_memory: Duration::from_secs(900),
            unhealthy_grace: Duration::from_secs(1),
            reload_pause: Duration::from_secs(1),
            reload_tries: 3,
            retry: Duration::from_secs(10),
        }
    }
}

impl Policy {
    /// How long a service rests after so many replacements.
    pub fn pause_after(&self, heals: u32) -> Duration {
        let doublings = heals.saturating_sub(1).min(16);
        self.heal_pause
            .saturating_mul(1 << doublings)
            .min(self.longest_heal_pause)
    }
}

/// Why a command about a rollout is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No rollout is under way.
    NothingMoves,
    /// It has come too far: the new release is there to stay, or the old one comes back already.
    TooLate,
    /// It stands still already.
    PausedAlready,
    /// It is not paused.
    NotPaused,
}

impl Desired {
    /// Whether what is to be done follows from both alike. How long starts took is told to people
    /// and to those who wait: where it cannot be written down, what has ended starts again all the
    /// same.
    pub fn is_the_same_step(&self, other: &Self) -> bool {
        let without = |desired: &Self| Self {
            starts: BTreeMap::new(),
            ..desired.clone()
        };
        self == other || without(self) == without(other)
    }

    /// Number of replicas wanted of a service whose file says `configured`. Never more than a file
    /// may say: a number that an earlier version has written down must not make this one run out of
    /// memory at each start.
    pub fn replicas(&self, service: &ServiceName, configured: u32) -> u32 {
        let wished = self.scale.get(service).copied().unwrap_or(configured);
        wished.min(havre_model::MAX_REPLICAS)
    }

    /// Begins the move to release `to`. One that was under way is given up: what serves then is
    /// what the new one comes from.
    pub fn begin(
        &mut self,
        to: u64,
        jobs_done: BTreeSet<JobId>,
        skip_analysis: bool,
        now: SystemTime,
    ) {
        if let Some(rollout) = &self.rollout {
            match rollout.phase {
                RolloutPhase::Baking { since } | RolloutPhase::Finishing { since } => {
                    self.current = Some(rollout.to);
                    self.current_since = Some(since);
                }
                RolloutPhase::Preparing
                | RolloutPhase::Canary { .. }
                | RolloutPhase::RollingBack { .. } => {}
            }
        }
        let from = self.current;
        self.intent = Intent::Run;
        self.rollout = Some(Rollout {
            from,
            to,
            started_at: now,
            phase: RolloutPhase::Preparing,
            jobs_done,
            skip_analysis,
            shifted_at: None,
            pause: None,
            groups: BTreeMap::new(),
            total: None,
            before: BTreeMap::new(),
            marks: None,
            warm: None,
        });
    }

    /// Gives the rollout up: the release before serves again.
    pub fn abort(&mut self, release: &Release, now: SystemTime) -> Result<(), Refusal> {
        let rollout = self.rollout.as_mut().ok_or(Refusal::NothingMoves)?;
        rollout.is_open()?;
        let service = release.services.keys().next();
        let failure = Failure {
            service: service.cloned().ok_or(Refusal::NothingMoves)?,
            replica: None,
            kind: FailureKind::Aborted,
        };
        // What stopped it says more than that somebody then gave it up.
        let failure = rollout
            .pause
            .take()
            .and_then(|pause| pause.failure)
            .unwrap_or(failure);
        rollout.phase = RolloutPhase::RollingBack {
            failure,
            since: now,
        };
        Ok(())
    }

    /// Lets the rollout stand still.
    pub fn pause(&mut self, now: SystemTime) -> Result<(), Refusal> {
        let rollout = self.rollout.as_mut().ok_or(Refusal::NothingMoves)?;
        rollout.is_open()?;
        if rollout.pause.is_some() {
            return Err(Refusal::PausedAlready);
        }
        rollout.pause = Some(Pause {
            since: now,
            failure: None,
        });
        Ok(())
    }

    /// Lets it go on, as if no time had passed; what stopped it is looked at anew.
    pub fn resume(&mut self, now: SystemTime) -> Result<(), Refusal> {
        let rollout = self.rollout.as_mut().ok_or(Refusal::NothingMoves)?;
        let pause = rollout.pause.take().ok_or(Refusal::NotPaused)?;
        let rested = now.duration_since(pause.since).unwrap_or_default();
        rollout.started_at += rested;
        match &mut rollout.phase {
            RolloutPhase::Preparing => {}
            RolloutPhase::Canary { since, .. } | RolloutPhase::Baking { since } => {
                *since += rested;
                rollout.marks = None;
                rollout.warm = None;
            }
            RolloutPhase::Finishing { .. } | RolloutPhase::RollingBack { .. } => {}
        }
        Ok(())
    }
}

impl Rollout {
    /// Whether it can still go either way.
    fn is_open(&self) -> Result<(), Refusal> {
        match self.phase {
            RolloutPhase::Preparing | RolloutPhase::Canary { .. } | RolloutPhase::Baking { .. } => {
                Ok(())
            }
            RolloutPhase::Finishing { .. } | RolloutPhase::RollingBack { .. } => {
                Err(Refusal::TooLate)
            }
        }
    }

    /// Why it goes back or stands still.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.phase {
            RolloutPhase::RollingBack { failure, .. } => Some(failure),
            RolloutPhase::Preparing
            | RolloutPhase::Canary { .. }
            | RolloutPhase::Baking { .. }
            | RolloutPhase::Finishing { .. } => self.pause.as_ref()?.failure.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_with_other_words_is_read() {
        let mut desired = Desired::default();
        desired.begin(2, BTreeSet::new(), true, SystemTime::UNIX_EPOCH);
        let rollout = desired.rollout.as_mut().expect("a rollout");
        rollout.phase = RolloutPhase::RollingBack {
            failure: Failure {
                service: ServiceName::new("web"),
                replica: None,
                kind: FailureKind::Aborted,
            },
            since: SystemTime::UNIX_EPOCH,
        };
        let now = serde_json::to_string(&desired).expect("JSON");
        let before = now
            .replace("rolling_back", "going_back")
            .replace("skip_analysis", "trusted");
        assert_ne!(now, before);
        for stored in [now, before] {
            let read: Desired = serde_json::from_str(&stored).expect(&stored);
            assert_eq!(read, desired);
        }
    }
}
