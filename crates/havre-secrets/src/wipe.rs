//! Removing a file so that its content is not left in place.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Overwrites a regular file with zeros, removes it and has both written to the disk. It is not there
/// afterwards, whoever removed it. SSDs, copy-on-write file systems, snapshots and backups keep copies that
/// nothing overwrites.
pub fn wipe(path: &Path) -> io::Result<()> {
    let about = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        about => about?,
    };
    if about.is_file() {
        let writable = about.permissions().mode() | 0o200;
        fs::set_permissions(path, fs::Permissions::from_mode(writable & 0o7777))?;
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut file = OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(path)?;
        file.rewind()?;
        let zeros = [0; 8192];
        let mut left = about.len();
        while left > 0 {
            let step = left.min(zeros.len() as u64);
            file.write_all(&zeros[..usize::try_from(step).unwrap_or(zeros.len())])?;
            left -= step;
        }
        file.sync_all()?;
    }
    fs::remove_file(path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wiped_is_overwritten_and_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&path, vec![b'x'; 20_000]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        // Another name shows what is left of the content.
        fs::hard_link(&path, &link).unwrap();
        wipe(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read(&link).unwrap(), vec![0; 20_000]);
        wipe(&path).unwrap();
    }

    #[test]
    fn a_link_is_removed_and_what_it_leads_to_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        wipe(&link).unwrap();
        assert!(!link.exists());
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    }
}
