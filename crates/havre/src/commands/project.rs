//! `havre check` and `config`: what the project's files say, without a daemon.

use havre_model::ConfigView;

use super::findings;
use crate::cli::{CheckArgs, ConfigArgs};
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::target::load_here;

/// Tells everything that is wrong with the files.
pub async fn check(context: &Context, args: &CheckArgs) -> Outcome {
    let options = args.load.options()?;
    let loaded = load_here(&context.root, options, havre_model::load).await;
    findings::print(
        context,
        args.load.path(),
        loaded,
        args.load.strict,
        args.form,
    )
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
