//! Telling the init system that the daemon answers, as sd_notify(3) describes it.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How long an init system that does not read may hold the daemon up.
const SEND_DEADLINE: Duration = Duration::from_secs(1);

/// Says so, where the init system has asked for it.
pub(crate) fn ready() {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, b"READY=1") {
        tracing::warn!(%error, "the init system is not told that the daemon answers");
    }
}

/// One datagram. `socket` is a path, or an abstract name behind an `@`.
fn send(socket: &OsStr, message: &[u8]) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(SEND_DEADLINE))?;
    sender.send_to_addr(message, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_arrives_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("havre-notify-{}", std::process::id());
        let addresses = [
            (
                path.clone().into_os_string(),
                SocketAddr::from_pathname(&path),
            ),
            (
                format!("@{name}").into(),
                SocketAddr::from_abstract_name(&name),
            ),
        ];
        for (socket, address) in addresses {
            let manager = UnixDatagram::bind_addr(&address.unwrap()).unwrap();
            send(&socket, b"READY=1").unwrap();
            let mut buffer = [0; 64];
            let length = manager.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
        assert!(send(OsStr::new("/nowhere/at/all"), b"READY=1").is_err());
    }
}
