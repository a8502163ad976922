//! The workflow files that a command line means.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use havre_image::regular;
use havre_workflow::calls::Policy;
use havre_workflow::repository::{self, File, Findings};
use havre_workflow::{Limits, lock};

use super::built_in;
use crate::error::Failure;
use crate::exit::Exit;

/// Where workflow files are, from a repository's root.
const FOLDER: &str = ".github/workflows";
/// Files that are read of one folder, at most.
const MAX_FILES: usize = 1000;
/// All of them together: what is read of a file takes many times its size.
const MAX_BYTES: usize = 16 << 20;

/// Workflow files, and what is wrong with them.
#[derive(Debug, Default)]
pub struct Found {
    /// Those that are meant, and those beside them, which they may call, in the order of their names; and their lock
    /// file.
    pub files: Vec<File>,
    pub findings: Findings,
}

/// Reads and checks what the paths name; the current folder's without any.
pub fn find(paths: &[PathBuf], limits: &Limits) -> Result<Found, Failure> {
    let here = [PathBuf::from(".")];
    let paths = match paths {
        [] => &here[..],
        paths => paths,
    };
    let mut wanted: BTreeMap<Option<PathBuf>, Vec<PathBuf>> = BTreeMap::new();
    for path in paths {
        let (root, files) = named(path)?;
        wanted.entry(root).or_default().extend(files);
    }
    let mut found = Found::default();
    for (root, mut paths) in wanted {
        paths.sort();
        paths.dedup();
        let mut files = Vec::new();
        let wanted = paths.len();
        // What they call may not be wanted itself.
        if let Some(root) = &root {
            let others =
                workflows(root).map_err(|error| cannot_read(&root.join(FOLDER), &error))?;
            let others = others.into_iter().filter(|path| !paths.contains(path));
            paths.extend(others.collect::<Vec<_>>());
        }
        // What it says holds for all of them.
        let locked = root.iter().map(|root| root.join(lock::PATH));
        paths.extend(locked.filter(|path| path.is_file()));
        let mut bytes = 0;
        for (at, path) in paths.iter().enumerate() {
            let file = file(path, root.as_deref(), at < wanted, limits)?;
            bytes += file.bytes.len();
            if bytes > MAX_BYTES {
                let most = MAX_BYTES >> 20;
                let message = format!(
                    "the workflow files up to {} have more than {most} MiB",
                    path.display()
                );
                return Err(Failure::new(Exit::Usage, message));
            }
            files.push(file);
        }
        let more = repository::check(&files, Policy::Permissive, limits);
        found.findings.errors.extend(more.errors);
        found.findings.warnings.extend(more.warnings);
        for file in files.iter().filter(|file| file.wanted) {
            let more = built_in::warnings(file, limits);
            found.findings.warnings.extend(more);
        }
        found.files.extend(files);
    }
    Ok(found)
}

/// The repository that a path of the command line is in, if it tells, and the files that are meant.
fn named(path: &Path) -> Result<(Option<PathBuf>, Vec<PathBuf>), Failure> {
    let meta = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Exit::NotFound, format!("there is no {}", path.display()))
        }
        _ => cannot_read(path, &error),
    })?;
    let path = plain(path);
    if !meta.is_dir() {
        let folder = path.parent().unwrap_or(Path::new(""));
        return Ok((root_of(folder), vec![path]));
    }
    // The folder of the files itself may be named as well.
    let root = root_of(&path).unwrap_or(path);
    let files = workflows(&root).map_err(|error| cannot_read(&root.join(FOLDER), &error))?;
    if files.is_empty() {
        let folder = root.join(FOLDER);
        let message = format!("there are no workflow files in {}", folder.display());
        return Err(Failure::new(Exit::NotFound, message)
            .hint("name the repository's folder, or the files: `havre ci check PATH…`"));
    }
    Ok((Some(root), files))
}

/// Without `./` before it, so that files are shown as people call them.
fn plain(path: &Path) -> PathBuf {
    let parts = path.components();
    parts
        .filter(|part| !matches!(part, std::path::Component::CurDir))
        .collect()
}

/// The repository's root, where `folder` is that of its workflow files.
fn root_of(folder: &Path) -> Option<PathBuf> {
    let is_theirs = folder.ends_with(FOLDER);
    is_theirs.then(|| folder.ancestors().nth(2).map(Path::to_owned))?
}

/// The workflow files of a repository, in the order of their names; none where it has no folder of them.
fn workflows(root: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = root.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if matches!(ending, Some("yml" | "yaml")) && path.is_file() {
            files.push(path);
        }
    }
    if files.len() > MAX_FILES {
        let message = format!("it has more than {MAX_FILES} workflow files");
        return Err(io::Error::other(message));
    }
    files.sort();
    Ok(files)
}

fn file(path: &Path, root: Option<&Path>, wanted: bool, limits: &Limits) -> Result<File, Failure> {
    let bytes = read(path, root, limits).map_err(|error| cannot_read(path, &error))?;
    let below = root.and_then(|root| path.strip_prefix(root).ok());
    Ok(File {
        shown: path.to_owned(),
        path: below.map(|path| path.to_string_lossy().into_owned()),
        bytes,
        wanted,
    })
}

/// A file's bytes, and one more than may be where there are more.
fn read(path: &Path, root: Option<&Path>, limits: &Limits) -> io::Result<Vec<u8>> {
    if let Some(root) = root {
        // Findings show lines of it, in logs as well: a repository does not choose other files for that.
        let root = fs::canonicalize(named_folder(root))?;
        if !fs::canonicalize(path)?.starts_with(root) {
            return Err(io::Error::other(
                "it is a link that leads out of the repository",
            ));
        }
    }
    let mut bytes = Vec::new();
    let most = limits.bytes as u64 + 1;
    regular::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A folder that has a name even where it is the current one.
pub fn named_folder(folder: &Path) -> &Path {
    match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot read {}", path.display())).caused_by(error)
}
