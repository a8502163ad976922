//! Commands at points of a replica's life: `post_start` and `pre_stop`.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use havre_engine::{ContainerId, Engine, ExecError, ExecSpec};
use havre_model::Hook;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::time::{Instant, timeout_at};

/// Longest run of all hooks after a start.
const AFTER_START: Duration = Duration::from_secs(300);
/// Last lines of a hook's output that an error shows.
const LINES: usize = 5;
/// Bytes of a hook's output that are read as one line.
const MAX_LINE: u64 = 2048;
/// In a container's folder: its `post_start` hooks have ended well.
const DONE: &str = "post-start-done";

/// Makes of a hook's output what may be shown.
pub(crate) type Shown<'a> = &'a (dyn Fn(String) -> String + Sync);

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
    shown: Shown<'_>,
    folder: &Path,
) -> Result<(), HookError> {
    run(engine, id, hooks, shown, AFTER_START).await?;
    let path = folder.join(DONE);
    fs::write(&path, "").map_err(|source| HookError::Note { path, source })
}

/// Runs the hooks of a replica that is about to be told to end. What is left of `grace` is for
/// its end; hooks that fail do not keep it from ending.
pub(crate) async fn before_stop(
    engine: &Engine,
    id: &ContainerId,
    hooks: &[Hook],
    shown: Shown<'_>,
    grace: Duration,
) -> Duration {
    let begun = Instant::now();
    if let Err(error) = run(engine, id, hooks, shown, grace).await {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(container = id.0, error, "pre_stop");
    }
    grace.saturating_sub(begun.elapsed())
}

async fn run(
    engine: &Engine,
    id: &ContainerId,
    hooks: &[Hook],
    shown: Shown<'_>,
    within: Duration,
) -> Result<(), HookError> {
    let deadline = Instant::now() + within;
    for hook in hooks {
        let command = hook.command.join(" ");
        match timeout_at(deadline, run_one(engine, id, hook, shown, &command)).await {
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
    shown: Shown<'_>,
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
    let (code, out, err) = tokio::join!(process.wait(), last_lines(stdout), last_lines(stderr));
    match code.map_err(failed)? {
        0 => Ok(()),
        code => {
            let output = if err.is_empty() { out } else { err };
            Err(HookError::Failed {
                command: command.to_owned(),
                code,
                output: output.into_iter().map(shown).collect(),
            })
        }
    }
}

/// Reads to the end and keeps the end.
async fn last_lines(output: Option<impl AsyncRead + Unpin>) -> Vec<String> {
    let Some(output) = output else {
        return Vec::new();
    };
    let mut reader = BufReader::new(output);
    let mut lines = VecDeque::with_capacity(LINES);
    let mut line = Vec::new();
    // A read error is the end of the output, as it is for a shell.
    while let Ok(1..) = (&mut reader)
        .take(MAX_LINE)
        .read_until(b'\n', &mut line)
        .await
    {
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(line.trim_ascii()).into_owned());
        line.clear();
    }
    lines.into()
}
