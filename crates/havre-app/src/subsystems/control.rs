//! The daemon itself: what it says of itself, and how it is told to end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use havre_api::{
    ApiError, DaemonInfo, EdgeInfo, Empty, ErrorCode, Info, RefusedCalls, Routes, Shutdown,
    ShutdownRequest,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::daemon::Daemon;
use crate::handle::EnvironmentHandle;
use crate::secrets;
use crate::subsystem::{Part, Subsystem, Task};

pub(crate) const PART: Part = Part {
    schema: None,
    build: |daemon, _| Box::new(Control(Arc::clone(daemon))),
};

struct Control(Arc<Daemon>);

impl Subsystem for Control {
    fn calls(&self) -> Option<Routes<()>> {
        let routes = Routes::new(Arc::clone(&self.0))
            .call::<Info, _>(async |daemon, by, _| {
                let info = info(&daemon).await;
                Ok(match by.grant.sees_all() {
                    true => info,
                    false => for_a_part(info),
                })
            })
            .call::<Shutdown, _>(async |daemon, _, request| {
                shutdown(&daemon, request).await.map(|()| Empty {})
            });
        Some(routes.erased())
    }

    fn tasks(&self) -> Vec<Task> {
        vec![Task::new("signals", async |task| {
            end_on_signal(task.end).await
        })]
    }
}

fn refused(daemon: &Daemon) -> RefusedCalls {
    let failures = daemon.platform.door.failures();
    RefusedCalls {
        unauthenticated: failures.refused,
        limited: failures.limited,
        last: failures.last.map(|(at, _)| at.into()),
        last_address: failures.last.and_then(|(_, address)| address),
    }
}

async fn info(daemon: &Daemon) -> DaemonInfo {
    let edge = daemon.platform.hub.status().await;
    DaemonInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        root: daemon.options.root.base().map(Into::into),
        since: daemon.since.into(),
        http: daemon.options.http.clone(),
        https: daemon.options.https.clone(),
        given: Some(daemon.options.given.clone()),
        edge: edge.map(|edge| EdgeInfo {
            pid: edge.pid,
            version: edge.version.clone(),
        }),
        tasks: daemon.supervisor.reports(),
        refused: Some(refused(daemon)),
        problems: daemon.problems().await,
        advice: secrets::advice(&daemon.platform).into_iter().collect(),
    }
}

/// What is for everybody who may see some environment: problems and tasks may tell of others.
fn for_a_part(info: DaemonInfo) -> DaemonInfo {
    DaemonInfo {
        given: None,
        tasks: Vec::new(),
        refused: None,
        problems: Vec::new(),
        advice: Vec::new(),
        ..info
    }
}

async fn shutdown(daemon: &Daemon, request: ShutdownRequest) -> Result<(), ApiError> {
    let mut environments = daemon.environments().await;
    // Of a first release that failed nothing runs.
    environments.retain(|one| one.is_blank() || one.has_something_up());
    if !environments.is_empty() && !request.force {
        let (new, up): (Vec<_>, Vec<_>) = environments.iter().partition(|e| e.is_blank());
        let names = |of: &[&EnvironmentHandle]| {
            let names: Vec<String> = of.iter().map(|one| one.id.to_string()).collect();
            names.join(", ")
        };
        let message = match up.is_empty() {
            true => format!("an operation is under way for {}", names(&new)),
            false => format!("environments are up: {}", names(&up)),
        };
        return Err(ApiError::new(ErrorCode::Conflict, message).with_hint(
            "take them down with `havre down`, or pass --force: they go on running but \
             nobody can reach them",
        ));
    }
    daemon.shutdown_requested.store(true, Ordering::Relaxed);
    daemon.end.cancel();
    Ok(())
}

async fn end_on_signal(end: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::error!("signals cannot be received: end the daemon by `havre daemon stop`");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = end.cancelled() => {}
    }
    end.cancel();
}

#[cfg(test)]
mod tests;
