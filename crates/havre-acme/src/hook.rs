//! The program that sets and removes records of DNS: `PROGRAM set|remove NAME VALUE`. It ends once the
//! record can be seen everywhere, or is gone.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// Records take minutes at some providers.
const DEADLINE: Duration = Duration::from_secs(300);
/// Of its output, what is shown.
const MAX_OUTPUT: u64 = 4096;
/// What else it may write is read and forgotten.
const MAX_IGNORED: u64 = 1024 * 1024;

/// What to do with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Set,
    Remove,
}

/// Why a record is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    #[error("cannot run the DNS hook {}: {source}", path.display())]
    Start {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the DNS hook {} had not ended after {} s", path.display(), DEADLINE.as_secs())]
    Slow { path: PathBuf },
    #[error("the DNS hook {} ended with {status}: {output}", path.display())]
    Failed {
        path: PathBuf,
        status: ExitStatus,
        output: String,
    },
}

/// Runs the program for one record.
pub(crate) async fn run(
    program: &Path,
    action: Action,
    record: &str,
    value: &str,
) -> Result<(), HookError> {
    run_within(program, action, record, value, DEADLINE).await
}

async fn run_within(
    program: &Path,
    action: Action,
    record: &str,
    value: &str,
    deadline: Duration,
) -> Result<(), HookError> {
    let path = || program.to_owned();
    let failed = |source| HookError::Start {
        path: path(),
        source,
    };
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    let word = match action {
        Action::Set => "set",
        Action::Remove => "remove",
    };
    let mut child = {
        let second = writer.try_clone().map_err(failed)?;
        Command::new(program)
            .args([word, record, value])
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(second)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?
    };
    let mut group = Group(child.id());
    let output = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).map_err(failed)?;
    let mut text = Vec::new();
    let whole = async {
        let mut shown = output.take(MAX_OUTPUT);
        let read = shown.read_to_end(&mut text).await;
        read.map_err(failed)?;
        let mut rest = shown.into_inner().take(MAX_IGNORED);
        tokio::io::copy(&mut rest, &mut tokio::io::sink())
            .await
            .map_err(failed)?;
        child.wait().await.map_err(failed)
    };
    let ended = tokio::time::timeout(deadline, whole).await;
    let status = ended.map_err(|_| HookError::Slow { path: path() })??;
    group.is_over();
    match status.success() {
        true => Ok(()),
        false => Err(HookError::Failed {
            path: path(),
            status,
            output: String::from_utf8_lossy(&text).trim().to_owned(),
        }),
    }
}

/// The program and what it started: they end with whoever waits for them.
struct Group(Option<u32>);

impl Group {
    /// Its leader has ended and was waited for: its number may be another's by now.
    fn is_over(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) =
                rustix::process::kill_process_group(pid, rustix::process::Signal::KILL)
        {
            tracing::debug!(%error, "the DNS hook had ended by itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    async fn outcome(script: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("hook");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let (record, value) = ("_acme-challenge.a.dev", "v4lue");
        // Another test that forks at this moment holds the script open for writing.
        for _ in 0..100 {
            let deadline = Duration::from_secs(2);
            let ran = run_within(&program, Action::Set, record, value, deadline).await;
            match ran {
                Err(HookError::Start { source, .. })
                    if source.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
                ran => return ran.map_err(|error| error.to_string()),
            }
            tokio::task::yield_now().await;
        }
        panic!("the script stays busy");
    }

    #[tokio::test]
    async fn it_is_told_what_to_set_and_heard_when_it_fails() {
        let told = r#"[ "$*" = "set _acme-challenge.a.dev v4lue" ] || { echo "got $*"; exit 3; }"#;
        assert_eq!(outcome(told).await, Ok(()));
        let error = outcome("echo no such zone >&2; exit 7").await.unwrap_err();
        assert!(error.contains("exit status: 7: no such zone"), "{error}");
        let error = outcome("yes | head -c 500000; exit 1").await.unwrap_err();
        assert!(error.len() < 5000);
        let error = outcome("sleep 60 & wait").await.unwrap_err();
        assert!(error.contains("had not ended"), "{error}");
        let gone = run(Path::new("/no/such/hook"), Action::Remove, "a", "b").await;
        assert!(matches!(gone, Err(HookError::Start { .. })));
    }

    #[tokio::test]
    async fn it_ends_with_whoever_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let begun = folder.path().join("begun");
        let script = format!("sleep 60 & echo $! > {}; wait", begun.display());
        let mut running = Box::pin(outcome(&script));
        let pid = loop {
            let tick = tokio::time::timeout(Duration::from_millis(20), &mut running).await;
            assert!(tick.is_err(), "{tick:?}");
            let text = fs::read_to_string(&begun).unwrap_or_default();
            if let Some(pid) = text.strip_suffix('\n') {
                break pid.to_owned();
            }
        };
        drop(running);
        let stat = format!("/proc/{pid}/stat");
        havre_testing::wait_until("what it started ends", Duration::from_secs(10), || {
            // Nobody may have waited for it yet.
            fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
        });
    }
}
