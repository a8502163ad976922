//! All versions of all files that git keeps, whatever branch or tag leads to them. git runs no hook and no program of the
//! repository's choice, and fetches nothing.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Finding, MAX_FILE_BYTES, Scanned, failed};
use crate::error::Failure;
use crate::exit::Exit;

/// Versions of files that are looked at.
const MAX_OBJECTS: usize = 500_000;
/// Commits that are looked for: each costs a walk through the history.
const MAX_COMMITS: usize = 50;

pub fn scan(path: &Path) -> Result<Scanned, Failure> {
    let objects = objects(path)?;
    let mut scanned = Scanned::default();
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
        let Some(bytes) =
            next(&mut output).map_err(|error| failed("read what git says of", path, &error))?
        else {
            continue;
        };
        let before = scanned.findings.len();
        scanned.add(file, &bytes, Some(id));
        // The next version of a file holds most of what the one before did.
        let new = scanned.findings.split_off(before).into_iter();
        let key = |one: &Finding| {
            (
                one.file.clone(),
                one.rule,
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

/// Ids of versions of files, with a path of each.
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
    // Commits have no path.
    let with_path = text.lines().filter_map(|line| line.split_once(' '));
    let named = with_path.filter(|(_, path)| !path.is_empty());
    Ok(named
        .take(MAX_OBJECTS)
        .map(|(id, path)| (id.to_owned(), path.to_owned()))
        .collect())
}

/// The next object; none where it is no file, or a large one.
fn next(output: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut header = String::new();
    output.read_line(&mut header)?;
    let mut words = header.split_whitespace().skip(1);
    let (Some(kind), Some(size)) = (words.next(), words.next()) else {
        return match header.trim_end().ends_with("missing") {
            true => Ok(None),
            false => Err(std::io::ErrorKind::UnexpectedEof.into()),
        };
    };
    let size: u64 = size.parse().map_err(|_| std::io::ErrorKind::InvalidData)?;
    let is_read = kind == "blob" && size <= MAX_FILE_BYTES;
    let mut bytes = Vec::new();
    let mut body = output.take(size + 1);
    match is_read {
        true => {
            body.read_to_end(&mut bytes)?;
            bytes.pop();
            Ok(Some(bytes))
        }
        false => std::io::copy(&mut body, &mut std::io::sink()).map(|_| None),
    }
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
            &find,
        ])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next_back().map(str::to_owned)
}

fn git(path: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(path)
        .args(["--no-pager", "--no-replace-objects"])
        .args([
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .args(["-c", "protocol.allow=never", "-c", "diff.external="])
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .stdin(Stdio::null());
    git
}
