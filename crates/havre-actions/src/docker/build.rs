//! `docker/build-push-action`: hands the build to the builder of the machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use havre_job::images::{Answer, Build, VARIABLE};
use serde_json::json;

use super::client::Client;
use super::wanted::{self, Output, Wanted};
use super::{login, own_only};
use crate::failure::{Failure, refused};
use crate::step::Step;

/// Most bytes of a secret's file.
const MOST: u64 = 1 << 20;
/// The checkout of the run, as the action names it.
const DEFAULT_CONTEXT: &str = "{{defaultContext}}";

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    own_only(step, "platforms")?;
    let wanted = asked(step)?;
    let client = client(step)?;
    let names = wanted.build.tags.join(",");
    let (say, warn) = (|text: &str| step.say(text), |text: &str| step.warning(text));
    let hear = |answer: &Answer| wanted::hearing(&say, &warn)(answer);
    let built = wanted.carry_out(&client, &hear, &|text| step.say(text))?;
    step.output("imageid", &built.id)?;
    step.output("digest", &built.digest)?;
    let metadata = json!({
        "containerimage.config.digest": built.id, "containerimage.digest": built.digest, "image.name": names,
    });
    step.output("metadata", &metadata.to_string())
}

/// Who builds for this job.
pub(super) fn client(step: &Step) -> Result<Client, Failure> {
    match step.var(VARIABLE) {
        Some(socket) => Ok(Client::new(socket)),
        None => refused(format!(
            "this run has no builder ({VARIABLE} is not set); let `havre up` build the images of the compose file"
        )),
    }
}

fn asked(step: &Step) -> Result<Wanted, Failure> {
    let mut tags: Vec<String> = list(step, "tags");
    let mut push = step.flag("push", false)?;
    // Its names are the job's in any case.
    step.flag("load", false)?;
    let mut files = Vec::new();
    for line in step.lines("outputs") {
        match wanted::output(&line, &mut tags)? {
            Output::Push => push = true,
            Output::Load => {}
            Output::File(path) => files.push(path),
        }
    }
    for input in ["cache-from", "cache-to"] {
        for line in step.lines(input) {
            if let Some(warning) = wanted::cache(input, &line)? {
                step.warning(&warning);
            }
        }
    }
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in list(step, "add-hosts") {
        let (host, address) = wanted::host(&line)?;
        hosts.entry(host).or_default().push(address);
    }
    let mut contexts = BTreeMap::new();
    for line in step.lines("build-contexts") {
        contexts.extend([wanted::named_context(&line)?]);
    }
    let build = Build {
        target: step.given("target"),
        tags,
        labels: pairs(step, "labels")?,
        annotations: annotations(&step.lines("annotations"), &|why| step.warning(why))?,
        args: arguments(&step.lines("build-args"), &|name| step.var(name)),
        secrets: secrets(step)?,
        pull: step.flag("pull", false)?,
        no_cache: step.flag("no-cache", false)?,
        offline: offline(&step.input("network"))?,
        hosts,
        shm_bytes: step
            .given("shm-size")
            .map(|text| wanted::bytes(&text))
            .transpose()?,
        contexts,
        ..wanted::nothing()
    };
    Ok(Wanted {
        folder: step.workspace()?,
        context: context(step)?,
        file: step.given("file").map(PathBuf::from),
        build,
        push,
        files,
        logins: login::credentials(step)?,
    })
}

fn context(step: &Step) -> Result<PathBuf, Failure> {
    let context = step.given("context").unwrap_or_else(|| ".".to_owned());
    if let Some(rest) = context.strip_prefix(DEFAULT_CONTEXT) {
        let below = rest.trim_start_matches(':');
        return Ok(PathBuf::from(if below.is_empty() { "." } else { below }));
    }
    match context.contains("://") || context.starts_with("git@") {
        true => refused(format!(
            "`context: {context}` must be a folder: check the repository out, and name its folder"
        )),
        false => Ok(context.into()),
    }
}

/// Whether steps have no network.
pub(crate) fn offline(network: &str) -> Result<bool, Failure> {
    match network {
        "" | "default" => Ok(false),
        "none" => Ok(true),
        other => refused(format!(
            "the network `{other}` is not supported: there are default and none"
        )),
    }
}

/// `NAME=value`; a name alone is a variable of the step.
pub(crate) fn arguments<'a>(
    lines: &[String],
    variable: &dyn Fn(&str) -> Option<&'a str>,
) -> BTreeMap<String, String> {
    let each = lines.iter().filter_map(|line| match line.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((line.clone(), variable(line)?.to_owned())),
    });
    each.collect()
}

/// Annotations of the manifest; there is no index to have any.
pub(crate) fn annotations(
    lines: &[String],
    warn: &dyn Fn(&str),
) -> Result<BTreeMap<String, String>, Failure> {
    let mut found = BTreeMap::new();
    for line in lines {
        let Some((key, value)) = line.split_once('=') else {
            return refused(format!("the annotation `{line}` is not KEY=VALUE"));
        };
        let (levels, key) = key.rsplit_once(':').unwrap_or(("manifest", key));
        match levels
            .split(',')
            .any(|level| level.trim().starts_with("manifest"))
        {
            true => drop(found.insert(key.to_owned(), value.to_owned())),
            false => warn(&format!(
                "the annotation {key} is left out: an image of one platform has no {levels}"
            )),
        }
    }
    Ok(found)
}

fn pairs(step: &Step, input: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut found = BTreeMap::new();
    for line in step.lines(input) {
        let (key, value) = line.split_once('=').unwrap_or((&line, ""));
        found.insert(key.trim().to_owned(), value.to_owned());
    }
    Ok(found)
}

fn list(step: &Step, name: &str) -> Vec<String> {
    let text = step.input(name);
    text.split([',', '\n'])
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// `id=value`, `id=variable`, `id=file`, by the input.
fn secrets(step: &Step) -> Result<BTreeMap<String, String>, Failure> {
    let mut secrets = BTreeMap::new();
    for input in ["secrets", "secret-envs", "secret-files"] {
        for line in step.lines(input) {
            let Some((id, rest)) = line.split_once('=') else {
                return refused(format!("`{input}` has a line that is not id=value"));
            };
            let value = match input {
                "secrets" => rest.trim_matches('"').to_owned(),
                "secret-envs" => step.needed(rest)?.to_owned(),
                _ => {
                    let path = step.workspace()?.join(rest);
                    havre_base::read_small(&path, MOST)
                        .map_err(Failure::io(format!("read {rest}")))?
                }
            };
            step.mask(&value);
            secrets.insert(id.to_owned(), value);
        }
    }
    Ok(secrets)
}
