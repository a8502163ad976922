//! What is on record of a name: its certificate, what was tried, and what is asked for. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ari::Ari;
use crate::method::Method;
use crate::moment::Moment;
use crate::problem::{Blame, Problem, Stage};

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// Pauses of a name whose proof is not found: fewer than five checks in any hour, which is what public
/// authorities allow.
const AFTER_NAME: [Duration; 8] = [
    minutes(2),
    minutes(10),
    minutes(30),
    minutes(60),
    minutes(180),
    minutes(360),
    minutes(720),
    minutes(1440),
];
/// Pauses of a name with an authority that will not sign for it now.
const AFTER_PAIR: [Duration; 4] = [minutes(60), minutes(180), minutes(720), minutes(1440)];
/// Pauses of an authority that does not answer as it should.
const AFTER_AUTHORITY: [Duration; 7] = [
    minutes(1),
    minutes(3),
    minutes(10),
    minutes(30),
    minutes(60),
    minutes(180),
    minutes(360),
];
/// No authority makes us wait longer.
const MOST_PATIENCE: Duration = minutes(7 * 1440);

/// Everything on record of a name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The certificate that serves.
    pub certificate: Option<Held>,
    /// What was tried since.
    pub attempts: Attempts,
}

/// What planning needs to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Key identifier of its authority and its serial number (RFC 9773 §4.1).
    pub id: String,
    /// Who signed it.
    pub source: Source,
    /// First moment of its life, as it says itself; often an hour before it was signed.
    pub from: Moment,
    /// Its last moment.
    pub until: Moment,
    /// When it was put on record.
    pub since: Moment,
    /// When its authority wants it replaced.
    pub ari: Option<Ari>,
    /// When to ask for that (again).
    pub next_look: Moment,
}

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Ordered from the authority of this name.
    Authority(String),
    /// A person brought it.
    Imported,
}

/// What was tried for a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempts {
    /// In a row, about the name itself.
    #[serde(default)]
    pub failures: u32,
    /// Until then no authority is asked.
    #[serde(default)]
    pub pause: Option<Moment>,
    /// Authorities that will not sign for it now.
    #[serde(default)]
    pub refused: BTreeMap<String, Wait>,
    /// The newest failure.
    #[serde(default)]
    pub last: Option<Failure>,
    /// A person asked for a new certificate at that moment.
    #[serde(default)]
    pub asked: Option<Moment>,
    /// An order was begun then and has not ended.
    #[serde(default)]
    pub begun: Option<Moment>,
}

/// A pause, and how many before it came to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// In a row.
    pub failures: u32,
    /// Its end.
    pub until: Moment,
    /// The authority itself has said so: nobody shortens it.
    #[serde(default)]
    pub told: bool,
}

/// One attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: Moment,
    /// With whom.
    pub authority: String,
    /// How far it came.
    pub stage: Stage,
    /// How the name was to be proven.
    #[serde(default)]
    pub method: Option<Method>,
    /// The authority's words.
    pub problem: Problem,
}

impl Attempts {
    /// Notes a failure about the name, or about it and an authority; `chance` in 0..1. What is about the
    /// authority as a whole is only remembered: [`Wait::fail`] is for it.
    pub fn fail(&mut self, failure: Failure, chance: f64) {
        let now = failure.at;
        self.begun = None;
        match failure.problem.blame(failure.stage) {
            Blame::Name => {
                self.pause = Some(now.after(pause(&AFTER_NAME, self.failures, None, chance)));
                self.failures = self.failures.saturating_add(1);
            }
            Blame::Pair => {
                let wait = self.refused.entry(failure.authority.clone()).or_default();
                let told = failure.problem.patience();
                wait.until = now.after(pause(&AFTER_PAIR, wait.failures, told, chance));
                wait.told = told.is_some();
                wait.failures = wait.failures.saturating_add(1);
            }
            Blame::Authority => {}
        }
        self.last = Some(failure);
    }

    /// An order that was begun and of whose end nothing is on record broke off with its daemon, which may
    /// happen again and again: the next one waits.
    pub fn break_off(&mut self) {
        if let Some(begun) = self.begun.take() {
            let pause = begun.after(AFTER_NAME[0]);
            self.pause = self.pause.max(Some(pause));
        }
    }

    /// A person asks for a new certificate: only what an authority has forbidden still holds.
    pub fn ask(&mut self, now: Moment) {
        self.asked = Some(now);
        self.pause = None;
    }
}

impl Wait {
    /// Whether the authority itself has said so, and it is not over: nobody ends it before.
    pub fn holds(&self, now: Moment) -> bool {
        self.told && self.until > now
    }

    /// Notes that an authority does not answer as it should; `chance` in 0..1.
    pub fn fail(&mut self, now: Moment, told: Option<Duration>, chance: f64) {
        let until = now.after(pause(&AFTER_AUTHORITY, self.failures, told, chance));
        // What it has said holds until it says something longer.
        if !self.holds(now) || told.is_some() && until > self.until {
            self.until = until;
            self.told = told.is_some();
        }
        self.failures = self.failures.saturating_add(1);
    }
}

/// The pause after so many failures, or the one that was asked for, a little longer by chance.
fn pause(of: &[Duration], failures: u32, told: Option<Duration>, chance: f64) -> Duration {
    let step = usize::try_from(failures).unwrap_or(usize::MAX);
    let usual = of.get(step).or(of.last()).copied().unwrap_or(MOST_PATIENCE);
    let told = told.map(|told| told.min(MOST_PATIENCE));
    let pause = told.map_or(usual, |told| told.max(minutes(1)));
    pause + pause.mul_f64(chance.clamp(0.0, 1.0) / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(at: i64, stage: Stage, kind: Option<&str>, retry_after: Option<u64>) -> Failure {
        let kind = kind.map(|kind| format!("urn:ietf:params:acme:error:{kind}"));
        Failure {
            at: Moment(at),
            authority: "a".to_owned(),
            stage,
            method: None,
            problem: Problem {
                retry_after,
                ..Problem::of_authority(kind, "no".to_owned(), None)
            },
        }
    }

    #[test]
    fn fewer_than_five_checks_fail_in_an_hour() {
        let mut attempts = Attempts::default();
        let (mut now, mut times) = (Moment(0), Vec::new());
        for _ in 0..40 {
            times.push(now);
            attempts.fail(failure(now.0, Stage::Validation, Some("dns"), None), 0.0);
            now = attempts.pause.unwrap();
        }
        for window in times.windows(5) {
            assert!(window[0].until(window[4]) > minutes(60), "{window:?}");
        }
        let last = times[38].until(times[39]);
        assert_eq!(last, minutes(1440), "it is tried every day");
    }

    #[test]
    fn what_an_authority_asks_for_is_honoured_within_bounds() {
        for (told, expected) in [
            (Some(7200), 7200),
            (Some(0), 60),
            (Some(u64::MAX), 7 * 86_400),
            (None, 3600),
        ] {
            let mut attempts = Attempts::default();
            attempts.fail(failure(0, Stage::Order, Some("rateLimited"), told), 0.0);
            assert_eq!(attempts.refused["a"].until, Moment(expected));
            assert_eq!((attempts.pause, attempts.failures), (None, 0));
            attempts.ask(Moment(5));
            assert_eq!(attempts.refused["a"].until, Moment(expected), "still holds");
        }
    }

    #[test]
    fn an_order_that_broke_off_is_not_tried_at_once() {
        let mut attempts = Attempts {
            begun: Some(Moment(100)),
            ..Attempts::default()
        };
        attempts.break_off();
        assert_eq!((attempts.pause, attempts.begun), (Some(Moment(220)), None));
        attempts.break_off();
        assert_eq!(attempts.pause, Some(Moment(220)), "once");
        attempts.begun = Some(Moment(300));
        attempts.fail(failure(310, Stage::Order, Some("malformed"), None), 0.0);
        assert_eq!(attempts.begun, None, "it has ended");
    }

    #[test]
    fn a_broken_authority_is_nothing_against_the_name() {
        let mut attempts = Attempts::default();
        attempts.fail(failure(0, Stage::Directory, None, None), 0.5);
        assert_eq!((attempts.pause, attempts.failures), (None, 0));
        assert!(attempts.refused.is_empty() && attempts.last.is_some());
        let mut wait = Wait::default();
        wait.fail(Moment(0), None, 0.0);
        assert_eq!(wait.until, Moment(60));
        for _ in 0..20 {
            wait.fail(Moment(0), None, 0.0);
        }
        assert_eq!(wait.until, Moment(6 * 3600));
        assert!(!wait.holds(Moment(0)));
        wait.fail(Moment(0), Some(minutes(1440)), 0.0);
        wait.fail(Moment(0), None, 0.0);
        wait.fail(Moment(0), Some(minutes(5)), 0.0);
        assert_eq!(wait.until, Moment(86_400), "what was said holds");
        assert!(wait.holds(Moment(86_399)) && !wait.holds(Moment(86_400)));
    }
}
