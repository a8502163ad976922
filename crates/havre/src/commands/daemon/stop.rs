//! `havre daemon stop`: nothing of an installation runs after it but applications.

use std::collections::BTreeSet;
use std::time::Duration;

use havre_api::Client;
use havre_edge::Control;

use super::{answering, shut_down};
use crate::connect::{require_root, starting};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::systemd::{self, systemctl};

/// How long a daemon may take to leave after it agreed to.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// Pause between questions whether it is gone.
const POLL: Duration = Duration::from_millis(20);

/// How long an edge may take for its last requests.
const EDGE_GRACE: Duration = Duration::from_secs(5);

/// Ends daemon and edge, and waits until both are gone.
pub async fn stop(context: &Context, force: bool) -> Outcome {
    let client = Client::new(context.root.api_socket());
    // One that is about to answer would go on otherwise.
    let answers = answering(&client).await?.is_some()
        || starting(&context.root, &client, context.ui)
            .await?
            .is_some();
    if answers {
        shut_down(context, &client, force).await?;
        context.ui.say("the daemon and the edge have ended");
        return Ok(Exit::Ok);
    }
    if let Some(unit) = systemd::installed(&context.root) {
        // It may be about to start one.
        require_root("stopping the daemon's unit")?;
        systemctl(&["stop", unit.as_str()])?;
    }
    match end_edge(context, force).await? {
        true => context
            .ui
            .say("no daemon runs; the edge that was left has ended"),
        false => context.ui.say("no daemon runs"),
    }
    Ok(Exit::Ok)
}

/// Ends an edge whose daemon has died; whether there was one. Where it serves somebody that needs
/// `force`, as it does with a daemon.
async fn end_edge(context: &Context, force: bool) -> Result<bool, Failure> {
    let control = Control::new(&context.root.edge_run_dir());
    let Ok(status) = control.status().await else {
        return Ok(false);
    };
    // `project/environment/service:port`
    let served: BTreeSet<String> = status
        .pools
        .keys()
        .filter_map(|pool| Some(pool.rsplit_once('/')?.0.to_owned()))
        .collect();
    if !served.is_empty() && !force {
        let served: Vec<String> = served.into_iter().collect();
        let message = format!("environments are up: {}", served.join(", "));
        return Err(Failure::new(Exit::Busy, message).hint(
            "no daemon runs, but the edge does: `havre down` takes them down (it starts a \
             daemon), `--force` ends the edge: they go on running but nobody can reach them",
        ));
    }
    control.shutdown(EDGE_GRACE).await.map_err(|error| {
        let message = format!("cannot end the edge (pid {})", status.pid);
        Failure::new(Exit::Failed, message).caused_by(&error)
    })?;
    has_ended(context, status.pid, None).await?;
    Ok(true)
}

/// Waits until a process is gone, and the edge where that is to go too.
pub async fn has_ended(context: &Context, pid: u32, edge: Option<u32>) -> Result<(), Failure> {
    let ended = async {
        while [Some(pid), edge].into_iter().flatten().any(is_running) {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(END_DEADLINE, ended)
        .await
        .map_err(|_| {
            let message = format!("the process {pid} does not end");
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
