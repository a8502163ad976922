//! Files that are replaced, or read, as a whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// What a file's content must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A loss of power: file and folder are synced.
    Durable,
    /// The end of the process: what it describes does not survive a reboot either.
    UntilReboot,
}

/// Replaces the file at `path`, or makes it, with permissions `mode` whatever the umask. Who looks at any
/// time, also after a crash, finds the old content or the new, never a part.
///
/// The new content is first written to `<path>.new`: writers of one path must not meet.
pub fn replace(path: &Path, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let (Some(name), Some(folder)) = (path.file_name(), path.parent()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut fresh = OsString::from(name);
    fresh.push(".new");
    let fresh = path.with_file_name(fresh);
    // One that a crash left, or a link that somebody put there: it is not written to.
    remove(&fresh)?;
    let written = write(&fresh, content, mode, durability).and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = written {
        // Why it cannot be removed either is of less interest, and the next attempt removes it.
        remove(&fresh).unwrap_or_default();
        return Err(error);
    }
    match durability {
        Durability::Durable if folder.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Durability::Durable => File::open(folder)?.sync_all(),
        Durability::UntilReboot => Ok(()),
    }
}

/// The text of a regular file of at most so many bytes: no pipe is waited for, and no device read without
/// end.
pub fn read_small(path: &Path, most: u64) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    let length = File::open(path)?
        .take(most.saturating_add(1))
        .read_to_string(&mut text)?;
    match u64::try_from(length) {
        Ok(length) if length <= most => Ok(text),
        Ok(_) | Err(_) => Err(io::Error::other(format!("it is longer than {most} bytes"))),
    }
}

fn write(fresh: &Path, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode & 0o600)
        .open(fresh)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    match durability {
        Durability::Durable => file.sync_all(),
        Durability::UntilReboot => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        for (content, mode, durability) in [
            ("old", 0o600, Durability::Durable),
            ("new", 0o644, Durability::UntilReboot),
        ] {
            replace(&path, content.as_bytes(), mode, durability).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            let permissions = fs::metadata(&path).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o7777, mode);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_read_is_small_and_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "YQ==").unwrap();
        assert_eq!(read_small(&path, 4).unwrap(), "YQ==");
        read_small(&path, 3).unwrap_err();
        read_small(Path::new("/dev/zero"), 3).unwrap_err();
        read_small(folder.path(), 3).unwrap_err();
    }

    #[test]
    fn what_a_crash_left_is_replaced_and_a_link_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, fresh) = (folder.path().join("a"), folder.path().join("a.new"));
        let other = folder.path().join("other");
        fs::write(&other, "kept").unwrap();
        symlink(&other, &fresh).unwrap();
        replace(&path, b"one", 0o600, Durability::Durable).unwrap();
        fs::write(&fresh, "torn").unwrap();
        replace(&path, b"two", 0o600, Durability::Durable).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
    }

    #[test]
    fn where_it_fails_the_old_content_stays_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        // A folder is not replaced by a file.
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"new", 0o600, Durability::Durable).is_err());
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace(Path::new("/"), b"", 0o600, Durability::Durable).is_err());
    }
}
