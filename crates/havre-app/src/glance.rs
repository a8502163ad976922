//! What of a project's runs is shown beside its environments.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use havre_api::ProjectRuns;
use havre_model::ProjectName;

/// Who knows of runs.
pub(crate) trait Look: Send + Sync {
    /// What runs, and how the default branch was last; `None`: the project has no repository here.
    fn runs<'a>(
        &'a self,
        project: &'a ProjectName,
    ) -> BoxFuture<'a, Result<Option<ProjectRuns>, String>>;
}

/// Who can be asked, from when the pipeline is there until the daemon ends: it holds the daemon.
#[derive(Default)]
pub(crate) struct Glance(Mutex<Option<Arc<dyn Look>>>);

impl Glance {
    pub(crate) fn begin(&self, look: Arc<dyn Look>) {
        *self.lock() = Some(look);
    }

    pub(crate) fn end(&self) {
        *self.lock() = None;
    }

    /// As [`Look::runs`]; of a daemon that runs nothing, nothing.
    pub(crate) async fn runs(&self, project: &ProjectName) -> Result<Option<ProjectRuns>, String> {
        let look = self.lock().clone();
        match look {
            Some(look) => look.runs(project).await,
            None => Ok(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<dyn Look>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
