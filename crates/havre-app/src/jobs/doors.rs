//! The machine's own proxy in boxes: names of `localhost` are the box itself there, so what is asked of its loopback is
//! passed on.
//!
//! ```text
//! step ─► 127.0.0.1:443 (the runner) ─► door-443.sock ─► here ─► the edge
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Most connections through one door at once; further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// Until the edge must have taken a connection: it is on this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// Until it is tried once more to take a connection.
const PAUSE: Duration = Duration::from_millis(200);
/// As whom the edge sees jobs: by its address they differ from proxies in front of the machine, which are believed.
const JOBS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);

/// Where the edge listens, by ports.
pub(crate) type Doors = BTreeMap<u16, SocketAddr>;

/// Where the edge listens that is told to listen there. Pure.
pub(crate) fn doors_of<'a>(listens: impl IntoIterator<Item = &'a SocketAddr>) -> Doors {
    let mut doors = Doors::new();
    for address in listens {
        let reached = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let to = SocketAddr::new(reached, address.port());
        // The first is the one that is shown to people.
        doors.entry(address.port()).or_insert(to);
    }
    doors
}

/// Passes connections on until `end`; those under way end with their box.
pub(super) async fn pass_on(listener: UnixListener, to: SocketAddr, end: CancellationToken) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            () = end.cancelled() => return,
        };
        let Ok((client, _)) = taken else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let end = end.clone();
        tokio::spawn(async move {
            tokio::select! {
                passed = pass(client, to) => if let Err(error) = passed {
                    tracing::debug!(%to, %error, "a connection of a job to the edge broke");
                },
                () = end.cancelled() => {}
            }
            drop(place);
        });
    }
}

async fn pass(mut client: UnixStream, to: SocketAddr) -> io::Result<()> {
    let connected = tokio::time::timeout(CONNECT, connect(to)).await;
    let mut edge = connected.map_err(|_| io::ErrorKind::TimedOut)??;
    edge.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut edge).await?;
    Ok(())
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if to.is_ipv4() && to.ip().is_loopback() {
        socket.bind((JOBS, 0).into())?;
    }
    socket.connect(to).await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_edge_is_reached_where_it_listens() {
        let listens = ["0.0.0.0:443", "[::]:443", "127.0.0.1:8443", "[::]:80"];
        let listens = listens.map(|text| text.parse().expect("an address"));
        let doors = doors_of(&listens);
        let told: Vec<String> = doors.values().map(SocketAddr::to_string).collect();
        assert_eq!(told, ["[::1]:80", "127.0.0.1:443", "127.0.0.1:8443"]);
    }

    #[tokio::test]
    async fn a_connection_is_passed_on_as_that_of_a_job_until_the_box_is_gone() {
        let edge = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = edge.local_addr().expect("an address");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("door.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let end = CancellationToken::new();
        let passing = tokio::spawn(pass_on(listener, to, end.clone()));
        let mut client = UnixStream::connect(&path).await.expect("connected");
        let (mut served, from) = edge.accept().await.expect("passed on");
        assert_eq!(from.ip(), IpAddr::from(JOBS));
        client.write_all(b"asked").await.expect("asked");
        let mut asked = [0; 5];
        served.read_exact(&mut asked).await.expect("heard");
        served.write_all(b"answer").await.expect("answered");
        served.shutdown().await.expect("said all");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("heard");
        assert_eq!(
            (asked.as_slice(), answer.as_str()),
            (&b"asked"[..], "answer")
        );
        end.cancel();
        passing.await.expect("ended");
        assert!(UnixStream::connect(&path).await.is_err());
    }
}
