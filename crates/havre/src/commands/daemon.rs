//! `havre daemon`.

use havre_api::{Client, ClientError, Empty, Info, Shutdown, ShutdownRequest};
use havre_app::{DaemonError, DaemonOptions};

use super::{Context, block_on};
use crate::cli::{DaemonArgs, DaemonCommand};
use crate::error::{Failure, Outcome};
use crate::exit::Exit;

/// How long a daemon may take to leave after it agreed to.
const END_DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

/// Pause between questions whether it is gone.
const POLL: std::time::Duration = std::time::Duration::from_millis(20);

pub fn run(context: &Context, args: DaemonArgs) -> Outcome {
    match args.command {
        Some(DaemonCommand::Stop { force }) => block_on(stop(context, force)),
        None => {
            let options = DaemonOptions {
                root: context.root.clone(),
                http: args.http,
                https: args.https,
            };
            havre_app::run(options).map_err(|error| failure(&error))?;
            Ok(Exit::Ok)
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
    let info = match client.call::<Info>(&Empty {}).await {
        Ok(info) => info,
        Err(ClientError::Unreachable { source, .. })
            if source.kind() != std::io::ErrorKind::PermissionDenied =>
        {
            context.ui.say("no daemon runs");
            return Ok(Exit::Ok);
        }
        Err(error) => return Err(error.into()),
    };
    client.call::<Shutdown>(&ShutdownRequest { force }).await?;
    let edge = info.edge.map(|edge| edge.pid);
    let ended = async {
        while [Some(info.pid), edge].into_iter().flatten().any(is_running) {
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(END_DEADLINE, ended).await.is_err() {
        let message = format!("the daemon (pid {}) does not end", info.pid);
        return Err(Failure::new(Exit::Failed, message)
            .hint(format!("see {}", context.root.daemon_log().display())));
    }
    context.ui.say("the daemon and the edge have ended");
    Ok(Exit::Ok)
}

/// Whether there is such a process and it has not ended (one that nobody waited for has).
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
