//! What of a project's runs is shown beside its environments.

use futures_util::future::BoxFuture;
use havre_api::{ProjectRuns, RunSummary};
use havre_base::{in_place, one_line};
use havre_git::Name;
use havre_model::ProjectName;
use havre_runs::Filter;

use super::Begun;
use crate::glance::Look;
use crate::run_calls::summary;

/// Runs under way that are told of a project.
const MOST_LIVE: u32 = 10;

impl Look for Begun {
    fn runs<'a>(
        &'a self,
        project: &'a ProjectName,
    ) -> BoxFuture<'a, Result<Option<ProjectRuns>, String>> {
        Box::pin(self.look(project))
    }
}

impl Begun {
    async fn look(&self, project: &ProjectName) -> Result<Option<ProjectRuns>, String> {
        let Ok(name) = project.as_str().parse::<Name>() else {
            return Ok(None);
        };
        if !self.repositories.exists(&name) {
            return Ok(None);
        }
        let branch = self.repositories.objects(&name).default_branch().await;
        let branch = branch.map_err(|error| one_line(&error))?;
        let list = |filter: &Filter, most| {
            let listed = in_place(|| self.runs.list(project.as_str(), filter, None, most));
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
