//! The edge's process: arguments, threads, signals, end.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use havre_base::memory;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::Socket;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::access::AccessLog;
use crate::clients::Clients;
use crate::complain::complain;
use crate::confine::{self, OwnError};
use crate::flows::Flows;
use crate::handover::{self, HandoverError, Heritage, Predecessor};
use crate::listen::Wanted;
use crate::manager::{Manager, Refused};
use crate::options::{Options, Sockets, USAGE};
use crate::replica::{Clock, Registry};
use crate::shared::Shared;
use crate::store::Store;
use crate::thread::{self, ThreadHandle};
use crate::{control_server, handshake, kept, limits};

/// Runs the edge if `name` is `edge`. Called by the binary before anything else reads arguments.
///
/// `--run DIR --state DIR [--formerly DIR] [--threads N] [--takeover SECONDS | --inherit]`: the two
/// folders become its own and all that it sees ([`confine`]); the control socket is `edge.sock` in the
/// run folder, the last state `edge.json` and the access log `access.log` in the state folder. With
/// `--takeover` it takes the sockets of an edge that runs there, or, from before edges had folders of
/// their own, in the folder `--formerly` names; that one then has so many seconds to finish. Without
/// one it starts as usual. With `--inherit` it gets the sockets of one that was killed from its
/// standard input ([`crate::KeptSockets`]).
pub fn entrypoint(name: &str, args: &[OsString]) -> Option<ExitCode> {
    (name == "edge").then(|| main(args))
}

fn main(args: &[OsString]) -> ExitCode {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => {
            complain!("error: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("error: {}", havre_base::one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// In the state folder.
const ACCESS_LOG: &str = "access.log";

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("another edge runs in {}", .0.display())]
    Running(PathBuf),
    #[error("cannot lock {}", .path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("cannot open the access log {}", .path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("cannot make the control socket in {}", .path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("the edge may not face strangers as it is")]
    Confine(#[from] OwnError),
    #[error("cannot take over in {}", .path.display())]
    Handover {
        path: PathBuf,
        source: HandoverError,
    },
    #[error("cannot take the sockets from the standard input")]
    Input(#[source] HandoverError),
    #[error("cannot use the sockets handed over")]
    Inherit(#[source] io::Error),
    #[error("cannot tell the edge that runs to finish")]
    Retire(#[source] io::Error),
    #[error("the state is not in force")]
    Refused(#[source] Refused),
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
}

fn run(options: &Options) -> Result<(), StartError> {
    memory::keep_little();
    raise_file_limit();
    let former = former_edge(options)?;
    confine::enter(&options.run, &options.state)?;
    let (heritage, predecessor) = match former {
        Some(former) => former,
        None => existing_sockets(options)?,
    };
    let lock = match heritage.lock {
        Some(lock) => lock,
        None => lock_directory(options)?,
    };
    let path = options.state.join(ACCESS_LOG);
    let opened = AccessLog::open(&path);
    let (log, writer) = opened.map_err(|source| StartError::Log { path, source })?;
    let snapshot = Arc::new(ArcSwap::default());
    let shared = Arc::new(Shared {
        tls: handshake::server_config(Arc::clone(&snapshot)).map_err(StartError::Tls)?,
        clients: Arc::new(Clients::new(Arc::clone(&snapshot))),
        snapshot,
        pushed: watch::channel(0).0,
        registry: Registry::new(&options.run),
        clock: Clock::start(),
        log: Arc::new(log),
        stopping: CancellationToken::new(),
        idle_grace: OnceLock::new(),
        stopped: CancellationToken::new(),
        flows: Flows::default(),
    });
    let threads = (0..options.threads)
        .map(|number| thread::start(number, &shared))
        .collect::<io::Result<Vec<_>>>()
        .map_err(StartError::Thread)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Thread)?;
    let begin = Begin {
        lock,
        listeners: heritage.listeners,
        predecessor,
    };
    runtime.block_on(control(options, &shared, &threads, begin))?;
    runtime.shutdown_timeout(Duration::from_millis(100));
    for thread in threads {
        drop(thread.commands);
        if thread.thread.join().is_err() {
            complain!("edge: a thread panicked");
        }
    }
    shared.log.finish();
    if writer.join().is_err() {
        complain!("edge: the access log's writer panicked");
    }
    Ok(())
}

/// Sockets that are open already, and the edge that is to end for them within a time.
type Existing = (Heritage, Option<(Predecessor, Duration)>);

/// Of an edge that runs as root, which only root may ask. Its lock is for its own folder.
fn former_edge(options: &Options) -> Result<Option<Existing>, StartError> {
    let (Sockets::TakenOver(grace), Some(folder)) = (&options.sockets, &options.formerly) else {
        return Ok(None);
    };
    let found = ask(folder)?;
    Ok(found.map(|(heritage, predecessor)| {
        let lock = None;
        (Heritage { lock, ..heritage }, Some((predecessor, *grace)))
    }))
}

fn existing_sockets(options: &Options) -> Result<Existing, StartError> {
    match options.sockets {
        Sockets::New => Ok((Heritage::default(), None)),
        Sockets::Inherited => Ok((kept::inherit().map_err(StartError::Input)?, None)),
        Sockets::TakenOver(grace) => Ok(match ask(&options.run)? {
            Some((heritage, predecessor)) => (heritage, Some((predecessor, grace))),
            None => (Heritage::default(), None),
        }),
    }
}

fn ask(run: &Path) -> Result<Option<(Heritage, Predecessor)>, StartError> {
    handover::ask(run).map_err(|source| StartError::Handover {
        path: run.to_owned(),
        source,
    })
}

/// What the control side begins with.
struct Begin {
    /// On the run directory; passed on to a successor.
    lock: File,
    listeners: Vec<(Wanted, Vec<Socket>)>,
    predecessor: Option<(Predecessor, Duration)>,
}

async fn control(
    options: &Options,
    shared: &Arc<Shared>,
    threads: &[ThreadHandle],
    begin: Begin,
) -> Result<(), StartError> {
    let commands = threads
        .iter()
        .map(|thread| thread.commands.clone())
        .collect();
    let mut manager = Manager::new(Arc::clone(shared), commands, Store::new(&options.state));
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    // A terminal that goes away is none of its business.
    let _hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
    let inherited = manager
        .inherit(begin.listeners)
        .map_err(StartError::Inherit)?;
    manager.restore().await.map_err(StartError::Refused)?;
    manager
        .accept_inherited(inherited)
        .await
        .map_err(StartError::Refused)?;
    for problem in manager.status().problems {
        complain!("edge: {problem}");
    }
    let socket = bind_control(options)?;
    if let Some((predecessor, grace)) = begin.predecessor {
        predecessor
            .retire(grace, manager.predecessor())
            .map_err(StartError::Retire)?;
    }
    let manager = Arc::new(Mutex::new(manager));
    offer_handover(options, &manager, begin.lock)?;
    let serving = tokio::spawn(control_server::serve(socket, Arc::clone(&manager)));
    let retrying = tokio::spawn(retry(Arc::clone(&manager)));
    let trimming = tokio::spawn(give_back_memory(Arc::clone(shared)));
    loop {
        tokio::select! {
            () = shared.stopped.cancelled() => break,
            Some(()) = terminate.recv() => manager.lock().await.stop(limits::TERM_GRACE),
            Some(()) = interrupt.recv() => manager.lock().await.stop(limits::TERM_GRACE),
        }
    }
    serving.abort();
    retrying.abort();
    trimming.abort();
    Ok(())
}

/// From a thread of its own, which asks this runtime's manager.
fn offer_handover(
    options: &Options,
    manager: &Arc<Mutex<Manager>>,
    lock: File,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Handle::current();
    let (giving, asked) = (Arc::clone(manager), runtime.clone());
    let heritage = move || {
        let listeners = asked.block_on(giving.lock()).listeners()?;
        Ok(Heritage {
            listeners,
            lock: Some(lock.try_clone()?),
        })
    };
    let retiring = Arc::clone(manager);
    let retire = move |grace| runtime.block_on(async { retiring.lock().await.stop(grace) });
    handover::offer(&options.run, heritage, retire).map_err(|source| StartError::Socket {
        path: options.run.clone(),
        source,
    })
}

fn bind_control(options: &Options) -> Result<UnixListener, StartError> {
    control_server::bind(&options.run).map_err(|source| StartError::Socket {
        path: options.run.clone(),
        source,
    })
}

/// A port that is taken may become free, a full disk have room again.
async fn retry(manager: Arc<Mutex<Manager>>) {
    const PAUSE: Duration = Duration::from_secs(1);
    let lacking = Arc::clone(manager.lock().await.lacking());
    loop {
        lacking.notified().await;
        tokio::time::sleep(PAUSE).await;
        if let Err(refused) = manager.lock().await.retry().await {
            complain!("edge: {refused}");
        }
    }
}

/// Held for the life of the process; freed by the kernel however it ends.
fn lock_directory(options: &Options) -> Result<File, StartError> {
    let path = options.run.join("edge.lock");
    let lock = |source| StartError::Lock {
        path: path.clone(),
        source,
    };
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(lock)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StartError::Running(options.run.clone())),
        Err(std::fs::TryLockError::Error(source)) => Err(lock(source)),
    }
}

/// After a crowd has left.
async fn give_back_memory(shared: Arc<Shared>) {
    const SETTLE: Duration = Duration::from_secs(2);
    loop {
        shared.clients.idle().await;
        tokio::time::sleep(SETTLE).await;
        memory::give_back();
    }
}

/// Two descriptors per request in flight: as many as the system lets us have.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    ) {
        complain!("edge: the limit of open files stays as it is: {error}");
    }
}
