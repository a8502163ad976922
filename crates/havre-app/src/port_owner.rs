//! Which process has a port of this machine. The edge cannot see that; the daemon can.

use std::fs;
use std::path::Path;

use havre_edge::{TakenPort, Transport};

/// A port that the edge cannot have, in a sentence.
pub(crate) fn describe(taken: &TakenPort) -> String {
    let port = taken.address.port();
    let owner = owner_of(port, taken.transport).unwrap_or_else(|| "another process".to_owned());
    format!("port {port} is taken by {owner} (wanted {})", taken.address)
}

/// Who has a port of this network namespace, as `name (pid 123)`.
pub(crate) fn owner_of(port: u16, transport: Transport) -> Option<String> {
    let tables = match transport {
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| open_inodes(&table, port, transport))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?;
    processes.filter_map(Result::ok).find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let has_it = fs::read_dir(process.path().join("fd"))
            .ok()?
            .filter_map(Result::ok)
            .any(|descriptor| {
                fs::read_link(descriptor.path())
                    .is_ok_and(|target| inodes.iter().any(|inode| Path::new(inode) == target))
            });
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        has_it.then(|| format!("{} (pid {pid})", name.trim()))
    })
}

/// Inodes of sockets open for anybody on a port, from the text of /proc/net/tcp or udp: those in
/// state LISTEN (0A), and datagram sockets without a peer, whose state is called CLOSE (07).
fn open_inodes(table: &str, port: u16, transport: Transport) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let open = match transport {
        Transport::Tcp => "0A",
        Transport::Udp => "07",
    };
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let found = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == open;
            found
                .then(|| fields.get(9).map(ToString::to_string))
                .flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn who_has_a_port_is_told() {
        let stream = TcpListener::bind("127.0.0.1:0").unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let me = format!("(pid {})", std::process::id());
        for (address, transport) in [
            (stream.local_addr().unwrap(), Transport::Tcp),
            (datagrams.local_addr().unwrap(), Transport::Udp),
        ] {
            let told = describe(&TakenPort { address, transport });
            let begin = format!("port {} is taken by ", address.port());
            assert!(told.starts_with(&begin) && told.contains(&me), "{told}");
        }
    }
}
