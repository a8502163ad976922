//! Names that environments on a shared network know of each other.
//!
//! ```text
//!   names.json of a ──┐
//!   names.json of b ──┼─► foreign.json of c (where a, b and c are on the network)
//! ```
//!
//! Each environment's file is made anew from those of all others: by whoever changed one of those, and
//! by every look at the environment itself, so that nothing is missed for long when a daemon is killed
//! in between. The ledger's lock is held to write one, never an environment's: two that know of each other
//! do not wait for each other.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use crate::config::Places;
use crate::dns::view::{Foreign, Records};
use crate::error::NetError;
use crate::files::{self, Durability, Lock};
use crate::ledger::Ledger;
use crate::net::Net;

impl Net {
    /// Environments that have a network of that name which they share.
    pub fn members(&self, network: &str) -> Result<Vec<String>, NetError> {
        let ledger: Ledger = files::read(&self.config.ledger())?;
        Ok(ledger.members(network).map(str::to_owned).collect())
    }

    /// Other environments that this one shares a network with.
    pub(crate) fn neighbours(&self, environment: &str) -> Result<BTreeSet<String>, NetError> {
        let ledger: Ledger = files::read(&self.config.ledger())?;
        let shared = shared_networks(&ledger, environment);
        let members = shared.flat_map(|network| ledger.members(network));
        Ok(members
            .filter(|member| *member != environment)
            .map(str::to_owned)
            .collect())
    }

    /// Passes the environment's names on.
    pub(crate) fn notify_neighbours(&self, environment: &str) -> Result<(), NetError> {
        for neighbour in self.neighbours(environment)? {
            self.learn_foreign_names(&neighbour)?;
        }
        Ok(())
    }

    /// Writes down what the environment is to know of others, if there is such an environment.
    pub(crate) fn learn_foreign_names(&self, environment: &str) -> Result<(), NetError> {
        let _lock = Lock::acquire(self.config.ledger_lock())?;
        let ledger: Ledger = files::read(&self.config.ledger())?;
        let mut foreign = Foreign::default();
        for network in shared_networks(&ledger, environment) {
            for member in ledger.members(network).filter(|name| *name != environment) {
                let mut theirs: Records = files::read(&self.config.places(member).names())?;
                let theirs = theirs.networks.remove(network).unwrap_or_default();
                let known = foreign.networks.entry(network.to_owned()).or_default();
                for (name, addresses) in theirs.into_iter().filter(|(_, all)| !all.is_empty()) {
                    known.entry(name).or_default().extend(addresses);
                }
            }
        }
        let places = self.config.places(environment);
        if !places.dir.is_dir() || files::read::<Foreign>(&places.foreign())? == foreign {
            return Ok(());
        }
        files::replace(&places.foreign(), &foreign, Durability::UntilReboot)
    }

    /// Removes the environment's folder, into which a neighbour may be about to write.
    pub(crate) fn remove_files(&self, places: &Places) -> Result<(), NetError> {
        let _lock = Lock::acquire(self.config.ledger_lock())?;
        match fs::remove_dir_all(&places.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(NetError::file("remove", &places.dir)(error))
            }
            _ => Ok(()),
        }
    }
}

fn shared_networks<'a>(
    ledger: &'a Ledger,
    environment: &str,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let networks = ledger
        .environments
        .get(environment)
        .map(|has| &has.networks);
    networks
        .into_iter()
        .flatten()
        .filter(|(_, network)| network.block.is_some())
        .map(|(name, _)| name.as_str())
}
