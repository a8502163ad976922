//! How large a repository is, and how much room there is.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Files and folders that are looked at; more are too many.
const MOST_FILES: u64 = 2_000_000;
/// Folders in folders: git's own are four deep, and references as deep as their names.
const MOST_DEPTH: usize = 64;

/// Bytes on disk below `folder`; links are not followed. Blocks.
pub(crate) fn of(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut files = 0;
    add(folder, 0, &mut files, &mut bytes)?;
    Ok(bytes)
}

fn add(folder: &Path, depth: usize, files: &mut u64, bytes: &mut u64) -> io::Result<()> {
    if depth > MOST_DEPTH {
        return Err(io::Error::other("its folders are too deep"));
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Git may have removed it meanwhile.
        let meta = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            meta => meta?,
        };
        *files += 1;
        if *files > MOST_FILES {
            return Err(io::Error::other("it has too many files"));
        }
        *bytes += meta.blocks() * 512;
        if meta.is_dir() {
            match add(&entry.path(), depth + 1, files, bytes) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                added => added?,
            }
        }
    }
    Ok(())
}

/// Bytes that are free where `folder` lies.
pub(crate) fn free(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_deeper_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("a/b");
        fs::create_dir_all(&deep).expect("folders");
        fs::write(deep.join("c"), vec![1; 100_000]).expect("written");
        std::os::unix::fs::symlink("/usr", folder.path().join("link")).expect("a link");
        let size = of(folder.path()).expect("counted");
        assert!((100_000..200_000).contains(&size), "{size}");
        assert!(free(folder.path()).expect("known") > 0);
        of(&folder.path().join("gone")).expect_err("not there");
    }
}
