//! `havre vars`.

use clap::{Args, Subcommand};

use super::{JsonArg, values};
use crate::target::{Named, ProjectArgs};

/// Whose: of the whole project where no environment is named.
const OF_ENVIRONMENT: &str = "Of this environment alone, before those of the project; without it, of the whole project \
     [env: HAVRE_ENVIRONMENT]";

/// `havre vars`.
#[derive(Debug, Subcommand)]
pub enum VarsCommand {
    /// Give variables of the project's workflows their values
    Set(VarsSetArgs),
    /// List them: of the project and its environments, or what jobs of one environment get (-E)
    Ls(VarsListArgs),
    /// Remove some
    Rm(VarsRemoveArgs),
}

/// Which project, and which of its environments.
#[derive(Args, Clone, Debug, Default)]
#[command(mut_arg("environment", |arg| arg.help(OF_ENVIRONMENT)))]
pub struct VarsScope {
    #[command(flatten)]
    pub project: ProjectArgs,
}

/// `havre vars set`.
#[derive(Args, Debug)]
pub struct VarsSetArgs {
    /// Names and values; they can be read, and are no place for secrets
    #[arg(value_name = "NAME=VALUE", required = true, value_parser = values::parse_input)]
    pub vars: Vec<(String, String)>,
    #[command(flatten)]
    pub scope: VarsScope,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre vars ls`.
#[derive(Args, Debug)]
pub struct VarsListArgs {
    #[command(flatten)]
    pub scope: VarsScope,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre vars rm`.
#[derive(Args, Debug)]
pub struct VarsRemoveArgs {
    /// Their names
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    #[command(flatten)]
    pub scope: VarsScope,
}

impl VarsCommand {
    /// Whether the answer is for a program.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Set(args) => args.json.json,
            Self::Ls(args) => args.json.json,
            Self::Rm(_) => false,
        }
    }

    /// What the command line says of the project.
    pub fn project(&mut self) -> Option<Named<'_>> {
        let scope = match self {
            Self::Set(args) => &mut args.scope,
            Self::Ls(args) => &mut args.scope,
            Self::Rm(args) => &mut args.scope,
        };
        Some(scope.project.named())
    }
}
