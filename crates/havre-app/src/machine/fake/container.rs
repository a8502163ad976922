//! A container of the fake machine: what becomes of its process, by the tests' clock.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use havre_engine::{
    ContainerId, Exit, Given, Health, HealthStatus, Observed, ProbeResult, RestartRule, State,
};
use havre_release::{Release, ReplicaId, ServiceDigest};

use crate::labels::ContainerLabels;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// What becomes of a start.
#[derive(Clone, Debug)]
pub(crate) enum Start {
    /// The program runs.
    Runs,
    /// It fails before there is a container.
    Refused(String),
    /// There is a container, whose program could not be started.
    Fails(String),
}

/// What replicas or jobs of a service do.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    pub(super) start: Start,
    /// From the start until the program runs.
    pub(super) create: Duration,
    /// From there until it is fit to serve; `None`: never.
    pub(super) ready: Option<Duration>,
    /// From there until its probe fails.
    pub(super) sickens: Option<Duration>,
    /// From there until it ends by itself, and its exit code.
    pub(super) ends: Option<(Duration, i32)>,
    /// How long it takes to end when told to; `None`: until it is killed.
    pub(super) stop: Option<Duration>,
    /// How long `post_start` takes, and whether it fails.
    pub(super) post_start: Result<Duration, String>,
    pub(super) pre_stop: Duration,
    /// How long it takes to reload secrets, and whether it fails.
    pub(super) reload: Result<Duration, String>,
    /// Answers of a hundred that are errors.
    pub(super) errors_percent: u64,
    pub(super) latency_ms: u32,
}

impl Default for Behaviour {
    /// Ready after 1 s; ends at once.
    fn default() -> Self {
        Self {
            start: Start::Runs,
            create: Duration::from_millis(250),
            ready: Some(Duration::from_secs(1)),
            sickens: None,
            ends: None,
            stop: Some(Duration::from_millis(50)),
            post_start: Ok(Duration::from_millis(300)),
            pre_stop: Duration::from_millis(100),
            reload: Ok(Duration::from_millis(50)),
            errors_percent: 0,
            latency_ms: 8,
        }
    }
}

impl Behaviour {
    pub(crate) fn ready_after(seconds: u64) -> Self {
        let ready = Some(Duration::from_secs(seconds));
        Self {
            ready,
            ..Self::default()
        }
    }

    pub(crate) fn never_ready() -> Self {
        Self {
            ready: None,
            ..Self::default()
        }
    }

    pub(crate) fn starts(start: Start) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }

    /// Its program runs after this time; half of it there is no container.
    pub(crate) fn created_within(create: Duration) -> Self {
        Self {
            create,
            ..Self::default()
        }
    }

    /// Of a job, or of a process that crashes.
    pub(crate) fn ends(after: Duration, code: i32) -> Self {
        Self {
            ends: Some((after, code)),
            ..Self::default()
        }
    }

    pub(crate) fn sickens_after(seconds: u64) -> Self {
        Self {
            sickens: Some(Duration::from_secs(seconds)),
            ..Self::default()
        }
    }

    /// `None`: it does not listen, and has to be killed.
    pub(crate) fn stops_within(stop: Option<Duration>) -> Self {
        Self {
            stop,
            ..Self::default()
        }
    }

    pub(crate) fn post_start(post_start: Result<Duration, String>) -> Self {
        Self {
            post_start,
            ..Self::default()
        }
    }

    pub(crate) fn reloads(reload: Result<Duration, String>) -> Self {
        Self {
            reload,
            ..Self::default()
        }
    }

    pub(crate) fn errors(errors_percent: u64) -> Self {
        Self {
            errors_percent,
            ..Self::default()
        }
    }

    pub(crate) fn answers_in(latency_ms: u32) -> Self {
        Self {
            latency_ms,
            ..Self::default()
        }
    }
}

/// State of a process.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Process {
    /// The program runs from then on.
    Creating {
        until: SystemTime,
    },
    Running {
        since: SystemTime,
    },
    BackOff {
        until: SystemTime,
    },
    Failed(String),
    Exited,
    Lost,
}

/// A request to end.
#[derive(Clone, Copy, Debug)]
struct Stop {
    /// When it will have ended.
    at: SystemTime,
    killed: bool,
}

/// A container.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) labels: ContainerLabels,
    pub(super) behaviour: Behaviour,
    /// Since when it behaves like that: its ends and illnesses count from there.
    pub(super) behaves_since: SystemTime,
    pub(super) process: Process,
    /// From when on the engine lists it.
    pub(super) shown_from: SystemTime,
    /// The names on the machine of the volumes that it writes to.
    pub(super) volumes: BTreeSet<String>,
    pub(super) digest: Option<ServiceDigest>,
    pub(super) has_probe: bool,
    pub(super) grace: Duration,
    /// Its `post_start` hooks have ended well.
    pub(super) is_prepared: bool,
    pub(super) rule: RestartRule,
    pub(super) restarts: u32,
    /// What it has of secrets that change as it runs.
    pub(super) given: Option<Given>,
    last_exit: Option<Exit>,
    delay: Duration,
    stop: Option<Stop>,
}

impl Container {
    pub(super) fn new(
        labels: ContainerLabels,
        release: &Release,
        behaviour: Behaviour,
        rule: RestartRule,
        now: SystemTime,
    ) -> Self {
        let config = &release.services[&labels.service];
        let probe = config.service.healthcheck.as_ref();
        Self {
            process: Process::Creating {
                until: now + behaviour.create,
            },
            shown_from: now + behaviour.create / 2,
            volumes: BTreeSet::new(),
            digest: Some(config.digest().clone()),
            has_probe: probe.is_some(),
            grace: config.service.stop_grace_period,
            is_prepared: false,
            labels,
            behaviour,
            behaves_since: now,
            rule,
            restarts: 0,
            given: None,
            last_exit: None,
            delay: FIRST_DELAY,
            stop: None,
        }
    }

    /// A process that may still write, or will.
    pub(super) fn is_live(&self) -> bool {
        match self.process {
            Process::Creating { .. } | Process::Running { .. } | Process::BackOff { .. } => true,
            Process::Failed(_) | Process::Exited | Process::Lost => false,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.process, Process::Running { .. })
    }

    /// Fit to serve.
    pub(super) fn is_ready(&self, now: SystemTime) -> bool {
        let Process::Running { since } = self.process else {
            return false;
        };
        let ready = self.behaviour.ready.is_some_and(|time| since + time <= now);
        ready && !self.is_sick(now)
    }

    pub(super) fn is_sick(&self, now: SystemTime) -> bool {
        let Process::Running { since } = self.process else {
            return false;
        };
        let since = since.max(self.behaves_since);
        let sickens = self.behaviour.sickens;
        sickens.is_some_and(|time| since + time <= now)
    }

    pub(super) fn has_succeeded(&self) -> bool {
        let exit = self.last_exit.as_ref();
        self.process == Process::Exited && exit.is_some_and(|exit| exit.code == 0)
    }

    /// Its process ends, killed after `grace`.
    pub(super) fn stop(&mut self, grace: Duration, now: SystemTime) {
        let own = self.behaviour.stop;
        let takes = own.filter(|own| *own <= grace).unwrap_or(grace);
        let stop = Stop {
            at: now + takes,
            killed: own.is_none_or(|own| own > grace),
        };
        match self.process {
            Process::BackOff { .. } => self.process = Process::Exited,
            _ if self.stop.is_some_and(|earlier| earlier.at <= stop.at) => {}
            _ => self.stop = Some(stop),
        }
    }

    /// Its process ends by itself.
    pub(super) fn crash(&mut self, code: i32, now: SystemTime) {
        self.ended(code, None, now);
    }

    /// Lets time pass until `now`.
    pub(super) fn live(&mut self, now: SystemTime) {
        while let Some(at) = self.next_step().filter(|at| *at <= now) {
            match self.process.clone() {
                Process::Creating { .. } => self.process = self.started(at),
                Process::BackOff { .. } => {
                    self.restarts += 1;
                    self.process = Process::Running { since: at };
                    if let Some(given) = &mut self.given {
                        given.loaded = true;
                    }
                }
                Process::Running { .. } => match (self.stop, self.behaviour.ends) {
                    (Some(stop), _) if stop.at <= at => {
                        let code = if stop.killed { 137 } else { 143 };
                        self.ended(code, Some(stop), at);
                    }
                    (_, Some((_, code))) => self.ended(code, None, at),
                    (_, None) => return,
                },
                Process::Failed(_) | Process::Exited | Process::Lost => return,
            }
        }
    }

    /// When its process takes a step.
    pub(super) fn next_step(&self) -> Option<SystemTime> {
        match self.process {
            Process::Creating { until } | Process::BackOff { until } => Some(until),
            Process::Running { since } => {
                let since = since.max(self.behaves_since);
                let ends = self.behaviour.ends.map(|(after, _)| since + after);
                let stops = self.stop.map(|stop| stop.at);
                ends.into_iter().chain(stops).min()
            }
            Process::Failed(_) | Process::Exited | Process::Lost => None,
        }
    }

    /// When the engine will tell something new of it.
    pub(super) fn next_event(&self, now: SystemTime) -> Option<SystemTime> {
        let probed = match self.process {
            Process::Running { since } if self.has_probe => {
                let ready = self.behaviour.ready.map(|time| since + time);
                let since = since.max(self.behaves_since);
                let sick = self.behaviour.sickens.map(|time| since + time);
                ready.into_iter().chain(sick).collect()
            }
            _ => vec![self.shown_from],
        };
        let probed = probed.into_iter().filter(|at| *at > now);
        probed.chain(self.next_step()).min()
    }

    /// As the engine shows it.
    pub(super) fn observed(&self, id: &ReplicaId, now: SystemTime) -> Observed {
        let state = match &self.process {
            Process::Creating { .. } => State::Creating,
            Process::Running { since } => State::Running {
                pid: 1000,
                started_at: *since,
            },
            Process::BackOff { until } => State::BackOff { until: *until },
            Process::Failed(reason) => State::Failed {
                reason: reason.clone(),
            },
            Process::Exited => State::Exited,
            Process::Lost => State::Lost,
        };
        Observed {
            id: ContainerId(id.0.clone()),
            labels: self.labels.labels(),
            state,
            restarts: self.restarts,
            health: (self.has_probe && self.is_running()).then(|| self.health(now)),
            liveness: None,
            last_exit: self.last_exit.clone(),
            given: self.given.clone(),
        }
    }

    fn health(&self, now: SystemTime) -> Health {
        let failed = ProbeResult {
            at: now,
            exit_code: Some(1),
            output: "does not answer".to_owned(),
        };
        let (status, failing_streak) = match (self.is_sick(now), self.is_ready(now)) {
            (true, _) => (HealthStatus::Unhealthy, 3),
            (false, true) => (HealthStatus::Healthy, 0),
            (false, false) => (HealthStatus::Starting, 0),
        };
        Health {
            status,
            failing_streak,
            last: self.is_sick(now).then_some(failed),
        }
    }

    fn started(&self, at: SystemTime) -> Process {
        match &self.behaviour.start {
            Start::Runs => Process::Running { since: at },
            Start::Fails(reason) | Start::Refused(reason) => Process::Failed(reason.clone()),
        }
    }

    fn ended(&mut self, code: i32, stop: Option<Stop>, at: SystemTime) {
        self.last_exit = Some(Exit {
            at,
            code,
            signal: (code > 128).then_some(code - 128),
            oom_killed: false,
            memory_peak_bytes: None,
            requested: stop.is_some(),
        });
        self.stop = None;
        let again = stop.is_none()
            && match self.rule {
                RestartRule::Never => false,
                RestartRule::Always => true,
                RestartRule::OnFailure { max_retries } => {
                    code != 0 && max_retries.is_none_or(|most| self.restarts < most)
                }
            };
        self.process = match again {
            true => Process::BackOff {
                until: at + self.delay,
            },
            false => Process::Exited,
        };
        self.delay = (self.delay * 2).min(LONGEST_DELAY);
    }
}
