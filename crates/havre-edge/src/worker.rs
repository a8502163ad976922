//! One thread of the edge: its runtime, its listeners, its connections to replicas.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use http::HeaderValue;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::access::Lines;
use crate::complain::complain;
use crate::listen::{self, Kind, Share, Wanted};
use crate::shared::Shared;
use crate::upstream::ConnectionPool;
use crate::{client, limits, tcp, udp};

/// What requests of one thread share.
#[derive(Debug)]
pub struct Worker {
    /// With all threads.
    pub shared: Arc<Shared>,
    /// Idle connections to replicas.
    pub connections: Arc<ConnectionPool>,
    /// Access log lines.
    pub lines: Arc<Lines>,
    /// Connections and tunnels.
    pub tasks: TaskTracker,
    /// Request ids.
    pub ids: RequestIds,
    turn: AtomicUsize,
    visitors: AtomicUsize,
}

impl Worker {
    /// Where the balancer begins to look.
    pub fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// What the next visitor without a number gets one by.
    pub fn visitor_turn(&self) -> usize {
        self.visitors.fetch_add(1, Ordering::Relaxed)
    }
}

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
pub struct WorkerHandle {
    /// Commands.
    pub commands: mpsc::Sender<Command>,
    /// The thread.
    pub thread: JoinHandle<()>,
}

/// Starts a thread.
pub fn start(number: usize, shared: &Arc<Shared>) -> io::Result<WorkerHandle> {
    let (commands, inbox) = mpsc::channel(16);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let shared = Arc::clone(shared);
    let ids = RequestIds::seeded()?;
    let thread = std::thread::Builder::new()
        .name(format!("edge-{number}"))
        .spawn(move || {
            let worker = Arc::new(Worker {
                connections: Arc::default(),
                lines: Lines::new(Arc::clone(&shared.log)),
                tasks: TaskTracker::new(),
                ids,
                turn: AtomicUsize::new(number),
                visitors: AtomicUsize::new(0),
                shared,
            });
            runtime.block_on(run(&worker, inbox));
            worker.lines.flush();
            // Whatever still runs has had its grace.
            runtime.shutdown_timeout(Duration::from_millis(100));
            worker.lines.flush();
        })?;
    Ok(WorkerHandle { commands, thread })
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
                Err(error) => pause_after(&error).await,
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

/// Out of file descriptors or memory: a short pause lets some be freed.
pub async fn pause_after(error: &io::Error) {
    let passing = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    if !passing {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn admit(worker: &Arc<Worker>, stream: TcpStream, peer: SocketAddr, (address, kind): Wanted) {
    let Some(place) = worker.shared.place(peer.ip()) else {
        return;
    };
    // A connection that is gone already shows it at the first read.
    drop(prepare(&stream));
    let this = Arc::clone(worker);
    match kind {
        Kind::Http => worker
            .tasks
            .spawn(client::serve_http(this, stream, peer, place)),
        Kind::Https => worker
            .tasks
            .spawn(client::serve_https(this, stream, peer, place)),
        Kind::Tcp => worker.tasks.spawn(tcp::serve(this, stream, address, place)),
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

/// Request ids: 32 hexadecimal digits, unique without coordination.
#[derive(Debug)]
pub struct RequestIds {
    seed: u64,
    next: AtomicU64,
}

impl RequestIds {
    fn seeded() -> io::Result<Self> {
        let mut bytes = [0_u8; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        let (seed, next) = bytes.split_at(8);
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        Ok(Self {
            seed: number(seed),
            next: AtomicU64::new(number(next)),
        })
    }

    /// The next one.
    pub fn next(&self) -> HeaderValue {
        let count = self
            .next
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let id = format!(
            "{:016x}{:016x}",
            self.seed ^ count.rotate_left(17),
            mix(count)
        );
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("none"))
    }
}

/// The finaliser of SplitMix64: every bit depends on every bit.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
