//! Other programs, run with a deadline.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

/// Most output that is read.
const OUTPUT: u64 = 1 << 20;

/// How a program ended and what it said.
pub struct Run {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub output: String,
    /// Its standard error, trimmed.
    pub errors: String,
}

/// Runs a program to its end; one that takes longer than `patience` is killed.
pub fn run(command: &mut Command, patience: Duration) -> io::Result<Run> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pipes = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let output = scope.spawn(|| read_all(pipes.0));
        let errors = scope.spawn(|| read_all(pipes.1));
        let status = wait(&mut child, patience)?;
        let join = |said: std::thread::Result<io::Result<String>>| {
            said.unwrap_or_else(|_| Err(io::Error::other("the reader panicked")))
        };
        Ok(Run {
            status,
            output: join(output.join())?,
            errors: join(errors.join())?.trim().to_owned(),
        })
    })
}

/// [`run`] for a program whose output goes elsewhere.
pub fn status(command: &mut Command, patience: Duration) -> io::Result<ExitStatus> {
    wait(&mut command.spawn()?, patience)
}

/// Whether the process of a descriptor ends before `patience` is over.
pub fn ended(pidfd: impl AsFd, patience: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn wait(child: &mut Child, patience: Duration) -> io::Result<ExitStatus> {
    let pid = Pid::from_raw(child.id().cast_signed())
        .ok_or_else(|| io::Error::other("a process without a number"))?;
    // Not yet waited for, so the number is the child's.
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    if ended(&pidfd, patience)? {
        return child.wait();
    }
    child.kill()?;
    child.wait()?;
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("not done within {} s", patience.as_secs()),
    ))
}

fn read_all(pipe: Option<impl Read>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT).read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_errors_are_told_apart() {
        let patience = Duration::from_secs(10);
        let run = run(
            Command::new("sh").args(["-c", "echo a; echo b >&2; exit 3"]),
            patience,
        )
        .expect("ran");
        assert_eq!((run.output.as_str(), run.errors.as_str()), ("a\n", "b"));
        assert_eq!(run.status.code(), Some(3));
    }

    #[test]
    fn what_takes_too_long_is_killed() {
        let begun = Instant::now();
        let error = status(Command::new("sleep").arg("60"), Duration::from_millis(30))
            .expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
