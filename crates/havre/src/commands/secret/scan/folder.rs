//! The files of a folder. Links are not followed.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use super::{MAX_FILE_BYTES, Scanned, failed};
use crate::error::Failure;

/// Folders that hold what others wrote, or what was made.
const SKIPPED: [&str; 8] = [
    ".git",
    "node_modules",
    "target",
    ".venv",
    "venv",
    "__pycache__",
    "vendor",
    ".terraform",
];
/// Files that are looked at.
const MAX_FILES: u64 = 200_000;
const MAX_DEPTH: usize = 64;
/// Reasons that are told.
const MAX_UNREAD: usize = 20;

/// All files below a folder, or a single one.
pub fn scan(path: &Path) -> Result<Scanned, Failure> {
    let about = fs::metadata(path).map_err(|error| failed("read", path, &error))?;
    let mut scanned = Scanned::default();
    match about.is_dir() {
        true => walk(path, "", 0, &mut scanned),
        false => {
            let name = path.file_name().unwrap_or(path.as_os_str());
            file(path, &name.to_string_lossy(), &mut scanned);
        }
    }
    Ok(scanned)
}

fn walk(folder: &Path, shown: &str, depth: usize, scanned: &mut Scanned) {
    let entries = match fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => return unread(folder, &error, scanned),
    };
    let mut entries = entries;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let inner = match shown.is_empty() {
            true => name.to_string(),
            false => format!("{shown}/{name}"),
        };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < MAX_DEPTH && !SKIPPED.contains(&&*name) => {
                walk(&entry.path(), &inner, depth + 1, scanned);
            }
            Ok(kind) if kind.is_file() && scanned.files < MAX_FILES => {
                file(&entry.path(), &inner, scanned);
            }
            Ok(_) => {}
            Err(error) => unread(&entry.path(), &error, scanned),
        }
    }
}

fn file(path: &Path, shown: &str, scanned: &mut Scanned) {
    let read = File::open(path).and_then(|file| {
        if file.metadata()?.len() > MAX_FILE_BYTES {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    });
    match read {
        Ok(Some(bytes)) => scanned.add(shown, &bytes, None),
        Ok(None) => {}
        Err(error) => unread(path, &error, scanned),
    }
}

fn unread(path: &Path, error: &std::io::Error, scanned: &mut Scanned) {
    if scanned.unread.len() < MAX_UNREAD {
        scanned
            .unread
            .push(format!("not looked at: {}: {error}", path.display()));
    }
}
