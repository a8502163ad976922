//! `havre ci`, of the runs that a daemon has.

mod explain;
mod list;
mod logs;
mod results;
mod show;
mod steer;

use havre_model::ProjectName;

use super::identity;
use crate::cli::runs::{CacheCommand, RunLogsArgs, RunLogsCommand, RunsCommand};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::target::ProjectArgs;

pub async fn run(context: &Context, command: RunsCommand) -> Outcome {
    match command {
        RunsCommand::Ls(args) => list::run(context, args).await,
        RunsCommand::Show(args) => show::run(context, args).await,
        RunsCommand::Logs(RunLogsArgs {
            command:
                Some(RunLogsCommand::Rm {
                    number,
                    project,
                    json,
                }),
            ..
        }) => logs::remove(context, number, &project, json).await,
        RunsCommand::Logs(args) => logs::run(context, args).await,
        RunsCommand::Cancel(args) => steer::cancel(context, args).await,
        RunsCommand::Rerun(args) => steer::rerun(context, args).await,
        RunsCommand::Start(args) => steer::start(context, args).await,
        RunsCommand::Event(args) => steer::event(context, args).await,
        RunsCommand::Identity(args) => identity::run(context, args).await,
        RunsCommand::Artifacts(args) => results::artifacts(context, args).await,
        RunsCommand::Cache(CacheCommand::Ls { project, json }) => {
            results::caches(context, &project, json).await
        }
        RunsCommand::Cache(CacheCommand::Rm { ids, project, json }) => {
            results::remove_caches(context, ids, &project, json).await
        }
    }
}

pub use explain::run as explain;

fn project(args: &ProjectArgs) -> Result<ProjectName, Failure> {
    Ok(args.environment()?.project)
}

/// `main` of `refs/heads/main`, `v1` of `refs/tags/v1`.
fn short_reference(reference: &str) -> &str {
    let name = reference.strip_prefix("refs/heads/");
    name.or_else(|| reference.strip_prefix("refs/tags/"))
        .unwrap_or(reference)
}

/// The first digits of a commit.
fn short_commit(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}
