//! Ports in the box for what is outside: connections to artifacts and caches, and to the machine's proxy, are passed on
//! to Unix sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use havre_job::Door;

/// Most connections at a time; further ones are closed.
const MAX_CONNECTIONS: usize = 64;

/// Listens on a port of the loopback, which is returned, for as long as the process lives.
pub(crate) fn listen(socket: PathBuf) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    serve(listener, socket)?;
    Ok(port)
}

/// Listens on that port of the loopback for as long as the process lives.
pub(crate) fn open(door: &Door) -> io::Result<()> {
    let bind = |address: IpAddr| TcpListener::bind((address, door.port));
    let listener = bind(Ipv4Addr::LOCALHOST.into())?;
    serve(listener, PathBuf::from(&door.socket))?;
    // A box without IPv6 has no such address, and who looks for the name is content with the other.
    match bind(Ipv6Addr::LOCALHOST.into()) {
        Ok(listener) => serve(listener, PathBuf::from(&door.socket)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => Ok(()),
    }
}

fn serve(listener: TcpListener, socket: PathBuf) -> io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    thread::Builder::new()
        .name("passes on".to_owned())
        .spawn(move || accept(&listener, &socket, &open))?;
    Ok(())
}

fn accept(listener: &TcpListener, socket: &Path, open: &Arc<AtomicUsize>) {
    for connection in listener.incoming() {
        let Ok(client) = connection else { continue };
        let place = Place::take(open);
        let Some(place) = place else { continue };
        let socket = socket.to_owned();
        let serve = move || {
            // A connection that breaks is its client's to notice.
            pass(client, &socket).unwrap_or_default();
            drop(place);
        };
        let started = thread::Builder::new()
            .name("connection".to_owned())
            .spawn(serve);
        drop(started);
    }
}

/// One of [`MAX_CONNECTIONS`].
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let before = open.fetch_add(1, Ordering::SeqCst);
        let place = Self(Arc::clone(open));
        (before < MAX_CONNECTIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn pass(client: TcpStream, socket: &Path) -> io::Result<()> {
    let server = UnixStream::connect(socket)?;
    client.set_nodelay(true)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let upstream = thread::Builder::new()
        .name("upstream".to_owned())
        .spawn(move || {
            let copied = io::copy(&mut from_client, &mut to_server);
            to_server.shutdown(Shutdown::Write).and(copied.map(drop))
        })?;
    let (mut from_server, mut to_client) = (server, client);
    let copied = io::copy(&mut from_server, &mut to_client);
    let closed = to_client.shutdown(Shutdown::Write);
    let upstream = upstream.join();
    copied?;
    closed?;
    upstream.unwrap_or(Ok(()))
}
