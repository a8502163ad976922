//! Mirrors of repositories: their calls, the webhook beside them, and the tasks that fetch, push and tell.

use std::sync::Arc;

use axum::Router;
use havre_api::{
    ApiError, Empty, ErrorCode, MirrorHookShow, MirrorRemove, MirrorRun, MirrorSet, Routes,
};
use havre_git::Git;
use havre_runs::Runs;

use crate::daemon::Daemon;
use crate::mirrors::calls::Calls;
use crate::mirrors::keeper::{Keeper, keep};
use crate::mirrors::{self, hook, statuses};
use crate::subsystem::{Subsystem, Task};

#[derive(Clone)]
pub(crate) struct Mirrors {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) mirrors: Arc<mirrors::Mirrors>,
    /// What keeps repositories from being served, otherwise.
    pub(crate) git: Result<Git, String>,
    /// None where workflows are not run.
    pub(crate) runs: Option<Runs>,
}

impl Mirrors {
    fn calls(&self) -> Calls<'_> {
        Calls {
            daemon: &self.daemon,
            mirrors: &self.mirrors,
            git: self.git.as_ref().map_err(String::as_str),
        }
    }

    /// What asks the database, on a thread that may block.
    async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce(&Calls<'_>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = havre_base::blocking(move || work(&self.calls())).await;
        done.unwrap_or_else(|error| Err(ApiError::from_error(ErrorCode::Internal, &error)))
    }
}

impl Subsystem for Mirrors {
    fn calls(&self) -> Option<Routes<()>> {
        let routes = Routes::new(self.clone())
            .call::<havre_api::Mirrors, _>(async |mirrors, by, query| {
                mirrors.blocking(move |calls| calls.list(&by, &query)).await
            })
            .call::<MirrorSet, _>(async |mirrors, by, request| {
                mirrors.calls().set(&by, request).await
            })
            .call::<MirrorHookShow, _>(async |mirrors, by, query| {
                mirrors.blocking(move |calls| calls.hook(&by, &query)).await
            })
            .call::<MirrorRun, _>(async |mirrors, by, query| {
                mirrors.blocking(move |calls| calls.run(&by, &query)).await
            })
            .call::<MirrorRemove, _>(async |mirrors, by, query| {
                let removed = mirrors.blocking(move |calls| calls.remove(&by, &query));
                removed.await.map(|()| Empty {})
            });
        Some(routes.erased())
    }

    fn beside(&self) -> Option<Router> {
        let secrets = self.daemon.platform.secrets.clone();
        Some(hook::router(Arc::clone(&self.mirrors), secrets))
    }

    fn tasks(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        if let Ok(git) = &self.git {
            let keeper = Keeper {
                platform: Arc::clone(&self.daemon.platform),
                mirrors: Arc::clone(&self.mirrors),
                git: git.clone(),
            };
            tasks.push(Task::new("mirrors", move |task| keep(keeper.clone(), task)));
        }
        if let Some(runs) = &self.runs {
            let (mirrors, runs) = (Arc::clone(&self.mirrors), runs.clone());
            let secrets = self.daemon.platform.secrets.clone();
            tasks.push(Task::new("commit statuses", move |task| {
                statuses::tell(Arc::clone(&mirrors), secrets.clone(), runs.clone(), task)
            }));
        }
        tasks
    }
}
