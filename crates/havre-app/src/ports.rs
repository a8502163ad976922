//! Ports of the machine that a project wants for itself: whether it can have them.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_edge::Transport;
use havre_model::{Port, Project, Protocol, ServiceName};

use crate::daemon::Daemon;
use crate::edge::listen_addresses;
use crate::port_owner;

/// An address of the machine; the two protocols have ports of their own.
type Address = (Protocol, SocketAddr);

/// Fails where a port is the proxy's, another environment's or somebody else's. Asked before
/// anything is built: the edge would find out when the release is to serve.
pub(crate) async fn check(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    project: &Project,
) -> Result<(), ApiError> {
    let wanted: Vec<(&ServiceName, Address)> = project
        .forwarded_ports()
        .flat_map(|(name, port)| addresses(port).map(move |at| (name, at)))
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
            let port = match address {
                (Protocol::Tcp, at) => at.port().to_string(),
                (Protocol::Udp, at) => format!("{}/udp", at.port()),
            };
            let message = format!("port {port}, which `{service}` publishes, is taken by {owner}");
            return Err(ApiError::new(ErrorCode::Conflict, message).with_hint(
                "publish another one (`OTHER:PORT`), or none: the environment's own services \
                 reach it by its name",
            ));
        }
    }
    Ok(())
}

fn addresses(port: &Port) -> impl Iterator<Item = Address> {
    let protocol = port.protocol;
    listen_addresses(port)
        .into_iter()
        .map(move |at| (protocol, at))
}

async fn forwards_of(
    daemon: &Arc<Daemon>,
    of: impl Fn(&EnvironmentId) -> bool,
) -> Vec<(EnvironmentId, Address)> {
    let mut all = Vec::new();
    for handle in daemon.environments().await {
        if !of(&handle.id) {
            continue;
        }
        let snapshot = handle.status();
        let ports = snapshot
            .releases
            .values()
            .flat_map(|release| release.forwards());
        let addresses = ports.flat_map(|(_, port)| addresses(port));
        all.extend(addresses.map(|address| (handle.id.clone(), address)));
    }
    all
}

/// Who has the address already.
fn owner(daemon: &Daemon, others: &[(EnvironmentId, Address)], address: Address) -> Option<String> {
    let options = &daemon.options;
    if options
        .http
        .iter()
        .chain(&options.https)
        .any(|own| overlap((Protocol::Tcp, *own), address))
    {
        return Some("Havre's own proxy".to_owned());
    }
    if let Some((id, _)) = others.iter().find(|(_, other)| overlap(*other, address)) {
        return Some(id.to_string());
    }
    let (tried, transport) = match address.0 {
        Protocol::Tcp => (TcpListener::bind(address.1).map(drop), Transport::Tcp),
        Protocol::Udp => (UdpSocket::bind(address.1).map(drop), Transport::Udp),
    };
    match tried {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let owner = port_owner::owner_of(address.1.port(), transport);
            Some(owner.unwrap_or_else(|| "another program".to_owned()))
        }
        // Another reason, such as an address this machine lacks, is told by the edge.
        Ok(()) | Err(_) => None,
    }
}

fn overlap((a_protocol, a): Address, (b_protocol, b): Address) -> bool {
    let any = |ip: IpAddr| ip.is_unspecified();
    a_protocol == b_protocol
        && a.port() == b.port()
        && a.is_ipv4() == b.is_ipv4()
        && (a.ip() == b.ip() || any(a.ip()) || any(b.ip()))
}
