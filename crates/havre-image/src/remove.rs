//! Removes folders of any depth.

use std::fs;
use std::io;
use std::path::Path;

/// Removes a file or a whole folder; nothing there is fine. `path` must be nobody else's.
///
/// The standard way needs a descriptor per level, and a path may be too long to be named: what
/// steps of a build leave can be deeper than that. Then folders are moved up until they are flat.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).or_else(|_| flatten(path)),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Empties the folders directly in `root` one after another, moving their folders up into it.
fn flatten(root: &Path) -> io::Result<()> {
    let mut moved = 0_u64;
    loop {
        let mut found_folder = false;
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            found_folder = true;
            for inner in fs::read_dir(entry.path())? {
                let inner = inner?;
                if inner.file_type()?.is_dir() {
                    fs::rename(inner.path(), free_name(root, &mut moved)?)?;
                } else {
                    fs::remove_file(inner.path())?;
                }
            }
            fs::remove_dir(entry.path())?;
        }
        if !found_folder {
            return fs::remove_dir(root);
        }
    }
}

fn free_name(root: &Path, moved: &mut u64) -> io::Result<std::path::PathBuf> {
    loop {
        let name = root.join(format!("moved-{moved}"));
        *moved += 1;
        match fs::symlink_metadata(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(name),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn folders_deeper_than_a_path_can_say() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let open = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let mut at = rustix::fs::open(&root, open, Mode::empty()).unwrap();
        for _ in 0..700 {
            for name in ["abcdefgh", "moved-1"] {
                rustix::fs::mkdirat(&at, name, Mode::from(0o755)).unwrap();
            }
            let file = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&at, "moved-2", file, Mode::from(0o644)).unwrap();
            at = rustix::fs::openat(&at, "abcdefgh", open, Mode::empty()).unwrap();
        }
        flatten(&root).unwrap();
        assert!(!root.exists());
        remove_tree(&root).unwrap();
    }
}
