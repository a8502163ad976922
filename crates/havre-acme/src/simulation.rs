//! Time on paper: names, an authority with renewal information, outages and stops of the daemon, all on
//! a clock of its own. It counts the orders that were not needed and the names that were left without.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::Duration;

use crate::ari::{self, Window};
use crate::moment::Moment;
use crate::name::Name;
use crate::plan::{self, Authority, Step, World};
use crate::problem::{Problem, Stage};
use crate::record::{Failure, Held, Record, Source, Wait};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY: &str = "paper";

/// What happens.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How many names there are.
    pub names: usize,
    /// How long.
    pub days: u32,
    /// Life of a certificate.
    pub life: Duration,
    /// Whether the authority gives windows.
    pub ari: bool,
    /// The authority answers nothing meanwhile; days.
    pub outages: Vec<Range<f64>>,
    /// The daemon is away meanwhile; days.
    pub stops: Vec<Range<f64>>,
    /// On that day the authority wants every other certificate replaced at once.
    pub recall: Option<f64>,
    /// One order in so many fails at its check.
    pub failing: Option<u64>,
    /// Of all that is drawn.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Certificates that were signed.
    pub issued: u64,
    /// Orders of which none was due.
    pub needless: u64,
    /// Most orders in an hour.
    pub busiest: u64,
    /// Names whose certificate ended before there was another.
    pub lapsed: u64,
}

struct One {
    name: Name,
    record: Record,
    /// The window of the certificate that it has.
    window: Window,
    issued: Option<Moment>,
}

struct Paper<'a> {
    scenario: &'a Scenario,
    state: u64,
    serial: u64,
    rest: Wait,
    outcome: Outcome,
    orders: Vec<Moment>,
}

/// Lets it happen.
pub fn run(scenario: &Scenario) -> Outcome {
    let mut paper = Paper {
        scenario,
        state: scenario.seed | 1,
        serial: 0,
        rest: Wait::default(),
        outcome: Outcome::default(),
        orders: Vec::new(),
    };
    let begin = Moment(1_800_000_000);
    let end = begin.after(DAY * scenario.days);
    let mut started = begin;
    let mut names: Vec<One> = (0..scenario.names).filter_map(One::new).collect();
    let mut queue: BinaryHeap<Reverse<(Moment, usize)>> =
        (0..names.len()).map(|it| Reverse((begin, it))).collect();
    while let Some(Reverse((mut now, index))) = queue.pop() {
        if now >= end {
            continue;
        }
        if let Some(stop) = range_at(&scenario.stops, begin, now) {
            now = stop;
            started = started.max(stop);
        }
        let mut later = paper.turn(&mut names[index], begin, started, now);
        if let Some(day) = scenario.recall {
            let recall = begin.after(DAY.mul_f64(day));
            // What is decided then is decided with the next look, at the latest.
            if now < recall && later > recall {
                later = later.min(recall.after(HOUR * 7));
            }
        }
        queue.push(Reverse((later, index)));
    }
    paper.outcome.busiest = busiest(&paper.orders);
    paper.outcome
}

impl One {
    fn new(number: usize) -> Option<Self> {
        Some(Self {
            name: Name::parse(&format!("n{number}.havre.dev"))?,
            record: Record::default(),
            window: Window {
                start: Moment(0),
                end: Moment(0),
                explanation: None,
            },
            issued: None,
        })
    }
}

impl Paper<'_> {
    /// One step for a name; says when its next one is.
    fn turn(&mut self, one: &mut One, begin: Moment, started: Moment, now: Moment) -> Moment {
        if let Some(held) = &one.record.certificate
            && held.until < now
            && held.until.after(HOUR) > held.from
        {
            self.outcome.lapsed += 1;
        }
        let world = World {
            authorities: vec![Authority {
                name: AUTHORITY.to_owned(),
                rests_until: Some(self.rest.until),
                has_ari: self.scenario.ari,
            }],
            started,
        };
        let away = range_at(&self.scenario.outages, begin, now).is_some();
        match plan::next(&one.name, &one.record, &world, now) {
            Step::Wait(until) => until,
            Step::Look { .. } => {
                self.look(one, begin, now, away);
                now.after(Duration::from_secs(1))
            }
            Step::Order { .. } => {
                self.order(one, now, away);
                now.after(Duration::from_secs(5))
            }
        }
    }

    fn look(&mut self, one: &mut One, begin: Moment, now: Moment, away: bool) {
        let chance = self.chance();
        let told = self
            .scenario
            .recall
            .map(|day| begin.after(DAY.mul_f64(day)));
        let Some(held) = &mut one.record.certificate else {
            return;
        };
        held.next_look = ari::next_look(now, (!away).then_some(HOUR * 6), chance);
        if away {
            return;
        }
        let is_odd = one.name.as_str().len() % 2 == 1;
        if let Some(recall) = told
            && is_odd
            && now >= recall
            && held.since < recall
        {
            one.window.start = recall.before(HOUR);
            one.window.end = recall;
        }
        let chance = self.chance();
        held.ari = Some(ari::learn(
            held.ari.as_ref(),
            one.window.clone(),
            now,
            chance,
        ));
    }

    fn order(&mut self, one: &mut One, now: Moment, away: bool) {
        let chance = self.chance();
        if away {
            self.rest.fail(now, None, chance);
            return;
        }
        self.rest = Wait::default();
        self.orders.push(now);
        if !self.is_due(one, now) {
            self.outcome.needless += 1;
        }
        if let Some(failing) = self.scenario.failing
            && self.draw().is_multiple_of(failing)
        {
            let failure = Failure {
                at: now,
                authority: AUTHORITY.to_owned(),
                stage: Stage::Validation,
                method: None,
                problem: Problem::own("the check failed"),
            };
            one.record.attempts.fail(failure, chance);
            return;
        }
        self.serial += 1;
        self.outcome.issued += 1;
        let life = self.scenario.life;
        // Backdated, as authorities do.
        let from = now.before(HOUR.min(life / 20));
        let third = life / 3;
        one.issued = Some(now);
        one.window = Window {
            start: from.after(third * 2),
            end: from.after(third * 2 + life / 45),
            explanation: None,
        };
        one.record = Record {
            certificate: Some(Held {
                id: format!("paper.{}", self.serial),
                source: Source::Authority(AUTHORITY.to_owned()),
                from,
                until: from.after(life),
                since: now,
                ari: None,
                next_look: now,
            }),
            attempts: crate::record::Attempts::default(),
        };
    }

    /// Whether an order was due: the authority's window has begun, or, without one, half of its life is
    /// over (two thirds of a long one).
    fn is_due(&self, one: &One, now: Moment) -> bool {
        let (Some(held), Some(issued)) = (&one.record.certificate, one.issued) else {
            return true;
        };
        let life = self.scenario.life;
        if issued.until(now) < HOUR.min(life / 10) {
            return false;
        }
        match self.scenario.ari && held.ari.is_some() {
            true => now >= one.window.start,
            false => held.from.until(now) >= life / 2,
        }
    }

    fn draw(&mut self) -> u64 {
        // xorshift64
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn chance(&mut self) -> f64 {
        f64::from(u32::try_from(self.draw() >> 32).unwrap_or_default()) / f64::from(u32::MAX)
    }
}

/// The end of the range of days that a moment is in.
fn range_at(ranges: &[Range<f64>], begin: Moment, now: Moment) -> Option<Moment> {
    let day = begin.until(now).as_secs_f64() / DAY.as_secs_f64();
    let range = ranges.iter().find(|range| range.contains(&day))?;
    Some(begin.after(DAY.mul_f64(range.end)))
}

fn busiest(orders: &[Moment]) -> u64 {
    let mut sorted = orders.to_vec();
    sorted.sort_unstable();
    let within = |(index, at): (usize, &Moment)| {
        let later = sorted.iter().skip(index);
        later.take_while(|other| at.until(**other) < HOUR).count()
    };
    let most = sorted.iter().enumerate().map(within).max();
    u64::try_from(most.unwrap_or_default()).unwrap_or(u64::MAX)
}
