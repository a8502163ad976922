//! Sessions with further processes in a container.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;

use crate::channel::Channel;
use crate::protocol::{Exec, Reply, Request};

/// A process to start in a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the container's environment.
    pub env: BTreeMap<String, String>,
    /// `user[:group]`; `None`: the container's.
    pub user: Option<String>,
    /// `None`: the container's.
    pub cwd: Option<String>,
    /// With all capabilities and without seccomp.
    pub privileged: bool,
    /// A terminal of this size instead of three pipes.
    pub tty: Option<WindowSize>,
    /// Whether input follows; otherwise it is `/dev/null`. A terminal always has input.
    pub stdin: bool,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters per line.
    pub columns: u16,
}

/// The process did not start, or was lost.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// Not running, or no such container.
    #[error("container {id} is not running")]
    NotRunning {
        /// Which.
        id: String,
    },
    /// The command itself.
    #[error("cannot execute in container {id}: {reason}")]
    Failed {
        /// Which container.
        id: String,
        /// What a shell would return: 126 or 127.
        exit_code: i32,
        /// Why.
        reason: String,
    },
    /// The shim.
    #[error("lost the connection to container {id}")]
    Connection {
        /// Which container.
        id: String,
        /// Why.
        source: io::Error,
    },
}

impl ExecError {
    /// A shim that closes before it has answered has just ended with its container.
    fn or_not_running(self) -> Self {
        match self {
            Self::Connection { id, source } => not_there(&id, source),
            other => other,
        }
    }
}

/// What a failure to reach a shim means.
pub(crate) fn not_there(id: &str, source: io::Error) -> ExecError {
    let id = id.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => ExecError::NotRunning { id },
        _ => ExecError::Connection { id, source },
    }
}

/// A running process. Dropping the session kills it.
#[derive(Debug)]
pub struct ExecSession {
    /// Its input, where asked for; dropping it ends the input.
    pub stdin: Option<pipe::Sender>,
    /// Its output, without a terminal.
    pub stdout: Option<pipe::Receiver>,
    /// Its errors, without a terminal.
    pub stderr: Option<pipe::Receiver>,
    /// Its terminal.
    pub terminal: Option<Terminal>,
    /// Host process id.
    pub pid: u32,
    id: String,
    channel: Channel,
    code: Option<i32>,
}

impl ExecSession {
    /// Starts the process over a fresh connection.
    pub(crate) async fn start(
        id: &str,
        channel: Channel,
        spec: ExecSpec,
    ) -> Result<Self, ExecError> {
        let lost = |source| ExecError::Connection {
            id: id.to_owned(),
            source,
        };
        let mut session = Self {
            stdin: None,
            stdout: None,
            stderr: None,
            terminal: None,
            pid: 0,
            id: id.to_owned(),
            channel,
            code: None,
        };
        let fds = if spec.tty.is_some() {
            Vec::new()
        } else {
            session.pipes(spec.stdin).map_err(lost)?
        };
        let request = Request::Exec(Exec {
            argv: spec.argv,
            env: spec.env,
            user: spec.user,
            cwd: spec.cwd,
            privileged: spec.privileged,
            size: spec.tty.map(|size| (size.rows, size.columns)),
        });
        session
            .channel
            .send(&request, &fds)
            .await
            .map_err(|e| not_there(id, e))?;
        drop(fds);
        loop {
            match session.next().await.map_err(|e| e.or_not_running())? {
                (Reply::Terminal, Some(master)) => {
                    session.terminal = Some(Terminal::new(master).map_err(lost)?);
                }
                (Reply::Started { pid }, _) => {
                    session.pid = pid;
                    return Ok(session);
                }
                (Reply::Error { reason }, _) => {
                    return Err(ExecError::Failed {
                        id: session.id,
                        exit_code: 126,
                        reason,
                    });
                }
                (Reply::Failed { exit_code, reason }, _) => {
                    return Err(ExecError::Failed {
                        id: session.id,
                        exit_code,
                        reason,
                    });
                }
                (Reply::Exited { code }, _) => {
                    session.code = Some(code);
                    return Ok(session);
                }
                (Reply::NotRunning, _) => {
                    return Err(ExecError::NotRunning { id: session.id });
                }
                _ => {}
            }
        }
    }

    /// Ends for the process; ours stay in the session.
    fn pipes(&mut self, stdin: bool) -> io::Result<Vec<OwnedFd>> {
        let (out_read, out_write) = pipe_with(PipeFlags::CLOEXEC)?;
        let (err_read, err_write) = pipe_with(PipeFlags::CLOEXEC)?;
        let input = if stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            self.stdin = Some(pipe::Sender::from_owned_fd(write)?);
            read
        } else {
            std::fs::File::open("/dev/null")?.into()
        };
        self.stdout = Some(pipe::Receiver::from_owned_fd(out_read)?);
        self.stderr = Some(pipe::Receiver::from_owned_fd(err_read)?);
        Ok(vec![input, out_write, err_write])
    }

    async fn next(&self) -> Result<(Reply, Option<OwnedFd>), ExecError> {
        let lost = |source| ExecError::Connection {
            id: self.id.clone(),
            source,
        };
        match self.channel.receive().await {
            Ok(Some((reply, mut fds))) => Ok((reply, fds.pop())),
            Ok(None) => Err(lost(io::Error::from(io::ErrorKind::UnexpectedEof))),
            Err(error) => Err(lost(error)),
        }
    }

    /// Waits for the end: the exit code, 128 + signal where a signal ended it. Cancel-safe.
    pub async fn wait(&mut self) -> Result<i32, ExecError> {
        loop {
            if let Some(code) = self.code {
                return Ok(code);
            }
            if let (Reply::Exited { code }, _) = self.next().await? {
                self.code = Some(code);
            }
        }
    }

    /// Tells the terminal its size; without one nothing happens.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        self.terminal
            .as_ref()
            .map_or(Ok(()), |terminal| terminal.resize(size))
    }
}

/// The master side of a terminal; clones share it.
#[derive(Clone, Debug)]
pub struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    fn new(master: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self(Arc::new(crate::sys::async_fd(master)?)))
    }

    /// Sets the size.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        let size = rustix::termios::Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(self.0.as_fd(), size)?)
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let space = buffer.initialize_unfilled();
            match guard.try_io(|fd| Ok(rustix::io::read(fd, &mut *space)?)) {
                Ok(Ok(len)) => {
                    buffer.advance(len);
                    return Poll::Ready(Ok(()));
                }
                // How Linux says that the last process on the other side is gone.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(result) = guard.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
