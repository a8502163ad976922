//! Finding the daemon, and starting it where a command needs one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use havre_api::{Client, ClientError, DaemonInfo, Empty, Info};
use havre_app::Root;

use crate::cli::DaemonSettings;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::systemd::{self, systemctl};
use crate::ui::Ui;

/// How long a daemon may take to answer after its start.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// The same of one that somebody else has started: what it does first is not known.
const OTHERS_DEADLINE: Duration = Duration::from_secs(60);

/// Pause between questions whether it answers.
const POLL: Duration = Duration::from_millis(25);

/// Pause before a second try where another daemon seemed to be there.
const RETRY: Duration = Duration::from_millis(250);

/// Most bytes of its log that are shown when it does not.
const LOG_TAIL_BYTES: u64 = 4096;

/// A client of the running daemon.
pub async fn running(context: &Context) -> Result<(Client, DaemonInfo), Failure> {
    let client = context.client();
    let info = client.call::<Info>(&Empty {}).await?;
    Ok((client, info))
}

/// A client of the daemon, which is started in the background where none runs on this machine.
pub async fn started(context: &Context) -> Result<Client, Failure> {
    let (root, ui) = (&context.root, context.ui);
    let client = context.client();
    let info = match client.call::<Info>(&Empty {}).await {
        Ok(info) => info,
        Err(ClientError::Unreachable { source, .. })
            if context.is_here() && source.means_nobody() =>
        {
            start(root, &client, ui).await?
        }
        Err(error) => return Err(error.into()),
    };
    for problem in &info.problems {
        ui.warn(problem, None);
    }
    if info.version != env!("CARGO_PKG_VERSION") {
        let message = format!(
            "the daemon is of version {}, this command of version {}",
            info.version,
            env!("CARGO_PKG_VERSION")
        );
        ui.warn(
            &message,
            Some("restart the daemon; applications go on meanwhile"),
        );
    }
    Ok(client)
}

async fn start(root: &Root, client: &Client, ui: Ui) -> Result<DaemonInfo, Failure> {
    require_root("starting the daemon")?;
    if let Some(unit) = systemd::installed(root) {
        return start_unit(root, client, &unit, ui).await;
    }
    let cannot = |error: &dyn std::error::Error| {
        Failure::new(Exit::Unreachable, "cannot start the daemon").caused_by(error)
    };
    root.create().map_err(|error| cannot(&error))?;
    if let Some(info) = starting(root, client, ui).await? {
        return Ok(info);
    }
    let mut log = Log::open(&root.daemon_log()).map_err(|error| cannot(&error))?;
    let deadline = Instant::now() + START_DEADLINE;
    let mut child = spawn(root, &log.file).map_err(|error| cannot(&error))?;
    loop {
        if let Ok(info) = client.call::<Info>(&Empty {}).await {
            let path = root.daemon_log();
            ui.say(&format!(
                "started the daemon (pid {}, log {})",
                info.pid,
                path.display()
            ));
            return Ok(info);
        }
        let ended = child.try_wait().map_err(|error| cannot(&error))?;
        let busy = ended.is_some_and(|status| status.code() == Some(i32::from(Exit::Busy.code())));
        if Instant::now() >= deadline || (ended.is_some() && !busy) {
            return Err(did_not_answer(client, &mut log, ended.is_some()).await);
        }
        tokio::time::sleep(if busy { RETRY } else { POLL }).await;
        if busy {
            // Another one was faster, or one that was killed is not quite gone.
            if let Some(info) = starting(root, client, ui).await? {
                return Ok(info);
            }
            child = spawn(root, &log.file).map_err(|error| cannot(&error))?;
        }
    }
}

/// Waits for a daemon that is there and does not answer yet. `None`: there is none.
pub async fn starting(root: &Root, client: &Client, ui: Ui) -> Result<Option<DaemonInfo>, Failure> {
    let deadline = Instant::now() + OTHERS_DEADLINE;
    let mut told = false;
    loop {
        let holder = havre_app::holder(root).map_err(|error| {
            Failure::new(Exit::Unreachable, "cannot tell whether a daemon runs").caused_by(&error)
        })?;
        let Some(pid) = holder else { return Ok(None) };
        if let Ok(info) = client.call::<Info>(&Empty {}).await {
            return Ok(Some(info));
        }
        if Instant::now() >= deadline {
            let seconds = OTHERS_DEADLINE.as_secs();
            let message = format!("the daemon (pid {pid}) does not answer after {seconds} s");
            return Err(Failure::new(Exit::Unreachable, message)
                .hint(format!("see {}", systemd::log_of(root))));
        }
        if !told {
            ui.say(&format!("the daemon (pid {pid}) is starting"));
            told = true;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Has systemd start the daemon: one of our own would keep the unit from starting.
async fn start_unit(
    root: &Root,
    client: &Client,
    unit: &str,
    ui: Ui,
) -> Result<DaemonInfo, Failure> {
    systemctl(&["start", unit]).map_err(|failure| {
        let failure = Failure {
            exit: Exit::Unreachable,
            ..failure
        };
        failure.hint(format!("see {}", systemd::log_of(root)))
    })?;
    let info = client.call::<Info>(&Empty {}).await?;
    ui.say(&format!("started {unit} (pid {})", info.pid));
    Ok(info)
}

async fn did_not_answer(client: &Client, log: &mut Log, ended: bool) -> Failure {
    let what = match ended {
        true => "the daemon ended at once".to_owned(),
        false => format!(
            "the daemon does not answer after {} s",
            START_DEADLINE.as_secs()
        ),
    };
    let mut failure = Failure::new(Exit::Unreachable, what);
    if let Err(error) = client.call::<Info>(&Empty {}).await {
        failure = failure.caused_by(&error);
    }
    let path = log.path.display().to_string();
    let tail = log
        .tail()
        .unwrap_or_else(|error| format!("(cannot be read: {error})"));
    if !tail.trim().is_empty() {
        let shown: Vec<String> = tail
            .lines()
            .map(|line| format!("  | {}", crate::table::printable(line)))
            .collect();
        failure
            .findings
            .push(format!("{path}:\n{}", shown.join("\n")));
    }
    failure.hint(format!(
        "`havre daemon` runs it in the foreground; its log is {path}"
    ))
}

/// The file that the daemon's output goes to.
struct Log {
    path: PathBuf,
    file: File,
    /// Bytes that were there before this start.
    before: u64,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let before = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            before,
        })
    }

    /// The last that was written since.
    fn tail(&mut self) -> io::Result<String> {
        let end = self.file.metadata()?.len();
        let start = self.before.max(end.saturating_sub(LOG_TAIL_BYTES));
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn spawn(root: &Root, log: &File) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(base) = root.base() {
        command.arg("--root").arg(base);
    }
    command.arg("daemon");
    // What a caller's environment holds for compose files (passwords among it) would be the daemon's for
    // as long as it runs.
    command.env_clear();
    let kept = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_the_daemons));
    command.envs(kept);
    command.current_dir("/").stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log.try_clone()?);
    // SAFETY: setsid is async-signal-safe and touches no memory of the parent.
    unsafe {
        // A session of its own: closing the terminal must not end the daemon.
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
    }
    command.spawn()
}

/// Whether a daemon has a use for this variable: its settings, and what there is to know of the network.
fn is_the_daemons(name: &str) -> bool {
    const EXACT: [&str; 7] = [
        "PATH",
        "TZ",
        "RUST_BACKTRACE",
        "HAVRE_LOG",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "GIT_SSL_CAINFO",
    ];
    const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];
    EXACT.contains(&name)
        || PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
        || DaemonSettings::has_variable(name)
}

/// An error that says what needs root.
pub fn require_root(what: &str) -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(Exit::NotRoot, format!("{what} needs root"))
        .hint("run the command again with sudo"))
}

#[cfg(test)]
mod tests {
    use super::is_the_daemons;

    #[test]
    fn a_daemon_has_its_settings_and_nothing_of_whoever_starts_it() {
        for name in [
            "PATH",
            "HAVRE_HTTP",
            "HAVRE_BUILD_CACHE_CEILING",
            "HTTPS_PROXY",
            "no_proxy",
        ] {
            assert!(is_the_daemons(name), "{name}");
        }
        for name in [
            "DB_PASSWORD",
            "HAVRE_TOKEN",
            "HAVRE_ROOT",
            "HAVRE_ENVIRONMENT",
            "HOME",
        ] {
            assert!(!is_the_daemons(name), "{name}");
        }
    }
}
