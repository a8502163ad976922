//! `havre ci`: workflow files of this folder, and the runs of a daemon.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{FindingsForm, JsonArg, runs, values};
use crate::target::ProjectArgs;

/// `havre ci`.
#[derive(Debug, Subcommand)]
pub enum CiCommand {
    /// Check workflow files and report every problem
    Check(CiCheckArgs),
    /// Explain which workflows an event starts and why, and what becomes of their jobs; or why the jobs of a run ran
    Explain(Box<CiExplainArgs>),
    /// Write which commit each action of the workflows is: .github/workflows/actions.lock
    Lock(CiLockArgs),
    /// Run the workflows of this working tree here, each job in a box of its own, without a daemon
    Run(Box<CiRunArgs>),
    #[command(flatten)]
    Runs(Box<runs::RunsCommand>),
}

/// `havre ci check`.
#[derive(Args, Debug)]
pub struct CiCheckArgs {
    /// Workflow files, or folders that have them in .github/workflows; this folder without any
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Take warnings for errors
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub form: FindingsForm,
}

/// `havre ci lock`.
#[derive(Args, Debug)]
pub struct CiLockArgs {
    /// The repository's folder; this one without
    #[arg(value_name = "FOLDER")]
    pub path: Option<PathBuf>,
    /// Write nothing: fail where the file does not say what the workflows use
    #[arg(long, conflicts_with = "update")]
    pub check: bool,
    /// Look this one up again: OWNER/REPOSITORY or OWNER/REPOSITORY@REF; others keep their commits
    #[arg(long, value_name = "NAME")]
    pub update: Vec<String>,
    /// The server that is asked
    #[arg(long, value_name = "URL", default_value = "https://github.com")]
    pub server: String,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre ci explain`.
#[derive(Args, Debug)]
pub struct CiExplainArgs {
    /// Workflow files, or folders that have them in .github/workflows; this folder without any. The number of a run
    /// that a daemon has: of that one
    #[arg(value_name = "WORKFLOW|NUMBER")]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub event: CiEventArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre ci run`.
#[derive(Args, Debug)]
pub struct CiRunArgs {
    /// The workflow file, or a folder that has some in .github/workflows; this folder without one
    #[arg(value_name = "WORKFLOW")]
    pub path: Option<PathBuf>,
    /// Run this job and what it needs, and no other
    #[arg(long, value_name = "JOB")]
    pub job: Vec<String>,
    /// A secret of the jobs; without a value, that of the environment variable of this name
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = values::parse_optional)]
    pub secret: Vec<(String, Option<String>)>,
    /// A variable of the jobs (`vars`)
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::parse_input)]
    pub var: Vec<(String, String)>,
    /// An image for a label of `runs-on`
    #[arg(long, value_name = "LABEL=IMAGE", value_parser = values::parse_input)]
    pub label: Vec<(String, String)>,
    #[command(flatten)]
    pub event: CiEventArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// What happens to a repository.
#[derive(Args, Debug)]
pub struct CiEventArgs {
    /// What happens
    #[arg(long, value_enum, default_value_t = CiEvent::Push)]
    pub event: CiEvent,
    /// The branch that it happens to; without it and without --tag, the one that is checked out
    #[arg(long, value_name = "BRANCH", conflicts_with = "tag")]
    pub branch: Option<String>,
    /// The tag that it happens to
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// The branch that a pull request goes into
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    pub base: String,
    /// The type of the event: of pull_request (opened), workflow_run (completed) or repository_dispatch
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// The workflow that workflow_run follows
    #[arg(long, value_name = "NAME")]
    pub workflow: Option<String>,
    /// Files that changed, from the repository's root; without it, nobody knows
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub changed: Option<Vec<String>>,
    /// The message of the newest commit: `[skip ci]` in it keeps a push or pull request from starting anything
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub message: String,
    /// Inputs of workflow_dispatch
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::parse_input)]
    pub input: Vec<(String, String)>,
}

/// What may start a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum CiEvent {
    Push,
    PullRequest,
    WorkflowDispatch,
    Schedule,
    WorkflowCall,
    RepositoryDispatch,
    WorkflowRun,
}
