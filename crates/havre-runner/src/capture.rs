//! Runs a program of the runner's own and takes what it prints.

use std::io::Read;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::processes::{Processes, Watch};

/// Most bytes that are kept of what it prints.
const MAX_KEPT: u64 = 256 << 10;

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
    let stderr = running.stderr;
    let said = thread::Builder::new()
        .name("capture".to_owned())
        .spawn(move || kept(stderr))
        .map_err(failed)?;
    let stdout = running.stdout;
    let answer = thread::Builder::new()
        .name("capture".to_owned())
        .spawn(move || kept(stdout))
        .map_err(failed)?;
    let watch = Watch {
        place: u32::MAX,
        deadline: Some(Instant::now() + most),
        goes_on: &|| false,
        mark: "",
    };
    let ended = processes.watch(running.id, &watch);
    let text = |thread: thread::JoinHandle<String>| thread.join().unwrap_or_default();
    if ended.stop.is_some() {
        let seconds = most.as_secs();
        return Err(format!(
            "`{name}` was ended: the job was cancelled, or it took more than {seconds} s"
        ));
    }
    Ok(Captured {
        success: ended.status.is_some_and(|status| status.success()),
        stdout: text(answer),
        stderr: text(said),
    })
}

/// The beginning; the rest is read and thrown away.
fn kept(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    let read = (&mut from).take(MAX_KEPT).read_to_end(&mut bytes);
    let rest = std::io::copy(&mut from, &mut std::io::sink());
    // What could not be read is missing, which the exit status tells better.
    drop((read, rest));
    String::from_utf8_lossy(&bytes).into_owned()
}
