//! One run of git: what it is told whatever is configured, its environment, and what it prints.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::bounds::{Bound, Bounds};
use crate::folder::fresh_folder;
use crate::text::plain;
use crate::view::{REPOSITORY, View, bounded};

/// Shown of what git has to say.
pub(crate) const LAST_WORDS: usize = 4000;
/// How long git has to end once it was asked to.
const GRACE: Duration = Duration::from_secs(5);
/// Runs at once that nobody waits for over a network.
const MOST_ASIDE: usize = 8;

/// No program of the repository's choice, no question, little memory; and what a push may do.
const SETTINGS: [&str; 23] = [
    "core.hooksPath=/dev/null",
    "safe.directory=/var/tmp/repository",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.logAllRefUpdates=false",
    "core.packedGitWindowSize=32m",
    "core.packedGitLimit=256m",
    "core.bigFileThreshold=32m",
    "pack.threads=2",
    "pack.windowMemory=128m",
    "gc.autoDetach=false",
    "maintenance.auto=false",
    "protocol.version=2",
    "transfer.fsckObjects=true",
    "transfer.hideRefs=refs/mirror",
    "receive.fsckObjects=true",
    "receive.advertisePushOptions=true",
    "receive.denyNonFastForwards=false",
    "receive.denyDeletes=false",
    "receive.autogc=false",
    // Also for whoever knows a commit that no branch leads to any more: a run of one that was forced away.
    "uploadpack.allowAnySHA1InWant=true",
    "uploadpack.allowFilter=true",
    "uploadpack.keepAlive=5",
];

/// Why git did not do what it was to.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// This machine has none.
    #[error("git is not installed on this machine")]
    NoGit,
    /// It cannot be started, or spoken to.
    #[error("cannot run git {what}")]
    Run {
        /// Its command.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// It failed.
    #[error("git {what} failed: {said}")]
    Failed {
        /// Its command.
        what: &'static str,
        /// The last it said.
        said: String,
    },
    /// It has more to say than is read.
    #[error("git {what} says more than {most} bytes")]
    TooMuch {
        /// Its command.
        what: &'static str,
        /// What is read.
        most: usize,
    },
    /// It was not done in time.
    #[error("git {what} was not done within {} s", after.as_secs())]
    TooLate {
        /// Its command.
        what: &'static str,
        /// How long it had.
        after: Duration,
    },
}

/// Starts git.
#[derive(Clone)]
pub(crate) struct Processes {
    /// `None`: git runs as whoever asks, and sees what they see.
    view: Option<View>,
    bounds: Option<Arc<dyn Bounds>>,
    most_file: u64,
    aside: Arc<Semaphore>,
    count: Arc<AtomicU64>,
}

/// A run that is to begin.
#[derive(Debug, Default)]
pub(crate) struct Call<'a> {
    /// After `-c`, beside what always holds.
    pub settings: Vec<String>,
    pub args: Vec<&'a str>,
    pub environment: Vec<(&'static str, String)>,
    pub input: Vec<u8>,
    /// Of what it prints.
    pub most: usize,
    pub within: Duration,
    /// Largest file, in bytes; `None`: as large as a repository.
    pub most_file: Option<u64>,
}

/// What came of one.
#[derive(Debug)]
pub(crate) struct Printed {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub said: String,
}

/// A git that runs, in a group of its own.
pub(crate) struct Running {
    pub child: Child,
    _bound: Option<Bound>,
}

impl Processes {
    pub(crate) fn new(view: Option<View>, bounds: Option<Arc<dyn Bounds>>, most_file: u64) -> Self {
        Self {
            view,
            bounds,
            most_file,
            aside: Arc::new(Semaphore::new(MOST_ASIDE)),
            count: Arc::default(),
        }
    }

    /// Where git finds a repository.
    pub(crate) fn seen(&self, repository: &Path) -> PathBuf {
        match self.view {
            Some(_) => PathBuf::from(REPOSITORY),
            None => repository.to_owned(),
        }
    }

    /// Makes a folder that is empty, and git's.
    pub(crate) fn fresh(&self, path: &Path) -> io::Result<()> {
        let owner = self.view.as_ref().map(|_| havre_confine::GIT_USER);
        fresh_folder(path, owner)
    }

    /// Starts it in `repository`, with pipes.
    pub(crate) fn start(
        &self,
        repository: &Path,
        what: &'static str,
        call: &Call<'_>,
    ) -> Result<Running, GitError> {
        let failed = |source| GitError::Run { what, source };
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let bounds = self.bounds.as_ref();
        let mut bound = bounds.and_then(|bounds| bounds.group(&format!("git-{number}")));
        let doors = bound
            .as_mut()
            .map_or_else(Vec::new, |bound| std::mem::take(&mut bound.doors));
        let mut command = Command::new("git");
        let seen = self.seen(repository);
        let settings = call.settings.iter().map(String::as_str);
        for setting in SETTINGS.into_iter().chain(settings) {
            command.args(["-c", setting]);
        }
        command
            .arg(what)
            .args(&call.args)
            .env_clear()
            .env(
                "PATH",
                std::env::var_os("PATH")
                    .as_deref()
                    .unwrap_or(OsStr::new("/usr/bin:/bin")),
            )
            .env("HOME", &seen)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("GIT_DIR", &seen)
            .envs(call.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let most_file = call.most_file.unwrap_or(self.most_file);
        match &self.view {
            Some(view) => {
                let confined = view.confine(&mut command, repository, most_file, doors);
                confined.map_err(failed)?;
            }
            None => {
                command.current_dir(repository);
                bounded(&mut command, most_file);
            }
        }
        let child = command.spawn().map_err(|error| match error.kind() {
            // It may be something else that the way to it lacks.
            io::ErrorKind::NotFound if !is_there("git") => GitError::NoGit,
            _ => failed(error),
        })?;
        Ok(Running {
            child,
            _bound: bound,
        })
    }

    /// Runs it to its end.
    pub(crate) async fn run(
        &self,
        repository: PathBuf,
        what: &'static str,
        call: Call<'_>,
    ) -> Result<Printed, GitError> {
        let failed = |source| GitError::Run { what, source };
        let closed = |_| failed(io::ErrorKind::BrokenPipe.into());
        let _permit = self.aside.acquire().await.map_err(closed)?;
        let mut running = self.start(&repository, what, &call)?;
        let ran = timeout(call.within, running.printed(&call.input, call.most)).await;
        let late = GitError::TooLate {
            what,
            after: call.within,
        };
        let printed = match ran {
            Ok(printed) => printed.map_err(failed),
            Err(_) => Err(late),
        };
        let printed = printed.and_then(|printed| match printed.out.len() > call.most {
            true => Err(GitError::TooMuch {
                what,
                most: call.most,
            }),
            false => Ok(printed),
        });
        if printed.is_err() {
            running.end().await;
        }
        printed
    }
}

fn is_there(program: &str) -> bool {
    std::env::var_os("PATH").is_none_or(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

impl Running {
    async fn printed(&mut self, input: &[u8], most: usize) -> io::Result<Printed> {
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let mut stdin = self.child.stdin.take().ok_or_else(missing)?;
        let stdout = self.child.stdout.take().ok_or_else(missing)?;
        let stderr = self.child.stderr.take().ok_or_else(missing)?;
        let told = async {
            match stdin.write_all(input).await {
                // It has heard enough.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
                _ => {
                    drop(stdin);
                    Ok(())
                }
            }
        };
        let printed = async {
            let mut out = Vec::new();
            stdout.take(most as u64 + 1).read_to_end(&mut out).await?;
            Ok::<_, io::Error>(out)
        };
        let (told, out, said) = tokio::join!(told, printed, last_words(stderr));
        told?;
        let out = out?;
        let code = match out.len() > most {
            true => None,
            false => self.child.wait().await?.code(),
        };
        Ok(Printed { code, out, said })
    }

    /// Ends it with all it started: asked first, so that it removes what it has received.
    pub(crate) async fn end(&mut self) {
        for signal in [Signal::TERM, Signal::KILL] {
            let Some(pid) = self
                .child
                .id()
                .and_then(|id| Pid::from_raw(id.cast_signed()))
            else {
                return;
            };
            if let Err(error) = rustix::process::kill_process_group(pid, signal) {
                tracing::debug!(%error, "git has ended already");
            }
            if timeout(GRACE, self.child.wait()).await.is_ok() {
                // Whoever it started.
                if let Err(error) = rustix::process::kill_process_group(pid, Signal::KILL) {
                    tracing::trace!(%error, "nothing of git is left");
                }
                return;
            }
        }
        tracing::warn!("a git process does not end");
    }
}

impl Printed {
    /// What it printed, where it went well.
    pub(crate) fn ok(self, what: &'static str) -> Result<Vec<u8>, GitError> {
        match self.code {
            Some(0) => Ok(self.out),
            _ => Err(GitError::Failed {
                what,
                said: last_line(&self.said),
            }),
        }
    }
}

/// The last that is said, to its end.
pub(crate) async fn last_words(mut from: impl AsyncRead + Unpin) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut piece = [0; 1024];
    loop {
        match from.read(&mut piece).await {
            Ok(0) => break,
            Ok(count) => {
                kept.extend(&piece[..count]);
                let over = kept.len().saturating_sub(LAST_WORDS);
                kept.drain(..over);
            }
            Err(error) => {
                tracing::debug!(%error, "what git says cannot be read");
                break;
            }
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The line that says most: the last of an error, or the last.
pub(crate) fn last_line(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let telling = lines.iter().rev().find(|line| {
        ["fatal:", "error:"]
            .iter()
            .any(|start| line.starts_with(start))
    });
    plain(
        telling
            .or(lines.last())
            .copied()
            .unwrap_or("it said nothing")
            .trim(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_last_says_most() {
        let text = "hint: more\nfatal: repository \u{1b}[31mnot found\nhint: see it\n";
        assert_eq!(last_line(text), "fatal: repository not found");
        assert_eq!(last_line("nothing known\n"), "nothing known");
        assert_eq!(last_line(""), "it said nothing");
    }

    #[tokio::test]
    async fn only_the_last_words_are_kept() {
        let long = format!("{}end", "x".repeat(3 * LAST_WORDS));
        let kept = last_words(long.as_bytes()).await;
        assert!(kept.len() == LAST_WORDS && kept.ends_with("end"));
    }
}
