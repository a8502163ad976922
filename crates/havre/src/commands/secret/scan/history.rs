//! All versions of all files that git keeps, whatever branch or tag leads to them. git runs no hook and no program of the
//! repository's choice, and fetches nothing.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Finding, MAX_FILE_BYTES, Place, Scanned, failed};
use crate::error::Failure;
use crate::exit::Exit;

/// Versions of files that are looked at.
const MAX_OBJECTS: usize = 500_000;
/// Commits that are looked for: each costs a walk through the history.
const MAX_COMMITS: usize = 50;

pub fn scan(path: &Path) -> Result<Scanned, Failure> {
    let mut objects = objects(path)?;
    let mut scanned = Scanned::at(Place::of(path, true));
    if is_shallow(path) {
        let why = "this clone has no more of it: `git fetch --unshallow`";
        scanned.unread("the older history", &why);
    }
    if objects.len() > MAX_OBJECTS {
        let more = objects.len() - MAX_OBJECTS;
        let what = format!("{more} versions of files and folders");
        scanned.unread(&what, &format!("{MAX_OBJECTS} were before them"));
        objects.truncate(MAX_OBJECTS);
    }
    let mut told = HashSet::new();
    let mut git = git(path)
        .args(["cat-file", "--batch", "--buffer"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed("run git in", path, &error))?;
    let (Some(mut input), Some(output)) = (git.stdin.take(), git.stdout.take()) else {
        return Err(Failure::new(Exit::Failed, "cannot talk to git"));
    };
    let ids: String = objects.iter().map(|(id, _)| format!("{id}\n")).collect();
    // Beside reading: git stops reading where nobody takes what it writes.
    let writer = std::thread::spawn(move || input.write_all(ids.as_bytes()));
    let mut output = BufReader::new(output);
    for (id, file) in &objects {
        let next =
            next(&mut output).map_err(|error| failed("read what git says of", path, &error))?;
        let bytes = match next {
            Object::File(bytes) => bytes,
            Object::Folder => continue,
            Object::Missing => {
                scanned.unread(file, &format!("its version {id} is not in this clone"));
                continue;
            }
        };
        let before = scanned.findings.len();
        scanned.add(file, &bytes, Some(id));
        // The next version of a file holds most of what the one before did.
        let new = scanned.findings.split_off(before).into_iter();
        let key = |one: &Finding| {
            (
                one.file.clone(),
                one.rule.clone(),
                one.masked.clone(),
                one.name.clone(),
            )
        };
        scanned
            .findings
            .extend(new.filter(|one| told.insert(key(one))));
    }
    let ended = git
        .wait()
        .map_err(|error| failed("run git in", path, &error))?;
    // Where git ended early, writing to it failed too.
    let is_written = writer.join().is_ok_and(|written| written.is_ok());
    if !ended.success() || !is_written {
        return Err(Failure::new(
            Exit::Failed,
            format!("git broke off in {}", path.display()),
        ));
    }
    for (index, finding) in scanned.findings.iter_mut().enumerate() {
        let blob = finding.commit.take().unwrap_or_default();
        finding.commit = match index < MAX_COMMITS {
            true => commit(path, &blob),
            false => None,
        };
    }
    Ok(scanned)
}

/// Ids of versions of files, with a path of each, or the id again.
fn objects(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let output = git(path)
        .args(["rev-list", "--objects", "--all", "--reflog"])
        .output()
        .map_err(|error| {
            failed("run git in", path, &error)
                .hint("--history needs git, which is not a part of havre")
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::new(
            Exit::Usage,
            format!("cannot read the history of {}: {said}", path.display()),
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // Commits have no path; without a name are their folders, and files that a tag leads to.
    let with_path = text.lines().filter_map(|line| line.split_once(' '));
    let (named, nameless): (Vec<_>, Vec<_>) = with_path.partition(|(_, path)| !path.is_empty());
    let nameless = nameless.into_iter().map(|(id, _)| (id, id));
    // Last, since most of them hold nothing.
    let all = named.into_iter().chain(nameless);
    Ok(all
        .map(|(id, path)| (id.to_owned(), path.to_owned()))
        .collect())
}

/// What git says that there is.
enum Object {
    /// Its content, of a large one the start.
    File(Vec<u8>),
    /// Or what else is no file.
    Folder,
    /// A clone need not have all.
    Missing,
}

fn next(output: &mut impl BufRead) -> std::io::Result<Object> {
    let mut header = String::new();
    output.read_line(&mut header)?;
    let mut words = header.split_whitespace().skip(1);
    let (Some(kind), Some(size)) = (words.next(), words.next()) else {
        return match header.trim_end().ends_with("missing") {
            true => Ok(Object::Missing),
            false => Err(std::io::ErrorKind::UnexpectedEof.into()),
        };
    };
    let size: u64 = size.parse().map_err(|_| std::io::ErrorKind::InvalidData)?;
    let mut bytes = Vec::new();
    let mut body = output.take(size + 1);
    if kind == "blob" {
        let most = size.min(MAX_FILE_BYTES + 1);
        body.by_ref().take(most).read_to_end(&mut bytes)?;
    }
    std::io::copy(&mut body, &mut std::io::sink())?;
    Ok(match kind {
        "blob" => Object::File(bytes),
        _ => Object::Folder,
    })
}

fn is_shallow(path: &Path) -> bool {
    let output = git(path)
        .args(["rev-parse", "--is-shallow-repository"])
        .output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"true")
}

/// The commit that brought a version of a file first.
fn commit(path: &Path, blob: &str) -> Option<String> {
    let find = format!("--find-object={blob}");
    let output = git(path)
        .args([
            "log",
            "--all",
            "--reflog",
            "--format=%h",
            "--no-textconv",
            "--no-ext-diff",
            "--no-show-signature",
            &find,
        ])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next_back().map(str::to_owned)
}

/// What of a repository's configuration would make git run a program in what is asked here. Its attributes name drivers of diff,
/// which are left out there; filters are not asked for.
const SETTINGS: [&str; 8] = [
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "diff.external=",
    "log.showSignature=false",
    "gpg.program=false",
    "gpg.openpgp.program=false",
    "gpg.x509.program=false",
    "gpg.ssh.program=false",
];

fn git(path: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(path)
        .args(["--no-pager", "--no-replace-objects"]);
    for setting in SETTINGS {
        git.args(["-c", setting]);
    }
    // What is missing is not fetched, by no transport: the repository's own `protocol.*.allow` does not count beside the
    // variable.
    git.env("GIT_ALLOW_PROTOCOL", "none")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .stdin(Stdio::null());
    git
}
