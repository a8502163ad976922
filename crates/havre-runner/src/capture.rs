//! Runs a program of the runner's own and takes what it prints.

use std::io::{self, Read};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::processes::{Processes, Watch};

/// Most bytes that are kept of what it prints.
const MAX_KEPT: usize = 256 << 10;

/// How long is waited for what a program that ended has left in its pipes.
const MAX_DRAIN: Duration = Duration::from_secs(2);

/// What a program printed.
pub(crate) struct Captured {
    /// Whether it succeeded.
    pub success: bool,
    /// What it printed as its answer.
    pub stdout: String,
    /// What it had to say.
    pub stderr: String,
}

/// Runs it, for so long at most; it ends when the job is cancelled.
pub(crate) fn capture(
    processes: &Processes,
    command: &mut Command,
    most: Duration,
) -> Result<Captured, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| format!("`{name}` cannot be run: {error}");
    let running = processes.spawn(command).map_err(failed)?;
    let said = Kept::read(running.stderr).map_err(failed)?;
    let answer = Kept::read(running.stdout).map_err(failed)?;
    let watch = Watch {
        place: u32::MAX,
        deadline: Some(Instant::now() + most),
        goes_on: &|| false,
        mark: "",
    };
    let ended = processes.watch(running.id, &watch);
    if ended.stop.is_some() {
        let seconds = most.as_secs();
        return Err(format!(
            "`{name}` was ended: the job was cancelled, or it took more than {seconds} s"
        ));
    }
    Ok(Captured {
        success: ended.status.is_some_and(|status| status.success()),
        stdout: answer.text(),
        stderr: said.text(),
    })
}

/// What is kept of a pipe.
struct Kept {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Closed when all is read.
    done: mpsc::Receiver<()>,
}

impl Kept {
    /// Reads the beginning; the rest is read and thrown away.
    fn read(mut from: impl Read + Send + 'static) -> io::Result<Self> {
        let (open, done) = mpsc::channel();
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Arc::clone(&bytes);
        let read = move || {
            let mut piece = [0; 4096];
            loop {
                match from.read(&mut piece) {
                    Ok(0) => break,
                    Ok(count) => {
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        let room = MAX_KEPT.saturating_sub(kept.len());
                        kept.extend(&piece[..count.min(room)]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // What could not be read is missing, which the exit status tells better.
                    Err(_) => break,
                }
            }
            drop(open);
        };
        thread::Builder::new()
            .name("capture".to_owned())
            .spawn(read)?;
        Ok(Self { bytes, done })
    }

    /// What there is, after the program has ended: what it left in the background may hold the pipe for ever.
    fn text(self) -> String {
        match self.done.recv_timeout(MAX_DRAIN) {
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_in_the_background_keeps_nobody() {
        let processes = Processes::of_tests();
        let began = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "echo v24.1.0; sleep 60 &"]);
        let captured = capture(&processes, &mut command, Duration::from_secs(30));
        let captured = captured.expect("it runs");
        assert_eq!(captured.stdout, "v24.1.0\n");
        assert!(captured.success && began.elapsed() < Duration::from_secs(25));
    }
}
