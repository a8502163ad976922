//! The files of a folder. Links are not followed.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use super::{MAX_FILE_BYTES, Place, Scanned, failed};
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
pub(super) const MAX_DEPTH: usize = 64;

/// All files below a folder, or a single one.
pub fn scan(path: &Path) -> Result<Scanned, Failure> {
    let about = fs::metadata(path).map_err(|error| failed("read", path, &error))?;
    let mut scanned = Scanned::at(Place::of(path, false));
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
        Err(error) => return scanned.unread(&folder.display().to_string(), &error),
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
            Ok(kind) if kind.is_dir() && SKIPPED.contains(&&*name) => {}
            Ok(kind) if kind.is_dir() && depth == MAX_DEPTH => {
                scanned.unread(&inner, &"it lies too deep");
            }
            Ok(kind) if kind.is_dir() => walk(&entry.path(), &inner, depth + 1, scanned),
            Ok(kind) if kind.is_file() && scanned.files >= MAX_FILES => {
                scanned.unread(&inner, &format!("{MAX_FILES} files were before it"));
            }
            Ok(kind) if kind.is_file() => file(&entry.path(), &inner, scanned),
            // Links and what is no file.
            Ok(_) => {}
            Err(error) => scanned.unread(&inner, &error),
        }
    }
}

fn file(path: &Path, shown: &str, scanned: &mut Scanned) {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => scanned.add(shown, &bytes, None),
        Err(error) => scanned.unread(shown, &error),
    }
}
