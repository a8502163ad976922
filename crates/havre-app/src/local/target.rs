//! This machine as the target of one environment.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use havre_api::EnvironmentId;
use havre_engine::{ContainerId, Engine, ExecSession, ExecSpec, LogQuery, LogReader, WindowSize};
use havre_release::{
    Answer, Applied, ApplyError, BoxError, Change, Exec, ExecError, Line, Output, OutputQuery,
    ReplicaId, Session, Stream, Target, TargetStatus, Terminal, Usage,
};
use tokio::sync::watch;

use crate::environment::Commands;
use crate::execute;
use crate::host::Host;
use crate::labels::environment_key;

/// An environment's task on this machine, and the machine.
pub(crate) struct LocalTarget {
    host: Arc<Host>,
    id: EnvironmentId,
    key: String,
    commands: Commands,
}

impl LocalTarget {
    pub(crate) fn new(id: &EnvironmentId, host: Arc<Host>, commands: Commands) -> Self {
        Self {
            id: id.clone(),
            key: environment_key(id),
            host,
            commands,
        }
    }

    fn log_dir(&self, id: &ReplicaId) -> PathBuf {
        self.host.platform.log_dir(&self.key).join(&id.0)
    }
}

impl Target for LocalTarget {
    fn apply(&self, change: Change) -> Answer<'_, Result<Applied, ApplyError>> {
        Box::pin(self.commands.apply(change))
    }

    fn status(&self) -> watch::Receiver<Arc<TargetStatus>> {
        self.commands.status()
    }

    fn has_ended(&self) -> bool {
        self.commands.are_over()
    }

    fn keep_masked(&self) -> Answer<'_, Result<(), BoxError>> {
        Box::pin(async move {
            let releases = Arc::clone(&self.commands.status().borrow().releases);
            execute::mask_anew(&self.host, &self.id, &releases).await?;
            Ok(())
        })
    }

    fn has_output(&self, id: &ReplicaId) -> bool {
        self.log_dir(id).is_dir()
    }

    fn output(&self, id: &ReplicaId, query: &OutputQuery) -> Box<dyn Output> {
        spool(&self.log_dir(id), query, &self.host.engine)
    }

    fn exec(&self, id: &ReplicaId, command: Exec) -> Answer<'_, Result<Session, ExecError>> {
        let id = container(id);
        Box::pin(async move {
            let spec = ExecSpec {
                argv: command.argv,
                env: command.env,
                user: command.user,
                cwd: command.cwd,
                privileged: false,
                tty: command
                    .tty
                    .map(|(rows, columns)| WindowSize { rows, columns }),
                stdin: command.stdin,
            };
            let process = self.host.engine.exec(&id, spec).await;
            Ok(session(process.map_err(exec_error)?))
        })
    }

    fn usage(&self, id: &ReplicaId) -> Answer<'_, Option<Usage>> {
        let id = container(id);
        Box::pin(async move {
            let stats = self.host.engine.stats(&id).await.ok()?;
            Some(Usage {
                cpu_usec: stats.cpu_usec,
                memory_bytes: stats.memory_current,
            })
        })
    }
}

fn container(id: &ReplicaId) -> ContainerId {
    ContainerId(id.0.clone())
}

/// The output of a container, whose folder this is.
pub(super) fn spool(folder: &Path, query: &OutputQuery, engine: &Engine) -> Box<dyn Output> {
    let query = LogQuery {
        tail: query.tail,
        since: query.since,
        follow: query.follow.then(|| engine.log_changes()),
    };
    Box::new(Spool(havre_engine::read_logs(folder, query)))
}

/// Output as the shims have written it.
struct Spool(LogReader);

impl Output for Spool {
    fn next(&mut self) -> Answer<'_, io::Result<Option<Line>>> {
        Box::pin(async {
            let line = self.0.next().await?;
            Ok(line.map(|line| Line {
                at: line.at,
                stream: match line.stream {
                    havre_engine::LogStream::Stdout => Stream::Stdout,
                    havre_engine::LogStream::Stderr => Stream::Stderr,
                },
                partial: line.partial,
                text: line.text,
            }))
        })
    }
}

fn session(mut process: ExecSession) -> Session {
    let (stdin, stdout, stderr) = (
        process.stdin.take(),
        process.stdout.take(),
        process.stderr.take(),
    );
    let terminal = process.terminal.clone();
    let exit = Box::pin(async move { process.wait().await.map_err(exec_error) });
    match terminal {
        Some(terminal) => Session {
            stdin: Some(Box::new(terminal.clone())),
            stdout: Some(Box::new(terminal.clone())),
            stderr: None,
            terminal: Some(Box::new(Screen(terminal))),
            exit,
        },
        None => Session {
            stdin: stdin.map(|pipe| Box::new(pipe) as _),
            stdout: stdout.map(|pipe| Box::new(pipe) as _),
            stderr: stderr.map(|pipe| Box::new(pipe) as _),
            terminal: None,
            exit,
        },
    }
}

struct Screen(havre_engine::Terminal);

impl Terminal for Screen {
    fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        self.0.resize(WindowSize { rows, columns })
    }
}

fn exec_error(error: havre_engine::ExecError) -> ExecError {
    match error {
        havre_engine::ExecError::Failed {
            exit_code, reason, ..
        } => ExecError::Command { exit_code, reason },
        other => ExecError::Target(Box::new(other)),
    }
}
