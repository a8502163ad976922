//! Ports of the machine that a project wants for itself: whether it can have them.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_model::{Project, Protocol, ServiceName};

use crate::daemon::Daemon;
use crate::edge::listen_addresses;

/// Fails where a port is the proxy's, another environment's or somebody else's. Asked before
/// anything is built: the edge would find out when the release is to serve.
pub(crate) async fn check(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    project: &Project,
) -> Result<(), ApiError> {
    let wanted: Vec<(&ServiceName, SocketAddr)> = project
        .forwarded_ports()
        .filter(|(_, port)| port.protocol == Protocol::Tcp)
        .flat_map(|(name, port)| listen_addresses(port).into_iter().map(move |at| (name, at)))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let own = forwards_of(daemon, |other| other == id).await;
    let others = forwards_of(daemon, |other| other != id).await;
    for (service, address) in wanted {
        if own.iter().any(|(_, listen)| *listen == address) {
            continue;
        }
        if let Some(owner) = owner(daemon, &others, address) {
            let port = address.port();
            let message = format!("port {port}, which `{service}` publishes, is taken by {owner}");
            return Err(ApiError::new(ErrorCode::Conflict, message).with_hint(
                "publish another one (`OTHER:PORT`), or none: the environment's own services \
                 reach it by its name",
            ));
        }
    }
    Ok(())
}

async fn forwards_of(
    daemon: &Arc<Daemon>,
    of: impl Fn(&EnvironmentId) -> bool,
) -> Vec<(EnvironmentId, SocketAddr)> {
    let mut all = Vec::new();
    for handle in daemon.environments().await {
        if !of(&handle.id) {
            continue;
        }
        let snapshot = handle.snapshot();
        let ports = snapshot
            .releases
            .values()
            .flat_map(|release| release.forwards());
        let addresses = ports.flat_map(|(_, port)| listen_addresses(port));
        all.extend(addresses.map(|address| (handle.id.clone(), address)));
    }
    all
}

/// Who has the address already.
fn owner(
    daemon: &Daemon,
    others: &[(EnvironmentId, SocketAddr)],
    address: SocketAddr,
) -> Option<String> {
    let options = &daemon.options;
    if options
        .http
        .iter()
        .chain(&options.https)
        .any(|own| overlap(*own, address))
    {
        return Some("Havre's own proxy".to_owned());
    }
    if let Some((id, _)) = others.iter().find(|(_, other)| overlap(*other, address)) {
        return Some(id.to_string());
    }
    match TcpListener::bind(address) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let owner = havre_edge::owner_of(address.port());
            Some(owner.unwrap_or_else(|| "another program".to_owned()))
        }
        // Another reason, such as an address this machine lacks, is told by the edge.
        Ok(_) | Err(_) => None,
    }
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let any = |ip: IpAddr| ip.is_unspecified();
    a.port() == b.port()
        && a.is_ipv4() == b.is_ipv4()
        && (a.ip() == b.ip() || any(a.ip()) || any(b.ip()))
}
