//! What projects from elsewhere send: its calls of the API, and what becomes of it when nothing needs it.

use std::sync::Arc;
use std::time::Duration;

use havre_api::{ApiError, Empty, EnvironmentId, ErrorCode, Routes, SourcesOffer, SourcesPut};
use havre_base::blocking;

use crate::daemon::Daemon;
use crate::labels::environment_key;
use crate::sources;
use crate::subsystem::{Part, Subsystem, Task};
use crate::supervisor::Supervised;
use crate::turns::{Turn, Turns};

/// How many move files at once: each takes a thread, and the disk.
const AT_ONCE: usize = 4;

/// How often it is looked for what nothing needs.
const EVERY: Duration = Duration::from_secs(1800);

pub(crate) const PART: Part = Part {
    schema: None,
    build: |daemon, _| Box::new(Sources(Arc::clone(daemon))),
};

struct Sources(Arc<Daemon>);

impl Subsystem for Sources {
    fn calls(&self) -> Option<Routes<()>> {
        let state = Arc::new((Arc::clone(&self.0), Turns::new(AT_ONCE)));
        let routes = Routes::new(state)
            .call::<SourcesOffer, _>(async |state: Arc<(Arc<Daemon>, Turns)>, _, request| {
                let platform = Arc::clone(&state.0.platform);
                let turn = turn(&state.1, &request.environment).await?;
                // The work goes on where who asked has gone, and so does its turn.
                let offered = blocking(move || {
                    let _turn = turn;
                    sources::offer(&platform, request)
                });
                offered.await.map_err(|error| panicked(&error))?
            })
            .call::<SourcesPut, _>(async |state: Arc<(Arc<Daemon>, Turns)>, _, request| {
                let platform = Arc::clone(&state.0.platform);
                let turn = turn(&state.1, &request.environment).await?;
                let put = blocking(move || {
                    let _turn = turn;
                    sources::put(&platform, &request)
                });
                put.await.map_err(|error| panicked(&error))??;
                Ok(Empty {})
            });
        Some(routes.erased())
    }

    fn tasks(&self) -> Vec<Task> {
        let daemon = Arc::clone(&self.0);
        let keep = move |task| keep(Arc::clone(&daemon), task);
        vec![Task::new("sent files", keep)]
    }
}

async fn turn(turns: &Turns, environment: &EnvironmentId) -> Result<Turn, ApiError> {
    let crowd = || format!("too many send files for {environment} at once");
    turns.of(environment_key(environment), crowd).await
}

fn panicked(error: &dyn std::error::Error) -> ApiError {
    ApiError::from_error(ErrorCode::Internal, error)
}

/// Removes what nothing needs, until the daemon ends.
async fn keep(daemon: Arc<Daemon>, task: Supervised) {
    loop {
        tokio::select! {
            () = task.end.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let environments = daemon.environments().await;
        let known = environments.iter().map(|environment| {
            let releases = environment.status().releases.values().cloned().collect();
            (environment.id.clone(), releases)
        });
        let known: Vec<_> = known.collect();
        let platform = Arc::clone(&daemon.platform);
        let swept = blocking(move || sources::sweep(&platform, &known)).await;
        task.report(match swept {
            Ok(errors) if errors.is_empty() => Ok("what nothing needs is gone".to_owned()),
            Ok(errors) => Err(errors.join("; ")),
            Err(error) => Err(error.to_string()),
        });
    }
}
