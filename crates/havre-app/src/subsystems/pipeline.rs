//! Runs of workflows: their driver, and what is kept for their jobs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use havre_api::Routes;
use havre_base::{blocking, one_line};
use havre_release::Answer;

use crate::daemon::Daemon;
use crate::pipeline::Pipeline;
use crate::previews::{self, keeper::Keeper};
use crate::run_calls;
use crate::subsystem::{Subsystem, Task};
use crate::supervisor::Supervised;

/// How often artifacts and caches are looked through.
const EVERY: Duration = Duration::from_secs(60);

/// The pipeline of a daemon.
pub(crate) struct Runs {
    pub(crate) daemon: Arc<Daemon>,
    /// What keeps it from being there, otherwise: all else goes on.
    pub(crate) pipeline: Result<Pipeline, String>,
}

impl Subsystem for Runs {
    fn calls(&self) -> Option<Routes<()>> {
        Some(run_calls::routes(
            self.pipeline
                .as_ref()
                .map(Pipeline::calls)
                .map_err(Clone::clone),
        ))
    }

    fn drain(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let Ok(pipeline) = &self.pipeline else { return };
            pipeline.end();
            // The next daemon has a use for what is ready for the next job; none, where no other is to come.
            if self.daemon.shutdown_requested.load(Ordering::Relaxed) {
                pipeline.close().await;
            }
        })
    }

    fn tasks(&self) -> Vec<Task> {
        let (driven, kept, told) = (
            self.pipeline.clone(),
            self.pipeline.clone(),
            self.pipeline.clone(),
        );
        let daemon = Arc::clone(&self.daemon);
        let mut tasks = vec![
            Task::new("gates of jobs", move |task| {
                tell(Arc::clone(&daemon), told.clone(), task)
            }),
            Task::new("runs of workflows", move |task| drive(driven.clone(), task)),
            Task::new("artifacts and caches", move |task| keep(kept.clone(), task)),
        ];
        if let Ok(pipeline) = &self.pipeline {
            let previews = Keeper {
                daemon: Arc::clone(&self.daemon),
                repositories: pipeline.repositories.clone(),
                runs: pipeline.runs.clone(),
            };
            tasks.push(Task::new("environments of branches", move |task| {
                previews::keeper::keep(previews.clone(), task)
            }));
        }
        tasks
    }
}

async fn drive(pipeline: Result<Pipeline, String>, task: Supervised) {
    let pipeline = match pipeline {
        Ok(pipeline) => pipeline,
        Err(error) => {
            tracing::error!(error, "workflows are not run");
            task.report(Err(error));
            return task.end.cancelled().await;
        }
    };
    pipeline.adopt().await;
    if let Err(error) = pipeline.runs.run(task.end.clone()).await {
        task.report(Err(one_line(&error)));
    }
}

/// Has jobs that wait for an environment ask again when something came of it.
async fn tell(daemon: Arc<Daemon>, pipeline: Result<Pipeline, String>, task: Supervised) {
    let Ok(pipeline) = pipeline else {
        return task.end.cancelled().await;
    };
    let mut changes = daemon.platform.promotions.changes();
    loop {
        tokio::select! {
            () = task.end.cancelled() => return,
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                pipeline.runs.gates_changed();
            }
        }
    }
}

async fn keep(pipeline: Result<Pipeline, String>, task: Supervised) {
    let Ok(pipeline) = pipeline else {
        return task.end.cancelled().await;
    };
    loop {
        tokio::select! {
            () = task.end.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let pipeline = pipeline.clone();
        task.report(match blocking(move || pipeline.tend()).await {
            Ok(Ok(())) => Ok("tidied".to_owned()),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(one_line(&error)),
        });
    }
}
