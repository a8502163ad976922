//! When to probe and what the results mean. Pure; deadlines are since boot.

use std::time::{Duration, SystemTime};

use crate::spec::{ContainerSpec, Health, HealthProbe, HealthStatus, ProbeResult};

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Whether the container is fit to serve.
    Health,
    /// Whether it needs a new process.
    Liveness,
}

/// The probes of one container.
#[derive(Clone, Debug)]
pub struct Probes {
    health: Option<Monitor>,
    liveness: Option<Monitor>,
}

impl Probes {
    /// Idle until the process runs.
    pub fn new(spec: &ContainerSpec) -> Self {
        Self {
            health: spec.health.clone().map(|probe| Monitor::new(probe, true)),
            // That it succeeds is nothing anybody waits for.
            liveness: spec
                .liveness
                .clone()
                .map(|probe| Monitor::new(probe, false)),
        }
    }

    /// What is known; `None` without such a probe.
    pub fn health(&self, purpose: Purpose) -> Option<Health> {
        self.of(purpose).map(|monitor| monitor.health.clone())
    }

    /// How to probe.
    pub fn probe(&self, purpose: Purpose) -> Option<&HealthProbe> {
        self.of(purpose).map(|monitor| &monitor.probe)
    }

    /// See [`Monitor::started`].
    pub fn started(&mut self, now: Duration) {
        for monitor in self.health.iter_mut().chain(&mut self.liveness) {
            monitor.started(now);
        }
    }

    /// See [`Monitor::stopped`].
    pub fn stopped(&mut self) {
        for monitor in self.health.iter_mut().chain(&mut self.liveness) {
            monitor.stopped();
        }
    }

    /// When the next probe starts.
    pub fn deadline(&self) -> Option<Duration> {
        let both = self.health.iter().chain(&self.liveness);
        both.filter_map(|monitor| monitor.next).min()
    }

    /// A probe that is to be started, which the caller then does.
    pub fn take_due(&mut self, now: Duration) -> Option<Purpose> {
        let both = [Purpose::Health, Purpose::Liveness];
        both.into_iter().find(|purpose| {
            let monitor = self.of_mut(*purpose);
            monitor.is_some_and(|monitor| monitor.take_due(now))
        })
    }

    /// See [`Monitor::record`].
    pub fn record(&mut self, purpose: Purpose, result: ProbeResult, now: Duration) -> bool {
        let monitor = self.of_mut(purpose);
        monitor.is_some_and(|monitor| monitor.record(result, now))
    }

    fn of(&self, purpose: Purpose) -> Option<&Monitor> {
        match purpose {
            Purpose::Health => self.health.as_ref(),
            Purpose::Liveness => self.liveness.as_ref(),
        }
    }

    fn of_mut(&mut self, purpose: Purpose) -> Option<&mut Monitor> {
        match purpose {
            Purpose::Health => self.health.as_mut(),
            Purpose::Liveness => self.liveness.as_mut(),
        }
    }
}

/// Pause between probes of a container that is starting whose failures do not count.
const EARLY: Duration = Duration::from_secs(1);
/// That pause is this part of the time that the start takes already: it is found out late by a tenth
/// at most, and one that takes long is not kept busy with probes.
const EARLY_SHARE: u32 = 10;

/// One probe of a container.
///
/// Failures count as they do with Docker (`getInterval` and `handleProbeResult` of moby's
/// `daemon/health.go`): in the start period a container is probed every `start_interval` and none
/// counts; then, and without a start period from the beginning, every `interval`. Beside these
/// runs the health check of a container that is starting is run more often, so that success shows
/// soon; what fails then says nothing.
#[derive(Clone, Debug)]
struct Monitor {
    probe: HealthProbe,
    /// Success is looked for more often than failures count.
    eager: bool,
    health: Health,
    /// Start of the process; `None` while it does not run.
    started: Option<Duration>,
    /// From when on the next failure counts.
    counts_at: Duration,
    /// Whether a failure of the probe that runs counts.
    counts: bool,
    /// When the next probe starts; `None` while one runs.
    next: Option<Duration>,
}

impl Monitor {
    /// Idle until the process runs.
    fn new(probe: HealthProbe, eager: bool) -> Self {
        Self {
            probe,
            eager,
            health: unknown(),
            started: None,
            counts_at: Duration::ZERO,
            counts: false,
            next: None,
        }
    }

    /// The process runs: nothing is known about it.
    fn started(&mut self, now: Duration) {
        self.health = unknown();
        self.started = Some(now);
        self.counts_at = now
            + match self.probe.start_period.is_zero() {
                true => self.probe.interval,
                false => self.probe.start_period,
            };
        self.next = Some(self.due_after(now, now));
    }

    /// The process is gone or about to go: no more probes.
    fn stopped(&mut self) {
        self.started = None;
        self.next = None;
    }

    /// Whether a probe is to be started, which the caller then does.
    fn take_due(&mut self, now: Duration) -> bool {
        let due = self.next.is_some_and(|next| now >= next);
        if due {
            self.next = None;
            self.counts = now >= self.counts_at;
        }
        due
    }

    /// Takes a result in; whether anything but the time differs from before.
    fn record(&mut self, result: ProbeResult, now: Duration) -> bool {
        let Some(started) = self.started else {
            return false;
        };
        let before = self.health.clone();
        if result.exit_code == Some(0) {
            self.health.status = HealthStatus::Healthy;
            self.health.failing_streak = 0;
            self.counts_at = now + self.probe.interval;
        } else if self.counts {
            self.health.failing_streak = self.health.failing_streak.saturating_add(1);
            if self.health.failing_streak >= self.probe.retries.max(1) {
                self.health.status = HealthStatus::Unhealthy;
            }
            self.counts_at = now + self.probe.interval;
        }
        self.health.last = Some(result);
        self.next = Some(self.due_after(started, now));
        differs(&before, &self.health)
    }

    /// When the next probe of a process starts that runs since `started`.
    fn due_after(&self, started: Duration, now: Duration) -> Duration {
        let runs_for = now.saturating_sub(started);
        let early = match self.health.status {
            HealthStatus::Healthy | HealthStatus::Unhealthy => None,
            HealthStatus::Starting if runs_for < self.probe.start_period => {
                Some(self.probe.start_interval)
            }
            HealthStatus::Starting => self.eager.then(|| EARLY.max(runs_for / EARLY_SHARE)),
        };
        early.map_or(self.counts_at, |early| self.counts_at.min(now + early))
    }
}

fn unknown() -> Health {
    Health {
        status: HealthStatus::Starting,
        failing_streak: 0,
        last: None,
    }
}

fn differs(a: &Health, b: &Health) -> bool {
    let without_time = |h: &Health| {
        let mut health = h.clone();
        if let Some(last) = &mut health.last {
            last.at = SystemTime::UNIX_EPOCH;
        }
        health
    };
    without_time(a) != without_time(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn probe(start_period: u64) -> HealthProbe {
        HealthProbe {
            argv: vec!["true".to_owned()],
            interval: S(30),
            timeout: S(5),
            retries: 2,
            start_period: S(start_period),
            start_interval: S(1),
        }
    }

    fn monitor(start_period: u64) -> Monitor {
        let mut monitor = Monitor::new(probe(start_period), true);
        monitor.started(S(100));
        monitor
    }

    fn result(code: Option<i32>, at: u64) -> ProbeResult {
        ProbeResult {
            at: SystemTime::UNIX_EPOCH + S(at),
            exit_code: code,
            output: String::new(),
        }
    }

    /// A probe that is due `now` and takes no time; what follows, and when the next one is due.
    fn record(monitor: &mut Monitor, code: Option<i32>, now: u64) -> (HealthStatus, u64) {
        assert!(monitor.take_due(S(now)), "{:?} at {now}", monitor.next);
        monitor.record(result(code, now), S(now));
        let next = monitor.next.map_or(0, |d| d.as_secs());
        (monitor.health.status, next)
    }

    /// Fails whenever it is due; when each failure counted, until it is unhealthy.
    fn counted(monitor: &mut Monitor) -> Vec<u64> {
        let mut counted = Vec::new();
        while monitor.health.status != HealthStatus::Unhealthy {
            let now = monitor.next.expect("one is due");
            assert!(monitor.take_due(now));
            let before = monitor.health.failing_streak;
            monitor.record(result(Some(1), now.as_secs()), now);
            if monitor.health.failing_streak > before {
                counted.push(now.as_secs());
            }
        }
        counted
    }

    use HealthStatus::{Healthy, Starting, Unhealthy};

    #[test]
    fn from_starting_to_healthy_to_unhealthy_and_back() {
        let mut m = monitor(0);
        assert_eq!(m.next, Some(S(101)));
        assert_eq!(record(&mut m, Some(0), 101), (Healthy, 131));
        assert_eq!(record(&mut m, Some(1), 131), (Healthy, 161));
        assert_eq!(record(&mut m, None, 161), (Unhealthy, 191));
        assert_eq!(m.health.failing_streak, 2);
        assert_eq!(record(&mut m, Some(0), 191), (Healthy, 221));
        assert_eq!(m.health.failing_streak, 0);
    }

    #[test]
    fn without_a_start_period_failures_count_every_interval() {
        assert_eq!(counted(&mut monitor(0)), [130, 160]);
        let mut liveness = Monitor::new(probe(0), false);
        liveness.started(S(100));
        assert_eq!(liveness.next, Some(S(130)), "nobody waits for its success");
        assert_eq!(counted(&mut liveness), [130, 160]);
    }

    #[test]
    fn failures_of_the_start_period_do_not_count() {
        assert_eq!(counted(&mut monitor(10)), [110, 140]);
        assert_eq!(counted(&mut monitor(40)), [140, 170]);
        let mut m = monitor(10);
        assert_eq!(record(&mut m, Some(1), 101), (Starting, 102));
        assert_eq!(record(&mut m, Some(1), 109), (Starting, 110));
        assert_eq!(record(&mut m, Some(1), 110), (Starting, 111));
        assert_eq!(record(&mut m, Some(1), 111), (Starting, 112));
        assert_eq!(m.health.failing_streak, 1);
    }

    #[test]
    fn a_slow_start_shows_soon_though_failures_count_late() {
        let mut m = monitor(0);
        let mut probes = 0;
        loop {
            let now = m.next.expect("one is due");
            assert!(m.take_due(now));
            probes += 1;
            let code = i32::from(now < S(120));
            m.record(result(Some(code), now.as_secs()), now);
            if m.health.status == Healthy {
                assert!(now <= S(122), "{now:?}");
                break;
            }
            assert_eq!((m.health.status, m.health.failing_streak), (Starting, 0));
        }
        assert!(probes < 20, "{probes}");
    }

    #[test]
    fn one_that_counts_waits_for_one_that_hangs() {
        let mut m = monitor(0);
        assert!(m.take_due(S(129)));
        m.record(result(None, 134), S(134));
        assert_eq!((m.health.failing_streak, m.next), (0, Some(S(130))));
        assert_eq!(record(&mut m, None, 134).0, Starting);
        assert_eq!(m.health.failing_streak, 1);
    }

    #[test]
    fn an_early_success_ends_the_start_period() {
        let mut m = monitor(40);
        assert_eq!(record(&mut m, Some(0), 101), (Healthy, 131));
        assert_eq!(record(&mut m, Some(1), 131), (Healthy, 161));
        assert_eq!(record(&mut m, Some(1), 161), (Unhealthy, 191));
    }

    #[test]
    fn the_same_result_again_is_no_news() {
        let mut m = monitor(0);
        assert!(m.record(result(Some(0), 1), S(101)));
        assert!(!m.record(result(Some(0), 2), S(131)));
    }

    #[test]
    fn a_result_after_the_end_changes_nothing() {
        let mut m = monitor(0);
        assert!(m.take_due(S(101)));
        m.stopped();
        assert!(!m.record(result(Some(1), 101), S(101)));
        assert_eq!((m.health.status, m.next), (Starting, None));
    }
}
