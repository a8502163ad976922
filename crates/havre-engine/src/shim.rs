//! The process beside each container: owns its output, its end, restarts, probes and exec'd
//! processes, and outlives the daemon.
//!
//! One thread, one epoll loop, little memory: nothing here keeps more than a few kilobytes.
//! Without it the container dies: by `PR_SET_PDEATHSIG` in the same moment, or, where the program has
//! changed its user and thereby lost that signal, by the daemon that sees the shim gone.

/// A line in `shim.log`. Unlike with `eprintln!`, a full disk does not end the shim.
macro_rules! complain {
    ($($text:tt)*) => {
        drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{}\n", format_args!($($text)*))))
    };
}

mod connections;
mod container;
mod health;
mod leaving;
mod life;
mod output;
mod poller;
mod processes;
pub mod spool;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::cgroup::{Cgroup, Hierarchies};
use crate::confidential::Contents;
use crate::devices;
use crate::memory::Mapping;
use crate::protocol::Request;
use crate::rundir::{Meta, RunDir};
use crate::spec::{Given, Observed, State};
use crate::sys;
use connections::Connection;
use container::Container;
use health::{Probes, Purpose};
use leaving::Leaving;
use life::{Effect, Event, Life, ProcessPhase};
use output::Output;
use poller::{Poller, Token};
use processes::Process;
use spool::{Spool, Stream};

/// Never chosen by the out-of-memory killer before what it looks after.
const OOM_SCORE: &str = "-998";

/// Why a program was not told of what it was given.
#[derive(Debug)]
enum NotReloaded {
    /// It was given something else meanwhile.
    Other,
    NotRunning,
    /// It has no handler for the signal, which the kernel would drop.
    Deaf,
    Signal(io::Error),
}

/// Runs a shim for the container whose folder is the only argument. Standard input is the held
/// lock, standard output a socket on which its secrets are, and which receives the first result as JSON.
pub fn main(args: &[OsString]) -> ExitCode {
    let [dir] = args else {
        complain!("expected the folder of one container");
        return ExitCode::from(2);
    };
    match run(RunDir::new(PathBuf::from(dir))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Everything a shim knows.
struct Shim {
    dir: RunDir,
    meta: Meta,
    cgroup: Cgroup,
    poller: Poller,
    listener: OwnedFd,
    signals: OwnedFd,
    life: Life,
    container: Container,
    output: Output,
    /// Contents of its secrets.
    parcel: Option<Parcel>,
    probes: Probes,
    observed: Observed,
    connections: BTreeMap<u32, Connection>,
    processes: BTreeMap<u32, Process>,
    leaving: Leaving,
    /// Numbers connections and processes, never used twice.
    next: u32,
    /// Where the first result goes.
    ready: Option<File>,
    finished: bool,
    /// Held for life: shows that this shim lives.
    _lock: OwnedFd,
}

/// Sealed memory with contents of secrets.
struct Parcel {
    memory: OwnedFd,
    /// Keeps it out of swap.
    _locked: Option<Mapping>,
}

impl Parcel {
    fn new(memory: OwnedFd) -> Self {
        let locked = Mapping::new(&memory).and_then(|mapping| {
            mapping.lock()?;
            Ok(mapping)
        });
        let locked = locked.inspect_err(|error| complain!("secrets may go to swap: {error}"));
        Self {
            memory,
            _locked: locked.ok(),
        }
    }
}

impl AsFd for Parcel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

fn run(dir: RunDir) -> io::Result<()> {
    let (lock, ready) = take_standard_descriptors()?;
    let meta = dir.meta()?;
    let hierarchies = Hierarchies::detect().map_err(io::Error::other)?;
    let own_group = Cgroup::of_shims(&hierarchies, &meta.instance);
    if !leave_daemon(&own_group)? {
        return Ok(());
    }
    let mut shim = Shim::new(dir, meta, &hierarchies, lock, ready)?;
    shim.take_first_secrets()?;
    shim.prepare();
    // Costs milliseconds on version 1, during which the container is set up already.
    if let Err(error) = own_group.attach_v1(std::process::id()) {
        complain!("{error}");
    }
    while !shim.finished {
        shim.turn()?;
    }
    Ok(())
}

/// The lock and the pipe arrive as descriptors 0 and 1, where others would mistake them.
fn take_standard_descriptors() -> io::Result<(OwnedFd, File)> {
    let lock = rustix::stdio::stdin().try_clone_to_owned()?;
    let ready = rustix::stdio::stdout().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok((lock, File::from(ready)))
}

/// Goes on as a child of process 1, in a session and cgroup of its own; false in the parent.
fn leave_daemon(group: &Cgroup) -> io::Result<bool> {
    // SAFETY: nothing has started a thread in this process.
    if unsafe { group.fork_into() }?.is_some() {
        return Ok(false);
    }
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    sys::set_name(c"havre-shim")?;
    // Needs CAP_SYS_RESOURCE, which a daemon inside a container may lack.
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        complain!("cannot protect the shim from the out-of-memory killer: {error}");
    }
    Ok(true)
}

impl Shim {
    fn new(
        dir: RunDir,
        meta: Meta,
        hierarchies: &Hierarchies,
        lock: OwnedFd,
        ready: File,
    ) -> io::Result<Self> {
        let spec = &meta.spec;
        let cgroup =
            Cgroup::of_container(hierarchies, &meta.instance, &spec.cgroup_parent, &spec.id.0);
        let poller = Poller::new()?;
        let listener = dir.listen()?;
        let signals = sys::signal_fd(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP])?;
        poller.add(&listener, Token::Listener)?;
        poller.add(&signals, Token::Signals)?;
        let probes = Probes::new(spec);
        Ok(Self {
            cgroup,
            poller,
            listener,
            signals,
            life: Life::new(spec.restart.clone(), sys::since_boot()),
            container: Container::default(),
            output: Output::new(Spool::new(spec.log.clone())),
            parcel: None,
            observed: Observed {
                id: spec.id.clone(),
                labels: spec.labels.clone(),
                state: State::Creating,
                restarts: 0,
                health: probes.health(Purpose::Health),
                liveness: probes.health(Purpose::Liveness),
                last_exit: None,
                given: None,
            },
            probes,
            connections: BTreeMap::new(),
            processes: BTreeMap::new(),
            leaving: Leaving::default(),
            next: 0,
            ready: Some(ready),
            finished: false,
            _lock: lock,
            dir,
            meta,
        })
    }

    /// What was sent before this process began.
    fn take_first_secrets(&mut self) -> io::Result<()> {
        let Some(ready) = &self.ready else {
            return Ok(());
        };
        let mut buffer = [0; 256];
        let (length, fds) = match sys::receive(ready, &mut buffer, false) {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice(&buffer[..length])? {
            Request::Entrust {
                filter,
                parcel,
                contents,
            } => self.entrust(filter, parcel, contents, fds),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }

    /// Masks by another filter, and has other contents of secrets, each where it is there.
    fn entrust(
        &mut self,
        filter: bool,
        parcel: bool,
        name: Option<String>,
        fds: Vec<OwnedFd>,
    ) -> io::Result<()> {
        if fds.len() != usize::from(filter) + usize::from(parcel) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let mut fds = fds.into_iter();
        if filter && let Some(fd) = fds.next() {
            self.output.mask(&fd)?;
        }
        if parcel && let Some(fd) = fds.next() {
            // Read before it is kept: the next start would fail by one that cannot be.
            let contents = Contents::read(fd.as_fd())?;
            self.container.renew_secrets(&self.meta.spec, &contents)?;
            self.parcel = Some(Parcel::new(fd));
            self.note_given(name);
        }
        Ok(())
    }

    /// Its program knows of other contents when it is told, or when it starts the next time.
    fn note_given(&mut self, contents: Option<String>) {
        let Some(contents) = contents else { return };
        let loaded = self.observed.given.as_ref();
        let loaded = loaded.is_some_and(|given| given.loaded && given.contents == contents);
        self.observed.given = Some(Given { contents, loaded });
        self.publish();
    }

    /// Notes that the program knows what it was given, and tells it so before, where a signal does.
    fn reload(&mut self, contents: &str, signal: Option<i32>) -> Result<(), NotReloaded> {
        let is_given = |given: &Given| given.contents == contents;
        if !self.observed.given.as_ref().is_some_and(is_given) {
            return Err(NotReloaded::Other);
        }
        if let Some(signal) = signal {
            if !self.is_running() {
                // The next start reads them.
                return Err(NotReloaded::NotRunning);
            }
            if !self.hears(signal) && !self.waits_for_signals() {
                return Err(NotReloaded::Deaf);
            }
            self.signal(signal).map_err(NotReloaded::Signal)?;
        }
        if let Some(given) = &mut self.observed.given {
            given.loaded = true;
        }
        self.publish();
        Ok(())
    }

    /// Makes the cgroup and begins the first start.
    fn prepare(&mut self) {
        let access = match devices::allowed(&self.meta.spec) {
            Ok(access) => access,
            Err(error) => return self.failed(format!("cannot find its devices: {error}")),
        };
        match self.cgroup.create(&self.meta.spec.limits, &access) {
            Ok(()) => self.start(),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|c| format!(": {c}"));
                self.failed(format!("{error}{}", cause.unwrap_or_default()));
            }
        }
    }

    /// Waits for events or the next deadline, and handles them.
    fn turn(&mut self) -> io::Result<()> {
        let mut events = self.poller.wait(self.timeout())?;
        // Requests before output: a container that floods does not delay its stop.
        events.sort_by_key(|(token, _)| matches!(token, Token::Stdout | Token::Stderr));
        for (token, writable) in events {
            match token {
                Token::Listener => self.accept(),
                Token::Signals => self.terminated(),
                Token::Stdout => self.read_output(Stream::Stdout),
                Token::Stderr => self.read_output(Stream::Stderr),
                Token::Setup => self.setup_progress(),
                Token::Init => self.init_ended(),
                Token::Connection(n) => self.connection_event(n, writable),
                Token::ProcessSetup(n) => self.process_progress(n),
                Token::Process(n) => self.process_ended(n),
                Token::ProbeOutput(n) => self.probe_output(n),
                Token::Leaving => self.reap_setups(),
            }
            if self.finished {
                return Ok(());
            }
        }
        self.look_again();
        self.happened(Event::Tick);
        self.probe_deadlines();
        self.output.tick(sys::since_boot());
        Ok(())
    }

    fn timeout(&self) -> Option<Duration> {
        let now = sys::since_boot();
        let probes = self.probes.deadline();
        let running = self.processes.values().filter_map(Process::deadline).min();
        let again = self.leaving.wait().map(|wait| now + wait);
        let output = self.output.deadline();
        let next = self
            .life
            .deadline()
            .into_iter()
            .chain(probes)
            .chain(running)
            .chain(again)
            .chain(output)
            .min()?;
        // A millisecond late rather than early, or the loop would spin.
        Some(next.saturating_sub(now) + Duration::from_millis(1))
    }

    /// Carries the state machine on.
    fn happened(&mut self, event: Event) {
        let before = self.life.phase;
        let effect = self.life.step(event, sys::since_boot());
        match effect {
            None => {}
            Some(Effect::Start) => self.start(),
            Some(Effect::SignalStop) => self.signal_stop(),
            Some(Effect::SignalLate) => self.signal_late(),
            Some(Effect::Kill) => {
                if matches!(before, ProcessPhase::Starting { .. }) {
                    self.container.give_up();
                }
                self.kill();
            }
            Some(Effect::Finish) => self.finish(),
        }
        if before != self.life.phase && !self.finished {
            self.publish();
        }
    }

    /// SIGTERM to the shim itself, as at the machine's shutdown: the container stops in order.
    fn terminated(&mut self) {
        let mut info = [0u8; 128];
        if rustix::io::read(&self.signals, &mut info).is_ok() {
            self.happened(Event::Stop(self.meta.spec.stop_grace));
        }
    }

    /// The first result, for the caller of `create`.
    fn notify_creator(&mut self) {
        let Some(mut ready) = self.ready.take() else {
            return;
        };
        let told = serde_json::to_vec(&self.observed)
            .map_err(io::Error::from)
            .and_then(|bytes| ready.write_all(&bytes));
        if let Err(error) = told {
            // The daemon was killed meanwhile; it learns the state when it connects.
            complain!("cannot report the start: {error}");
        }
    }

    fn number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}
