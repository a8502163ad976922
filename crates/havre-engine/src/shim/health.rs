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
            health: spec.health.clone().map(Monitor::new),
            liveness: spec.liveness.clone().map(Monitor::new),
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

/// One probe of a container.
#[derive(Clone, Debug)]
struct Monitor {
    probe: HealthProbe,
    health: Health,
    /// Start of the process; `None` while it does not run.
    started: Option<Duration>,
    /// When the next probe starts; `None` while one runs.
    next: Option<Duration>,
}

impl Monitor {
    /// Idle until the process runs.
    fn new(probe: HealthProbe) -> Self {
        Self {
            probe,
            health: unknown(),
            started: None,
            next: None,
        }
    }

    /// The process runs: nothing is known about it.
    fn started(&mut self, now: Duration) {
        self.health = unknown();
        self.started = Some(now);
        self.next = Some(now + self.probe.start_interval);
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
        } else {
            let starting = self.health.status == HealthStatus::Starting;
            let excused = starting && now < started + self.probe.start_period;
            if !excused {
                self.health.failing_streak = self.health.failing_streak.saturating_add(1);
                if self.health.failing_streak >= self.probe.retries.max(1) {
                    self.health.status = HealthStatus::Unhealthy;
                }
            }
        }
        self.health.last = Some(result);
        let wait = match self.health.status {
            HealthStatus::Starting => self.probe.start_interval,
            HealthStatus::Healthy | HealthStatus::Unhealthy => self.probe.interval,
        };
        self.next = Some(now + wait);
        differs(&before, &self.health)
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

    fn monitor(start_period: u64) -> Monitor {
        let mut monitor = Monitor::new(HealthProbe {
            argv: vec!["true".to_owned()],
            interval: S(30),
            timeout: S(5),
            retries: 2,
            start_period: S(start_period),
            start_interval: S(1),
        });
        monitor.started(S(100));
        monitor
    }

    fn record(monitor: &mut Monitor, code: Option<i32>, now: u64) -> (HealthStatus, u64) {
        let at = SystemTime::UNIX_EPOCH + S(now);
        monitor.record(
            ProbeResult {
                at,
                exit_code: code,
                output: String::new(),
            },
            S(now),
        );
        let next = monitor.next.map_or(0, |d| d.as_secs());
        (monitor.health.status, next)
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
    fn failures_of_the_start_period_do_not_count() {
        let mut m = monitor(10);
        assert_eq!(record(&mut m, Some(1), 101), (Starting, 102));
        assert_eq!(record(&mut m, Some(1), 109), (Starting, 110));
        assert_eq!(record(&mut m, Some(1), 110), (Starting, 111));
        assert_eq!(record(&mut m, Some(1), 111), (Unhealthy, 141));
    }

    #[test]
    fn an_early_success_ends_the_start_period() {
        let mut m = monitor(10);
        assert_eq!(record(&mut m, Some(0), 101), (Healthy, 131));
        assert_eq!(record(&mut m, Some(1), 102), (Healthy, 132));
        assert_eq!(record(&mut m, Some(1), 103), (Unhealthy, 133));
    }

    #[test]
    fn the_same_result_again_is_no_news() {
        let mut m = monitor(0);
        let result = |at: u64| ProbeResult {
            at: SystemTime::UNIX_EPOCH + S(at),
            exit_code: Some(0),
            output: "ok".to_owned(),
        };
        assert!(m.record(result(1), S(101)));
        assert!(!m.record(result(2), S(131)));
    }

    #[test]
    fn a_result_after_the_end_changes_nothing() {
        let mut m = monitor(0);
        m.stopped();
        assert_eq!(record(&mut m, Some(1), 101), (Starting, 0));
    }
}
