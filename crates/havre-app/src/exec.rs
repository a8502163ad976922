//! Commands in running replicas.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use havre_api::{
    ApiError, EXEC_CHUNK_BYTES, ErrorCode, ExecInput, ExecOutput, ExecRequest, ExecSession,
};
use havre_release::{
    Exec, ExecError, InstanceState, ReplicaId, ReplicaState, Role, TargetStatus, Terminal,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::daemon::Daemon;
use crate::status;

/// What a command has left running may hold its output open, and go on printing. Of that no more is
/// waited for once it was silent for so long …
const SILENCE: Duration = Duration::from_secs(1);
/// … or has printed so much: what the command itself printed last is less, as no pipe holds more.
const LAST_WORDS: usize = 1 << 20;

/// Runs a command; returns its exit code. It ends with the client.
pub(crate) async fn run(
    daemon: &Arc<Daemon>,
    request: ExecRequest,
    session: ExecSession,
) -> Result<i32, ApiError> {
    let environment = daemon.environment(&request.environment).await?;
    let id = choose(&environment.status(), &request)?;
    let command = Exec {
        argv: request.argv,
        env: request.env,
        user: request.user,
        cwd: request.working_dir,
        tty: request.tty.map(|size| (size.rows, size.columns)),
        stdin: request.stdin,
    };
    let mut process = match environment.target.exec(&id, command).await {
        Ok(process) => process,
        // As a shell would: said on standard error, and told by the code.
        Err(ExecError::Command { exit_code, reason }) => {
            let text = Bytes::from(format!("{reason}\n"));
            // Nobody is left to be told when the client is gone.
            session.output.send(ExecOutput::Stderr(text)).await.ok();
            return Ok(exit_code);
        }
        Err(ExecError::Target(error)) => {
            return Err(ApiError::from_error(ErrorCode::Failed, &*error));
        }
    };
    let ExecSession { input, output } = session;
    let mut copies = JoinSet::new();
    let ended = CancellationToken::new();
    if let Some(stdout) = process.stdout.take() {
        copies.spawn(copy(
            stdout,
            output.clone(),
            ExecOutput::Stdout,
            ended.clone(),
        ));
    }
    if let Some(stderr) = process.stderr.take() {
        copies.spawn(copy(stderr, output, ExecOutput::Stderr, ended.clone()));
    }
    let (stdin, terminal) = (process.stdin.take(), process.terminal.take());
    let mut fed = tokio::spawn(feed(input, stdin, terminal));
    let code = tokio::select! {
        code = &mut process.exit => code.map_err(|error| match error {
            ExecError::Command { reason, .. } => ApiError::new(ErrorCode::Failed, reason),
            ExecError::Target(error) => ApiError::from_error(ErrorCode::Failed, &*error),
        }),
        // The client is gone: dropping the process ends it.
        _ = &mut fed => return Ok(128 + 1),
    };
    ended.cancel();
    // What it printed last is still on its way.
    loop {
        tokio::select! {
            copied = copies.join_next() => if copied.is_none() { break },
            _ = &mut fed => break,
        }
    }
    fed.abort();
    code
}

/// The replica meant: the named one, else one that is ready.
fn choose(snapshot: &TargetStatus, request: &ExecRequest) -> Result<ReplicaId, ApiError> {
    status::expect_services(std::slice::from_ref(&request.service), &[snapshot])?;
    let of_service = || {
        snapshot.instances.iter().filter(|one| {
            one.service == request.service
                && matches!(one.role, Role::Replica { .. })
                && matches!(one.state, InstanceState::Running { .. })
        })
    };
    let found = match &request.replica {
        Some(name) => of_service().find(|one| one.id.0 == *name),
        None => {
            let ready = |id: &str| {
                snapshot
                    .observed
                    .replicas
                    .iter()
                    .any(|r| r.id.0 == id && matches!(r.state, ReplicaState::Ready))
            };
            of_service()
                .find(|one| ready(&one.id.0))
                .or_else(|| of_service().next())
        }
    };
    found.map(|one| one.id.clone()).ok_or_else(|| {
        let message = match &request.replica {
            Some(replica) => format!(
                "service `{}` has no running replica {replica}",
                request.service
            ),
            None => format!("service `{}` has no running replica", request.service),
        };
        ApiError::new(ErrorCode::NotFound, message).with_hint("see `havre ps --all`")
    })
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    to: mpsc::Sender<ExecOutput>,
    wrap: fn(Bytes) -> ExecOutput,
    ended: CancellationToken,
) {
    let mut buffer = vec![0; EXEC_CHUNK_BYTES];
    let mut left = LAST_WORDS;
    while left > 0 {
        let read = tokio::select! {
            biased;
            read = from.read(&mut buffer) => read,
            () = silence(&ended) => return,
        };
        // A read error is the end of the output, as it is for a shell.
        let Ok(count @ 1..) = read else { return };
        if ended.is_cancelled() {
            left = left.saturating_sub(count);
        }
        let piece = wrap(Bytes::copy_from_slice(&buffer[..count]));
        if to.send(piece).await.is_err() {
            return;
        }
    }
}

/// Over when the command has ended, and for a while.
async fn silence(ended: &CancellationToken) {
    ended.cancelled().await;
    tokio::time::sleep(SILENCE).await;
}

/// Passes on what the client sends; returns when the client is gone.
async fn feed(
    mut from: mpsc::Receiver<ExecInput>,
    mut to: Option<impl AsyncWrite + Unpin>,
    terminal: Option<Box<dyn Terminal>>,
) {
    while let Some(input) = from.recv().await {
        match input {
            ExecInput::Stdin(bytes) => {
                if let Some(stdin) = &mut to
                    && stdin.write_all(&bytes).await.is_err()
                {
                    // The process closed its input; what comes is dropped, as by a pipe.
                    to = None;
                }
            }
            ExecInput::StdinClosed => to = None,
            ExecInput::Resize(size) => {
                if let Some(terminal) = &terminal
                    && let Err(error) = terminal.resize(size.rows, size.columns)
                {
                    tracing::debug!(%error, "terminal was not resized");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn copied(from: impl AsyncRead + Unpin) -> usize {
        let ended = CancellationToken::new();
        ended.cancel();
        let (to, mut pieces) = mpsc::channel(1);
        let count = async {
            let mut bytes = 0;
            while let Some(ExecOutput::Stdout(piece)) = pieces.recv().await {
                bytes += piece.len();
            }
            bytes
        };
        tokio::join!(copy(from, to, ExecOutput::Stdout, ended), count).1
    }

    #[tokio::test]
    async fn what_a_command_has_left_running_holds_nobody_up() {
        let (mut silent, output) = tokio::io::duplex(64);
        silent.write_all(b"last").await.expect("room");
        assert_eq!(copied(output).await, 4);
        drop(silent);
        let printed = copied(tokio::io::repeat(b'x')).await;
        assert!((LAST_WORDS..2 * LAST_WORDS).contains(&printed), "{printed}");
    }
}
