//! Repositories of projects: served beside the API's calls, at its socket and its host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use havre_engine::Engine;
use havre_git::{Git, Receiver};
use havre_release::Answer;

use crate::daemon::Daemon;
use crate::repositories;
use crate::subsystem::{Subsystem, Task};
use crate::supervisor::Supervised;

/// How often they are tidied.
const EVERY: Duration = Duration::from_secs(3600);

pub(crate) struct Repositories {
    daemon: Arc<Daemon>,
    /// What keeps them from being served, otherwise: all else goes on.
    git: Result<Git, String>,
    is_resumed: Arc<AtomicBool>,
}

impl Repositories {
    pub(crate) fn new(daemon: &Arc<Daemon>, engine: Engine, receiver: Arc<dyn Receiver>) -> Self {
        let most = &daemon.options.machine.git;
        let opened =
            havre_base::in_place(|| repositories::open(&daemon.platform, most, engine, receiver));
        Self {
            daemon: Arc::clone(daemon),
            git: opened.map_err(|error| havre_base::one_line(&error)),
            is_resumed: Arc::default(),
        }
    }
}

impl Repositories {
    /// What serves them; what keeps them from being served, otherwise.
    pub(crate) fn git(&self) -> Result<Git, String> {
        self.git.clone()
    }
}

impl Subsystem for Repositories {
    fn beside(&self) -> Option<Router> {
        let porter = repositories::porter(&self.daemon.platform);
        let git = self.git.as_ref().ok()?;
        Some(git.router(Arc::new(porter)))
    }

    fn tasks(&self) -> Vec<Task> {
        let (hooks, tidied) = (self.git.clone(), self.git.clone());
        let is_resumed = Arc::clone(&self.is_resumed);
        vec![
            Task::new("hooks of pushes", move |task| {
                answer_hooks(hooks.clone(), task)
            }),
            Task::new("repositories", move |task| {
                keep(tidied.clone(), Arc::clone(&is_resumed), task)
            }),
        ]
    }

    fn drain(&self) -> Answer<'_, ()> {
        Box::pin(async {
            if let Ok(git) = &self.git {
                git.drain().await;
            }
        })
    }
}

async fn answer_hooks(git: Result<Git, String>, task: Supervised) {
    match git {
        Ok(git) => {
            if let Err(error) = git.serve_hooks(task.end.clone()).await {
                task.report(Err(error.to_string()));
            }
        }
        Err(_) => task.end.cancelled().await,
    }
}

async fn keep(git: Result<Git, String>, is_resumed: Arc<AtomicBool>, task: Supervised) {
    let git = match git {
        Ok(git) => git,
        Err(error) => {
            tracing::error!(error, "repositories are not served");
            task.report(Err(error));
            return task.end.cancelled().await;
        }
    };
    if !is_resumed.swap(true, Ordering::Relaxed)
        && let Err(error) = git.resume().await
    {
        task.report(Err(error.to_string()));
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = task.end.cancelled() => return,
        }
        git.repositories().tidy().await;
        task.report(Ok("tidied".to_owned()));
    }
}
