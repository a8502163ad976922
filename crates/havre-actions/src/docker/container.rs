//! A step in a container of its own, as GitHub runs it: beside the job's, with its network, and with the folders of the
//! job where actions look for them.
//!
//! ```text
//! the step's process (this) ── what to run ──► who makes boxes ──► a container beside the job's
//!    its output, its exit code ◄─────────────────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use havre_job::images::{Answer, Ask, Run};
use serde::Deserialize;

use super::cli::pulled;
use super::client::Client;
use super::wanted::{self, Wanted};
use super::{build, login};
use crate::failure::{Failure, refused};
use crate::glob::normal;
use crate::step::Step;

/// Names what the runner tells.
const VARIABLE: &str = "HAVRE_CONTAINER";
/// How variables begin that all actions get.
const OF_ACTIONS: [&str; 5] = ["GITHUB_", "RUNNER_", "INPUT_", "STATE_", "ACTIONS_"];
const WORKSPACE: &str = "/github/workspace";
const HOME: &str = "/github/home";

/// What the runner tells.
#[derive(Deserialize)]
struct Container {
    image: Option<String>,
    dockerfile: Option<(PathBuf, PathBuf)>,
    entrypoint: Option<String>,
    args: Vec<String>,
    variables: Vec<String>,
}

/// Runs the container that a variable describes; ends as it does.
pub fn main() -> ExitCode {
    let step = Step::of_process();
    match run(&step) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(failure) => step.fail(&failure),
    }
}

fn run(step: &Step) -> Result<i32, Failure> {
    let container: Container = serde_json::from_str(step.needed(VARIABLE)?)
        .map_err(|error| Failure::Refused(format!("{VARIABLE}: {error}")))?;
    let client = build::client(step)?;
    let image = image(step, &client, &container)?;
    let places = places(step)?;
    for (path, _) in &places {
        std::fs::create_dir_all(path).map_err(Failure::io(format!("make {path}")))?;
    }
    let ask = Ask::Run(Box::new(Run {
        image,
        entrypoint: container.entrypoint.clone().map(|program| vec![program]),
        args: container.args.clone(),
        env: variables(step, &container.variables, &places),
        folder: Some(WORKSPACE.to_owned()),
        folders: places,
    }));
    let hear = |answer: &Answer| match answer {
        Answer::Line(text) => step.say(text),
        // Nobody reads: there is nobody to tell that either.
        Answer::ErrorLine(text) => if writeln!(std::io::stderr().lock(), "{text}").is_err() {},
        Answer::Warning(text) => step.warning(text),
        Answer::Image(_) | Answer::Bytes(_) | Answer::Exited { .. } | Answer::Failed(_) => {}
    };
    match client.ask_once(&ask, &hear)? {
        Answer::Exited {
            code,
            out_of_memory,
        } => {
            if out_of_memory {
                step.error("the container had no memory left");
            }
            Ok(code)
        }
        _ => refused("the container ended without a word; run the job again"),
    }
}

/// Fetches or builds it; returns what names it.
fn image(step: &Step, client: &Client, container: &Container) -> Result<String, Failure> {
    let logins = login::credentials(step)?;
    match (&container.image, &container.dockerfile) {
        (Some(image), _) => {
            step.group(&format!("Fetch {image}"));
            let image = pulled(client, image, false, &logins);
            step.end_group();
            Ok(image?.digest)
        }
        (None, Some((file, folder))) => {
            let (file, workspace) = (normal(file), step.workspace()?);
            let shown = file.strip_prefix(&workspace).unwrap_or(&file);
            step.group(&format!("Build {}", shown.display()));
            let wanted = Wanted {
                folder: workspace,
                context: folder.clone(),
                file: Some(file),
                build: wanted::nothing(),
                push: false,
                files: Vec::new(),
                logins,
            };
            let (say, warn) = (|text: &str| step.say(text), |text: &str| step.warning(text));
            let hear = |answer: &Answer| wanted::hearing(&say, &warn)(answer);
            let built = wanted.carry_out(client, &hear, &|text| step.say(text));
            step.end_group();
            Ok(built?.digest)
        }
        (None, None) => refused("the step names no image"),
    }
}

/// Folders of the box, and where they are in the container; those within others come later.
fn places(step: &Step) -> Result<Vec<(String, String)>, Failure> {
    let temp = step.needed("RUNNER_TEMP")?;
    let above = |variable: &str| -> Result<String, Failure> {
        let path = Path::new(step.needed(variable)?);
        let folder = path.parent().unwrap_or(path);
        Ok(folder.to_string_lossy().into_owned())
    };
    let pair = |path: String, target: &str| (path, target.to_owned());
    Ok(vec![
        pair(step.needed("GITHUB_WORKSPACE")?.to_owned(), WORKSPACE),
        pair(format!("{temp}/_github_home"), HOME),
        pair(above("GITHUB_EVENT_PATH")?, "/github/workflow"),
        pair(above("GITHUB_ENV")?, "/github/file_commands"),
        pair(temp.to_owned(), "/github/runner_temp"),
    ])
}

/// Variables of the container, with its own paths.
fn variables(
    step: &Step,
    names: &[String],
    places: &[(String, String)],
) -> BTreeMap<String, String> {
    let wanted = |name: &str| {
        OF_ACTIONS.iter().any(|prefix| name.starts_with(prefix))
            || name == "CI"
            || names.iter().any(|known| known == name)
    };
    let all = step.all().filter(|(name, _)| wanted(name));
    let mut env: BTreeMap<String, String> = all
        .map(|(name, value)| (name.to_owned(), moved(value, places)))
        .collect();
    env.insert("HOME".to_owned(), HOME.to_owned());
    env
}

/// A path of the box, as the container has it.
fn moved(value: &str, places: &[(String, String)]) -> String {
    let found = places.iter().find_map(|(path, target)| {
        let rest = value.strip_prefix(path.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{target}{rest}"))
    });
    found.unwrap_or_else(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_container() {
        let places = [
            ("/w/shop/shop", "/github/workspace"),
            ("/w/_temp/_cmd", "/github/file_commands"),
            ("/w/_temp", "/github/runner_temp"),
        ]
        .map(|(path, target)| (path.to_owned(), target.to_owned()));
        for (value, expected) in [
            ("/w/shop/shop", "/github/workspace"),
            ("/w/shop/shop/a b", "/github/workspace/a b"),
            ("/w/shop/shopping", "/w/shop/shopping"),
            ("/w/_temp/_cmd/env_1", "/github/file_commands/env_1"),
            ("/w/_temp/x", "/github/runner_temp/x"),
            ("see /w/_temp", "see /w/_temp"),
        ] {
            assert_eq!(moved(value, &places), expected);
        }
    }
}
