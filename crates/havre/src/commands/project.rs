//! `havre check` and `config`: what the project's files say, without a daemon.

use havre_model::{ConfigView, Diagnostic, LoadFailure, Loaded, Severity};

use super::Context;
use crate::cli::{CheckArgs, ConfigArgs};
use crate::error::Outcome;
use crate::exit::Exit;
use crate::human;

/// Tells everything that is wrong with the files.
pub fn check(context: &Context, args: &CheckArgs) -> Outcome {
    let loaded = havre_model::load(&args.files.options(&args.path)?);
    tell(context, loaded, args.files.strict, args.json.json)
}

/// Tells all findings; `strict`: warnings are errors.
pub fn tell(
    context: &Context,
    loaded: Result<Loaded, LoadFailure>,
    strict: bool,
    json: bool,
) -> Outcome {
    let ui = context.ui;
    let (errors, warnings) = match loaded {
        Ok(Loaded { warnings, .. }) => (Vec::new(), warnings),
        Err(LoadFailure { errors, warnings }) => (errors, warnings),
    };
    let mut found: Vec<Diagnostic> = errors.into_iter().chain(warnings).collect();
    if strict {
        for finding in &mut found {
            finding.severity = Severity::Error;
        }
    }
    let count = |severity| found.iter().filter(|f| f.severity == severity).count() as u64;
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if json {
        ui.json(&found)?;
    } else {
        let texts: Vec<String> = found.iter().map(|finding| format!("{finding}\n")).collect();
        ui.data(&texts.join("\n"))?;
    }
    ui.say(&match (errors, warnings) {
        (0, 0) => "the project is fine".to_owned(),
        _ => format!(
            "the project has {} and {}",
            human::count(errors, "error"),
            human::count(warnings, "warning")
        ),
    });
    Ok(match errors {
        0 => Exit::Ok,
        _ => Exit::Project,
    })
}

/// Shows the project as one compose file.
pub fn config(context: &Context, args: &ConfigArgs) -> Outcome {
    let ui = context.ui;
    let view = ConfigView {
        reveal: args.reveal,
        sources: args.source,
    };
    let options = args.files.options(&args.path)?;
    let (loaded, shown) = match havre_model::config(&options, view) {
        Ok((loaded, shown)) => (Ok(loaded), Some(shown)),
        Err(failure) => (Err(failure), None),
    };
    let project = args.files.accept(loaded, ui)?;
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
