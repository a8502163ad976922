//! `havre env`, `promote`, `approve`, `reject`, `freeze`.

use clap::{Args, Subcommand};
use havre_api::PromotionId;

use super::{JsonArg, values};
use crate::target::{FolderArgs, LoadArgs, ProjectArgs};

/// `havre env`.
#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// List environments in the order in which releases go through them, and what waits for each
    Ls(EnvListArgs),
    /// Show a promotion: what it would change, what has to hold, who agreed
    Show {
        /// Its number, as `havre env ls` shows it
        #[arg(value_name = "PROMOTION")]
        promotion: PromotionId,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Put in force what havre.yaml says has to hold before anything comes into its environments
    Apply(Box<EnvApplyArgs>),
    /// Report what a test said of a release: it opens, or closes, the gate `e2e` of other environments
    Report(EnvReportArgs),
}

impl EnvCommand {
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Ls(args) => args.json.json,
            Self::Show { json, .. } => json.json,
            Self::Apply(args) => args.json.json,
            Self::Report(_) => false,
        }
    }
}

/// `havre env ls`.
#[derive(Args, Debug)]
pub struct EnvListArgs {
    #[command(flatten)]
    pub folder: FolderArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre env apply`.
#[derive(Args, Debug)]
pub struct EnvApplyArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre env report`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("verdict").required(true).args(["passed", "failed"]))]
pub struct EnvReportArgs {
    /// The test: the workflow or command that `e2e` names
    #[arg(value_name = "TEST")]
    pub test: String,
    /// It passed
    #[arg(long)]
    pub passed: bool,
    /// It failed
    #[arg(long)]
    pub failed: bool,
    /// The release that was tested; without it, the one that serves
    #[arg(long, value_name = "N")]
    pub release: Option<u64>,
    /// Where it can be looked at: a run, an address
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    #[command(flatten)]
    pub project: ProjectArgs,
}

/// `havre promote`.
#[derive(Args, Debug)]
pub struct PromoteArgs {
    /// The number of the release where it comes from, or `latest`: the one that serves there
    #[arg(value_name = "RELEASE", value_parser = values::parse_release, default_value = "latest")]
    pub release: values::WhichRelease,
    /// The environment that it is to come to
    #[arg(long, value_name = "ENVIRONMENT")]
    pub to: String,
    /// The environment that it comes from; without it, what the other one needs, or the one above it in havre.yaml
    #[arg(long, value_name = "ENVIRONMENT")]
    pub from: Option<String>,
    /// Show what it would change, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not wait for the end of the rollout
    #[arg(short, long)]
    pub detach: bool,
    #[command(flatten)]
    pub entry: EntryArg,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `--entry`.
#[derive(Args, Clone, Copy, Debug)]
pub struct EntryArg {
    /// The entry of the job that asks, as the pipeline gives it
    #[arg(long, env = "HAVRE_ENTRY", value_name = "N", hide = true)]
    pub entry: Option<PromotionId>,
}

/// `havre approve` and `reject`.
#[derive(Args, Debug)]
pub struct AnswerArgs {
    /// The number of the promotion, as `havre env ls` shows it
    #[arg(value_name = "PROMOTION")]
    pub promotion: PromotionId,
    /// What is to be on record
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// Do not wait for the end of the rollout
    #[arg(short, long)]
    pub detach: bool,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre freeze`.
#[derive(Args, Debug)]
pub struct FreezeArgs {
    /// The environment into which nothing new is to come; rollbacks and restarts stay possible
    #[arg(value_name = "ENVIRONMENT")]
    pub name: String,
    /// Until when: a time as 2027-01-02T08:00:00Z, or from now on as 2h, 3d; without it, until `--off`
    #[arg(long, value_name = "WHEN", value_parser = values::parse_until)]
    pub until: Option<havre_api::Timestamp>,
    /// Why, for those who have to wait
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// End it
    #[arg(long, conflicts_with_all = ["until", "reason"])]
    pub off: bool,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// What `havre releases` shows beside the list.
#[derive(Debug, Subcommand)]
pub enum ReleasesCommand {
    /// Print where a release comes from: an in-toto statement with SLSA provenance (v1), not signed
    Provenance {
        /// Its number
        #[arg(value_name = "RELEASE")]
        release: u64,
        #[command(flatten)]
        project: ProjectArgs,
    },
}
