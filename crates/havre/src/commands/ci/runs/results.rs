//! `havre ci artifacts` and `havre ci cache`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use havre_api::{
    ArtifactGet, ArtifactInfo, ArtifactPart, ArtifactQuery, Artifacts, CacheRemove,
    CacheRemoveRequest, Caches, CachesQuery, CachesReport, Client, Empty, RunQuery, Timestamp,
};
use sha2::{Digest as _, Sha256};

use super::{project, short_reference};
use crate::cli::JsonArg;
use crate::cli::runs::ArtifactsArgs;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::Table;
use crate::target::ProjectArgs;
use crate::{connect, human};

/// Evictions that are shown.
const MOST_EVICTIONS: usize = 10;

pub async fn artifacts(context: &Context, args: ArtifactsArgs) -> Outcome {
    let ui = context.ui;
    let project = project(&args.project)?;
    let (client, _) = connect::running(context).await?;
    if let Some(name) = args.name {
        let query = ArtifactQuery {
            project,
            number: args.number,
            name,
        };
        let fetched = fetch(&client, &query, args.output.as_deref()).await?;
        match args.json.json {
            true => ui.json(&fetched.info)?,
            false => {
                ui.data(&format!("{}\n", fetched.path.display()))?;
                ui.say(&format!(
                    "{} as the job made it: {}",
                    human::size(fetched.info.size_bytes),
                    fetched.info.digest
                ));
            }
        }
        return Ok(Exit::Ok);
    }
    let query = RunQuery {
        project,
        number: args.number,
    };
    let found = client.call::<Artifacts>(&query).await?;
    match (args.json.json, found.is_empty()) {
        (true, _) => ui.json(&found)?,
        (false, true) => ui.say(&format!("run {} has no artifacts", query.number)),
        (false, false) => ui.data(&render(&found, ui.out, Timestamp::now()))?,
    }
    Ok(Exit::Ok)
}

fn render(found: &[ArtifactInfo], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new(["NAME", "SIZE", "KIND", "AGE", "GOES IN", "DIGEST"]);
    for artifact in found {
        table.row([
            artifact.name.clone(),
            human::size(artifact.size_bytes),
            artifact.mime.clone(),
            human::age(artifact.created.age_at(now)),
            human::age(now.age_at(artifact.expires)),
            human::digest(&artifact.digest),
        ]);
    }
    table.render(paint, "")
}

/// An artifact that is in a file.
struct Fetched {
    info: ArtifactInfo,
    path: PathBuf,
}

async fn fetch(
    client: &Client,
    query: &ArtifactQuery,
    output: Option<&Path>,
) -> Result<Fetched, Failure> {
    let mut parts = client.feed::<ArtifactGet>(query).await?;
    let no_artifact = || {
        Failure::new(
            Exit::Failed,
            "the daemon sends something that is no artifact",
        )
    };
    let Some(ArtifactPart::Begins(info)) = parts.next().await? else {
        return Err(no_artifact());
    };
    let path = match output {
        Some(path) => path.to_owned(),
        None => usual_file(&info)?,
    };
    let mut writer = Writer::begin(&path, output.is_some())?;
    while let Some(part) = parts.next().await? {
        match part {
            ArtifactPart::Bytes(bytes) => writer.write(&bytes)?,
            ArtifactPart::Begins(_) => return Err(no_artifact()),
        }
    }
    writer.end(&info)?;
    Ok(Fetched { info, path })
}

/// A file here of the artifact's name.
fn usual_file(info: &ArtifactInfo) -> Result<PathBuf, Failure> {
    let name = &info.name;
    let is_plain = !name.starts_with(['.', '-']) && !name.contains(['/', '\\', '\0']);
    if !is_plain || name.chars().any(char::is_control) {
        return Err(Failure::new(Exit::Usage, "its name is no file's here")
            .hint("say where it goes: --output FILE"));
    }
    let is_zip = info.mime == "application/zip" && !name.ends_with(".zip");
    Ok(PathBuf::from(match is_zip {
        true => format!("{name}.zip"),
        false => name.clone(),
    }))
}

/// A file that is there once it is whole.
struct Writer {
    path: PathBuf,
    unfinished: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
    is_done: bool,
}

impl Writer {
    fn begin(path: &Path, may_replace: bool) -> Result<Self, Failure> {
        if !may_replace && path.exists() {
            let message = format!("there is a file {} already", path.display());
            return Err(Failure::new(Exit::Usage, message)
                .hint("say where it goes: --output FILE, which is replaced"));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let unfinished = path.with_file_name(name);
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&unfinished);
        let file = opened.map_err(|error| cannot_write(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            unfinished,
            file,
            hash: Sha256::new(),
            bytes: 0,
            is_done: false,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        let written = self.file.write_all(bytes);
        written.map_err(|error| cannot_write(&self.path, &error))
    }

    /// Looks whether it is what the job made, and gives it its name.
    fn end(mut self, info: &ArtifactInfo) -> Result<(), Failure> {
        let hash = std::mem::take(&mut self.hash).finalize();
        let digest = format!("sha256:{}", HEXLOWER.encode(&hash));
        if digest != info.digest || self.bytes != info.size_bytes {
            let message = format!("what came of {} is not what the job made", info.name);
            return Err(Failure::new(Exit::Failed, message).hint("fetch it again"));
        }
        let renamed = fs::rename(&self.unfinished, &self.path);
        renamed.map_err(|error| cannot_write(&self.path, &error))?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_done {
            // What failed is told already.
            fs::remove_file(&self.unfinished).ok();
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write {}", path.display())).caused_by(error)
}

pub async fn caches(context: &Context, args: &ProjectArgs, json: JsonArg) -> Outcome {
    let ui = context.ui;
    let query = CachesQuery {
        project: project(args)?,
    };
    let (client, _) = connect::running(context).await?;
    let report = client.call::<Caches>(&query).await?;
    if json.json {
        ui.json(&report)?;
        return Ok(Exit::Ok);
    }
    match report.caches.is_empty() {
        true => ui.say(&format!("{} has no caches", query.project)),
        false => ui.data(&render_caches(&report, ui.out, Timestamp::now()))?,
    }
    for gone in report.evictions.iter().take(MOST_EVICTIONS) {
        let ago = human::age(gone.at.age_at(Timestamp::now()));
        let size = human::size(gone.size_bytes);
        ui.say(&format!(
            "{} ({size}, {}) went {ago} ago: {}",
            gone.key,
            short_reference(&gone.scope),
            gone.why
        ));
    }
    let usage = &report.usage;
    ui.say(&format!(
        "all projects: {} in {}, {} in {}; at most {}",
        human::size(usage.cache_bytes),
        human::count(usage.caches, "cache"),
        human::size(usage.artifact_bytes),
        human::count(usage.artifacts, "artifact"),
        human::size(usage.most_bytes)
    ));
    Ok(Exit::Ok)
}

fn render_caches(report: &CachesReport, paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new(["ID", "KEY", "SAVED ON", "SIZE", "SAVED", "USED"]);
    for cache in &report.caches {
        table.row([
            cache.id.to_string(),
            cache.key.clone(),
            short_reference(&cache.scope).to_owned(),
            human::size(cache.size_bytes),
            human::age(cache.created.age_at(now)),
            human::age(cache.used.age_at(now)),
        ]);
    }
    table.render(paint, "")
}

pub async fn remove_caches(
    context: &Context,
    ids: Vec<i64>,
    args: &ProjectArgs,
    json: JsonArg,
) -> Outcome {
    let project = project(args)?;
    let (client, _) = connect::running(context).await?;
    for id in &ids {
        let request = CacheRemoveRequest {
            project: project.clone(),
            id: *id,
        };
        client.call::<CacheRemove>(&request).await?;
        context.ui.say(&format!("cache {id} is removed"));
    }
    if json.json {
        context.ui.json(&Empty {})?;
    }
    Ok(Exit::Ok)
}
