//! A folder of a volume. Containers write to volumes, and may put links where others mount: none leads
//! out of the volume, at whatever moment it appears.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::source;

/// Opens `below` in the folder `volume`, as a place to mount from; folders that are missing on the
/// way are made.
pub fn open(volume: &Path, below: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = source::open(volume)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&root, below, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT) => source::make_below(root, Path::new(below)),
        opened => Ok(opened?),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_out_of_the_volume() {
        let dir = tempfile::tempdir().expect("a folder");
        let (volume, outside) = (dir.path().join("volume"), dir.path().join("outside"));
        fs::create_dir_all(volume.join("there")).expect("a folder");
        fs::create_dir_all(&outside).expect("a folder");
        symlink("/there", volume.join("inside")).expect("a link");
        symlink(&outside, volume.join("trap")).expect("a link");
        symlink("../../outside", volume.join("climb")).expect("a link");
        let opened = |below: &str| {
            let fd = open(&volume, below).ok()?;
            let path = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
            let below = path.strip_prefix(&volume).expect("in the volume");
            Some(below.to_string_lossy().into_owned())
        };
        for (below, expected) in [
            ("there", Some("there")),
            ("inside", Some("there")),
            ("new/deep/er", Some("new/deep/er")),
            ("./there/", Some("there")),
            ("trap", None),
            ("trap/x", None),
            ("climb", None),
            ("new/../../outside", None),
        ] {
            assert_eq!(opened(below).as_deref(), expected, "{below}");
        }
        let left: Vec<_> = fs::read_dir(&outside).expect("there").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
