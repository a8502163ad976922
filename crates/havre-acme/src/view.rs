//! What a person is shown of a name.

use crate::ari::Ari;
use crate::certificate;
use crate::moment::Moment;
use crate::name::Name;
use crate::plan::{self, Due, Step, World};
use crate::record::{Failure, Source};
use crate::service::Service;
use crate::state::{Entry, State};

/// Of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Which.
    pub name: Name,
    /// Whether somebody is served under it by a certificate of an authority.
    pub wanted: bool,
    /// How it is.
    pub condition: Condition,
    /// What serves it, or did.
    pub certificate: Option<Shown>,
    /// When the next one is due, and who says so; `None` where nobody wants one.
    pub due: Option<Due>,
    /// When an order that is overdue is tried (again).
    pub next_attempt: Option<Moment>,
    /// Failures in a row that were about the name itself.
    pub failures: u32,
    /// The newest failure since it got its certificate.
    pub last: Option<Failure>,
    /// Authorities that are not asked, and until when.
    pub waits: Vec<(String, Moment)>,
}

/// How a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A certificate of an authority serves it, or one that was brought.
    Serves,
    /// Its life is over. It serves on: the machine's own would be trusted by fewer still.
    Expired,
    /// An order is under way.
    Ordering,
    /// There is none yet, and the last attempt failed.
    Failing,
    /// There is none yet.
    Waiting,
}

/// A certificate, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Who signed it.
    pub source: Source,
    /// As the certificate itself calls its signer.
    pub issuer: Option<String>,
    /// Key identifier and serial number.
    pub id: String,
    /// Begin of its life.
    pub from: Moment,
    /// Its end.
    pub until: Moment,
    /// Since when it serves.
    pub since: Moment,
    /// What its authority says of its replacement.
    pub ari: Option<Ari>,
}

impl Service {
    /// All names that are wanted or have a certificate.
    pub fn list(&self, now: Moment) -> Vec<View> {
        self.look(|state, world| {
            let all = state.names.keys().chain(&state.wanted);
            let all: std::collections::BTreeSet<&Name> = all.collect();
            let views = all.into_iter().map(|name| view(name, state, world, now));
            views.collect()
        })
    }

    /// One name.
    pub fn view(&self, name: &Name, now: Moment) -> Option<View> {
        self.look(|state, world| {
            let known = state.names.contains_key(name) || state.wanted.contains(name);
            known.then(|| view(name, state, world, now))
        })
    }
}

fn view(name: &Name, state: &State, world: &World, now: Moment) -> View {
    let nothing = Entry::default();
    let entry = state.names.get(name).unwrap_or(&nothing);
    let record = &entry.record;
    let wanted = state.wanted.contains(name);
    let due = plan::due(name, record, world);
    let next_attempt = match plan::next(name, record, world, now) {
        Step::Wait(until) if due.at <= now => Some(until),
        Step::Wait(_) | Step::Look { .. } | Step::Order { .. } => None,
    };
    let attempts = &record.attempts;
    let waits = world.authorities.iter().filter_map(|authority| {
        let refused = attempts.refused.get(&authority.name).map(|it| it.until);
        let until = [authority.rests_until, refused]
            .into_iter()
            .flatten()
            .max()?;
        (until > now).then(|| (authority.name.clone(), until))
    });
    let held = record.certificate.as_ref();
    let running = state.running.contains(name);
    View {
        name: name.clone(),
        wanted,
        condition: match held {
            Some(held) if held.until > now => Condition::Serves,
            _ if running => Condition::Ordering,
            Some(_) => Condition::Expired,
            None if attempts.last.is_some() => Condition::Failing,
            None => Condition::Waiting,
        },
        certificate: held.map(|held| Shown {
            source: held.source.clone(),
            issuer: entry.chain.as_deref().and_then(issuer),
            id: held.id.clone(),
            from: held.from,
            until: held.until,
            since: held.since,
            ari: held.ari.clone(),
        }),
        due: wanted.then_some(due),
        next_attempt: next_attempt.filter(|_| wanted),
        failures: attempts.failures,
        last: attempts.last.clone(),
        waits: waits.collect(),
    }
}

fn issuer(chain: &str) -> Option<String> {
    certificate::facts(chain).ok().map(|facts| facts.issuer)
}
