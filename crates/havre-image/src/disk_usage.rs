//! What files take of a disk.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Bytes of disk that the files below `path` take; each file counts once, whatever its names, and
/// what goes meanwhile does not.
pub(crate) fn disk_usage(path: &Path) -> io::Result<u64> {
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    let mut queue = vec![path.to_owned()];
    while let Some(path) = queue.pop() {
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let meta = match fs::symlink_metadata(&path) {
            Err(error) if gone(&error) => continue,
            meta => meta?,
        };
        if meta.is_dir() {
            match fs::read_dir(&path) {
                Err(error) if gone(&error) => continue,
                entries => {
                    for entry in entries? {
                        queue.push(entry?.path());
                    }
                }
            }
        } else if meta.nlink() > 1 && !seen.insert((meta.dev(), meta.ino())) {
            continue;
        }
        bytes += meta.blocks() * 512;
    }
    Ok(bytes)
}
