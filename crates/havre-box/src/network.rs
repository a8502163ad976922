//! The network of a box: an environment of its own, with a resolver.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use havre_engine::FileSpec;
use havre_net::{Attached, Net, NetworkSpec, Records};

use crate::error::BoxError;

/// The only network of a box.
const NETWORK: &str = "default";
/// The runner, in it.
const RUNNER: &str = "runner";

/// The names of what can be in networks of boxes, for who sweeps others.
pub fn members() -> impl Iterator<Item = String> {
    let services = (0..crate::request::MAX_SERVICES).map(service);
    std::iter::once(RUNNER.to_owned()).chain(services)
}

/// A network with its resolver and the runner's place, of no box yet.
#[derive(Debug)]
pub struct Prepared {
    /// Its name.
    pub environment: String,
    runner: Attached,
}

/// The places of a box's containers.
pub struct Joined {
    /// The runner's.
    pub runner: Place,
    /// Of each service, in their order.
    pub services: Vec<Place>,
}

/// What a container needs to be in a network.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its namespace.
    pub netns: PathBuf,
    /// `/etc/hosts` and `/etc/resolv.conf`.
    pub files: Vec<FileSpec>,
}

/// A service, by the names that it has.
pub struct Named {
    /// Its own and its aliases.
    pub names: Vec<String>,
    /// In its container's `/etc/hosts`.
    pub hostname: String,
}

/// Makes a network. Blocks.
pub fn prepare(net: &Net, exe: &Path, environment: &str) -> Result<Prepared, BoxError> {
    let network = NetworkSpec {
        name: NETWORK.to_owned(),
        internal: false,
        shared: false,
        confined: true,
    };
    net.ensure_environment(environment, &[network])?;
    // The resolver is a process that takes a while to listen.
    let (runner, resolver) = std::thread::scope(|scope| {
        let resolver = scope.spawn(|| net.ensure_dns(environment, exe).map(drop));
        let runner = net.attach(environment, RUNNER, &[NETWORK]);
        (runner, resolver.join())
    });
    resolver.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(Prepared {
        environment: environment.to_owned(),
        runner: runner?,
    })
}

/// Gives a network to a box. Where `together`, all are in one namespace and find each other on localhost. Blocks.
pub fn join(
    net: &Net,
    exe: &Path,
    prepared: Prepared,
    (hostname, services): (&str, &[Named]),
    together: bool,
    dir: &Path,
) -> Result<Joined, BoxError> {
    let Prepared {
        environment,
        runner,
    } = prepared;
    if net.dns_status(&environment)?.is_none() {
        net.ensure_dns(&environment, exe)?;
    }
    let count = if together { 0 } else { services.len() };
    let others = (0..count).map(|number| net.attach(&environment, &service(number), &[NETWORK]));
    let others: Vec<Attached> = others.collect::<Result<_, _>>()?;
    let address = |at: &Attached| at.addresses.get(NETWORK).copied();
    let of_service = |number: usize| others.get(number).unwrap_or(&runner);
    let mut names: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (number, service) in services.iter().enumerate() {
        for name in &service.names {
            names
                .entry(name.clone())
                .or_default()
                .extend(address(of_service(number)));
        }
    }
    let known: Vec<(String, IpAddr)> = names
        .iter()
        .flat_map(|(name, all)| all.iter().map(|ip| (name.clone(), IpAddr::from(*ip))))
        .collect();
    if !names.is_empty() {
        let networks = BTreeMap::from([(NETWORK.to_owned(), names)]);
        net.set_names(&environment, &Records { networks })?;
    }
    let resolv = net.resolv_conf(&environment, &[NETWORK], &[], &[])?;
    let place = |name: &str, hostname: &str, at: &Attached| {
        let hosts = havre_net::hosts_file(hostname, &at.addresses, &known);
        Ok::<_, BoxError>(Place {
            netns: at.netns.clone(),
            files: vec![
                file(dir, name, "/etc/hosts", &hosts)?,
                file(dir, name, "/etc/resolv.conf", &resolv)?,
            ],
        })
    };
    let services = services.iter().enumerate();
    let services =
        services.map(|(number, it)| place(&service(number), &it.hostname, of_service(number)));
    Ok(Joined {
        runner: place(RUNNER, hostname, &runner)?,
        services: services.collect::<Result<_, _>>()?,
    })
}

fn service(number: usize) -> String {
    format!("service{number}")
}

/// A file of /etc that tells a container of its network.
fn file(dir: &Path, of: &str, target: &str, text: &str) -> Result<FileSpec, BoxError> {
    let name = target.rsplit('/').next().unwrap_or_default();
    let source = dir.join(format!("{of}.{name}"));
    fs::write(&source, text).map_err(BoxError::files(format!("write {}", source.display())))?;
    Ok(FileSpec {
        target: target.to_owned(),
        source,
        uid: 0,
        gid: 0,
        mode: 0o644,
    })
}
