//! A new container's way into a network: its own namespace, another container's, or the machine's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use havre_base::blocking;
use havre_engine::{ContainerId, State};
use havre_model::Service;
use havre_net::{Attached, Lookup, NetError};
use havre_release::{Action, Joined, ReplicaId};

use crate::action::{ActionError, Job};
use crate::labels::{ContainerLabels, MACHINE, environment_key};
use crate::network::network_specs;

/// Largest file of the machine that is shown to a container on its network.
const LARGEST_FILE: u64 = 256 * 1024;

/// How a container is connected.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// Where its namespace is pinned; `None`: a fresh one, or the machine's.
    pub(crate) netns: Option<PathBuf>,
    /// The machine's address as the container reaches it, if it does.
    pub(crate) host: Option<Ipv4Addr>,
}

/// Connects the container `id` and notes in `place` where it is found. `None`: the container whose
/// network it was to join has gone meanwhile, so that this start is void.
pub(crate) async fn connect(
    job: &Job,
    id: &ReplicaId,
    service: &Service,
    place: &mut ContainerLabels,
) -> Result<Option<Connection>, ActionError> {
    let joins = match &job.work.action {
        Action::Start { joins, .. } | Action::RunJob { joins, .. } => joins.as_ref(),
        Action::Stop { .. } | Action::Renew { .. } | Action::Remove { .. } => None,
    };
    if let Some(provider) = joins {
        return join(job, id, provider, place).await;
    }
    if service.shares.network {
        place
            .addresses
            .insert(MACHINE.to_owned(), Ipv4Addr::LOCALHOST);
        return Ok(Some(Connection {
            netns: None,
            host: Some(Ipv4Addr::LOCALHOST),
        }));
    }
    if service.networks.is_empty() {
        return Ok(Some(Connection::default()));
    }
    let (attached, host) = on_networks(job, id, service).await?;
    place.addresses = attached.addresses;
    Ok(Some(Connection {
        netns: Some(attached.netns),
        host: Some(host),
    }))
}

/// Into the namespace of a running container.
async fn join(
    job: &Job,
    id: &ReplicaId,
    provider: &ReplicaId,
    place: &mut ContainerLabels,
) -> Result<Option<Connection>, ActionError> {
    let container = ContainerId(provider.0.clone());
    let running = job.host.engine.get(&container).await;
    let running = running.filter(|one| match one.state {
        State::Creating | State::Running { .. } | State::BackOff { .. } => true,
        State::Failed { .. } | State::Exited | State::Lost => false,
    });
    let Some(start) = running
        .and_then(|one| ContainerLabels::read(&one.labels))
        .map(|theirs| theirs.start)
    else {
        return Ok(None);
    };
    let (net, key, name) = (
        Arc::clone(&job.host.net),
        environment_key(&job.id),
        provider.0.clone(),
    );
    let attached = in_network(id, move || net.attached(&key, &name)).await?;
    let Some(Attached { netns, addresses }) = attached else {
        return Ok(None);
    };
    place.addresses = addresses;
    place.joined = Some(Joined {
        id: provider.clone(),
        start,
    });
    Ok(Some(Connection {
        netns: Some(netns),
        host: None,
    }))
}

async fn on_networks(
    job: &Job,
    id: &ReplicaId,
    service: &Service,
) -> Result<(Attached, Ipv4Addr), ActionError> {
    let networks: Vec<String> = service
        .networks
        .keys()
        .map(|name| name.as_str().to_owned())
        .collect();
    let host = &job.host;
    let (net, key, container) = (
        Arc::clone(&host.net),
        environment_key(&job.id),
        id.0.clone(),
    );
    let (specs, exe) = (network_specs(&job.work.releases), host.platform.exe.clone());
    let links = service.links.iter();
    let lookup = Lookup {
        resolvers: service.resolver.servers.clone(),
        aliases: links
            .map(|(alias, name)| (alias.clone(), name.as_str().to_owned()))
            .collect(),
    };
    in_network(id, move || {
        let host = net.ensure_environment(&key, &specs)?.host;
        net.ensure_dns(&key, &exe)?;
        let names: Vec<&str> = networks.iter().map(String::as_str).collect();
        let attached = net.attach(&key, &container, &names)?;
        net.set_lookup(&key, &container, &lookup)?;
        Ok((attached, host))
    })
    .await
}

async fn in_network<T: Send + 'static>(
    id: &ReplicaId,
    work: impl FnOnce() -> Result<T, NetError> + Send + 'static,
) -> Result<T, ActionError> {
    blocking(work)
        .await?
        .map_err(|source| ActionError::Network {
            id: id.clone(),
            source,
        })
}

/// What `/etc/resolv.conf` and `/etc/hosts` of a container on the machine's own network say: what the
/// machine's do, and the names of its own.
pub(crate) fn files_of_the_machine(
    own: &str,
    extra: &[(String, IpAddr)],
) -> Result<(String, String), ActionError> {
    let resolv = of_the_machine(Path::new("/etc/resolv.conf"))?;
    let mut hosts = of_the_machine(Path::new("/etc/hosts"))?;
    if !hosts.is_empty() && !hosts.ends_with('\n') {
        hosts.push('\n');
    }
    hosts.push_str(&havre_net::hosts_file(own, &BTreeMap::new(), extra));
    Ok((resolv, hosts))
}

/// A file that may be missing.
fn of_the_machine(path: &Path) -> Result<String, ActionError> {
    let failed = |source| ActionError::Files {
        attempt: "read",
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened.map_err(failed)?,
    };
    let mut text = Vec::new();
    file.take(LARGEST_FILE)
        .read_to_end(&mut text)
        .map_err(failed)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
