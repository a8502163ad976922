//! Commands at points of a replica's life: `post_start` and `pre_stop`.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use havre_engine::{ContainerId, Engine, ExecError, ExecSpec};
use havre_model::Hook;
use havre_redact::{Filter, Stream};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, timeout_at};

/// Longest run of all hooks after a start.
const AFTER_START: Duration = Duration::from_secs(300);
/// Longest run of a command that has a program reload its secrets.
const RELOAD: Duration = Duration::from_secs(30);
/// Last lines of a hook's output that an error shows.
const LINES: usize = 5;
/// Bytes of a hook's output that are shown as one line.
const MAX_LINE: usize = 2048;
/// In a container's folder: its `post_start` hooks have ended well.
const DONE: &str = "post-start-done";

/// Masks a hook's output; nothing of it is shown without.
pub(crate) type Masking<'a> = Option<&'a Filter>;

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    #[error("hook `{command}` cannot be run")]
    Start { command: String, source: ExecError },
    #[error("hook `{command}` ended with exit code {code}{}", after(output))]
    Failed {
        command: String,
        code: i32,
        output: Vec<String>,
    },
    #[error("hook `{command}` did not end within {} s", within.as_secs())]
    Late { command: String, within: Duration },
    #[error("cannot note in {path} that the hooks are done", path = path.display())]
    Note { path: PathBuf, source: io::Error },
}

fn after(output: &[String]) -> String {
    match output {
        [] => String::new(),
        lines => format!(": {}", lines.join(" / ")),
    }
}

/// Whether the `post_start` hooks of the container with this folder have ended well.
pub(crate) fn are_done(folder: &Path) -> bool {
    folder.join(DONE).exists()
}

/// Runs the hooks of a replica that has just started, one after the other, and notes it.
pub(crate) async fn after_start(
    engine: &Engine,
    id: &ContainerId,
    hooks: &[Hook],
    masking: Masking<'_>,
    folder: &Path,
) -> Result<(), HookError> {
    run(engine, id, hooks, masking, AFTER_START).await?;
    let path = folder.join(DONE);
    fs::write(&path, "").map_err(|source| HookError::Note { path, source })
}

/// Runs the hooks of a replica that is about to be told to end. What is left of `grace` is for
/// its end; hooks that fail do not keep it from ending.
pub(crate) async fn before_stop(
    engine: &Engine,
    id: &ContainerId,
    hooks: &[Hook],
    masking: Masking<'_>,
    grace: Duration,
) -> Duration {
    let begun = Instant::now();
    if let Err(error) = run(engine, id, hooks, masking, grace).await {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(container = id.0, error, "pre_stop");
    }
    grace.saturating_sub(begun.elapsed())
}

/// Runs the command by which a program reloads its secrets.
pub(crate) async fn reload(
    engine: &Engine,
    id: &ContainerId,
    command: Hook,
    masking: Masking<'_>,
) -> Result<(), HookError> {
    run(engine, id, &[command], masking, RELOAD).await
}

async fn run(
    engine: &Engine,
    id: &ContainerId,
    hooks: &[Hook],
    masking: Masking<'_>,
    within: Duration,
) -> Result<(), HookError> {
    let deadline = Instant::now() + within;
    for hook in hooks {
        let command = hook.command.join(" ");
        match timeout_at(deadline, run_one(engine, id, hook, masking, &command)).await {
            Ok(result) => result?,
            Err(_) => return Err(HookError::Late { command, within }),
        }
    }
    Ok(())
}

async fn run_one(
    engine: &Engine,
    id: &ContainerId,
    hook: &Hook,
    masking: Masking<'_>,
    command: &str,
) -> Result<(), HookError> {
    let failed = |source| HookError::Start {
        command: command.to_owned(),
        source,
    };
    let spec = ExecSpec {
        argv: hook.command.clone(),
        env: hook.environment.clone(),
        user: hook.user.clone(),
        cwd: hook.working_dir.clone(),
        privileged: false,
        tty: None,
        stdin: false,
    };
    let mut process = engine.exec(id, spec).await.map_err(failed)?;
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let (code, out, err) = tokio::join!(
        process.wait(),
        last_lines(stdout, masking),
        last_lines(stderr, masking)
    );
    match code.map_err(failed)? {
        0 => Ok(()),
        code => {
            let output = if err.is_empty() { out } else { err };
            Err(HookError::Failed {
                command: command.to_owned(),
                code,
                output,
            })
        }
    }
}

/// Reads to the end and keeps the end, masked.
async fn last_lines(output: Option<impl AsyncRead + Unpin>, masking: Masking<'_>) -> Vec<String> {
    let Some(mut output) = output else {
        return Vec::new();
    };
    let mut masked = Stream::default();
    let mut last = LastLines::default();
    let mut chunk = vec![0; 8 * 1024];
    let mut plain = Vec::new();
    let mut any = false;
    // A read error is the end of the output, as it is for a shell.
    while let Ok(read @ 1..) = output.read(&mut chunk).await {
        any = true;
        // Before it is cut into lines: a piece of a secret is not known for one.
        if let Some(filter) = masking {
            masked.feed(filter, &chunk[..read], &mut plain);
            last.take(&plain);
            plain.clear();
        }
    }
    match masking {
        Some(filter) => {
            masked.flush(filter, &mut plain);
            last.take(&plain);
            last.end()
        }
        None if any => {
            vec!["its output is not shown, since it is not known what is secret in it".to_owned()]
        }
        None => Vec::new(),
    }
}

/// The last lines of a text that comes in pieces.
#[derive(Default)]
struct LastLines {
    lines: VecDeque<String>,
    line: Vec<u8>,
}

impl LastLines {
    fn take(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                b'\n' => self.end_line(),
                byte => {
                    self.line.push(*byte);
                    if self.line.len() == MAX_LINE {
                        self.end_line();
                    }
                }
            }
        }
    }

    fn end_line(&mut self) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        let line = String::from_utf8_lossy(self.line.trim_ascii());
        self.lines.push_back(line.into_owned());
        self.line.clear();
    }

    fn end(mut self) -> Vec<String> {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_on_the_border_of_two_pieces_of_a_line_is_masked() {
        let (filter, _) = Filter::new([("name", b"correct horse".as_slice())]);
        let border = "x".repeat(MAX_LINE - 5);
        let output = format!("1\n2\n3\n4\n{border}correct horse\nlast");
        let shown = last_lines(Some(output.as_bytes()), Some(&filter)).await;
        assert_eq!(shown, ["2", "3", "4", &format!("{border}***"), "last"]);
        let shown = last_lines(Some(output.as_bytes()), None).await.join("");
        assert!(!shown.contains("horse"), "{shown}");
        assert_eq!(
            last_lines(Some(b"".as_slice()), Some(&filter)).await,
            [""; 0]
        );
    }
}
