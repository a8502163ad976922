//! When the process is started, stopped, killed and started again. Pure; times are since boot.

use std::time::Duration;

use crate::spec::RestartRule;

/// First wait before a restart; it doubles.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest wait before a restart.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A process that ran this long starts the waits anew.
const STABLE: Duration = Duration::from_secs(10);
/// How often to see whether the program hears its stop signal by now.
const LISTENS: Duration = Duration::from_millis(50);
/// Longest set-up of a container.
const SETUP_DEADLINE: Duration = Duration::from_secs(60);

/// Where the process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessPhase {
    /// Being set up.
    Starting {
        /// Given up then.
        deadline: Duration,
    },
    /// Running.
    Running {
        /// Since.
        since: Duration,
    },
    /// Ended; starts again.
    BackOff {
        /// Then.
        until: Duration,
    },
    /// Ended for good.
    Ended,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The program runs.
    Started,
    /// The program could not be started.
    Failed,
    /// The program ended with this code.
    Exited(i32),
    /// It shall stop, killed after this time.
    Stop(Duration),
    /// It shall stop and start again.
    Restart(Duration),
    /// A deadline may have passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start the program.
    Start,
    /// Send the stop signal.
    SignalStop,
    /// Send it once more if it is heard by now.
    SignalLate,
    /// Kill the whole container.
    Kill,
    /// Record the end and leave.
    Finish,
}

/// The life of one container's process.
#[derive(Clone, Debug)]
pub struct Life {
    rule: RestartRule,
    /// Where it stands.
    pub phase: ProcessPhase,
    /// Starts after the first.
    pub restarts: u32,
    delay: Duration,
    /// An unfinished request to stop.
    stop: Option<Stop>,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    grace: Duration,
    /// `None`: the signal is not due yet, or the kill is done.
    kill_at: Option<Duration>,
    /// When to look whether the signal, which nobody heard, would be heard.
    signal_at: Option<Duration>,
    again: bool,
}

impl Life {
    /// Begins by starting.
    pub fn new(rule: RestartRule, now: Duration) -> Self {
        let phase = ProcessPhase::Starting {
            deadline: now + SETUP_DEADLINE,
        };
        Self {
            rule,
            phase,
            restarts: 0,
            delay: FIRST_DELAY,
            stop: None,
        }
    }

    /// Whether a request to stop is under way.
    pub fn stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// When `Tick` is due.
    pub fn deadline(&self) -> Option<Duration> {
        let phase = match self.phase {
            ProcessPhase::Starting { deadline } => Some(deadline),
            ProcessPhase::BackOff { until } => Some(until),
            ProcessPhase::Running { .. } | ProcessPhase::Ended => None,
        };
        let (kill, signal) = self.stop.map_or((None, None), |s| (s.kill_at, s.signal_at));
        phase.into_iter().chain(kill).chain(signal).min()
    }

    /// The program may not have heard the stop signal: to be seen to until the grace is over.
    pub fn unheard(&mut self, now: Duration) {
        if let Some(stop) = &mut self.stop {
            stop.signal_at = Some(now + LISTENS);
        }
    }

    /// The only place where the phase changes.
    pub fn step(&mut self, event: Event, now: Duration) -> Option<Effect> {
        match event {
            Event::Started => self.started(now),
            Event::Failed => self.finish(),
            Event::Exited(code) => self.exited(code, now),
            Event::Stop(grace) => self.stop(grace, false, now),
            Event::Restart(grace) => self.stop(grace, true, now),
            Event::Tick => self.tick(now),
        }
    }

    fn started(&mut self, now: Duration) -> Option<Effect> {
        self.phase = ProcessPhase::Running { since: now };
        // A request that came during set-up takes effect now.
        let stop = self.stop.as_mut()?;
        stop.kill_at = Some(now + stop.grace);
        Some(Effect::SignalStop)
    }

    fn exited(&mut self, code: i32, now: Duration) -> Option<Effect> {
        let ran = match self.phase {
            ProcessPhase::Running { since } => now.saturating_sub(since),
            ProcessPhase::Starting { .. } | ProcessPhase::BackOff { .. } => Duration::ZERO,
            ProcessPhase::Ended => return None,
        };
        if let Some(stop) = self.stop.take() {
            return if stop.again {
                self.start(now)
            } else {
                self.finish()
            };
        }
        let again = match self.rule {
            RestartRule::Never => false,
            RestartRule::Always => true,
            RestartRule::OnFailure { max_retries } => {
                code != 0 && max_retries.is_none_or(|max| self.restarts < max)
            }
        };
        if !again {
            return self.finish();
        }
        if ran >= STABLE {
            self.delay = FIRST_DELAY;
        }
        self.phase = ProcessPhase::BackOff {
            until: now + self.delay,
        };
        self.delay = (self.delay * 2).min(LONGEST_DELAY);
        None
    }

    fn stop(&mut self, grace: Duration, again: bool, now: Duration) -> Option<Effect> {
        match self.phase {
            ProcessPhase::Ended => None,
            ProcessPhase::BackOff { .. } if again => self.start(now),
            ProcessPhase::BackOff { .. } => self.finish(),
            ProcessPhase::Starting { .. } => {
                let grace = self.stop.map_or(grace, |s| s.grace.min(grace));
                self.stop = Some(Stop {
                    grace,
                    kill_at: None,
                    signal_at: None,
                    again,
                });
                None
            }
            ProcessPhase::Running { .. } => {
                // Asked twice, the earlier deadline holds.
                let kill_at = now + grace;
                let kill_at = self
                    .stop
                    .and_then(|s| s.kill_at)
                    .map_or(kill_at, |k| k.min(kill_at));
                self.stop = Some(Stop {
                    grace,
                    kill_at: Some(kill_at),
                    signal_at: None,
                    again,
                });
                Some(Effect::SignalStop)
            }
        }
    }

    fn tick(&mut self, now: Duration) -> Option<Effect> {
        if let Some(stop) = &mut self.stop
            && stop.kill_at.is_some_and(|at| now >= at)
        {
            stop.kill_at = None;
            stop.signal_at = None;
            return Some(Effect::Kill);
        }
        if let Some(stop) = &mut self.stop
            && stop.signal_at.is_some_and(|at| now >= at)
        {
            stop.signal_at = None;
            return Some(Effect::SignalLate);
        }
        match self.phase {
            ProcessPhase::BackOff { until } if now >= until => self.start(now),
            ProcessPhase::Starting { deadline } if now >= deadline => {
                self.phase = ProcessPhase::Starting {
                    deadline: now + SETUP_DEADLINE,
                };
                Some(Effect::Kill)
            }
            _ => None,
        }
    }

    fn start(&mut self, now: Duration) -> Option<Effect> {
        self.restarts = self.restarts.saturating_add(1);
        self.phase = ProcessPhase::Starting {
            deadline: now + SETUP_DEADLINE,
        };
        Some(Effect::Start)
    }

    fn finish(&mut self) -> Option<Effect> {
        self.phase = ProcessPhase::Ended;
        Some(Effect::Finish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn running(rule: RestartRule) -> Life {
        let mut life = Life::new(rule, S(0));
        assert_eq!(life.step(Event::Started, S(0)), None);
        life
    }

    /// Ends the process at once, again and again; the waits in milliseconds.
    fn waits(life: &mut Life, times: usize) -> Vec<u128> {
        let mut now = S(0);
        let mut waits = Vec::new();
        for _ in 0..times {
            life.step(Event::Exited(1), now);
            let ProcessPhase::BackOff { until } = life.phase else {
                break;
            };
            waits.push((until - now).as_millis());
            now = until;
            assert_eq!(life.step(Event::Tick, now), Some(Effect::Start));
            life.step(Event::Started, now);
        }
        waits
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let mut life = running(RestartRule::Always);
        let expected = [
            100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000,
        ];
        assert_eq!(waits(&mut life, 12), expected);
        assert_eq!(life.restarts, 12);
    }

    #[test]
    fn a_stable_run_starts_the_waits_anew() {
        let mut life = running(RestartRule::Always);
        waits(&mut life, 5);
        life.phase = ProcessPhase::Running { since: S(100) };
        life.step(Event::Exited(0), S(110));
        assert_eq!(
            life.phase,
            ProcessPhase::BackOff {
                until: S(110) + FIRST_DELAY
            }
        );
    }

    #[test]
    fn on_failure_counts_and_respects_success() {
        let mut life = running(RestartRule::OnFailure {
            max_retries: Some(2),
        });
        assert_eq!(waits(&mut life, 5), [100, 200]);
        assert_eq!(life.phase, ProcessPhase::Ended);
        let mut life = running(RestartRule::OnFailure { max_retries: None });
        assert_eq!(life.step(Event::Exited(0), S(1)), Some(Effect::Finish));
    }

    #[test]
    fn stop_signals_then_kills_once() {
        let mut life = running(RestartRule::Always);
        assert_eq!(
            life.step(Event::Stop(S(10)), S(1)),
            Some(Effect::SignalStop)
        );
        assert_eq!(life.deadline(), Some(S(11)));
        assert_eq!(life.step(Event::Tick, S(10)), None);
        assert_eq!(life.step(Event::Tick, S(11)), Some(Effect::Kill));
        assert_eq!(life.step(Event::Tick, S(12)), None);
        assert_eq!(life.step(Event::Exited(137), S(12)), Some(Effect::Finish));
    }

    #[test]
    fn a_signal_that_nobody_hears_is_tried_until_the_kill() {
        let mut life = running(RestartRule::Always);
        let grace = LISTENS * 2 + LISTENS / 2;
        life.step(Event::Stop(grace), S(1));
        for times in 1..=2 {
            life.unheard(S(1) + LISTENS * (times - 1));
            assert_eq!(life.deadline(), Some(S(1) + LISTENS * times));
            let effect = life.step(Event::Tick, S(1) + LISTENS * times);
            assert_eq!(effect, Some(Effect::SignalLate));
        }
        life.unheard(S(1) + LISTENS * 2);
        assert_eq!(life.deadline(), Some(S(1) + grace));
        assert_eq!(
            life.step(Event::Tick, S(1) + LISTENS * 3),
            Some(Effect::Kill)
        );
        assert_eq!(life.deadline(), None);
    }

    #[test]
    fn a_signal_that_was_heard_is_not_sent_again() {
        let mut life = running(RestartRule::Always);
        life.step(Event::Stop(S(10)), S(1));
        life.unheard(S(1));
        assert_eq!(life.step(Event::Tick, S(2)), Some(Effect::SignalLate));
        assert_eq!(life.step(Event::Tick, S(3)), None);
        assert_eq!(life.deadline(), Some(S(11)));
    }

    #[test]
    fn a_second_stop_can_only_shorten_the_grace() {
        let mut life = running(RestartRule::Always);
        life.step(Event::Stop(S(10)), S(0));
        life.step(Event::Stop(S(60)), S(1));
        assert_eq!(life.deadline(), Some(S(10)));
        life.step(Event::Stop(S(2)), S(1));
        assert_eq!(life.deadline(), Some(S(3)));
    }

    #[test]
    fn stop_during_set_up_waits_for_the_start() {
        let mut life = Life::new(RestartRule::Always, S(0));
        assert_eq!(life.step(Event::Stop(S(5)), S(0)), None);
        assert_eq!(life.step(Event::Started, S(1)), Some(Effect::SignalStop));
        assert_eq!(life.deadline(), Some(S(6)));
    }

    #[test]
    fn stop_ends_a_back_off() {
        let mut life = running(RestartRule::Always);
        life.step(Event::Exited(1), S(0));
        assert_eq!(life.step(Event::Stop(S(5)), S(0)), Some(Effect::Finish));
    }

    #[test]
    fn restart_starts_whatever_the_rule_says() {
        let mut life = running(RestartRule::Never);
        assert_eq!(
            life.step(Event::Restart(S(5)), S(0)),
            Some(Effect::SignalStop)
        );
        assert_eq!(life.step(Event::Exited(0), S(1)), Some(Effect::Start));
        assert!(!life.stopping());
        life.step(Event::Started, S(1));
        // A stop after a restart wins.
        life.step(Event::Restart(S(5)), S(2));
        life.step(Event::Stop(S(5)), S(2));
        assert_eq!(life.step(Event::Exited(0), S(3)), Some(Effect::Finish));
    }

    #[test]
    fn a_set_up_that_hangs_is_killed() {
        let mut life = Life::new(RestartRule::Always, S(0));
        assert_eq!(life.deadline(), Some(S(60)));
        assert_eq!(life.step(Event::Tick, S(60)), Some(Effect::Kill));
        assert_eq!(life.step(Event::Failed, S(61)), Some(Effect::Finish));
    }
}
