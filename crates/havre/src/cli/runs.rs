//! `havre ci`, of the runs that a daemon has.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{JsonArg, values};
use crate::target::{Named, ProjectArgs};

/// `havre ci`, of the runs that a daemon has.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// List runs of the project's workflows, the newest first
    Ls(RunListArgs),
    /// Show a run: its jobs, what they wait for, what they found and why they failed
    Show(RunShowArgs),
    /// Show or follow what the jobs of a run print, or remove it
    Logs(RunLogsArgs),
    /// Cancel a run
    Cancel(RunCancelArgs),
    /// Run jobs of a run again, as one more attempt
    Rerun(RunRerunArgs),
    /// Start a workflow that can be asked for (workflow_dispatch)
    Start(RunStartArgs),
    /// Tell workflows of something that happened elsewhere (repository_dispatch)
    Event(RunEventArgs),
    /// List a run's artifacts, or fetch one
    Artifacts(ArtifactsArgs),
    /// Show where identity tokens of jobs are from, for whoever is to believe them
    Identity(IdentityArgs),
    /// List and remove the caches of jobs
    #[command(subcommand)]
    Cache(CacheCommand),
}

/// `havre ci identity`.
#[derive(Args, Debug)]
pub struct IdentityArgs {
    /// Have another key sign; tokens of the keys before it are believed no more
    #[arg(long)]
    pub rotate: bool,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre ci ls`.
#[derive(Args, Debug)]
pub struct RunListArgs {
    /// Only of this workflow: its file, or its name
    #[arg(long, value_name = "WORKFLOW")]
    pub workflow: Option<String>,
    /// Only on this branch, or this reference in full (refs/tags/v1)
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// Only those that have not ended
    #[arg(long)]
    pub live: bool,
    /// Only those before the run of this number
    #[arg(long, value_name = "NUMBER")]
    pub before: Option<u64>,
    /// Number of runs to show
    #[arg(long = "last", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub last: u32,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre ci show`.
#[derive(Args, Debug)]
pub struct RunShowArgs {
    /// The run's number
    #[arg(value_name = "NUMBER")]
    pub number: u64,
    /// Show the steps of all jobs, not only of those that failed or run
    #[arg(long)]
    pub steps: bool,
    /// Show the summaries that steps wrote
    #[arg(long)]
    pub summaries: bool,
    /// End with 1 where the run failed, with 130 where it was cancelled, and with 7 where it has not ended
    #[arg(long)]
    pub exit_code: bool,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre ci logs`. As with `havre logs`, `-f` is no file.
#[derive(Args, Debug)]
#[command(
    mut_arg("files", |file| file.short(None)),
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct RunLogsArgs {
    #[command(subcommand)]
    pub command: Option<RunLogsCommand>,
    /// The run's number
    #[arg(value_name = "NUMBER", required = true)]
    pub number: Option<u64>,
    /// Go on with what comes until the run has ended, also while the daemon restarts
    #[arg(short, long)]
    pub follow: bool,
    /// Only of this job, by its key in the file
    #[arg(long, value_name = "JOB")]
    pub job: Option<String>,
    /// Only of this place in the job's matrix, from 0
    #[arg(long, value_name = "INDEX", requires = "job")]
    pub leg: Option<u32>,
    /// As it was in this attempt, instead of in the newest
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// What to do with logs other than to read them.
#[derive(Debug, Subcommand)]
pub enum RunLogsCommand {
    /// Remove the logs of a run that has ended
    Rm {
        /// The run's number
        #[arg(value_name = "NUMBER")]
        number: u64,
        #[command(flatten)]
        project: Box<ProjectArgs>,
        #[command(flatten)]
        json: JsonArg,
    },
}

/// `havre ci cancel`.
#[derive(Args, Debug)]
pub struct RunCancelArgs {
    /// The run's number
    #[arg(value_name = "NUMBER")]
    pub number: u64,
    /// End all at once: no step cleans up, and no job goes on whose `if` asks for it
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre ci rerun`.
#[derive(Args, Debug)]
pub struct RunRerunArgs {
    /// The run's number
    #[arg(value_name = "NUMBER")]
    pub number: u64,
    /// Only what failed or was cancelled, and what needs it
    #[arg(long, conflicts_with = "job")]
    pub failed: bool,
    /// Only this job, by its key in the file, and what needs it
    #[arg(long, value_name = "JOB")]
    pub job: Option<String>,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre ci start`.
#[derive(Args, Debug)]
pub struct RunStartArgs {
    /// The workflow's file, by its name in .github/workflows
    #[arg(value_name = "WORKFLOW")]
    pub workflow: String,
    /// The branch or tag to run it on; without it, the default branch
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// An input of the workflow
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::parse_input)]
    pub input: Vec<(String, String)>,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre ci event`.
#[derive(Args, Debug)]
pub struct RunEventArgs {
    /// What happened, as `on.repository_dispatch.types` calls it
    #[arg(value_name = "TYPE")]
    pub kind: String,
    /// What is to be said of it, as a JSON object: `github.event.client_payload`
    #[arg(long, value_name = "JSON", value_parser = values::parse_object)]
    pub payload: Option<serde_json::Map<String, serde_json::Value>>,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre ci artifacts`.
#[derive(Args, Debug)]
pub struct ArtifactsArgs {
    /// The run's number
    #[arg(value_name = "NUMBER")]
    pub number: u64,
    /// Fetch the artifact of this name
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Write it to this file instead of one of its name
    #[arg(short, long, value_name = "FILE", requires = "name")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre ci cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List caches, and which went to make room
    Ls {
        #[command(flatten)]
        project: Box<ProjectArgs>,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Remove caches
    Rm {
        /// Their numbers
        #[arg(value_name = "ID", required = true)]
        ids: Vec<i64>,
        #[command(flatten)]
        project: Box<ProjectArgs>,
        #[command(flatten)]
        json: JsonArg,
    },
}

impl RunsCommand {
    /// Whether the answer is for a program.
    pub fn wants_json(&self) -> bool {
        let json = match self {
            Self::Ls(args) => args.json,
            Self::Show(args) => args.json,
            Self::Logs(RunLogsArgs {
                command: Some(RunLogsCommand::Rm { json, .. }),
                ..
            }) => *json,
            Self::Logs(args) => args.json,
            Self::Cancel(args) => args.json,
            Self::Rerun(args) => args.json,
            Self::Start(args) => args.json,
            Self::Event(args) => args.json,
            Self::Identity(args) => args.json,
            Self::Artifacts(args) => args.json,
            Self::Cache(CacheCommand::Ls { json, .. } | CacheCommand::Rm { json, .. }) => *json,
        };
        json.json
    }

    /// What the command line says of the project.
    pub fn project(&mut self) -> Option<Named<'_>> {
        let project = match self {
            Self::Ls(args) => &mut args.project,
            Self::Show(args) => &mut args.project,
            Self::Logs(RunLogsArgs {
                command: Some(RunLogsCommand::Rm { project, .. }),
                ..
            }) => project,
            Self::Logs(args) => &mut args.project,
            Self::Cancel(args) => &mut args.project,
            Self::Rerun(args) => &mut args.project,
            Self::Start(args) => &mut args.project,
            Self::Event(args) => &mut args.project,
            Self::Identity(_) => return None,
            Self::Artifacts(args) => &mut args.project,
            Self::Cache(CacheCommand::Ls { project, .. } | CacheCommand::Rm { project, .. }) => {
                project
            }
        };
        Some(project.named())
    }
}
