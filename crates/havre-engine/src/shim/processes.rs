//! Further processes in the container: those of clients, and probes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use havre_redact::Stream as Masked;
use rustix::pipe::{PipeFlags, pipe_with};

use super::Shim;
use super::health::Purpose;
use super::output::Output;
use super::poller::Token;
use crate::init::{self, ExecRequest, Progress, Starting, Stdio};
use crate::protocol::{Exec, Reply};
use crate::spec::ProbeResult;
use crate::sys;

/// Most processes at once.
const MAX_PROCESSES: usize = 64;

/// Kept of a probe's output.
const MAX_PROBE_OUTPUT: usize = 4096;

/// A process that the shim started in the container.
pub struct Process {
    starting: Starting,
    /// It is in the container, not only on its way.
    inside: bool,
    executing: bool,
    /// Exit code and reason of a set-up that failed.
    failure: Option<(i32, String)>,
    owner: Owner,
}

enum Owner {
    /// A connection. The size is for the terminal, once there is one.
    Client {
        connection: u32,
        size: Option<(u16, u16)>,
    },
    /// A probe.
    Probe {
        purpose: Purpose,
        output: OwnedFd,
        said: Said,
        deadline: Option<Duration>,
    },
    /// Nobody waits for it any more; it is only reaped.
    Nobody,
}

/// The beginning of a probe's output, masked. What is held back where it is cut off stays so: it may be the
/// beginning of a secret.
#[derive(Default)]
struct Said {
    masked: Masked,
    text: Vec<u8>,
}

impl Said {
    fn take(&mut self, bytes: &[u8], output: &Output) {
        if self.text.len() < MAX_PROBE_OUTPUT {
            output.pass(&mut self.masked, bytes, &mut self.text);
            self.text.truncate(MAX_PROBE_OUTPUT);
        }
    }

    /// All that there is, of a probe that has ended.
    fn whole(mut self, output: &Output) -> String {
        if self.text.len() < MAX_PROBE_OUTPUT {
            output.pass_rest(&mut self.masked, &mut self.text);
            self.text.truncate(MAX_PROBE_OUTPUT);
        }
        self.cut()
    }

    /// What there is so far.
    fn cut(self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

impl Process {
    /// Of what is in the container, or on its way.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.starting.pidfd
    }

    /// When a probe runs into its timeout.
    pub fn deadline(&self) -> Option<Duration> {
        match self.owner {
            Owner::Probe { deadline, .. } => deadline,
            Owner::Client { .. } | Owner::Nobody => None,
        }
    }
}

impl Shim {
    /// Starts a client's process; `None`: the answers follow.
    pub(super) fn client_exec(
        &mut self,
        connection: u32,
        exec: Exec,
        fds: Vec<OwnedFd>,
    ) -> Option<Reply> {
        if !self.is_running() {
            return Some(Reply::NotRunning);
        }
        let refuse = |reason: &str| {
            Some(Reply::Error {
                reason: reason.to_owned(),
            })
        };
        if self.owned_by(connection).is_some() {
            return refuse("this connection has a process already");
        }
        let stdio = match <[OwnedFd; 3]>::try_from(fds) {
            Ok([stdin, stdout, stderr]) => Some(Stdio {
                stdin,
                stdout,
                stderr,
            }),
            Err(fds) if fds.is_empty() => None,
            Err(_) => return refuse("expected three descriptors or none"),
        };
        let request = ExecRequest {
            argv: exec.argv,
            env: exec.env,
            user: exec.user,
            cwd: exec.cwd,
            privileged: exec.privileged,
        };
        let owner = Owner::Client {
            connection,
            size: exec.size,
        };
        match self.start_process(&request, stdio, owner) {
            Ok(_) => None,
            Err(reason) => Some(Reply::Error { reason }),
        }
    }

    fn start_process(
        &mut self,
        request: &ExecRequest,
        stdio: Option<Stdio>,
        owner: Owner,
    ) -> Result<u32, String> {
        if self.processes.len() >= MAX_PROCESSES {
            return Err(format!(
                "{MAX_PROCESSES} processes were started in the container already"
            ));
        }
        let Some(container) = self.container.process() else {
            return Err("the container is not running".to_owned());
        };
        let starting = init::start_exec(
            &self.meta.spec,
            request,
            &self.cgroup,
            container.pidfd.as_fd(),
            stdio,
            self.parcel.as_ref().map(AsFd::as_fd),
        )
        .map_err(|error| super::container::describe(&error))?;
        let number = self.number();
        let watched = self
            .poller
            .add(&starting.socket, Token::ProcessSetup(number))
            .and_then(|()| self.poller.add(&starting.pidfd, Token::Process(number)));
        let process = Process {
            starting,
            inside: false,
            executing: false,
            failure: None,
            owner,
        };
        if let Err(error) = watched {
            end(&process);
            return Err(format!("cannot watch the process: {error}"));
        }
        self.processes.insert(number, process);
        Ok(number)
    }

    fn owned_by(&self, client: u32) -> Option<u32> {
        let owned = |p: &Process| matches!(p.owner, Owner::Client { connection, .. } if connection == client);
        self.processes
            .iter()
            .find(|(_, p)| owned(p))
            .map(|(n, _)| *n)
    }

    /// Reads what a set-up has to say.
    pub(super) fn process_progress(&mut self, number: u32) {
        loop {
            let Some(process) = self.processes.get_mut(&number) else {
                return;
            };
            match init::progress(process.starting.socket.as_fd()) {
                Ok(Progress::Pending) => return,
                Ok(Progress::Terminal(master)) => self.hand_terminal_over(number, master),
                Ok(Progress::Executing) => process.executing = true,
                // Only a container's first process has one, and this may be a container speaking.
                Ok(Progress::Secrets(_)) => {}
                Ok(Progress::Moved(pidfd)) => self.process_moved(number, pidfd),
                Ok(Progress::Failed { exit_code, reason }) => {
                    process.failure = Some((exit_code, reason));
                }
                Ok(Progress::Done) => {
                    self.poller.remove(&process.starting.socket);
                    let running = process.executing && process.failure.is_none();
                    if let Owner::Client { connection, .. } = process.owner
                        && running
                    {
                        let reply = Reply::Started {
                            pid: process.starting.pid,
                        };
                        self.reply(connection, &reply, None);
                    }
                    return;
                }
                Err(error) => {
                    self.poller.remove(&process.starting.socket);
                    process.failure = Some((126, format!("the set-up cannot be heard: {error}")));
                    end(process);
                    return;
                }
            }
        }
    }

    /// What was set up outside goes on as a process in the container.
    ///
    /// With `CAP_SYS_PTRACE` the container may speak through that process, and name one for this shim
    /// to kill: so it must be a child, which the shim has only in the container, and a new one.
    fn process_moved(&mut self, number: u32, pidfd: OwnedFd) {
        let pid = match sys::pid_of_child(&pidfd) {
            Ok(pid) if !self.knows(pid) => pid,
            Ok(_) => return self.refuse_process(number, "it named a process that is known"),
            Err(_) => return self.refuse_process(number, "it named a process of others"),
        };
        let Some(process) = self.processes.get_mut(&number) else {
            return;
        };
        if process.inside {
            return self.refuse_process(number, "it named two processes");
        }
        let before = std::mem::replace(&mut process.starting.pidfd, pidfd);
        process.starting.pid = pid;
        process.inside = true;
        self.poller.remove(&before);
        let going = self
            .poller
            .add(&process.starting.pidfd, Token::Process(number))
            .and_then(|()| init::go_on(&process.starting.socket));
        if let Err(error) = going.and(self.setup_leaves(before)) {
            self.refuse_process(number, &format!("it cannot be watched: {error}"));
        }
    }

    fn knows(&self, pid: u32) -> bool {
        let first = self.container.process().map(|process| process.pid);
        let others = self.processes.values().map(|process| process.starting.pid);
        first.into_iter().chain(others).any(|known| known == pid)
    }

    fn refuse_process(&mut self, number: u32, why: &str) {
        if let Some(process) = self.processes.get_mut(&number) {
            process.failure = Some((126, format!("cannot start a process: {why}")));
            end(process);
        }
    }

    fn hand_terminal_over(&mut self, number: u32, master: OwnedFd) {
        let Some(Process {
            owner: Owner::Client { connection, size },
            ..
        }) = self.processes.get(&number)
        else {
            return;
        };
        let (connection, size) = (*connection, *size);
        if let Some((rows, columns)) = size {
            let size = rustix::termios::Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            if let Err(error) = rustix::termios::tcsetwinsize(&master, size) {
                complain!("cannot set a terminal's size: {error}");
            }
        }
        self.reply(connection, &Reply::Terminal, Some(&master));
    }

    pub(super) fn process_ended(&mut self, number: u32) {
        self.process_progress(number);
        let Some(process) = self.processes.get(&number) else {
            return;
        };
        let code = match reap(process) {
            Ok(Some(ended)) => ended.code(),
            Ok(None) => {
                if sys::is_over(process.pidfd()).unwrap_or(false) {
                    self.end_is_held(number);
                }
                return;
            }
            Err(_) => 255,
        };
        self.probe_output(number);
        let Some(process) = self.processes.remove(&number) else {
            return;
        };
        if !process.inside {
            self.group_leaves(process.starting.pid);
        }
        self.poller.remove(&process.starting.pidfd);
        let failure = process.failure.or_else(|| {
            let text = || (code, "it was killed during its set-up".to_owned());
            (!process.executing).then(text)
        });
        match (process.owner, failure) {
            (Owner::Client { connection, .. }, None) => {
                self.reply(connection, &Reply::Exited { code }, None);
            }
            (Owner::Client { connection, .. }, Some((exit_code, reason))) => {
                self.reply(connection, &Reply::Failed { exit_code, reason }, None);
            }
            (
                Owner::Probe {
                    purpose,
                    said,
                    deadline: Some(_),
                    ..
                },
                None,
            ) => {
                let text = said.whole(&self.output);
                self.record_probe(purpose, Some(code), text);
            }
            (
                Owner::Probe {
                    purpose,
                    deadline: Some(_),
                    ..
                },
                Some((exit_code, reason)),
            ) => {
                let reason = self.output.redact(reason);
                self.record_probe(purpose, Some(exit_code), reason);
            }
            // The timeout has been recorded.
            (Owner::Probe { deadline: None, .. } | Owner::Nobody, _) => {}
        }
    }

    /// A client has left: its process goes too, since nobody can see what it does.
    pub(super) fn client_gone(&mut self, connection: u32) {
        let Some(number) = self.owned_by(connection) else {
            return;
        };
        if let Some(process) = self.processes.get_mut(&number) {
            end(process);
            process.owner = Owner::Nobody;
        }
    }

    /// The container has ended, so all of them have; answers go out as they are reaped.
    pub(super) fn end_processes(&mut self) {
        let numbers: Vec<_> = self.processes.keys().copied().collect();
        for number in numbers {
            if let Some(process) = self.processes.get(&number) {
                end(process);
            }
            self.process_ended(number);
        }
    }

    /// Starts the probes that are due, and ends those that take too long.
    pub(super) fn probe_deadlines(&mut self) {
        let now = sys::since_boot();
        let late = |process: &&mut Process| process.deadline().is_some_and(|d| now >= d);
        while let Some(process) = self.processes.values_mut().find(late) {
            end(process);
            if let Owner::Probe {
                purpose,
                said,
                deadline,
                ..
            } = &mut process.owner
            {
                *deadline = None;
                let (purpose, said) = (*purpose, std::mem::take(said));
                self.record_probe(purpose, None, said.cut());
            }
        }
        while let Some(purpose) = self.probes.take_due(now) {
            self.start_probe(purpose, now);
        }
    }

    fn start_probe(&mut self, purpose: Purpose, now: Duration) {
        let Some(probe) = self.probes.probe(purpose) else {
            return;
        };
        let stuck = self
            .processes
            .values()
            .any(|p| matches!(p.owner, Owner::Probe { purpose: of, .. } if of == purpose));
        if stuck {
            let reason = "the probe before cannot be killed".to_owned();
            return self.record_probe(purpose, None, reason);
        }
        let request = ExecRequest {
            argv: probe.argv.clone(),
            env: std::collections::BTreeMap::new(),
            user: None,
            cwd: None,
            privileged: false,
        };
        let deadline = now + probe.timeout;
        let started = probe_stdio()
            .map_err(|e| format!("cannot prepare the probe: {e}"))
            .and_then(|(stdio, output)| {
                let owner = Owner::Probe {
                    purpose,
                    output,
                    said: Said::default(),
                    deadline: Some(deadline),
                };
                let number = self.start_process(&request, Some(stdio), owner)?;
                self.watch_probe(number)
                    .map_err(|e| format!("cannot watch the probe: {e}"))
            });
        if let Err(reason) = started {
            let reason = self.output.redact(reason);
            self.record_probe(purpose, Some(126), reason);
        }
    }

    fn watch_probe(&self, number: u32) -> io::Result<()> {
        match self.processes.get(&number).map(|p| &p.owner) {
            Some(Owner::Probe { output, .. }) => {
                self.poller.add(output, Token::ProbeOutput(number))
            }
            _ => Ok(()),
        }
    }

    /// Takes a probe's output in; more than is kept is read and forgotten.
    pub(super) fn probe_output(&mut self, number: u32) {
        let Some(process) = self.processes.get_mut(&number) else {
            return;
        };
        let Owner::Probe { output, said, .. } = &mut process.owner else {
            return;
        };
        let mut buffer = [0; MAX_PROBE_OUTPUT];
        // Bounded, so that a chatty probe cannot keep the loop for itself.
        for _ in 0..32 {
            match rustix::io::read(&*output, &mut buffer) {
                Ok(0) => return self.poller.remove(&*output),
                Ok(len) => said.take(&buffer[..len], &self.output),
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => return self.poller.remove(&*output),
            }
        }
    }

    fn record_probe(&mut self, purpose: Purpose, exit_code: Option<i32>, output: String) {
        let result = ProbeResult {
            at: SystemTime::now(),
            exit_code,
            output,
        };
        let now = sys::since_boot();
        if self.probes.record(purpose, result, now) {
            self.publish();
        }
    }
}

/// Takes the end of a process in, if it has ended.
fn reap(process: &Process) -> io::Result<Option<sys::Ended>> {
    let Starting { pid, pidfd, .. } = &process.starting;
    if process.inside {
        return sys::reap(pidfd);
    }
    // It may have been killed after it had put a sibling into the container and before it could tell:
    // that one is in its group still, whose number is in use until it is reaped.
    if !sys::has_ended(pidfd)? {
        return Ok(None);
    }
    sys::kill_group(*pid)?;
    sys::reap(pidfd)
}

/// Kills a process and those of its group.
fn end(process: &Process) {
    // Not reaped yet, so the number is its own; the group exists once it has run setsid.
    for result in [
        sys::kill_group(process.starting.pid),
        sys::kill_pidfd(&process.starting.pidfd, libc::SIGKILL),
    ] {
        if let Err(error) = result {
            complain!("cannot kill a process of the container: {error}");
        }
    }
}

fn probe_stdio() -> io::Result<(Stdio, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    let stdin = File::open("/dev/null")?.into();
    Ok((
        Stdio {
            stdin,
            stdout: write.try_clone()?,
            stderr: write,
        },
        read,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::masking;
    use super::*;

    #[test]
    fn no_piece_of_a_secret_is_left_where_a_probes_output_is_cut() {
        let dir = tempfile::tempdir().expect("a folder");
        let output = masking(dir.path(), &["correct horse"]);
        let said = |pieces: &[&str]| {
            let mut said = Said::default();
            for piece in pieces {
                said.take(piece.as_bytes(), &output);
            }
            said
        };
        let before = "x".repeat(MAX_PROBE_OUTPUT - 6);
        let rest = |said: Said| said.whole(&output).split_off(before.len());
        // On the border, and in two pieces as the pipe gives them.
        assert_eq!(rest(said(&[&format!("{before}correct horse")])), "***");
        let pieces = [before.as_str(), "correct", " horse and more"];
        assert_eq!(rest(said(&pieces)), "*** an");
        // It may go on, or has ended.
        assert_eq!(said(&["password corr"]).cut(), "password ");
        let ended = said(&["password corr"]).whole(&output);
        assert_eq!(ended, "password corr");
    }
}
