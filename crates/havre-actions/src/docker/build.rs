//! `docker/build-push-action`: hands the build to the builder of the machine.
//!
//! ```text
//! this ── one line of JSON: Build ──► HAVRE_BUILD_SOCKET (a Unix socket in the box)
//!      ◄─ a line of JSON each: {"line": text} … at last {"built": {…}} or {"failed": why} ──
//! ```
//!
//! Paths are those of the box.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{SOCKET, login, own_only};
use crate::failure::{Failure, refused};
use crate::glob::normal;
use crate::step::Step;

const VERSION: u32 = 1;
/// Most bytes of a line that the builder tells.
const MOST_LINE: u64 = 1 << 20;

/// What to build.
#[derive(Serialize)]
struct Build {
    version: u32,
    /// A folder.
    context: String,
    dockerfile: String,
    target: Option<String>,
    tags: Vec<String>,
    labels: Vec<String>,
    annotations: Vec<String>,
    build_args: Vec<String>,
    secrets: BTreeMap<String, String>,
    pull: bool,
    no_cache: bool,
    push: bool,
    /// As in Docker's configuration; for `push` and for what is built from.
    credentials: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Line(String),
    Built(Built),
    Failed(String),
}

#[derive(Deserialize)]
struct Built {
    image_id: String,
    digest: String,
}

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    own_only(step, "platforms")?;
    let build = asked(step)?;
    let Some(socket) = step.var(SOCKET) else {
        return refused(
            "images cannot be built in a job yet: this run has no builder (HAVRE_BUILD_SOCKET is not set); let \
             `havre up` build the images of the compose file",
        );
    };
    let built = hand(step, socket, &build)?;
    step.output("imageid", &built.image_id)?;
    step.output("digest", &built.digest)?;
    let names = build.tags.join(",");
    let metadata = json!({
        "containerimage.config.digest": built.image_id, "containerimage.digest": built.digest, "image.name": names,
    });
    step.output("metadata", &metadata.to_string())
}

fn asked(step: &Step) -> Result<Build, Failure> {
    let workspace = step.workspace()?;
    let context = step.given("context").unwrap_or_else(|| ".".to_owned());
    if context.contains("://") || context.starts_with("git@") {
        return refused(format!(
            "`context: {context}` must be a folder: check the repository out, and name its folder"
        ));
    }
    let context = normal(&workspace.join(context));
    let dockerfile = match step.given("file") {
        Some(file) => normal(&workspace.join(file)),
        None => context.join("Dockerfile"),
    };
    if !dockerfile.is_file() {
        return refused(format!(
            "there is no {}; `actions/checkout` must come before",
            dockerfile.display()
        ));
    }
    let tags: Vec<String> = list(step, "tags");
    let push = step.flag("push", false)?;
    if push && tags.is_empty() {
        return refused("`push: true` needs `tags`");
    }
    Ok(Build {
        version: VERSION,
        context: context.to_string_lossy().into_owned(),
        dockerfile: dockerfile.to_string_lossy().into_owned(),
        target: step.given("target"),
        tags,
        labels: step.lines("labels"),
        annotations: step.lines("annotations"),
        build_args: step.lines("build-args"),
        secrets: secrets(step)?,
        pull: step.flag("pull", false)?,
        no_cache: step.flag("no-cache", false)?,
        push,
        credentials: login::credentials(step)?,
    })
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
                    havre_base::read_small(&path, MOST_LINE)
                        .map_err(Failure::io(format!("read {rest}")))?
                }
            };
            step.mask(&value);
            secrets.insert(id.to_owned(), value);
        }
    }
    Ok(secrets)
}

fn hand(step: &Step, socket: &str, build: &Build) -> Result<Built, Failure> {
    let doing = || Failure::io("hand the build to the builder");
    let mut stream = UnixStream::connect(socket).map_err(doing())?;
    let document =
        serde_json::to_string(build).map_err(|error| Failure::Refused(error.to_string()))?;
    stream
        .write_all(format!("{document}\n").as_bytes())
        .map_err(doing())?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        let read = reader
            .by_ref()
            .take(MOST_LINE)
            .read_line(&mut line)
            .map_err(doing())?;
        if read == 0 {
            return refused("the builder ended without a word");
        }
        match serde_json::from_str(&line) {
            Ok(Told::Line(text)) => step.say(&text),
            Ok(Told::Built(built)) => return Ok(built),
            Ok(Told::Failed(why)) => return refused(format!("the image was not built: {why}")),
            Err(error) => return refused(format!("what the builder says cannot be read: {error}")),
        }
    }
}
