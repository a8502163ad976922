//! What the service knows in memory: of each name its record and what serves it, and how authorities do.

use std::collections::{BTreeMap, BTreeSet};

use crate::ari;
use crate::moment::Moment;
use crate::name::Name;
use crate::plan::{Authority, World};
use crate::record::{Held, Record, Wait};

/// A certificate and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The site's own certificate first.
    pub chain: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair")
    }
}

/// Of one name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    /// The certificate as it is served.
    pub(crate) chain: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) names: BTreeMap<Name, Entry>,
    /// By authority, as long as they do not answer as they should.
    pub(crate) health: BTreeMap<String, Wait>,
    /// Names of environments, and of the daemon itself.
    pub(crate) wanted: BTreeSet<Name>,
    /// Names for which something is under way.
    pub(crate) running: BTreeSet<Name>,
}

impl State {
    /// What planning needs to know of authorities.
    pub(crate) fn world<'a>(
        &self,
        authorities: impl Iterator<Item = (&'a str, bool)>,
        started: Moment,
    ) -> World {
        let authority = |(name, has_ari): (&str, bool)| Authority {
            name: name.to_owned(),
            rests_until: self.health.get(name).map(|wait| wait.until),
            has_ari,
        };
        World {
            authorities: authorities.map(authority).collect(),
            started,
        }
    }

    /// What was under way broke off: none of it is begun again at once.
    pub(crate) fn break_off(&mut self, now: Moment) {
        for name in std::mem::take(&mut self.running) {
            let record = &mut self.names.entry(name).or_default().record;
            record.attempts.begun = Some(now);
            record.attempts.break_off();
            if let Some(held) = &mut record.certificate {
                held.next_look = ari::next_look(now, None, 0.0);
            }
        }
    }

    pub(crate) fn record(&self, name: &Name) -> Record {
        let entry = self.names.get(name);
        entry.map(|entry| entry.record.clone()).unwrap_or_default()
    }

    /// A change of the certificate at hand, where it is still that one.
    pub(crate) fn change_held(&mut self, name: &Name, id: &str, change: impl FnOnce(&mut Held)) {
        let held = self.names.get_mut(name);
        let held = held.and_then(|entry| entry.record.certificate.as_mut());
        if let Some(held) = held.filter(|held| held.id == id) {
            change(held);
        }
    }
}
