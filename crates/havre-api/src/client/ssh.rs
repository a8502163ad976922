//! The daemon's socket through the system's `ssh`.
//!
//! ```text
//! Client ─► ssh -T … -- host havre dial-stdio ─► sshd ─► havre dial-stdio ─► <run>/api.sock
//! ```
//!
//! One process of `ssh` per connection; where there is a runtime folder they share one connection to the
//! server (`ControlMaster`), which stays for a minute. All else is as the user has configured `ssh`.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::address::SshAddress;

/// What the other end says before all else, once it has the daemon's socket.
pub const GREETING: &str = "havre-dial 1\n";

/// Most bytes of noise that may come before the greeting, and of what `ssh` says of a failure.
const MAX_TALK_BYTES: usize = 16 * 1024;

/// How long `ssh` may take to end once it has closed its output.
const END_DEADLINE: Duration = Duration::from_secs(5);

/// The exit code by which `ssh` says that itself failed.
const OWN_FAILURE: i32 = 255;
/// The one by which a shell says that there is no such program.
const NO_PROGRAM: i32 = 127;

/// How `ssh` is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SshOptions {
    /// A folder of the user's own for the sockets of shared connections; `None`: none is shared.
    pub control: Option<PathBuf>,
    /// Somebody is there who can be asked for a passphrase, or about a host's key.
    pub asking: bool,
}

/// Why there is no connection through `ssh`.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// There is no such program, or it cannot be started.
    #[error("cannot run ssh")]
    Spawn(#[source] io::Error),
    /// It failed.
    #[error("ssh could not connect{}", said(.talk))]
    Failed {
        /// What it said.
        talk: String,
        /// Kind of failure, as far as it can be told.
        kind: SshFailure,
    },
    /// The server has no `havre` where it looks for programs.
    #[error("the server has no program `havre`{}", said(.talk))]
    NoProgram {
        /// What its shell said.
        talk: String,
    },
    /// The program there could not reach its daemon.
    #[error("{}", remote(.talk, *.code))]
    Remote {
        /// What it said.
        talk: String,
        /// How it ended; `None`: by a signal.
        code: Option<i32>,
    },
    /// Something else spoke first.
    #[error("the server's shell printed {text:?} before Havre could speak")]
    Noise {
        /// How it began.
        text: String,
    },
    /// Its pipes broke.
    #[error("lost ssh")]
    Pipe(#[source] io::Error),
}

/// Why `ssh` itself failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SshFailure {
    /// The server's key is not known yet.
    UnknownHost,
    /// It is another one than before.
    ChangedHost,
    /// The server does not let this user in.
    Denied,
    /// Something else, which it says itself.
    Other,
}

impl SshError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Spawn(_) => "install OpenSSH's client, and see that `ssh` is found in PATH",
            Self::Failed { kind, .. } => match kind {
                SshFailure::UnknownHost => {
                    "connect once by hand with `ssh`, compare the key's fingerprint with the server's \
                     own, and accept it"
                }
                SshFailure::ChangedHost => {
                    "the server was set up anew, or somebody stands between you and it: ask who runs \
                     it, and only then remove the old key with `ssh-keygen -R`"
                }
                SshFailure::Denied => {
                    "see that `ssh` with the same user and host lets you in: a key of ssh-agent, or \
                     IdentityFile in ~/.ssh/config"
                }
                SshFailure::Other => "see that `ssh` by hand reaches the server",
            },
            Self::NoProgram { .. } => {
                "install havre on the server, in a folder that is in PATH without a login, such as \
                 /usr/local/bin"
            }
            Self::Remote { .. } => {
                "on the server, `havre daemon install` has systemd run the daemon; it answers to root \
                 and to the group havre"
            }
            Self::Noise { .. } => {
                "a shell without a terminal must print nothing: look into ~/.bashrc and its like on \
                 the server"
            }
            Self::Pipe(_) => return None,
        };
        Some(hint.to_owned())
    }
}

fn said(talk: &str) -> String {
    match talk.is_empty() {
        true => String::new(),
        false => format!(": {talk}"),
    }
}

fn remote(talk: &str, code: Option<i32>) -> String {
    match (talk.is_empty(), code) {
        (false, _) => format!("on the server: {talk}"),
        (true, Some(code)) => format!("on the server, havre ended with code {code}"),
        (true, None) => "on the server, havre was killed".to_owned(),
    }
}

/// The program's arguments. An address can add none: its parts begin with no `-`, and what is the
/// destination is said to be.
fn arguments(address: &SshAddress, options: &SshOptions) -> Vec<String> {
    let mut arguments = vec!["-T".to_owned()];
    let mut option = |text: String| arguments.extend(["-o".to_owned(), text]);
    option("ConnectTimeout=15".to_owned());
    // A peer that is gone is noticed, and an operation that says nothing for long is not cut.
    option("ServerAliveInterval=20".to_owned());
    option("ForwardAgent=no".to_owned());
    option("ForwardX11=no".to_owned());
    option("ClearAllForwardings=yes".to_owned());
    if !options.asking {
        option("BatchMode=yes".to_owned());
    }
    if let Some(folder) = &options.control {
        option("ControlMaster=auto".to_owned());
        option("ControlPersist=60".to_owned());
        // `%` is a sign of ssh's own there.
        let folder = folder.display().to_string().replace('%', "%%");
        option(format!("ControlPath=\"{folder}/ssh-%C\""));
    }
    if let Some(user) = &address.user {
        arguments.extend(["-l".to_owned(), user.clone()]);
    }
    if let Some(port) = address.port {
        arguments.extend(["-p".to_owned(), port.to_string()]);
    }
    arguments.extend(["--".to_owned(), address.host.clone()]);
    arguments.push("havre dial-stdio".to_owned());
    arguments
}

/// A connection through a process of `ssh`, which ends with it.
pub struct SshStream {
    input: ChildStdin,
    output: ChildStdout,
    _child: Child,
    _talk: AbortOnDropHandle<String>,
}

/// Starts `ssh` and waits until the other end has the daemon's socket.
pub(super) async fn connect(
    address: &SshAddress,
    options: &SshOptions,
) -> Result<SshStream, SshError> {
    let mut child = Command::new("ssh")
        .args(arguments(address, options))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(SshError::Spawn)?;
    let gone = || SshError::Pipe(io::ErrorKind::BrokenPipe.into());
    let input = child.stdin.take().ok_or_else(gone)?;
    let mut output = child.stdout.take().ok_or_else(gone)?;
    let errors = child.stderr.take().ok_or_else(gone)?;
    let talk = AbortOnDropHandle::new(tokio::spawn(listen(errors)));
    match greeted(&mut output).await {
        Ok(true) => Ok(SshStream {
            input,
            output,
            _child: child,
            _talk: talk,
        }),
        Ok(false) => {
            drop(input);
            let status = timeout(END_DEADLINE, child.wait()).await;
            let talk = timeout(END_DEADLINE, talk).await;
            let talk = talk.ok().and_then(Result::ok).unwrap_or_default();
            let status = status.ok().and_then(Result::ok);
            Err(ended(status, readable(&talk)))
        }
        Err(error) => Err(error),
    }
}

/// Reads up to the end of the greeting, and not a byte further. `false`: the output ended before.
async fn greeted(output: &mut ChildStdout) -> Result<bool, SshError> {
    let mut head = Vec::with_capacity(GREETING.len());
    while head.len() < GREETING.len() {
        match output.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return match head.is_empty() {
                    true => Ok(false),
                    false => Err(noise(&head)),
                };
            }
            Err(error) => return Err(SshError::Pipe(error)),
        }
        if !GREETING.as_bytes().starts_with(&head) {
            return Err(noise(&head));
        }
    }
    Ok(true)
}

fn noise(head: &[u8]) -> SshError {
    SshError::Noise {
        text: String::from_utf8_lossy(head).into_owned(),
    }
}

/// The last of what it says. A shared connection outlives its process, and what it says with it.
async fn listen(mut errors: tokio::process::ChildStderr) -> String {
    let mut talk = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(count @ 1..) = errors.read(&mut piece).await {
        talk.extend_from_slice(&piece[..count]);
        let over = talk.len().saturating_sub(MAX_TALK_BYTES);
        talk.drain(..over);
    }
    String::from_utf8_lossy(&talk).into_owned()
}

/// Its lines without what would move a cursor, and without what it says on every connection.
fn readable(talk: &str) -> String {
    let sound = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    let talk: String = talk.chars().filter(sound).collect();
    let lines = talk.lines().map(str::trim_end);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("Warning: Permanently"));
    lines.collect::<Vec<_>>().join("\n")
}

fn ended(status: Option<ExitStatus>, talk: String) -> SshError {
    match status.and_then(|status| status.code()) {
        Some(OWN_FAILURE) => SshError::Failed {
            kind: kind(&talk),
            talk,
        },
        Some(NO_PROGRAM) => SshError::NoProgram { talk },
        code => SshError::Remote { talk, code },
    }
}

fn kind(talk: &str) -> SshFailure {
    if talk.contains("IDENTIFICATION HAS CHANGED") {
        SshFailure::ChangedHost
    } else if talk.contains("Host key verification failed") {
        SshFailure::UnknownHost
    } else if talk.contains("Permission denied") || talk.contains("Too many authentication") {
        SshFailure::Denied
    } else {
        SshFailure::Other
    }
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_destination_stands_behind_the_end_of_options() {
        let address = SshAddress {
            user: Some("root".to_owned()),
            host: "example.org".to_owned(),
            port: Some(2222),
        };
        let options = SshOptions {
            control: Some("/run/user/1000/havre".into()),
            asking: false,
        };
        let arguments = arguments(&address, &options).join(" ");
        assert!(
            arguments.ends_with("-l root -p 2222 -- example.org havre dial-stdio"),
            "{arguments}"
        );
        assert!(arguments.contains("-o BatchMode=yes"), "{arguments}");
        let path = "ControlPath=\"/run/user/1000/havre/ssh-%C\"";
        assert!(arguments.contains(path), "{arguments}");
        let asking = SshOptions {
            control: None,
            asking: true,
        };
        let arguments = super::arguments(&address, &asking).join(" ");
        assert!(!arguments.contains("BatchMode"), "{arguments}");
        assert!(!arguments.contains("Control"), "{arguments}");
    }

    #[test]
    fn what_ssh_says_leads_to_what_can_be_done() {
        let changed = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n\
                       Host key verification failed.";
        for (talk, expected) in [
            ("Host key verification failed.", SshFailure::UnknownHost),
            (changed, SshFailure::ChangedHost),
            (
                "root@example.org: Permission denied (publickey).",
                SshFailure::Denied,
            ),
            ("ssh: Could not resolve hostname nowhere", SshFailure::Other),
        ] {
            assert_eq!(kind(talk), expected, "{talk}");
        }
        let talk = "Warning: Permanently added 'x' to the list\r\nerror: no daemon\x1b[2J\n\n";
        assert_eq!(readable(talk), "error: no daemon[2J");
    }
}
