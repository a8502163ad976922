//! `havre daemon`.

use havre_api::{Client, ClientError, DaemonInfo, Empty, Info, Shutdown, ShutdownRequest};
use havre_app::{CacheLimits, DaemonEnd, DaemonError, DaemonOptions};

use super::{Context, block_on};
use crate::cli::{DaemonArgs, DaemonCommand};
use crate::connect::require_root;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::systemd::{self, systemctl};

mod install;

/// How long a daemon may take to leave after it agreed to.
const END_DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

/// Pause between questions whether it is gone.
const POLL: std::time::Duration = std::time::Duration::from_millis(20);

pub fn run(context: &Context, args: DaemonArgs) -> Outcome {
    match args.command {
        Some(DaemonCommand::Stop { force }) => block_on(stop(context, force)),
        Some(DaemonCommand::Install(args)) => block_on(install::install(context, args)),
        Some(DaemonCommand::Uninstall { force }) => block_on(install::uninstall(context, force)),
        None => {
            let options = DaemonOptions {
                root: context.root.clone(),
                http: args.http,
                https: args.https,
                trusted_proxies: args.trusted_proxies,
                connections_per_address: args.connections_per_address,
                build_cache: CacheLimits {
                    floor: args.build_cache_floor,
                    ceiling: args.build_cache_ceiling,
                },
            };
            match havre_app::run(options).map_err(|error| failure(&error))? {
                DaemonEnd::Signal => Ok(Exit::Ok),
                // By this an init system knows that it is not to start another.
                DaemonEnd::Call => Ok(Exit::Interrupted),
            }
        }
    }
}

fn failure(error: &DaemonError) -> Failure {
    let (exit, hint) = match error {
        DaemonError::NotRoot => (Exit::NotRoot, Some("run the command again with sudo")),
        DaemonError::Running { .. } => (Exit::Busy, Some("`havre daemon stop` ends it")),
        _ => (Exit::Failed, None),
    };
    let mut failure = Failure::new(exit, error.to_string());
    if let Some(source) = std::error::Error::source(error) {
        failure = failure.caused_by(source);
    }
    Failure {
        hint: hint.map(str::to_owned),
        ..failure
    }
}

/// Ends daemon and edge, and waits until both are gone.
async fn stop(context: &Context, force: bool) -> Outcome {
    let client = Client::new(context.root.api_socket());
    if answering(&client).await?.is_some() {
        shut_down(context, &client, force).await?;
        context.ui.say("the daemon and the edge have ended");
        return Ok(Exit::Ok);
    }
    if let Some(unit) = systemd::installed(&context.root) {
        // It may be about to start one.
        require_root("stopping the daemon's unit")?;
        systemctl(&["stop", unit.as_str()])?;
    }
    context.ui.say("no daemon runs");
    Ok(Exit::Ok)
}

/// What the daemon says of itself; `None` where none runs.
async fn answering(client: &Client) -> Result<Option<DaemonInfo>, Failure> {
    match client.call::<Info>(&Empty {}).await {
        Ok(info) => Ok(Some(info)),
        Err(ClientError::Unreachable { source, .. })
            if source.kind() != std::io::ErrorKind::PermissionDenied =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Has the daemon end with the edge, and waits until both are gone.
async fn shut_down(context: &Context, client: &Client, force: bool) -> Result<(), Failure> {
    let info = client.call::<Info>(&Empty {}).await?;
    client.call::<Shutdown>(&ShutdownRequest { force }).await?;
    let edge = info.edge.map(|edge| edge.pid);
    has_ended(context, info.pid, edge).await
}

/// Waits until the daemon is gone, and the edge where that is to go too.
async fn has_ended(context: &Context, daemon: u32, edge: Option<u32>) -> Result<(), Failure> {
    let ended = async {
        while [Some(daemon), edge].into_iter().flatten().any(is_running) {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(END_DEADLINE, ended)
        .await
        .map_err(|_| {
            let message = format!("the daemon (pid {daemon}) does not end");
            Failure::new(Exit::Failed, message)
                .hint(format!("see {}", systemd::log_of(&context.root)))
        })
}

/// Whether there is such a process and it has not ended (one that nobody waited for has).
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
