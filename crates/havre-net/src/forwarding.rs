//! What switching `net.ipv4.ip_forward` on opens, and how that is kept shut.
//!
//! The setting is the whole machine's: once it is on, the machine passes packets on between any two
//! of its links, for whoever sends it some. Where another program switched it on, that program has
//! seen to it. Where this instance did, the links that were there before go on not to pass anything on
//! to each other; links that others make later (bridges of Docker, tunnels) are their business.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::UPLINKS;
use crate::error::NetError;
use crate::files::{self, Durability};
use crate::net::Net;
use crate::netlink::Socket;
use crate::sysctl;

const SETTING: &str = "net/ipv4/ip_forward";

/// What this instance has switched on; nothing where it has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Forwarding {
    /// Whether it was this instance.
    switched_on: bool,
    /// Links that pass nothing on to each other.
    pub guarded: BTreeSet<String>,
}

impl Forwarding {
    /// What holds from now on.
    fn next(mut self, on: bool, links: &[String], physical: &[String]) -> Self {
        let added = if !on {
            self.switched_on = true;
            links
        } else if self.switched_on {
            // A network card that was plugged in since.
            physical
        } else {
            &[]
        };
        self.guarded
            .extend(added.iter().filter(|name| is_guarded(name)).cloned());
        self
    }

    /// Whether nobody else, another instance for one, can have come to rely on the setting. `ours` is
    /// what the names of this instance's links start with.
    fn is_ours_alone(&self, links: &[String], ours: &str) -> bool {
        let known =
            |name: &String| name == "lo" || name.starts_with(ours) || self.guarded.contains(name);
        self.switched_on && links.iter().all(known)
    }
}

/// Links of containers, of whatever instance, are there to pass packets on.
fn is_guarded(name: &str) -> bool {
    name != "lo" && !name.starts_with(UPLINKS)
}

impl Net {
    /// Decides, and writes down, what is to be kept shut; done before [`Net::switch_on`].
    pub(crate) fn guard_forwarding(&self, needed: bool) -> Result<Forwarding, NetError> {
        let path = self.config.forwarding();
        let now: Forwarding = files::read(&path)?;
        if !needed && !now.switched_on {
            return Ok(now);
        }
        let links = links()?;
        let physical: Vec<String> = links
            .iter()
            .filter(|name| is_physical(name))
            .cloned()
            .collect();
        let on = sysctl::is(SETTING, "1")? || !needed;
        let next = now.clone().next(on, &links, &physical);
        if next != now {
            files::replace(&path, &next, Durability::UntilReboot)?;
        }
        Ok(next)
    }

    /// Lets packets of containers leave the machine.
    pub(crate) fn switch_forwarding_on(&self) -> Result<(), NetError> {
        if sysctl::set(SETTING, "1")? {
            tracing::info!(
                "switched on net.ipv4.ip_forward: containers need a way out; the machine's own links pass nothing on to each other"
            );
        }
        Ok(())
    }

    /// Switches off what this instance switched on and nobody else needs; what stays guarded where
    /// others may need it.
    pub(crate) fn end_forwarding(&self) -> Result<Forwarding, NetError> {
        let path = self.config.forwarding();
        let now: Forwarding = files::read(&path)?;
        if !now.switched_on {
            return Ok(now);
        }
        if !now.is_ours_alone(&links()?, &self.config.uplink_prefix()) {
            return Ok(now);
        }
        sysctl::set(SETTING, "0")?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(NetError::file("remove", &path)(error))
            }
            _ => Ok(Forwarding::default()),
        }
    }
}

fn links() -> Result<Vec<String>, NetError> {
    let mut host = Socket::route().map_err(NetError::kernel("talk to the kernel"))?;
    let links = host
        .links()
        .map_err(NetError::kernel("list the machine's links"))?;
    Ok(links.into_iter().map(|link| link.name).collect())
}

/// Whether there is a card behind it.
fn is_physical(name: &str) -> bool {
    Path::new("/sys/class/net")
        .join(name)
        .join("device")
        .exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn guarded(state: &Forwarding) -> String {
        let names: Vec<&str> = state.guarded.iter().map(String::as_str).collect();
        names.join(" ")
    }

    #[test]
    fn only_what_was_there_when_we_switched_it_on_is_guarded() {
        let links = names("lo eth0 wg0 hv-ab-0 hv-cd-0");
        // Another program switched it on.
        let state = Forwarding::default().next(true, &links, &names("eth0"));
        assert_eq!(state, Forwarding::default());
        assert!(!state.is_ours_alone(&links, "hv-ab-"));
        // It was us.
        let state = state.next(false, &links, &names("eth0"));
        assert_eq!(guarded(&state), "eth0 wg0");
        assert!(state.is_ours_alone(&names("lo eth0 wg0 hv-ab-0"), "hv-ab-"));
        // Docker comes, and a second card.
        let later = names("lo eth0 eth1 wg0 docker0 veth1 hv-ab-0");
        let state = state.next(true, &later, &names("eth0 eth1"));
        assert_eq!(guarded(&state), "eth0 eth1 wg0");
        assert!(!state.is_ours_alone(&later, "hv-ab-"));
        // Another instance is somebody else.
        assert!(!state.is_ours_alone(&names("lo eth0 hv-cd-0"), "hv-ab-"));
    }
}
