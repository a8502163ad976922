//! The container's own process: start, output, signals, end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::SystemTime;

use rustix::pipe::{PipeFlags, pipe_with};

use super::Shim;
use super::health::Purpose;
use super::life::{Event, ProcessPhase};
use super::poller::Token;
use super::spool::Stream;
use crate::confidential::Contents;
use crate::init::{self, Progress, SetupError, Starting, Stdio};
use crate::secrets::Delivered;
use crate::spec::{ContainerSpec, Exit, State};
use crate::{signal, sys};

/// Read at most this much from one output before looking at the others.
const READ_PER_TURN: usize = 32 * 1024;

/// The process and what belongs to it.
#[derive(Default)]
pub struct Container {
    process: Option<Starting>,
    /// The set-up got as far as running the program.
    executing: bool,
    /// Why the set-up failed.
    failure: Option<String>,
    /// Its output, or the terminal's master.
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Where its input comes from, while it is to be kept open.
    pub input: Option<OwnedFd>,
    terminal: bool,
    /// Where new versions of its secrets go.
    secrets: Option<Delivered>,
    /// The group's count when it started.
    oom_kills: u64,
    started_at: Option<SystemTime>,
}

impl Container {
    /// Its pidfd and host process id, while there is one.
    pub fn process(&self) -> Option<&Starting> {
        self.process.as_ref()
    }

    /// Puts other contents of its secrets in place, where there are any. While it is being set up its
    /// set-up reads those before, and gives them their owners: nobody may come in between.
    pub fn renew_secrets(&mut self, spec: &ContainerSpec, contents: &Contents) -> io::Result<()> {
        if self.process.is_some() && self.started_at.is_none() {
            let text = "the container is being started: try again";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        if let Some(delivered) = &mut self.secrets {
            for error in delivered.renew(spec, contents)? {
                complain!("an older version of secrets stays: {error}");
            }
        }
        Ok(())
    }

    /// The set-up is about to be killed for taking too long.
    pub fn give_up(&mut self) {
        self.failure = Some("its set-up did not end in time".to_owned());
    }
}

impl Shim {
    /// Begins a start; the set-up reports through its socket.
    pub(super) fn start(&mut self) {
        self.output.set_terminal(self.meta.spec.tty);
        // It reads what lies there now.
        if let Some(given) = &mut self.observed.given {
            given.loaded = true;
        }
        self.container = Container {
            oom_kills: self.cgroup.oom_kills(),
            ..Container::default()
        };
        if let Err(error) = self.try_start() {
            self.failed(describe(&error));
        }
    }

    fn try_start(&mut self) -> Result<(), SetupError> {
        let spec = &self.meta.spec;
        let stdio = if spec.tty {
            None
        } else {
            let (stdio, mut ours) = pipes(spec.stdin_open).map_err(|source| SetupError::Step {
                what: "create the output pipes".to_owned(),
                source,
            })?;
            self.container.input = ours.pop().flatten();
            self.container.stderr = ours.pop().flatten();
            self.container.stdout = ours.pop().flatten();
            Some(stdio)
        };
        let rootfs = self.dir.rootfs();
        let parcel = self.parcel.as_ref().map(AsFd::as_fd);
        let starting = init::start_container(spec, &rootfs, &self.cgroup, stdio, parcel)?;
        let watch = || {
            if let Some(fd) = &self.container.stdout {
                self.poller.add(fd, Token::Stdout)?;
            }
            if let Some(fd) = &self.container.stderr {
                self.poller.add(fd, Token::Stderr)?;
            }
            self.poller.add(&starting.socket, Token::Setup)?;
            self.poller.add(&starting.pidfd, Token::Init)
        };
        let watched: io::Result<()> = watch();
        self.container.process = Some(starting);
        watched.map_err(|source| SetupError::Step {
            what: "watch the container".to_owned(),
            source,
        })
    }

    /// Reads what the set-up has to say.
    pub(super) fn setup_progress(&mut self) {
        loop {
            let Some(process) = &self.container.process else {
                return;
            };
            match init::progress(process.socket.as_fd()) {
                Ok(Progress::Pending) => return,
                Ok(Progress::Terminal(master)) => self.take_terminal(master),
                Ok(Progress::Executing) => self.container.executing = true,
                Ok(Progress::Secrets(folder)) => {
                    self.container.secrets = Some(Delivered::first(folder));
                }
                // Only further processes do that.
                Ok(Progress::Moved(_)) => {}
                Ok(Progress::Failed { reason, .. }) => self.container.failure = Some(reason),
                Ok(Progress::Done) => {
                    self.poller.remove(&process.socket);
                    if self.container.executing && self.container.failure.is_none() {
                        self.started();
                    }
                    // Otherwise its end, which follows, tells.
                    return;
                }
                Err(error) => {
                    self.poller.remove(&process.socket);
                    self.container.failure = Some(format!("the set-up cannot be heard: {error}"));
                    self.kill();
                    return;
                }
            }
        }
    }

    fn take_terminal(&mut self, master: OwnedFd) {
        let ready = rustix::io::ioctl_fionbio(&master, true)
            .map_err(io::Error::from)
            .and_then(|()| self.poller.add(&master, Token::Stdout))
            .and_then(|()| master.try_clone());
        match ready {
            Ok(copy) => {
                self.container.input = Some(copy);
                self.container.stdout = Some(master);
                self.container.terminal = true;
            }
            Err(error) => {
                self.container.failure = Some(format!("cannot use the terminal: {error}"))
            }
        }
    }

    fn started(&mut self) {
        if self.container.started_at.is_some() {
            return;
        }
        self.container.started_at = Some(SystemTime::now());
        self.probes.started(sys::since_boot());
        self.happened(Event::Started);
        self.notify_creator();
    }

    /// The first process has ended, and with it all others of the container.
    pub(super) fn init_ended(&mut self) {
        self.setup_progress();
        let Some(process) = &self.container.process else {
            return;
        };
        let ended = match sys::reap(&process.pidfd) {
            Ok(Some(ended)) => ended,
            Ok(None) => return,
            Err(error) => {
                complain!("cannot learn how the container ended: {error}");
                sys::Ended::Code(255)
            }
        };
        if self.meta.spec.shares.pid
            && let Err(error) = self.cgroup.kill_each()
        {
            complain!("cannot end what the container has left behind: {error}");
        }
        self.drain_output();
        if !self.dir.path().exists() {
            // Cleared under our feet: nobody can ask for this container any more.
            self.container.failure = Some("its run directory is gone".to_owned());
            return self.happened(Event::Failed);
        }
        let ran = self.container.started_at.is_some();
        let failure = self.container.failure.take();
        let oom_kills = self.cgroup.oom_kills();
        let oom_killed = oom_kills > self.container.oom_kills && ended.code() != 0;
        self.container = Container::default();
        self.probes.stopped();
        self.end_processes();
        if !ran {
            let how = match ended.signal() {
                Some(_) if oom_killed => "the memory limit is too small to start it".to_owned(),
                Some(signal) => format!("killed by signal {signal} during set-up"),
                None => format!("ended with code {} during set-up", ended.code()),
            };
            return self.failed(failure.unwrap_or(how));
        }
        self.observed.last_exit = Some(Exit {
            at: SystemTime::now(),
            code: ended.code(),
            signal: ended.signal(),
            oom_killed,
            memory_peak_bytes: oom_killed
                .then(|| self.cgroup.stats().memory_peak)
                .flatten(),
            requested: self.life.stopping(),
        });
        self.happened(Event::Exited(ended.code()));
    }

    /// The start failed for good.
    pub(super) fn failed(&mut self, reason: String) {
        self.container.failure = Some(reason);
        self.kill();
        self.happened(Event::Failed);
    }

    /// Takes output in.
    pub(super) fn read_output(&mut self, stream: Stream) {
        let source = match stream {
            Stream::Stdout => &mut self.container.stdout,
            Stream::Stderr => &mut self.container.stderr,
        };
        let Some(fd) = source else { return };
        let mut buffer = [0; 16 * 1024];
        let mut total = 0;
        while total < READ_PER_TURN {
            match rustix::io::read(&*fd, &mut buffer) {
                Ok(0) => {
                    self.poller.remove(&*fd);
                    *source = None;
                    return self.output.end(stream);
                }
                Ok(len) => {
                    total += len;
                    self.output.feed(stream, &buffer[..len], sys::since_boot());
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                // A terminal whose last user is gone.
                Err(_) => {
                    self.poller.remove(&*fd);
                    *source = None;
                    return self.output.end(stream);
                }
            }
        }
        if self.container.terminal {
            self.output.flush_partial(stream);
        }
    }

    /// All processes are gone: what is in the pipes is all there will be.
    fn drain_output(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            // A pipe holds at most a megabyte.
            for _ in 0..64 {
                self.read_output(stream);
            }
            self.output.end(stream);
        }
    }

    /// Asks the first process to stop.
    pub(super) fn signal_stop(&mut self) {
        self.probes.stopped();
        let signal = self.stop_signal();
        // Before it is sent: two are worse than one, should it begin to listen at this moment.
        let heard = self.hears(signal);
        self.send_stop(signal);
        if !heard {
            self.life.unheard(sys::since_boot());
        }
    }

    /// The same for who had no handler for it before.
    pub(super) fn signal_late(&mut self) {
        let signal = self.stop_signal();
        if self.hears(signal) {
            self.send_stop(signal);
        } else {
            self.life.unheard(sys::since_boot());
        }
    }

    fn stop_signal(&self) -> i32 {
        signal::number(&self.meta.spec.stop_signal).unwrap_or(libc::SIGTERM)
    }

    pub(super) fn hears(&self, signal: i32) -> bool {
        let process = self.container.process.as_ref();
        // One that cannot be asked has ended.
        process.is_none_or(|process| signal::is_heard(process.pid, signal).unwrap_or(true))
    }

    /// Whether a thread of the first process waits in `sigwait`, as our own init does: what it waits for is not
    /// seen, but it is for nothing else than to be told.
    pub(super) fn waits_for_signals(&self) -> bool {
        let process = self.container.process.as_ref();
        process.is_some_and(|process| signal::is_waited_for(process.pid))
    }

    fn send_stop(&mut self, signal: i32) {
        if let Err(error) = self.signal(signal) {
            complain!("cannot send the stop signal: {error}");
            self.kill();
        }
    }

    /// Whether the program runs.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.life.phase, ProcessPhase::Running { .. }) && self.container.process.is_some()
    }

    /// A signal for the first process.
    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        match &self.container.process {
            Some(process) => sys::kill_pidfd(&process.pidfd, signal),
            None => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the container is not running",
            )),
        }
    }

    /// Kills the whole container: with its first process, the kernel kills all of its process
    /// namespace, exec'd ones too.
    ///
    /// Not through `cgroup.kill`: since Linux 6.14 a group that was killed that way also kills
    /// whatever `clone3` starts in it later, for instance the next start.
    pub(super) fn kill(&mut self) {
        if let Some(process) = &self.container.process
            && let Err(error) = sys::kill_pidfd(&process.pidfd, libc::SIGKILL)
        {
            complain!("cannot kill the container: {error}");
        }
    }

    /// Records the end, tells everyone and leaves.
    pub(super) fn finish(&mut self) {
        self.refresh();
        if let Err(error) = self.dir.write_exit(&self.observed) {
            // Also the case when the run directory was removed.
            complain!("cannot record the end: {error}");
        }
        self.broadcast();
        self.notify_creator();
        self.finished = true;
    }

    /// Something changed: tells whoever subscribed.
    pub(super) fn publish(&mut self) {
        self.refresh();
        self.broadcast();
    }

    /// Brings `observed` up to date.
    pub(super) fn refresh(&mut self) {
        self.observed.restarts = self.life.restarts;
        self.observed.health = self.probes.health(Purpose::Health);
        self.observed.liveness = self.probes.health(Purpose::Liveness);
        self.observed.state = match (self.life.phase, &self.container.failure) {
            (ProcessPhase::Ended, Some(reason)) => State::Failed {
                reason: reason.clone(),
            },
            (ProcessPhase::Ended, None) => State::Exited,
            (ProcessPhase::Starting { .. }, _) => State::Creating,
            (ProcessPhase::BackOff { until }, _) => {
                let wait = until.saturating_sub(sys::since_boot());
                State::BackOff {
                    until: SystemTime::now() + wait,
                }
            }
            (ProcessPhase::Running { .. }, _) => State::Running {
                pid: self.container.process.as_ref().map_or(0, |p| p.pid),
                started_at: self.container.started_at.unwrap_or_else(SystemTime::now),
            },
        };
    }
}

/// The error and its causes on one line.
pub(super) fn describe(error: &SetupError) -> String {
    let cause = std::error::Error::source(error).map(|c| format!(": {c}"));
    format!("{error}{}", cause.unwrap_or_default())
}

/// Their ends, and ours: stdout, stderr, and stdin where it stays open.
fn pipes(stdin_open: bool) -> io::Result<(Stdio, Vec<Option<OwnedFd>>)> {
    let (out_read, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (err_read, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    // Only our ends: the flag belongs to the open file, and programs expect blocking output.
    rustix::io::ioctl_fionbio(&out_read, true)?;
    rustix::io::ioctl_fionbio(&err_read, true)?;
    let (stdin, input) = if stdin_open {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        (read, Some(write))
    } else {
        (std::fs::File::open("/dev/null")?.into(), None)
    };
    Ok((
        Stdio {
            stdin,
            stdout,
            stderr,
        },
        vec![Some(out_read), Some(err_read), input],
    ))
}
