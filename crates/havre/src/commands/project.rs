//! `havre check` and `config`: what the project's files say, without a daemon.

use havre_app::MachineFileError;
use havre_model::ConfigView;

use super::findings::{self, Checked};
use crate::cli::{CheckArgs, ConfigArgs};
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::target::load_here;

/// Tells everything that is wrong with the files.
pub async fn check(context: &Context, args: &CheckArgs) -> Outcome {
    let (strict, form) = (args.load.strict, args.form);
    if args.machine {
        let why = "it reads a file of this machine";
        context.only_here("`havre check --machine`", why)?;
        let path = context.root.machine_file();
        let found = match havre_app::machine_settings(&context.root) {
            Ok((_, warnings)) => Ok(warnings),
            Err(MachineFileError::Content { failure, .. }) => Err(failure),
            Err(error) => return Err(super::machine_file_failure(error)),
        };
        return findings::print(context, Checked::Machine(&path), found, strict, form);
    }
    let options = args.load.options()?;
    let loaded = load_here(context, options, havre_model::load).await;
    let found = loaded.map(|loaded| loaded.warnings);
    let checked = Checked::Project(args.load.path());
    findings::print(context, checked, found, strict, form)
}

/// Shows the project as one compose file.
pub fn config(context: &Context, args: &ConfigArgs) -> Outcome {
    let ui = context.ui;
    let view = ConfigView {
        reveal: args.reveal,
        sources: args.source,
    };
    let options = args.load.options()?;
    let (loaded, shown) = match havre_model::config(&options, view) {
        Ok((loaded, shown)) => (Ok(loaded), Some(shown)),
        Err(failure) => (Err(failure), None),
    };
    let project = args.load.accept(loaded, ui)?;
    let lines = |names: Vec<String>| names.iter().map(|name| format!("{name}\n")).collect();
    let text: String = match () {
        () if args.services => lines(project.services.keys().map(ToString::to_string).collect()),
        () if args.images => lines(havre_model::images(&project)),
        () if args.volumes => lines(project.volumes.keys().map(ToString::to_string).collect()),
        () => {
            if let (Some(shown), true) = (&shown, args.json.json) {
                ui.json(shown)?;
                return Ok(Exit::Ok);
            }
            shown.map(|shown| shown.to_yaml()).unwrap_or_default()
        }
    };
    ui.data(&text)?;
    Ok(Exit::Ok)
}
