//! The edge's process: arguments, threads, signals, end.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::access::AccessLog;
use crate::manager::Manager;
use crate::replica::{Clock, Registry};
use crate::shared::{Clients, Shared};
use crate::store::Store;
use crate::worker::{self, WorkerHandle};
use crate::{control_server, limits, tls};

/// Runs the edge if `name` is `edge`. Called by the binary before anything else reads arguments.
///
/// `--run DIR --state DIR --log FILE [--threads N]`: the control socket is `DIR/edge.sock` of the run
/// directory, the last state `DIR/edge.json` of the state directory.
pub fn entrypoint(name: &str, args: &[OsString]) -> Option<ExitCode> {
    (name == "edge").then(|| main(args))
}

fn main(args: &[OsString]) -> ExitCode {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}\nusage: edge --run DIR --state DIR --log FILE [--threads N]");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", crate::error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    run: PathBuf,
    state: PathBuf,
    log: PathBuf,
    threads: usize,
}

/// Threads beyond this bring nothing on the machines that this is for.
const MOST_THREADS: usize = 64;

#[derive(Debug, thiserror::Error)]
enum OptionError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{} is not an option of the edge", .0.display())]
    Unknown(OsString),
    #[error("--threads is a number from 1 to {MOST_THREADS}, not {}", .0.display())]
    Threads(OsString),
}

impl Options {
    fn parse(args: &[OsString]) -> Result<Self, OptionError> {
        let (mut run, mut state, mut log, mut threads) = (None, None, None, None);
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let (place, name) = match name.to_str() {
                Some("--run") => (&mut run, "a value for --run"),
                Some("--state") => (&mut state, "a value for --state"),
                Some("--log") => (&mut log, "a value for --log"),
                Some("--threads") => (&mut threads, "a value for --threads"),
                _ => return Err(OptionError::Unknown(name.clone())),
            };
            *place = Some(args.next().ok_or(OptionError::Missing(name))?.clone());
        }
        Ok(Self {
            run: run.ok_or(OptionError::Missing("--run"))?.into(),
            state: state.ok_or(OptionError::Missing("--state"))?.into(),
            log: log.ok_or(OptionError::Missing("--log"))?.into(),
            threads: threads.map_or_else(|| Ok(default_threads()), |text| parse_threads(&text))?,
        })
    }
}

fn parse_threads(text: &OsStr) -> Result<usize, OptionError> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    number
        .filter(|number| (1..=MOST_THREADS).contains(number))
        .ok_or_else(|| OptionError::Threads(text.to_owned()))
}

/// One per core up to four: some 30,000 requests a second each, and the applications need the rest.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().min(4))
}

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
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
}

fn run(options: &Options) -> Result<(), StartError> {
    keep_memory_small();
    raise_file_limit();
    let _lock = lock_directory(options)?;
    let log_error = |source| StartError::Log {
        path: options.log.clone(),
        source,
    };
    let (log, writer) = AccessLog::open(&options.log).map_err(log_error)?;
    let snapshot = Arc::new(ArcSwap::default());
    let shared = Arc::new(Shared {
        tls: tls::server_config(Arc::clone(&snapshot)).map_err(StartError::Tls)?,
        snapshot,
        pushed: watch::channel(0).0,
        registry: Registry::default(),
        clock: Clock::start(),
        log: Arc::new(log),
        stopping: CancellationToken::new(),
        stopped: CancellationToken::new(),
        clients: Clients::default(),
    });
    let workers = (0..options.threads)
        .map(|number| worker::start(number, &shared))
        .collect::<io::Result<Vec<_>>>()
        .map_err(StartError::Thread)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Thread)?;
    runtime.block_on(control(options, &shared, &workers))?;
    runtime.shutdown_timeout(Duration::from_millis(100));
    for worker in workers {
        drop(worker.commands);
        if worker.thread.join().is_err() {
            eprintln!("edge: a thread panicked");
        }
    }
    shared.log.finish();
    if writer.join().is_err() {
        eprintln!("edge: the access log's writer panicked");
    }
    Ok(())
}

async fn control(
    options: &Options,
    shared: &Arc<Shared>,
    workers: &[WorkerHandle],
) -> Result<(), StartError> {
    let commands = workers
        .iter()
        .map(|worker| worker.commands.clone())
        .collect();
    let mut manager = Manager::new(Arc::clone(shared), commands, Store::new(&options.state));
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    // A terminal that goes away is none of its business.
    let _hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
    if let Err(refused) = manager.restore().await {
        eprintln!("edge: the state on disk is not in force: {refused}");
    }
    for problem in manager.status().problems {
        eprintln!("edge: {problem}");
    }
    let socket = bind_control(options)?;
    let manager = Arc::new(Mutex::new(manager));
    let serving = tokio::spawn(control_server::serve(socket, Arc::clone(&manager)));
    let retrying = tokio::spawn(retry_listeners(Arc::clone(&manager)));
    loop {
        tokio::select! {
            () = shared.stopped.cancelled() => break,
            Some(()) = terminate.recv() => manager.lock().await.stop(limits::TERM_GRACE),
            Some(()) = interrupt.recv() => manager.lock().await.stop(limits::TERM_GRACE),
        }
    }
    serving.abort();
    retrying.abort();
    Ok(())
}

fn bind_control(options: &Options) -> Result<UnixListener, StartError> {
    control_server::bind(&options.run).map_err(|source| StartError::Socket {
        path: options.run.clone(),
        source,
    })
}

/// A port that is taken may become free.
async fn retry_listeners(manager: Arc<Mutex<Manager>>) {
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        tokio::time::sleep(PAUSE).await;
        if let Err(refused) = manager.lock().await.retry_listeners().await {
            eprintln!("edge: {refused}");
        }
    }
}

/// Held for the life of the process; freed by the kernel however it ends.
fn lock_directory(options: &Options) -> Result<std::fs::File, StartError> {
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

/// glibc gives every thread an arena of its own, each of which keeps what its busiest moment took.
fn keep_memory_small() {
    // SAFETY: mallopt has no preconditions; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 * 1024);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
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
        eprintln!("edge: the limit of open files stays as it is: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        let args: Vec<OsString> = args.iter().map(Into::into).collect();
        Options::parse(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_and_mistakes_named() {
        let options = parse(&[
            "--run",
            "/r",
            "--log",
            "/l",
            "--state",
            "/s",
            "--threads",
            "3",
        ]);
        let options = options.expect("valid options");
        assert_eq!((options.run.as_path(), options.threads), ("/r".as_ref(), 3));
        for (args, message) in [
            (vec!["--run", "/r"], "--state is missing"),
            (vec!["--run"], "a value for --run is missing"),
            (vec!["--port", "1"], "--port is not an option of the edge"),
            (
                vec!["--run", "r", "--state", "s", "--log", "l", "--threads", "0"],
                "--threads is a number from 1 to 64, not 0",
            ),
        ] {
            assert_eq!(parse(&args).expect_err("a mistake"), message);
        }
    }
}
