//! What of a project's runs is shown beside its environments.

use std::sync::{Mutex, MutexGuard, PoisonError};

use havre_api::{ProjectRuns, RunSummary};
use havre_base::{in_place, one_line};
use havre_git::Name;
use havre_model::ProjectName;
use havre_runs::Filter;

use super::Begun;
use crate::run_calls::summary;

/// Runs under way that are told of a project.
const MOST_LIVE: u32 = 10;

/// Who can be asked, from when the pipeline is there until the daemon ends: it holds the daemon.
#[derive(Default)]
pub(crate) struct Glance(Mutex<Option<Begun>>);

impl Glance {
    pub(super) fn begin(&self, begun: Begun) {
        *self.lock() = Some(begun);
    }

    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Begun>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What runs, and how the default branch was last; `None`: the project has no repository here.
    pub(crate) async fn runs(&self, project: &ProjectName) -> Result<Option<ProjectRuns>, String> {
        let Some(begun) = self.lock().clone() else {
            return Ok(None);
        };
        let Ok(name) = project.as_str().parse::<Name>() else {
            return Ok(None);
        };
        if !begun.repositories.exists(&name) {
            return Ok(None);
        }
        let branch = begun.repositories.objects(&name).default_branch().await;
        let branch = branch.map_err(|error| one_line(&error))?;
        let list = |filter: &Filter, most| {
            let listed = in_place(|| begun.runs.list(project.as_str(), filter, None, most));
            let listed = listed.map_err(|error| one_line(&error))?;
            Ok::<Vec<RunSummary>, String>(listed.iter().map(summary).collect())
        };
        let live = Filter {
            live: true,
            ..Filter::default()
        };
        let of_branch = Filter {
            reference: Some(format!("refs/heads/{branch}")),
            ..Filter::default()
        };
        Ok(Some(ProjectRuns {
            live: list(&live, MOST_LIVE)?,
            last: list(&of_branch, 1)?.pop(),
        }))
    }
}
