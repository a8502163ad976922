//! `havre git mirror`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{JsonArg, values};
use crate::target::{Named, ProjectArgs};

/// `havre git mirror`.
#[derive(Debug, Subcommand)]
pub enum MirrorCommand {
    /// Fetch the project's repository from another server: its pushes start workflows here
    From(MirrorSetArgs),
    /// Push the project's repository to another server after each push
    To(MirrorSetArgs),
    /// List mirrors of all projects, or of one
    Ls {
        #[command(flatten)]
        project: Box<ProjectArgs>,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Show how the mirrors of a project went: the last try, why it failed, the next one
    Show {
        /// Show the webhook's address and secret too
        #[arg(long)]
        hook: bool,
        #[command(flatten)]
        project: Box<ProjectArgs>,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Fetch or push now
    Now(MirrorArgs),
    /// Mirror no more; the repository stays
    Rm(MirrorArgs),
}

/// `havre git mirror from`, and `to`.
#[derive(Args, Debug)]
pub struct MirrorSetArgs {
    /// The other side: https://HOST/PATH
    #[arg(value_name = "URL")]
    pub url: String,
    /// The secret that holds the token for it: `havre secret set NAME -p PROJECT -E mirror`
    #[arg(long, value_name = "NAME")]
    pub token_secret: Option<String>,
    /// The user that the token is of, where the other side wants to know
    #[arg(long, value_name = "NAME", requires = "token_secret")]
    pub user: Option<String>,
    /// How often the other side is asked, beside webhooks and pushes [default: 5m]
    #[arg(long, value_name = "AGE", value_parser = values::parse_every)]
    pub every: Option<Duration>,
    /// Tell the other side what becomes of its commits, as GitHub's commit statuses
    #[arg(long, requires = "token_secret")]
    pub statuses: bool,
    /// The API that is told, where it is not GitHub's of that host
    #[arg(long, value_name = "URL", requires = "statuses")]
    pub api: Option<String>,
    /// Let what is in the repository here already give way
    #[arg(long)]
    pub replace: bool,
    #[command(flatten)]
    pub project: Box<ProjectArgs>,
    #[command(flatten)]
    pub json: JsonArg,
}

/// One mirror of a project.
#[derive(Args, Debug)]
pub struct MirrorArgs {
    /// Which of its mirrors
    #[arg(value_name = "from|to")]
    pub way: Way,
    #[command(flatten)]
    pub project: Box<ProjectArgs>,
    #[command(flatten)]
    pub json: JsonArg,
}

/// Which way.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Way {
    /// What comes from elsewhere
    From,
    /// What goes elsewhere
    To,
}

impl MirrorCommand {
    /// Whether the answer is for a program.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::From(args) | Self::To(args) => args.json.json,
            Self::Ls { json, .. } | Self::Show { json, .. } => json.json,
            Self::Now(args) | Self::Rm(args) => args.json.json,
        }
    }

    /// What the command line says of the project.
    pub fn project(&mut self) -> Named<'_> {
        let project = match self {
            Self::From(args) | Self::To(args) => &mut args.project,
            Self::Ls { project, .. } | Self::Show { project, .. } => project,
            Self::Now(args) | Self::Rm(args) => &mut args.project,
        };
        project.named()
    }
}
