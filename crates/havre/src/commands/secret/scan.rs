//! `havre secret scan`: secrets in the files of a folder, in its git history, and in a stored image.

mod folder;
mod history;
mod image;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use havre_base::shell_word;
use havre_scan::Found;
use serde::Serialize;

use crate::cli::secret::ScanArgs;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::human;
use crate::paint::Paint;
use crate::table::printable;
use crate::target::ProjectArgs;

pub use folder::scan as scan_folder;

/// Larger texts are not looked at, which is told.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// What is told.
const MAX_FINDINGS: usize = 1000;
/// Reasons that are told.
const MAX_REASONS: usize = 20;

/// A secret in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The kind.
    rule: Cow<'static, str>,
    /// What it is.
    what: Cow<'static, str>,
    /// Relative to the folder, or to the root of the image.
    pub file: String,
    /// From 1.
    pub line: usize,
    column: usize,
    /// Its first characters.
    masked: String,
    /// The name that stands before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The commit that brought it, in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    /// The layer that has it, in an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<u32>,
    /// The instruction that made the layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    /// What moves it into the store.
    fix: String,
}

/// Where files are that are looked at, for commands that move what is found, as they are pasted here.
#[derive(Debug, Default)]
struct Place {
    /// What names of files are relative to.
    folder: PathBuf,
    /// The environment of the project that is there, as options.
    environment: String,
    /// Whether the files need not be there any more.
    is_history: bool,
}

/// What was looked at.
#[derive(Debug, Default)]
pub struct Scanned {
    place: Place,
    /// What was found, at most a thousand.
    pub findings: Vec<Finding>,
    /// Files, or versions of files.
    files: u64,
    /// How many could not be looked at: files, folders with all that is in them, all beyond a bound.
    pub unread: u64,
    /// The first of them, and why.
    reasons: Vec<String>,
}

impl Place {
    fn of(path: &Path, is_history: bool) -> Self {
        let folder = match path.is_dir() {
            true => path,
            false => path.parent().unwrap_or(path),
        };
        let project = ProjectArgs {
            directory: Some(folder.join(".")),
            ..ProjectArgs::default()
        };
        // Where there is no project, it is the machine's.
        let environment = project.environment().map_or_else(
            |_| String::new(),
            |id| format!(" -p {} -E {}", id.project, id.environment),
        );
        let folder = folder.strip_prefix(".").unwrap_or(folder);
        Self {
            folder: folder.to_owned(),
            environment,
            is_history,
        }
    }

    /// The command that moves it.
    fn fix(&self, file: &str, found: &Found) -> String {
        let base = file.rsplit('/').next().unwrap_or(file);
        let is_env = base.starts_with(".env") || base.ends_with(".env");
        let command = match is_env && !self.is_history {
            true => {
                let file = self.folder.join(file);
                format!("import {}", shell_word(&file.display().to_string()))
            }
            false => {
                let name = found.name.as_deref().unwrap_or(found.rule);
                format!("set {}", shell_word(&name.to_ascii_lowercase()))
            }
        };
        format!("havre secret {command}{}", self.environment)
    }
}

impl Scanned {
    fn at(place: Place) -> Self {
        Self {
            place,
            ..Self::default()
        }
    }

    fn add(&mut self, file: &str, bytes: &[u8], commit: Option<&str>) {
        self.files += 1;
        if havre_scan::is_binary(bytes) {
            return;
        }
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let most = MAX_FILE_BYTES >> 20;
            return self.unread(file, &format!("it is larger than {most} MiB"));
        }
        let text = String::from_utf8_lossy(bytes);
        for found in havre_scan::scan(file, &text) {
            if self.findings.len() == MAX_FINDINGS {
                return;
            }
            let fix = self.place.fix(file, &found);
            self.findings.push(Finding::new(file, found, commit, fix));
        }
    }

    fn unread(&mut self, what: &str, why: &dyn std::fmt::Display) {
        self.unread += 1;
        if self.reasons.len() < MAX_REASONS {
            self.reasons
                .push(printable(format!("not looked at: {what}: {why}")));
        }
    }
}

impl Finding {
    fn new(file: &str, found: Found, commit: Option<&str>, fix: String) -> Self {
        Self {
            rule: found.rule.into(),
            what: found.what.into(),
            file: file.to_owned(),
            line: found.line,
            column: found.column,
            masked: found.masked,
            name: found.name,
            commit: commit.map(str::to_owned),
            layer: None,
            step: None,
            fix,
        }
    }
}

pub async fn run(context: &Context, args: &ScanArgs) -> Outcome {
    let ui = context.ui;
    let path = args.path.as_deref().unwrap_or(Path::new("."));
    let scanned = match (&args.image, args.history) {
        (Some(image), _) => image::scan(context, image).await?,
        (None, true) => history::scan(path)?,
        (None, false) => folder::scan(path)?,
    };
    for why in &scanned.reasons {
        ui.warn(why, None);
    }
    let findings = &scanned.findings;
    match args.json.json {
        true => ui.json(findings)?,
        false => ui.data(&render(findings, ui.out))?,
    }
    let what = if args.history { "version" } else { "file" };
    let looked = human::count(scanned.files, what);
    let mut secrets = human::count(findings.len() as u64, "secret");
    if findings.len() == MAX_FINDINGS {
        secrets.push_str(" or more");
    }
    let of_image = match args.image {
        Some(_) => ": whoever has the image has them, so have each replaced where it is from",
        None => "",
    };
    let mut told = match (findings.is_empty(), args.history) {
        (true, true) => format!("no secret in {looked} of files"),
        (true, false) => format!("no secret in {looked}"),
        (false, true) => format!(
            "{secrets} in {looked} of files: whoever has the history has them, so have each replaced where it is from"
        ),
        (false, false) => format!("{secrets} in {looked}{of_image}"),
    };
    if scanned.unread > 0 {
        let unread = human::count(scanned.unread, "place");
        told.push_str(&format!("; {unread} not looked at"));
    }
    ui.say(&told);
    Ok(exit(&scanned))
}

/// That nothing was found says something only where all was looked at.
fn exit(scanned: &Scanned) -> Exit {
    match (scanned.findings.is_empty(), scanned.unread) {
        (false, _) => Exit::Project,
        (true, 0) => Exit::Ok,
        (true, _) => Exit::Failed,
    }
}

fn render(findings: &[Finding], paint: Paint) -> String {
    let mut text = String::new();
    for one in findings {
        let name = one
            .name
            .as_ref()
            .map(|name| format!("{name} = "))
            .unwrap_or_default();
        let commit = one
            .commit
            .as_ref()
            .map(|id| format!(", since commit {id}"))
            .unwrap_or_default();
        let layer = layer(one);
        text.push_str(&format!(
            "{}: {}\n  --> {}:{}:{}  {name}{}{commit}{layer}\n   {} {}\n",
            paint.warning(&format!("warning[{}]", one.rule)),
            one.what,
            printable(&one.file),
            one.line,
            one.column,
            printable(&one.masked),
            paint.hint("= help:"),
            printable(&one.fix),
        ));
    }
    text
}

fn layer(one: &Finding) -> String {
    let Some(number) = one.layer else {
        return String::new();
    };
    let step = one
        .step
        .as_ref()
        .map(|step| format!(" ({})", printable(step)));
    format!(", in layer {number}{}", step.unwrap_or_default())
}

fn failed(what: &str, path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Usage, format!("cannot {what} {}", path.display())).caused_by(error)
}

#[cfg(test)]
mod tests;
