//! `havre ci`: workflow files, without a daemon, and the runs of one.

mod built_in;
mod explain;
mod files;
mod happening;
mod identity;
mod lock;
mod run;
mod runs;
mod source;
mod view;

use havre_model::LoadFailure;
use havre_workflow::Limits;
use havre_workflow::repository::Findings;

use super::block_on;
use super::findings::{self, Checked};
use crate::cli::ci::{CiCheckArgs, CiCommand};
use crate::context::Context;
use crate::error::Outcome;

pub fn run(context: &Context, command: CiCommand) -> Outcome {
    match command {
        CiCommand::Check(args) => check(context, &args),
        CiCommand::Explain(args) => match explain::number(&args) {
            Some(number) => block_on(runs::explain(context, &args, number)),
            None => explain::run(context, &args),
        },
        CiCommand::Lock(args) => lock::run(context, &args),
        CiCommand::Run(args) => run::run(context, &args),
        CiCommand::Runs(command) => block_on(runs::run(context, *command)),
    }
}

fn check(context: &Context, args: &CiCheckArgs) -> Outcome {
    let Findings { errors, warnings } = files::find(&args.paths, &Limits::default())?.findings;
    let found = match errors.is_empty() {
        true => Ok(warnings),
        false => Err(LoadFailure { errors, warnings }),
    };
    findings::print(context, Checked::Workflows, found, args.strict, args.form)
}
