//! What is to be done next for a name, and when. Pure: the clock is an argument, nothing is drawn.
//!
//! A certificate is renewed at the moment that was drawn from the window its authority gave (ARI), else
//! after two thirds of its life, or half where that is short. An old one serves until then, and after.

use std::time::Duration;

use crate::moment::Moment;
use crate::name::Name;
use crate::record::{Held, Record, Source};

/// Lives up to this are short: half of one is hours.
const SHORT: Duration = Duration::from_secs(10 * 24 * 3600);
/// Whatever an authority says, a certificate that was signed this short a while ago is not replaced…
const YOUNG: Duration = Duration::from_secs(3600);
/// … and after a stop of the daemon certificates that are good for a day are not all replaced at once.
const CALM: Duration = Duration::from_secs(24 * 3600);
const SPREAD: Duration = Duration::from_secs(600);
/// How long before its end a brought certificate gives way.
const IMPORTED: Duration = Duration::from_secs(3 * 24 * 3600);

/// What all names have in common.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// In the order in which they are asked.
    pub authorities: Vec<Authority>,
    /// When the daemon started.
    pub started: Moment,
}

/// An authority, as far as planning goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its name.
    pub name: String,
    /// It is not asked for certificates before: it did not answer as it should.
    pub rests_until: Option<Moment>,
    /// Whether it tells when it wants certificates replaced, as far as is known.
    pub has_ari: bool,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask when the certificate is to be replaced.
    Look {
        /// Whom.
        authority: String,
        /// Which certificate.
        id: String,
    },
    /// Order one.
    Order {
        /// From whom.
        authority: String,
        /// The certificate that it is to replace, where the same authority signed it.
        replaces: Option<String>,
    },
    /// Nothing before.
    Wait(Moment),
}

/// When a certificate is to be had or replaced, and who decided that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: Moment,
    /// Who.
    pub by: By,
}

/// Who decides when a certificate is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// There is none.
    Absence,
    /// Its authority (ARI).
    Authority,
    /// Its length of life.
    Lifetime,
    /// A person asked for it.
    Person,
    /// The configuration: its authority is no longer among those to be asked.
    Settings,
}

/// What is to be done for a name.
pub fn next(name: &Name, record: &Record, world: &World, now: Moment) -> Step {
    let due = due(name, record, world);
    let look = record.certificate.as_ref().and_then(|held| {
        let authority = of(held, world).filter(|authority| authority.has_ari)?;
        Some((held, authority))
    });
    // An answer that is due may move what is due.
    if let Some((held, authority)) = look
        && held.next_look <= now
        && due.by != By::Person
    {
        return Step::Look {
            authority: authority.name.clone(),
            id: held.id.clone(),
        };
    }
    let look = look.map(|(held, _)| held.next_look);
    let sooner = |at: Moment| look.map_or(at, |look| look.min(at)).max(now.after(SECOND));
    if due.at > now {
        return Step::Wait(sooner(due.at));
    }
    match choose(record, world, now) {
        Ok(authority) => Step::Order {
            authority: authority.name.clone(),
            replaces: record.certificate.as_ref().and_then(|held| {
                let own = held.source == Source::Authority(authority.name.clone());
                own.then(|| held.id.clone())
            }),
        },
        Err(Some(at)) => Step::Wait(sooner(at)),
        // Until the configuration names one.
        Err(None) => Step::Wait(sooner(now.after(CALM))),
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// When a name's certificate is to be had or replaced.
pub fn due(name: &Name, record: &Record, world: &World) -> Due {
    let Some(held) = &record.certificate else {
        let at = Moment(0);
        let by = By::Absence;
        return Due { at, by };
    };
    if let Some(asked) = record.attempts.asked {
        return Due {
            at: asked,
            by: By::Person,
        };
    }
    let due = match &held.source {
        Source::Imported => Due {
            at: held.until.before(IMPORTED),
            by: By::Lifetime,
        },
        Source::Authority(_) if of(held, world).is_none() => Due {
            at: held.since,
            by: By::Settings,
        },
        Source::Authority(_) => by_authority(held),
    };
    Due {
        at: calm(name, held, due.at, world.started),
        ..due
    }
}

/// ARI first, but never so late that a failure could not be got over.
fn by_authority(held: &Held) -> Due {
    let life = held.from.until(held.until);
    let last_call = held.until.before(life / 10);
    let young = held.since.after(YOUNG.min(life / 10));
    match &held.ari {
        Some(ari) if ari.moment <= last_call => Due {
            at: ari.moment.max(young),
            by: By::Authority,
        },
        Some(_) => Due {
            at: last_call.max(young),
            by: By::Lifetime,
        },
        None => {
            let after = match life <= SHORT {
                true => life / 2,
                false => life / 3 * 2,
            };
            // Those that were signed together are not replaced together.
            let spread = (life / 30).mul_f64(share(&held.id));
            Due {
                at: held.from.after(after + spread).max(young),
                by: By::Lifetime,
            }
        }
    }
}

/// What fell due while the daemon was away, or is asked for by a change of the configuration, is done
/// name by name.
fn calm(name: &Name, held: &Held, at: Moment, started: Moment) -> Moment {
    if at >= started || held.until < started.after(CALM) {
        return at;
    }
    started.after(SPREAD.mul_f64(share(name.as_str())))
}

/// The authority that signed a certificate, where it is still one of ours.
fn of<'a>(held: &Held, world: &'a World) -> Option<&'a Authority> {
    let Source::Authority(name) = &held.source else {
        return None;
    };
    world
        .authorities
        .iter()
        .find(|authority| authority.name == *name)
}

/// Whom to ask now, or when somebody may be asked. A certificate is replaced by its own authority; the
/// others are asked once its end is near.
fn choose<'a>(
    record: &Record,
    world: &'a World,
    now: Moment,
) -> Result<&'a Authority, Option<Moment>> {
    let own = record
        .certificate
        .as_ref()
        .and_then(|held| Some((of(held, world)?, held)));
    let is_open = |authority: &Authority| match own {
        Some((own, held)) => {
            let life = held.from.until(held.until);
            *own == *authority || now.until(held.until) < life / 4
        }
        None => true,
    };
    let free = |authority: &Authority| {
        let refused = record.attempts.refused.get(&authority.name);
        let waits = [
            authority.rests_until,
            refused.map(|wait| wait.until),
            record.attempts.pause,
        ];
        waits.into_iter().flatten().max().unwrap_or(Moment(0))
    };
    let own_first = world.authorities.iter();
    let is_own = |authority: &&Authority| own.is_some_and(|(own, _)| own == *authority);
    let mut open: Vec<&Authority> = own_first.filter(|authority| is_open(authority)).collect();
    open.sort_by_key(|authority| !is_own(authority));
    match open.iter().find(|authority| free(authority) <= now) {
        Some(authority) => Ok(authority),
        None => Err(open.into_iter().map(free).min()),
    }
}

/// A number in 0..1 that goes with a text.
fn share(text: &str) -> f64 {
    // FNV-1a: evenly spread is enough.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    // The upper half, which a double holds.
    f64::from(u32::try_from(hash >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
