//! The daemon's side of name resolution: names, the resolver's process, files for containers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::config::{Places, check_name};
use crate::dns::process::{self, Alive};
use crate::dns::view::{Records, Zone};
use crate::error::NetError;
use crate::files::{self, Durability};
use crate::ledger::Allocation;
use crate::net::Net;
use crate::program;

/// Longest start of the resolver.
const START: Duration = Duration::from_secs(10);
/// Longest end of a resolver that was killed.
const END: Duration = Duration::from_secs(5);
/// As much of its log as an error shows.
const LAST_WORDS: usize = 1000;

/// An environment's resolver that is alive.
#[derive(Debug)]
pub struct Resolver {
    /// Its process.
    pub pid: u32,
    /// Readable when the process ends: then `ensure_dns` is due.
    pub pidfd: OwnedFd,
}

impl Net {
    /// Replaces the names of an environment; its resolver answers from them at once, and those of the
    /// environments that it shares a network with.
    pub fn set_names(&self, environment: &str, records: &Records) -> Result<(), NetError> {
        check_name(environment, "an environment")?;
        let lock = self.lock(environment)?;
        let places = self.config.places(environment);
        if !places.dir.is_dir() {
            return Err(NetError::NotSetUp {
                environment: environment.to_owned(),
            });
        }
        if files::read::<Records>(&places.names())? == *records {
            return Ok(());
        }
        files::replace(&places.names(), records, Durability::UntilReboot)?;
        // What others do with it is theirs to wait for.
        drop(lock);
        self.notify_neighbours(environment)
    }

    /// The environment's resolver, if it is alive.
    pub fn dns_status(&self, environment: &str) -> Result<Option<Resolver>, NetError> {
        check_name(environment, "an environment")?;
        let found = find(&self.config.places(environment))?;
        Ok(found.map(|alive| Resolver {
            pid: alive.pid,
            pidfd: alive.pidfd,
        }))
    }

    /// Makes sure the environment has a resolver of this version in its router: starts `exe dns …` unless one
    /// is alive. It is nobody's child and goes on without the caller.
    pub fn ensure_dns(&self, environment: &str, exe: &Path) -> Result<Resolver, NetError> {
        check_name(environment, "an environment")?;
        let _lock = self.lock(environment)?;
        let places = self.config.places(environment);
        if !places.dir.is_dir() {
            return Err(NetError::NotSetUp {
                environment: environment.to_owned(),
            });
        }
        if let Some(alive) = find(&places)? {
            let wanted = process::identity(&places.dir)
                .map_err(NetError::file("inspect", &places.router()))?;
            if alive.identity == wanted {
                return Ok(Resolver {
                    pid: alive.pid,
                    pidfd: alive.pidfd,
                });
            }
            end(&alive, environment)?;
        }
        let log_path = places.dns_log();
        let log = File::create(&log_path).map_err(NetError::file("create", &log_path))?;
        let mut command = Command::new(exe);
        command
            .arg("dns")
            .arg(&places.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log));
        let action = format!("start the resolver of {environment}");
        let failed = |detail: String| NetError::Program {
            action: action.clone(),
            detail,
        };
        let status =
            program::status(&mut command, START).map_err(|error| failed(error.to_string()))?;
        if !status.success() {
            let said = last_words(&log_path);
            return Err(failed(if said.is_empty() {
                status.to_string()
            } else {
                said
            }));
        }
        find(&places)?
            .map(|alive| Resolver {
                pid: alive.pid,
                pidfd: alive.pidfd,
            })
            .ok_or_else(|| failed("it ended at once".to_owned()))
    }

    /// Content of /etc/resolv.conf for a container on these networks, in the order given to
    /// `attach`, with these search domains and options.
    pub fn resolv_conf(
        &self,
        environment: &str,
        networks: &[&str],
        search: &[String],
        options: &[String],
    ) -> Result<String, NetError> {
        let known = match networks {
            [] => BTreeMap::new(),
            _ => self.allocation(environment)?.networks,
        };
        let mut chosen = None;
        for name in networks {
            let network = known.get(*name).ok_or_else(|| NetError::UnknownNetwork {
                environment: environment.to_owned(),
                network: (*name).to_owned(),
            })?;
            match chosen {
                None => chosen = Some(network),
                Some(first) if first.internal && !network.internal => chosen = Some(network),
                Some(_) => {}
            }
        }
        let mut text = String::new();
        if let Some(network) = chosen {
            // One is enough: it knows the names of all networks the container is on.
            text = format!("nameserver {}\n", network.subnet.gateway());
        }
        if !search.is_empty() {
            text.push_str(&format!("search {}\n", search.join(" ")));
        }
        let own = |name: &str| options.iter().any(|option| option.starts_with(name));
        // Names of services have no dot and no domain behind them.
        let usual = (!own("ndots:")).then_some("ndots:0");
        let options: Vec<&str> = usual
            .into_iter()
            .chain(options.iter().map(String::as_str))
            .collect();
        text.push_str(&format!("options {}\n", options.join(" ")));
        Ok(text)
    }

    pub(crate) fn end_dns(&self, environment: &str) -> Result<(), NetError> {
        match find(&self.config.places(environment))? {
            Some(alive) => end(&alive, environment),
            None => Ok(()),
        }
    }
}

/// Content of /etc/hosts for a container: itself, and what its service adds (`extra_hosts`).
pub fn hosts_file(
    hostname: &str,
    addresses: &BTreeMap<String, Ipv4Addr>,
    extra: &[(String, IpAddr)],
) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    let mut line = |address: IpAddr, name: &str| {
        // Writing to a String does not fail.
        writeln!(text, "{address}\t{name}").unwrap_or_default();
    };
    for (name, address) in extra {
        line(*address, name);
    }
    for address in addresses.values() {
        line((*address).into(), hostname);
    }
    text
}

/// Tells the resolver which networks there are.
pub(crate) fn publish_zones(places: &Places, allocation: &Allocation) -> Result<(), NetError> {
    let zones: Vec<Zone> = allocation
        .networks
        .iter()
        .map(|(name, network)| Zone {
            name: name.clone(),
            gateway: network.subnet.gateway(),
            subnet: network.subnet,
            internal: network.internal,
            block: network.block,
        })
        .collect();
    if files::read::<Vec<Zone>>(&places.zones())? == zones {
        return Ok(());
    }
    files::replace(&places.zones(), &zones, Durability::UntilReboot)
}

fn find(places: &Places) -> Result<Option<Alive>, NetError> {
    let path = places.dir.join(process::LOCK);
    process::find(&path).map_err(NetError::file("inspect", &path))
}

/// It keeps nothing, so it may be killed at any time.
fn end(alive: &Alive, environment: &str) -> Result<(), NetError> {
    let failed = |detail: String| NetError::Program {
        action: format!("end the resolver of {environment}"),
        detail,
    };
    match rustix::process::pidfd_send_signal(&alive.pidfd, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(failed(io::Error::from(error).to_string())),
    }
    match program::ended(&alive.pidfd, END) {
        Ok(true) => Ok(()),
        Ok(false) => Err(failed(format!("process {} is still there", alive.pid))),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn last_words(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let tail = bytes
        .get(bytes.len().saturating_sub(LAST_WORDS)..)
        .unwrap_or_default();
    String::from_utf8_lossy(tail).trim().to_owned()
}
