//! Where a repository comes from, and with what token.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use data_encoding::BASE64;
use havre_job::{JOB_TOKEN, paths};

use crate::failure::{Failure, refused};
use crate::git::Git;
use crate::results::is_own;
use crate::step::Step;

/// What serves the own repository: it may belong to another user, and gives out any commit and any part of one.
pub(super) const UPLOAD_PACK: &str = "git -c safe.directory=* -c uploadpack.allowAnySHA1InWant=true -c uploadpack.allowFilter=true upload-pack";

/// Where a repository comes from.
pub(super) struct Origin {
    pub(super) address: String,
    /// The one of the job.
    pub(super) own: bool,
    /// Scheme and host, and the header that lets in.
    pub(super) credentials: Option<(String, String)>,
}

pub(super) fn is_own_repository(step: &Step) -> Result<bool, Failure> {
    let asked = step.input("repository");
    Ok(asked.is_empty() || asked.eq_ignore_ascii_case(step.needed("GITHUB_REPOSITORY")?))
}

pub(super) fn find(step: &Step) -> Result<Origin, Failure> {
    if is_own_repository(step)? {
        let folder = step.var("HAVRE_REPOSITORY").unwrap_or(paths::REPOSITORY);
        return Ok(Origin {
            address: format!("file://{folder}"),
            own: true,
            credentials: None,
        });
    }
    let name = step.input("repository");
    let plain = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed)
    };
    if !matches!(name.split('/').collect::<Vec<_>>().as_slice(), [owner, name] if plain(owner) && plain(name))
    {
        return refused(format!(
            "`repository: {name}` is not of the form owner/name"
        ));
    }
    let server = step.given("github-server-url");
    let server = server
        .as_deref()
        .or_else(|| step.var("GITHUB_SERVER_URL"))
        .unwrap_or("https://github.com");
    let server = server.trim_end_matches('/').to_owned();
    let token = step.given("token").filter(|token| !is_own(step, token));
    let credentials = token.map(|token| (server.clone(), header(&token)));
    Ok(Origin {
        address: format!("{server}/{name}"),
        own: false,
        credentials,
    })
}

fn header(token: &str) -> String {
    let pair = BASE64.encode(format!("x-access-token:{token}").as_bytes());
    format!("AUTHORIZATION: basic {pair}")
}

pub(super) fn unreachable(step: &Step, origin: &Origin) -> Failure {
    let token = if origin.credentials.is_some() {
        "the `token` that was given does not open it"
    } else {
        "it is private: give a `token` of that server that may read it"
    };
    let elsewhere = if step.given("github-server-url").is_some() {
        ""
    } else {
        "; if it is on another server, name that by `github-server-url`, e.g. https://github.com"
    };
    Failure::Refused(format!(
        "{} cannot be fetched from {}: it is not there, not reachable from this job, or {token}{elsewhere}",
        step.input("repository"),
        origin.address
    ))
}

/// Leaves the token where git of later steps finds it. To fetch from the own repository needs none; to push to it does,
/// by the port of the job, where there is one.
pub(super) fn persist(step: &Step, folder: &Path, origin: &Origin) -> Result<(), Failure> {
    if !step.flag("persist-credentials", true)? {
        return Ok(());
    }
    let own;
    let (server, header) = match &origin.credentials {
        Some((server, header)) => (server, header),
        None => {
            let token = step.given("token");
            let token = token.filter(|token| origin.own && token.starts_with(JOB_TOKEN));
            let port = step.var("ACTIONS_RESULTS_URL");
            let (Some(token), Some(port)) = (token, port) else {
                return Ok(());
            };
            let port = port.trim_end_matches('/').to_owned();
            let repository = step.needed("GITHUB_REPOSITORY")?;
            let name = repository.rsplit('/').next().unwrap_or(repository);
            let address = format!("{port}/{name}.git");
            let git = Git::new(step, folder);
            git.run(&["config", "--local", "remote.origin.pushurl", &address])?;
            let header = header(&token);
            step.mask(&header);
            own = (port, header);
            (&own.0, &own.1)
        }
    };
    let key = format!("http.{server}/.extraheader");
    step.keep("folder", &folder.to_string_lossy())?;
    step.keep("key", &key)?;
    // Not by an argument of git: arguments can be read by everybody.
    let path = folder.join(".git/config");
    let lines = format!("[http \"{server}/\"]\n\textraheader = {header}\n");
    let written = OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(lines.as_bytes()));
    written.map_err(Failure::io(format!("write {}", path.display())))
}
