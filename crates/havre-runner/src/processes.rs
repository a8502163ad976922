//! Processes of steps: started, waited for, ended with all that they left behind.
//!
//! The runner is the first process of its box, or says that orphans below it are its own: one thread takes what ended
//! off the kernel's list, whoever it was; who waits for a process looks at what that thread noted. A request to cancel
//! is noted at the same place, so that one wait sees both.

use std::collections::HashMap;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::descendants;

/// After a SIGINT, until a SIGTERM; GitHub's.
const INTERRUPTED: Duration = Duration::from_millis(7500);
/// After a SIGTERM, until a SIGKILL; GitHub's.
const TERMINATED: Duration = Duration::from_millis(2500);
/// For a process that was killed.
const KILLED: Duration = Duration::from_secs(10);

/// All processes of a job.
pub(crate) struct Processes {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    /// By id: how each that somebody waits for ended.
    known: HashMap<i32, Option<ExitStatus>>,
    spawned: u64,
    /// How often the job was cancelled.
    cancels: u32,
    /// Steps that are to end, by their place.
    ended: Vec<u32>,
}

/// A process that runs.
pub(crate) struct Running {
    pub id: i32,
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
}

/// Why a process was made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The job was cancelled.
    Job,
    /// A step with `cancel` ended it.
    Step,
    /// It took too long.
    Timeout,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// `None`: it could not be ended.
    pub status: Option<ExitStatus>,
    /// Why it was made to, if it was.
    pub stop: Option<Stop>,
}

/// What a process is watched for.
pub(crate) struct Watch<'a> {
    /// Of its step.
    pub place: u32,
    /// When it has to be done.
    pub deadline: Option<Instant>,
    /// Whether it goes on although the job was cancelled.
    pub goes_on: &'a dyn Fn() -> bool,
    /// What its environment has, and that of what it starts: `NAME=VALUE`.
    pub mark: &'a str,
}

impl Processes {
    /// Takes orphans in and begins to reap.
    pub fn start() -> io::Result<Arc<Self>> {
        if std::process::id() != 1 {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        }
        let processes = Arc::new(Self {
            inner: Mutex::default(),
            changed: Condvar::new(),
        });
        let reaper = Arc::clone(&processes);
        thread::Builder::new()
            .name("reaper".to_owned())
            .spawn(move || reaper.reap())?;
        Ok(processes)
    }

    /// Those of all tests in this program: only one may reap.
    #[cfg(test)]
    pub fn of_tests() -> Arc<Self> {
        static OF_TESTS: std::sync::OnceLock<Arc<Processes>> = std::sync::OnceLock::new();
        let processes = OF_TESTS.get_or_init(|| Self::start().expect("processes can be had"));
        Arc::clone(processes)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reap(&self) {
        loop {
            let seen = self.inner().spawned;
            match peek() {
                Ok(id) => {
                    let mut inner = self.inner();
                    if let Some(status) = take(id)
                        && let Some(known) = inner.known.get_mut(&id)
                    {
                        *known = Some(status);
                    }
                    self.changed.notify_all();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // There is no process at all.
                Err(_) => {
                    let mut inner = self.inner();
                    while inner.spawned == seen {
                        inner = self.wait(inner, None);
                    }
                }
            }
        }
    }

    fn wait<'g>(
        &self,
        guard: MutexGuard<'g, Inner>,
        most: Option<Duration>,
    ) -> MutexGuard<'g, Inner> {
        match most {
            None => self
                .changed
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner),
            Some(most) => {
                let waited = self.changed.wait_timeout(guard, most);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Starts a process in a group of its own, without input, with pipes for what it prints.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Running> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut inner = self.inner();
        // Nothing is reaped while the list is held: the id is known before its end can be noted.
        let mut child = command.spawn()?;
        let id = i32::try_from(child.id()).map_err(io::Error::other)?;
        inner.known.insert(id, None);
        inner.spawned += 1;
        self.changed.notify_all();
        let pipes = child.stdout.take().zip(child.stderr.take());
        let (stdout, stderr) = pipes.ok_or_else(|| io::Error::other("there are no pipes"))?;
        Ok(Running { id, stdout, stderr })
    }

    /// Waits for a process, and ends it where that is asked for.
    pub fn watch(&self, id: i32, watch: &Watch<'_>) -> Ended {
        let mut ending: Option<Ending> = None;
        let mut heard = 0;
        let mut inner = self.inner();
        loop {
            if let Some(Some(status)) = inner.known.get(&id) {
                let (status, stop) = (*status, ending.as_ref().map(|ending| ending.stop));
                inner.known.remove(&id);
                drop(inner);
                if ending.is_some() {
                    descendants::kill(id, watch.mark, ending.map(|ending| ending.below));
                }
                let status = Some(status);
                return Ended { status, stop };
            }
            let now = Instant::now();
            if let Some(ending) = &mut ending {
                if inner.cancels > 1 {
                    ending.hurry(now);
                }
                match ending.due(now) {
                    Due::Later => {}
                    Due::Signal(signal) => {
                        drop(inner);
                        ending.signal(id, signal, watch.mark);
                        inner = self.inner();
                        continue;
                    }
                    Due::GivenUp => {
                        let stop = Some(ending.stop);
                        inner.known.remove(&id);
                        return Ended { status: None, stop };
                    }
                }
            } else {
                let cancels = inner.cancels;
                if cancels > heard {
                    heard = cancels;
                    drop(inner);
                    let goes_on = cancels < 2 && (watch.goes_on)();
                    inner = self.inner();
                    if !goes_on {
                        ending = Some(Ending::new(Stop::Job, now));
                    }
                    continue;
                }
                let stop = match watch.deadline {
                    _ if inner.ended.contains(&watch.place) => Some(Stop::Step),
                    Some(deadline) if deadline <= now => Some(Stop::Timeout),
                    _ => None,
                };
                if let Some(stop) = stop {
                    ending = Some(Ending::new(stop, now));
                    continue;
                }
            }
            let next = match &ending {
                Some(ending) => Some(ending.next),
                None => watch.deadline,
            };
            inner = self.wait(inner, next.map(|next| next.saturating_duration_since(now)));
        }
    }

    /// Notes that the job is cancelled, once more.
    pub fn cancel(&self) {
        self.inner().cancels += 1;
        self.changed.notify_all();
    }

    /// How often the job was cancelled.
    pub fn cancels(&self) -> u32 {
        self.inner().cancels
    }

    /// Ends a step, by its place.
    pub fn end_step(&self, place: u32) {
        self.inner().ended.push(place);
        self.changed.notify_all();
    }

    /// Whether a step is to end.
    pub fn is_ended(&self, place: u32) -> bool {
        self.inner().ended.contains(&place)
    }

    /// Kills all that steps left behind.
    pub fn kill_all(&self) {
        descendants::kill_all();
    }
}

/// The way of a process to its end.
struct Ending {
    stop: Stop,
    stage: Stage,
    next: Instant,
    /// What it had started before it was asked to end.
    below: Vec<i32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asked,
    Interrupted,
    Terminated,
    Killed,
}

enum Due {
    Later,
    Signal(rustix::process::Signal),
    GivenUp,
}

impl Ending {
    fn new(stop: Stop, now: Instant) -> Self {
        Self {
            stop,
            stage: Stage::Asked,
            next: now,
            below: Vec::new(),
        }
    }

    /// Nothing is waited for any more.
    fn hurry(&mut self, now: Instant) {
        if self.stage != Stage::Killed {
            self.stage = Stage::Terminated;
            self.next = now;
        }
    }

    fn due(&mut self, now: Instant) -> Due {
        use rustix::process::Signal;
        if now < self.next {
            return Due::Later;
        }
        let (stage, wait, signal) = match self.stage {
            Stage::Asked => (Stage::Interrupted, INTERRUPTED, Signal::INT),
            Stage::Interrupted => (Stage::Terminated, TERMINATED, Signal::TERM),
            Stage::Terminated => (Stage::Killed, KILLED, Signal::KILL),
            Stage::Killed => return Due::GivenUp,
        };
        self.stage = stage;
        self.next = now + wait;
        Due::Signal(signal)
    }

    fn signal(&mut self, id: i32, signal: rustix::process::Signal, mark: &str) {
        if self.stage == Stage::Interrupted || self.below.is_empty() {
            self.below = descendants::of(id);
        }
        if signal == rustix::process::Signal::KILL {
            descendants::kill(id, mark, Some(std::mem::take(&mut self.below)));
        }
        descendants::signal_group(id, signal);
    }
}

/// The id of a process that ended, which stays on the kernel's list; waits for one.
fn peek() -> io::Result<i32> {
    // SAFETY: all bytes zero is a value of it.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOWAIT;
    // SAFETY: `info` outlives the call.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
    match result {
        // SAFETY: it was filled in for a child that ended.
        0 => Ok(unsafe { info.si_pid() }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes it off the list.
fn take(id: i32) -> Option<ExitStatus> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let taken = unsafe { libc::waitpid(id, &raw mut status, libc::WNOHANG) };
    (taken == id).then(|| ExitStatus::from_raw(status))
}
