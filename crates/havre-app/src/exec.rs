//! Commands in running replicas.

use std::sync::Arc;

use bytes::Bytes;
use havre_api::{
    ApiError, EXEC_CHUNK_BYTES, ErrorCode, ExecInput, ExecOutput, ExecRequest, ExecSession,
    TerminalSize,
};
use havre_engine::{ContainerId, ExecError, ExecSpec, State, Terminal, WindowSize};
use havre_release::{ReplicaState, Role};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::daemon::Daemon;
use crate::environment::Snapshot;

/// Runs a command; returns its exit code. It ends with the client.
pub(crate) async fn run(
    daemon: &Arc<Daemon>,
    request: ExecRequest,
    session: ExecSession,
) -> Result<i32, ApiError> {
    let environment = daemon.environment(&request.environment).await?;
    let id = choose(&environment.snapshot(), &request)?;
    let spec = ExecSpec {
        argv: request.argv,
        env: request.env,
        user: request.user,
        cwd: request.working_dir,
        privileged: false,
        tty: request.tty.map(window),
        stdin: request.stdin,
    };
    let started = daemon.platform.engine.exec(&id, spec).await;
    let mut process = match started {
        Ok(process) => process,
        // As a shell would: said on standard error, and told by the code.
        Err(ExecError::Failed {
            exit_code, reason, ..
        }) => {
            let text = Bytes::from(format!("{reason}\n"));
            // Nobody is left to be told when the client is gone.
            session.output.send(ExecOutput::Stderr(text)).await.ok();
            return Ok(exit_code);
        }
        Err(error) => return Err(ApiError::from_error(ErrorCode::Failed, &error)),
    };
    let ExecSession { input, output } = session;
    let mut copies = JoinSet::new();
    let terminal = process.terminal.clone();
    if let Some(terminal) = terminal.clone() {
        copies.spawn(copy(terminal, output.clone(), ExecOutput::Stdout));
    }
    if let Some(stdout) = process.stdout.take() {
        copies.spawn(copy(stdout, output.clone(), ExecOutput::Stdout));
    }
    if let Some(stderr) = process.stderr.take() {
        copies.spawn(copy(stderr, output, ExecOutput::Stderr));
    }
    let fed = match (process.stdin.take(), terminal) {
        (Some(stdin), terminal) => tokio::spawn(feed(input, Some(stdin), terminal)),
        (None, Some(terminal)) => tokio::spawn(feed(input, Some(terminal.clone()), Some(terminal))),
        (None, None) => tokio::spawn(feed(input, None::<Terminal>, None)),
    };
    let mut fed = fed;
    let code = tokio::select! {
        code = process.wait() => {
            code.map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))
        }
        // The client is gone: dropping the process ends it.
        _ = &mut fed => return Ok(128 + 1),
    };
    fed.abort();
    // What it printed last is still on its way.
    while copies.join_next().await.is_some() {}
    code
}

/// The replica meant: the named one, else one that is ready.
fn choose(snapshot: &Snapshot, request: &ExecRequest) -> Result<ContainerId, ApiError> {
    let of_service = || {
        snapshot.seen.iter().filter(|one| {
            one.place.service == request.service
                && matches!(one.place.role, Role::Replica { .. })
                && matches!(one.container.state, State::Running { .. })
        })
    };
    let found = match &request.replica {
        Some(name) => of_service().find(|one| one.container.id.0 == *name),
        None => {
            let ready = |id: &str| {
                snapshot
                    .observed
                    .replicas
                    .iter()
                    .any(|r| r.id.0 == id && matches!(r.state, ReplicaState::Ready))
            };
            of_service()
                .find(|one| ready(&one.container.id.0))
                .or_else(|| of_service().next())
        }
    };
    found.map(|one| one.container.id.clone()).ok_or_else(|| {
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
) {
    let mut buffer = vec![0; EXEC_CHUNK_BYTES];
    // A read error is the end of the output, as it is for a shell.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to
            .send(wrap(Bytes::copy_from_slice(&buffer[..count])))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Passes on what the client sends; returns when the client is gone.
async fn feed(
    mut from: mpsc::Receiver<ExecInput>,
    mut to: Option<impl AsyncWrite + Unpin>,
    terminal: Option<Terminal>,
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
                    && let Err(error) = terminal.resize(window(size))
                {
                    tracing::debug!(%error, "terminal was not resized");
                }
            }
        }
    }
}

fn window(size: TerminalSize) -> WindowSize {
    WindowSize {
        rows: size.rows,
        columns: size.columns,
    }
}
