//! Artifacts become files of the workspace.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hyper::header::HeaderMap;

use super::{ZIP, checked_name, service, zip};
use crate::cache::Scratch;
use crate::failure::{Failure, refused};
use crate::glob::{name_matches, normal};
use crate::http::Fetched;
use crate::results::{Listed, Results};
use crate::step::Step;

/// Which artifacts are wanted.
#[derive(Debug, PartialEq, Eq)]
enum Which {
    Name(String),
    Ids(Vec<u64>),
    Pattern(String),
    All,
}

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    own_run(step)?;
    let which = which(step)?;
    let results = service(step)?;
    let there = newest(results.artifacts()?);
    let chosen = chosen(&which, there)?;
    let folder = destination(step)?;
    fs::create_dir_all(&folder).map_err(Failure::io(format!("make {}", folder.display())))?;
    // As the action has it: one that was named goes straight to the path.
    let single =
        matches!(&which, Which::Name(_)) || matches!(&which, Which::Ids(ids) if ids.len() == 1);
    let together = single || step.flag("merge-multiple", false)?;
    for artifact in &chosen {
        checked_name(&artifact.name)?;
        let into = if together {
            folder.clone()
        } else {
            folder.join(&artifact.name)
        };
        fetch(step, &results, artifact, &into)?;
    }
    if chosen.is_empty() {
        step.say("There are no such artifacts.");
    }
    step.output("download-path", &folder.to_string_lossy())
}

fn own_run(step: &Step) -> Result<(), Failure> {
    let own = |input: &str, variable: &str| -> Result<bool, Failure> {
        let asked = step.input(input);
        Ok(asked.is_empty() || asked.eq_ignore_ascii_case(step.needed(variable)?))
    };
    if own("repository", "GITHUB_REPOSITORY")? && own("run-id", "GITHUB_RUN_ID")? {
        return Ok(());
    }
    refused(
        "`repository` and `run-id` must be those of this run: artifacts of others are not to be had here; have the \
         earlier job in the same workflow, or keep the file with `actions/cache`",
    )
}

fn which(step: &Step) -> Result<Which, Failure> {
    match (
        step.given("name"),
        step.given("artifact-ids"),
        step.given("pattern"),
    ) {
        (Some(_), Some(_), _) => refused("give `name` or `artifact-ids`, not both"),
        (Some(name), None, _) => Ok(Which::Name(name)),
        (None, Some(ids), _) => {
            let ids = ids.split(',').map(str::trim).filter(|id| !id.is_empty());
            let parsed: Result<Vec<u64>, _> = ids.map(str::parse).collect();
            match parsed {
                Ok(ids) => Ok(Which::Ids(ids)),
                Err(_) => refused("`artifact-ids` must be numbers, with commas between"),
            }
        }
        (None, None, Some(pattern)) => Ok(Which::Pattern(pattern)),
        (None, None, None) => Ok(Which::All),
    }
}

/// Of those of one name the one that was made last.
fn newest(all: Vec<Listed>) -> Vec<Listed> {
    let mut newest: BTreeMap<String, Listed> = BTreeMap::new();
    for artifact in all {
        let known = newest
            .get(&artifact.name)
            .map_or(0, |known| known.database_id);
        if known <= artifact.database_id {
            newest.insert(artifact.name.clone(), artifact);
        }
    }
    newest.into_values().collect()
}

fn chosen(which: &Which, there: Vec<Listed>) -> Result<Vec<Listed>, Failure> {
    let names: Vec<&str> = there
        .iter()
        .map(|artifact| artifact.name.as_str())
        .collect();
    let names = if names.is_empty() {
        "there are none".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    };
    let keep = |wanted: &dyn Fn(&Listed) -> bool| {
        there
            .iter()
            .filter(|one| wanted(one))
            .cloned()
            .collect::<Vec<_>>()
    };
    let chosen = match which {
        Which::Name(name) => keep(&|one| &one.name == name),
        Which::Ids(ids) => keep(&|one| ids.contains(&one.database_id)),
        Which::Pattern(pattern) => keep(&|one| name_matches(pattern, &one.name)),
        Which::All => keep(&|_| true),
    };
    match which {
        Which::Name(name) if chosen.is_empty() => refused(format!(
            "there is no artifact `{name}` in this run; {names}"
        )),
        Which::Ids(ids) if chosen.len() < ids.len() => {
            refused("some of `artifact-ids` are not of this run")
        }
        _ => Ok(chosen),
    }
}

fn destination(step: &Step) -> Result<PathBuf, Failure> {
    let path = step.input("path");
    let path = match (path.strip_prefix('~'), step.var("HOME")) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            format!("{home}{rest}")
        }
        _ => path,
    };
    Ok(normal(&step.workspace()?.join(path)))
}

fn fetch(step: &Step, results: &Results, artifact: &Listed, into: &Path) -> Result<(), Failure> {
    let name = &artifact.name;
    let file = Scratch::new(step)?;
    let fetched = results.fetch(&results.artifact_url(artifact)?, &file.0)?;
    verify(step, artifact, &fetched)?;
    fs::create_dir_all(into).map_err(Failure::io(format!("make {}", into.display())))?;
    let is_zip = fetched
        .headers
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(ZIP.as_bytes()));
    if is_zip && !step.flag("skip-decompress", false)? {
        let count = zip::unpack(&file.0, into)
            .map_err(Failure::io(format!("unpack the artifact {name}")))?;
        step.say(&format!("{name}: {count} files in {}.", into.display()));
        return Ok(());
    }
    let called = file_name(&fetched.headers).unwrap_or_else(|| {
        if is_zip {
            format!("{name}.zip")
        } else {
            name.clone()
        }
    });
    let place = into.join(called);
    fs::copy(&file.0, &place).map_err(Failure::io(format!("write {}", place.display())))?;
    step.say(&format!("{name}: {}.", place.display()));
    Ok(())
}

fn verify(step: &Step, artifact: &Listed, fetched: &Fetched) -> Result<(), Failure> {
    let got = format!("sha256:{}", fetched.sha256);
    let Some(expected) = artifact
        .digest
        .as_ref()
        .filter(|digest| !digest.is_empty() && **digest != got)
    else {
        return Ok(());
    };
    let why = format!(
        "the artifact {} came as {got}, but was kept as {expected}",
        artifact.name
    );
    match step.input("digest-mismatch").as_str() {
        "" | "error" => return refused(why),
        "warn" => step.warning(&why),
        "info" => step.say(&why),
        "ignore" => {}
        other => {
            return refused(format!(
                "`digest-mismatch` must be ignore, info, warn or error, not `{other}`"
            ));
        }
    }
    Ok(())
}

/// Of `Content-Disposition`, if it is a plain name.
fn file_name(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("content-disposition")?.to_str().ok()?;
    let name = text
        .split(';')
        .find_map(|part| part.trim().strip_prefix("filename="))?;
    let name = name.trim_matches('"');
    checked_name(name).ok().map(|()| name.to_owned())
}
