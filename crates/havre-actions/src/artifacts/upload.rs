//! Files of the workspace become an artifact.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::zip::Writer;
use super::{FORBIDDEN, ZIP, checked_name, service};
use crate::cache::Scratch;
use crate::failure::{Failure, refused};
use crate::glob::{Found, Search};
use crate::http::hex;
use crate::step::Step;

/// Bytes of a block: the client's own.
const BLOCK: usize = 8 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const LEVEL: u32 = 6;
/// Artifacts of one name that jobs of a run may keep beside each other.
const MOST_OF_A_NAME: u32 = 300;

/// An artifact that is kept.
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) id: u64,
    sha256: String,
}

/// An artifact to be.
struct Wanted {
    name: String,
    kind: &'static str,
    expires: Option<String>,
    overwrite: bool,
}

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    let found = Search {
        root: &step.workspace()?,
        home: step.var("HOME"),
        descend: true,
        hidden: step.flag("include-hidden-files", false)?,
    }
    .find(&step.lines("path"))?;
    let files: Vec<PathBuf> = found
        .paths
        .iter()
        .filter(|path| path.is_file())
        .cloned()
        .collect();
    if files.is_empty() {
        return nothing(step);
    }
    let mut wanted = Wanted {
        name: step.given("name").unwrap_or_else(|| "artifact".to_owned()),
        kind: ZIP,
        expires: expires(step.number("retention-days", 0, 0)?)?,
        overwrite: step.flag("overwrite", false)?,
    };
    if step.flag("archive", true)? {
        let root = root(&found, &files);
        step.say(&format!("{} files below {}.", files.len(), root.display()));
        let archive = zipped(step, &root, &files, level(step)?)?;
        return tell(step, &wanted, send(step, &wanted, &archive.0)?);
    }
    let [file] = files.as_slice() else {
        return refused(format!(
            "`archive: false` is for one file; `path` names {}",
            files.len()
        ));
    };
    wanted.name = file
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    wanted.kind = "application/octet-stream";
    tell(step, &wanted, send(step, &wanted, file)?)
}

/// Keeps files as an artifact, each as it is called below `root`. Another job may have one of that name: then it
/// gets a number.
pub(crate) fn keep(
    step: &Step,
    name: &str,
    root: &Path,
    files: &[PathBuf],
) -> Result<Kept, Failure> {
    let archive = zipped(step, root, files, LEVEL)?;
    for number in 1..=MOST_OF_A_NAME {
        let name = if number == 1 {
            name.to_owned()
        } else {
            format!("{name}-{number}")
        };
        let wanted = Wanted {
            name,
            kind: ZIP,
            expires: None,
            overwrite: false,
        };
        if let Some(kept) = send(step, &wanted, &archive.0)? {
            return Ok(kept);
        }
    }
    refused(format!("there are too many artifacts `{name}` in this run"))
}

fn nothing(step: &Step) -> Result<(), Failure> {
    let why = format!(
        "no files were found with `path: {}`; no artifact is made",
        step.lines("path").join(" ")
    );
    match step.input("if-no-files-found").as_str() {
        "" | "warn" => step.warning(&why),
        "ignore" => step.say(&why),
        "error" => return refused(why),
        other => {
            return refused(format!(
                "`if-no-files-found` must be warn, error or ignore, not `{other}`"
            ));
        }
    }
    Ok(())
}

fn level(step: &Step) -> Result<u32, Failure> {
    match u32::try_from(step.number("compression-level", 0, u64::from(LEVEL))?) {
        Ok(level) if level <= 9 => Ok(level),
        Ok(_) | Err(_) => refused("`compression-level` must be from 0 to 9"),
    }
}

fn zipped(step: &Step, root: &Path, files: &[PathBuf], level: u32) -> Result<Scratch, Failure> {
    let archive = Scratch::new(step)?;
    let making = || Failure::io("write the archive");
    let mut writer = Writer::create(&archive.0, level).map_err(making())?;
    let mut names = BTreeSet::new();
    for path in files {
        let name = path
            .strip_prefix(root)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned();
        if name.contains(FORBIDDEN) {
            return refused(format!(
                "`{name}` cannot be in an artifact: \" : < > | * ? and line feeds may not be in it"
            ));
        }
        if !names.insert(name.to_lowercase()) {
            step.warning(&format!(
                "{name} differs from another file by its case only"
            ));
        }
        let read = Failure::io(format!("add {}", path.display()));
        writer
            .add(name.trim_start_matches('/'), path)
            .map_err(read)?;
    }
    writer.finish().map_err(making())?;
    Ok(archive)
}

/// `None`: the name is taken.
fn send(step: &Step, wanted: &Wanted, file: &Path) -> Result<Option<Kept>, Failure> {
    let name = &wanted.name;
    checked_name(name)?;
    let results = service(step)?;
    if wanted.overwrite && results.delete_artifact(name)? {
        step.say(&format!("The artifact {name} that was there is deleted."));
    }
    let (bytes, sha256) =
        measured(file).map_err(Failure::io(format!("read {}", file.display())))?;
    let url = match results.begin_artifact(name, wanted.kind, wanted.expires.as_deref()) {
        Err(Failure::Service { status: 409, .. }) => return Ok(None),
        url => url?,
    };
    results.upload(&url, file, BLOCK)?;
    let id = results.end_artifact(name, bytes, &sha256)?;
    step.say(&format!(
        "The artifact {name} is kept: {bytes} bytes, sha256:{sha256}."
    ));
    Ok(Some(Kept {
        name: name.clone(),
        id,
        sha256,
    }))
}

fn tell(step: &Step, wanted: &Wanted, kept: Option<Kept>) -> Result<(), Failure> {
    let Some(Kept { id, sha256, .. }) = kept else {
        return refused(format!(
            "there is an artifact `{}` in this run already: choose another `name`, or set `overwrite: true`",
            wanted.name
        ));
    };
    let server = step
        .var("GITHUB_SERVER_URL")
        .unwrap_or("https://github.com");
    let (repository, run) = (
        step.needed("GITHUB_REPOSITORY")?,
        step.needed("GITHUB_RUN_ID")?,
    );
    step.output("artifact-id", &id.to_string())?;
    step.output("artifact-digest", &sha256)?;
    step.output(
        "artifact-url",
        &format!("{server}/{repository}/actions/runs/{run}/artifacts/{id}"),
    )
}

fn measured(path: &Path) -> io::Result<(u64, String)> {
    let (mut sha256, mut bytes) = (Sha256::new(), 0);
    let mut file = File::open(path)?;
    let mut part = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut part)?;
        if length == 0 {
            return Ok((bytes, hex(&sha256.finalize())));
        }
        sha256.update(&part[..length]);
        bytes += u64::try_from(length).unwrap_or(u64::MAX);
    }
}

/// RFC 3339; `None`: as long as the service keeps them.
fn expires(days: u64) -> Result<Option<String>, Failure> {
    if days == 0 {
        return Ok(None);
    }
    let after = u32::try_from(days)
        .ok()
        .and_then(|days| DAY.checked_mul(days));
    let when = after.and_then(|after| jiff::Timestamp::now().checked_add(after).ok());
    match when {
        Some(when) => Ok(Some(when.to_string())),
        None => refused("`retention-days` is too large"),
    }
}

/// What names in the archive are relative to: what all places that were looked in have in common.
fn root(found: &Found, files: &[PathBuf]) -> PathBuf {
    if let ([place], [file]) = (found.places.as_slice(), files)
        && place == file
    {
        return file.parent().unwrap_or(Path::new("/")).to_owned();
    }
    let mut places = found.places.iter();
    let mut root = places.next().cloned().unwrap_or_default();
    for place in places {
        while !place.starts_with(&root) {
            root.pop();
        }
    }
    if fs::metadata(&root).is_ok_and(|about| about.is_file()) {
        root.pop();
    }
    root
}
