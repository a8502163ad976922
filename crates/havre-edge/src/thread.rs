//! One thread of the edge: its runtime, and what it accepts.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::complain::complain;
use crate::listen::{self, Kind, Share, Wanted};
use crate::request_id::RequestIds;
use crate::shared::Shared;
use crate::worker::Worker;
use crate::{connection, limits, tcp, udp};

/// What a thread is told. Each is acknowledged when done.
#[derive(Debug)]
pub enum Command {
    /// The snapshot has changed: drop idle connections to replicas that take no more requests.
    Changed(oneshot::Sender<()>),
    /// Accept from these.
    Listen(Vec<Share>, oneshot::Sender<()>),
    /// Finish what is under way, then end.
    Finish(oneshot::Sender<()>),
}

/// A thread as seen by the control plane of the edge.
#[derive(Debug)]
pub struct ThreadHandle {
    /// Commands.
    pub commands: mpsc::Sender<Command>,
    /// The thread.
    pub thread: JoinHandle<()>,
}

/// Starts a thread.
pub fn start(number: usize, shared: &Arc<Shared>) -> io::Result<ThreadHandle> {
    let (commands, inbox) = mpsc::channel(16);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let shared = Arc::clone(shared);
    let ids = RequestIds::seeded()?;
    let thread = std::thread::Builder::new()
        .name(format!("edge-{number}"))
        .spawn(move || {
            let worker = Arc::new(Worker::new(number, shared, ids));
            runtime.block_on(run(&worker, inbox));
            worker.lines.flush();
            // Whatever still runs has had its grace.
            runtime.shutdown_timeout(Duration::from_millis(100));
            worker.lines.flush();
        })?;
    Ok(ThreadHandle { commands, thread })
}

async fn run(worker: &Arc<Worker>, mut inbox: mpsc::Receiver<Command>) {
    let connections = Arc::clone(&worker.connections);
    let tending = tokio::spawn(async move { connections.tend().await });
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Changed(done) => {
                worker.connections.purge();
                acknowledge(done);
            }
            Command::Listen(shares, done) => {
                for share in shares {
                    let worker_of_it = Arc::clone(worker);
                    match share.wanted.1 {
                        Kind::Http | Kind::Https | Kind::Tcp => {
                            worker.tasks.spawn(accept(worker_of_it, share))
                        }
                        Kind::Udp => worker.tasks.spawn(udp::serve(worker_of_it, share)),
                    };
                }
                acknowledge(done);
            }
            Command::Finish(done) => {
                worker.tasks.close();
                tokio::select! {
                    () = worker.tasks.wait() => {}
                    () = worker.shared.stopped.cancelled() => {}
                }
                worker.lines.flush();
                acknowledge(done);
                break;
            }
        }
    }
    tending.abort();
}

fn acknowledge(done: oneshot::Sender<()>) {
    if done.send(()).is_err() {
        // The control request that asked for it was given up.
    }
}

/// Accepts until told to stop; what is queued by then is accepted still.
async fn accept(worker: Arc<Worker>, share: Share) {
    let Share {
        socket,
        wanted,
        stop,
        closed,
    } = share;
    let listener = match TcpListener::from_std(socket.into()) {
        Ok(listener) => listener,
        Err(error) => return complain!("edge: a listener cannot be used: {error}"),
    };
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(&worker, stream, peer, wanted),
                Err(error) => listen::pause_after(&error).await,
            },
            () = stop.cancelled() => break,
        }
    }
    drain(&worker, listener, wanted);
    drop(closed);
}

/// Takes what the kernel has queued: closing the socket would reset it. Not what comes later, or a
/// socket under load would never close.
fn drain(worker: &Arc<Worker>, listener: TcpListener, wanted: Wanted) {
    let Ok(listener) = listener.into_std() else {
        return;
    };
    // Asked at the kernel: tokio may not have heard yet of what is queued.
    for _ in 0..listen::BACKLOG {
        let Ok((stream, peer)) = listener.accept() else {
            return;
        };
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            admit(worker, stream, peer, wanted);
        }
    }
}

fn admit(worker: &Arc<Worker>, stream: TcpStream, peer: SocketAddr, (address, kind): Wanted) {
    let Some(permit) = worker.shared.clients.permit(peer.ip()) else {
        return;
    };
    // A connection that is gone already shows it at the first read.
    drop(prepare(&stream));
    let this = Arc::clone(worker);
    match kind {
        Kind::Http => worker
            .tasks
            .spawn(connection::serve_http(this, stream, peer, permit)),
        Kind::Https => worker
            .tasks
            .spawn(connection::serve_https(this, stream, peer, permit)),
        Kind::Tcp => worker
            .tasks
            .spawn(tcp::serve(this, stream, address, permit)),
        // A datagram socket accepts nothing.
        Kind::Udp => return,
    };
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(limits::CLIENT_PAUSE))?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(limits::CLIENT_IDLE)
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)
}
