//! How the files at hand configure the project's other environments: kept with a release, for promotions.

use havre_model::{FileSource, LoadOptions, Project};

use crate::context::Context;
use crate::error::Failure;
use crate::sending;
use crate::target::{LoadArgs, load_here};

/// The project in each other environment that havre.yaml names. One in which it cannot be read is told, and left out.
pub async fn of(
    context: &Context,
    args: &LoadArgs,
    project: &Project,
) -> Result<Vec<Project>, Failure> {
    let own = &project.environment;
    let mut all = Vec::new();
    for gates in project.gates.iter().filter(|gates| gates.name != *own) {
        let options = LoadOptions {
            environment: Some(gates.name.clone()),
            ..args.options()?
        };
        let loaded = load_here(context, options, havre_model::load).await;
        let mut other = match loaded {
            Ok(loaded) => loaded.project,
            Err(failure) => {
                tell(context, gates.name.as_str(), &failure.to_string());
                continue;
            }
        };
        match prepared(context, &mut other) {
            Ok(()) => all.push(other),
            Err(failure) => tell(context, gates.name.as_str(), &failure.message),
        }
    }
    Ok(all)
}

/// Nothing of it is built, and what is secret is not kept.
fn prepared(context: &Context, project: &mut Project) -> Result<(), Failure> {
    for service in project.services.values_mut() {
        service.build = None;
    }
    project
        .secrets
        .retain(|_, source| matches!(source, FileSource::Store { .. }));
    match context.is_here() {
        true => sending::take_configs(project),
        false => sending::name(context, project),
    }
}

fn tell(context: &Context, environment: &str, why: &str) {
    context.ui.warn(
        &format!("{environment}: its configuration is not kept with the release: {why}"),
        Some("a promotion to it goes by the files of whoever asks for it"),
    );
}
