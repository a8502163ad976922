//! What the caller decides, names and places derived from it.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::error::NetError;
use crate::subnet::Subnet;

/// What every uplink on a machine starts with, whatever its instance.
pub(crate) const UPLINKS: &str = "hv-";

/// Where an instance keeps its network, and its name.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Pins, addresses and names: worth nothing after a restart of the machine. On a file
    /// system that may hold mounts.
    pub run_dir: PathBuf,
    /// Subnets given to environments: kept across restarts.
    pub state_dir: PathBuf,
    /// Short id of the instance, part of every name it leaves on the host:
    /// 1–6 characters of `a-z0-9`.
    pub instance: String,
    /// Where subnets of 256 addresses are taken from, in order.
    pub pools: Vec<Subnet>,
}

impl NetConfig {
    /// A configuration with the usual pools: 10.89.0.0/16, then 172.30.0.0/16, then
    /// 192.168.192.0/18.
    pub fn new(
        run_dir: impl Into<PathBuf>,
        state_dir: impl Into<PathBuf>,
        instance: impl Into<String>,
    ) -> Self {
        Self {
            run_dir: run_dir.into(),
            state_dir: state_dir.into(),
            instance: instance.into(),
            pools: vec![
                Subnet::containing(Ipv4Addr::new(10, 89, 0, 0), 16),
                Subnet::containing(Ipv4Addr::new(172, 30, 0, 0), 16),
                Subnet::containing(Ipv4Addr::new(192, 168, 192, 0), 18),
            ],
        }
    }

    /// What every uplink of the instance starts with on the host.
    pub(crate) fn uplink_prefix(&self) -> String {
        format!("{UPLINKS}{}-", self.instance)
    }

    /// Name of a slot's uplink on the host; at most 14 bytes.
    pub(crate) fn uplink_name(&self, slot: u32) -> String {
        format!("{}{slot:x}", self.uplink_prefix())
    }

    /// Marks the instance's rules in firewalls of others.
    pub(crate) fn firewall_tag(&self) -> String {
        format!("havre-{}", self.instance)
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.state_dir.join("networks.json")
    }

    pub(crate) fn ledger_lock(&self) -> PathBuf {
        self.state_dir.join("networks.lock")
    }

    /// [`crate::forwarding::Forwarding`]: as the setting, gone after a restart of the machine. No
    /// environment's name starts with a dot.
    pub(crate) fn forwarding(&self) -> PathBuf {
        self.run_dir.join(".forwarding.json")
    }

    /// Folder of environment locks; no environment's name starts with a dot.
    pub(crate) fn locks(&self) -> PathBuf {
        self.run_dir.join(".locks")
    }

    pub(crate) fn places(&self, environment: &str) -> Places {
        Places {
            dir: self.run_dir.join(environment),
        }
    }
}

/// Files of one environment.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Their folder.
    pub dir: PathBuf,
}

impl Places {
    /// Pin of the router's namespace.
    pub fn router(&self) -> PathBuf {
        self.dir.join("router")
    }

    /// Folder of the pins of containers.
    pub fn containers(&self) -> PathBuf {
        self.dir.join("containers")
    }

    /// Pin of a container's namespace.
    pub fn container(&self, container: &str) -> PathBuf {
        self.containers().join(container)
    }

    /// [`crate::leases::Leases`].
    pub fn leases(&self) -> PathBuf {
        self.dir.join("leases.json")
    }

    /// [`crate::dns::view::Zone`]s.
    pub fn zones(&self) -> PathBuf {
        self.dir.join("networks.json")
    }

    /// [`crate::Records`].
    pub fn names(&self) -> PathBuf {
        self.dir.join("names.json")
    }

    /// [`crate::dns::view::Foreign`].
    pub fn foreign(&self) -> PathBuf {
        self.dir.join("foreign.json")
    }

    /// Last words of the resolver.
    pub fn dns_log(&self) -> PathBuf {
        self.dir.join("dns.log")
    }
}

/// Refuses an instance id that would not fit into names.
pub(crate) fn check_instance(name: &str) -> Result<(), NetError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if (1..=6).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(NetError::Name {
        name: name.to_owned(),
        what: "an instance",
        allowed: "1 to 6 of a-z and 0-9",
    })
}

/// [`check_name`] for a network; one that environments share has an `@` in its name, so that no compose
/// file can mean it.
pub(crate) fn check_network_name(name: &str) -> Result<(), NetError> {
    check_name(&name.replacen('@', "_", 1), "a network").map_err(|_| NetError::Name {
        name: name.to_owned(),
        what: "a network",
        allowed: NAMES,
    })
}

const NAMES: &str = "up to 128 of a-z, A-Z, 0-9, '_', '.' and '-', first a letter or digit";

/// Refuses a name that would not be one safe path component.
pub(crate) fn check_name(name: &str, what: &'static str) -> Result<(), NetError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let starts_well = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if starts_well && name.len() <= 128 && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(NetError::Name {
        name: name.to_owned(),
        what,
        allowed: NAMES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths_and_links() {
        for good in ["a", "fnt-production", "web.1", "0_x"] {
            assert!(check_name(good, "a container").is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".locks",
            "a/b",
            "a b",
            "-a",
            "a\0",
            "é",
            &"x".repeat(129),
        ] {
            assert!(check_name(bad, "a container").is_err(), "{bad}");
        }
        for bad in ["", "toolong", "A", "a-b"] {
            assert!(check_instance(bad).is_err(), "{bad}");
        }
        let config = NetConfig::new("/r", "/s", "abcdef");
        assert!(config.uplink_name(0xffff).len() <= 15);
    }
}
