//! Overlay mounts through the new mount API, which takes one layer per call.
//!
//! `mount(2)` packs all layers into one page of options and fails at about sixty long paths;
//! `fsconfig("lowerdir+")` has no such limit. Kernels before 6.7 do not know it: there, the
//! layers are named by descriptors, whose paths are short enough for some two hundred.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_bind, mount_remount,
    move_mount, unmount,
};

/// The least size of a page, and with it of all options of a mount.
const PAGE: usize = 4096;

/// The folders of one overlay.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Overlay {
    /// Read-only layers, the topmost first; never empty.
    pub lower: Vec<PathBuf>,
    /// The writable layer; `None` makes a read-only mount (then `lower` needs two entries, or the
    /// single one is bind-mounted).
    pub upper: Option<Writable>,
}

/// The writable part of an overlay; both folders on one file system.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Writable {
    /// Receives changes.
    pub upper: PathBuf,
    /// Kernel scratch space, empty.
    pub work: PathBuf,
}

impl Overlay {
    /// Mounts the overlay at `target` in the calling thread's mount namespace.
    pub fn mount(&self, target: &Path) -> io::Result<()> {
        if let (None, [only]) = (&self.upper, &self.lower[..]) {
            return bind_read_only(only, target);
        }
        match self.mount_by_names(target) {
            // Before 6.7 the file system is asked only at the end, so any step may say this.
            Err(Errno::INVAL) => self.mount_by_descriptors(target),
            other => Ok(other?),
        }
    }

    /// Layer by layer, on Linux from 6.7.
    fn mount_by_names(&self, target: &Path) -> Result<(), Errno> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "source", "havre")?;
        for layer in &self.lower {
            fsconfig_set_string(&fs, "lowerdir+", layer)?;
        }
        if let Some(writable) = &self.upper {
            fsconfig_set_string(&fs, "upperdir", &writable.upper)?;
            fsconfig_set_string(&fs, "workdir", &writable.work)?;
            // An upper may become a layer, and a layer has no words for these.
            fsconfig_set_string(&fs, "redirect_dir", "nofollow")?;
            fsconfig_set_string(&fs, "metacopy", "off")?;
            fsconfig_set_string(&fs, "index", "off")?;
        }
        fsconfig_create(&fs)?;
        let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        move_mount(
            &mount,
            "",
            CWD,
            target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?;
        Ok(())
    }

    /// The same on Linux before 6.7.
    fn mount_by_descriptors(&self, target: &Path) -> io::Result<()> {
        let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let layers = self.lower.iter().map(|path| open_folder(path));
        let layers = layers.collect::<io::Result<Vec<_>>>()?;
        let names: Vec<_> = layers.iter().map(name).collect();
        let mut options = format!("lowerdir={}", names.join(":"));
        // Open until the mount is made.
        let mut writable = None;
        if let Some(folders) = &self.upper {
            let (upper, work) = (open_folder(&folders.upper)?, open_folder(&folders.work)?);
            let rest = "redirect_dir=nofollow,metacopy=off,index=off";
            let (up, scratch) = (name(&upper), name(&work));
            options.push_str(&format!(",upperdir={up},workdir={scratch},{rest}"));
            writable = Some((upper, work));
        }
        // The kernel takes one page of them and says no more than that something is wrong.
        if options.len() >= PAGE {
            return Err(io::Error::other(format!(
                "{} layers are more than this kernel mounts; Linux 6.7 and newer mount hundreds",
                self.lower.len()
            )));
        }
        let options = CString::new(options)?;
        mount(
            "havre",
            target,
            "overlay",
            MountFlags::empty(),
            options.as_c_str(),
        )?;
        drop((layers, writable));
        Ok(())
    }
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Overlay wants two folders where nothing is writable.
fn bind_read_only(source: &Path, target: &Path) -> io::Result<()> {
    mount_bind(source, target)?;
    if let Err(error) = mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, "") {
        unmount(target, UnmountFlags::DETACH)?;
        return Err(error.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_macros, reason = "its output is for a person")]

    use super::*;
    use rustix::mount::{MountPropagationFlags, mount_change};
    use rustix::thread::{UnshareFlags, unshare_unsafe};

    /// Both ways show the same, with more layers than one page of long paths would hold.
    #[test]
    fn by_names_and_by_descriptors() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let long = dir.path().join("x".repeat(200));
        let folder = |name: String| {
            let path = long.join(name);
            std::fs::create_dir_all(&path).expect("a folder");
            path
        };
        let lower: Vec<_> = (0..100).map(|n| folder(format!("layer{n}"))).collect();
        for (n, layer) in lower.iter().enumerate() {
            std::fs::write(layer.join(n.to_string()), "").expect("a file");
            std::fs::write(layer.join("top"), n.to_string()).expect("a file");
        }
        let overlay = |way: &str| Overlay {
            lower: lower.clone(),
            upper: Some(Writable {
                upper: folder(format!("upper-{way}")),
                work: folder(format!("work-{way}")),
            }),
        };
        let (names, descriptors) = (overlay("names"), overlay("descriptors"));
        let (one, two) = (folder("one".into()), folder("two".into()));
        let check = move || {
            // SAFETY: only this thread gets a mount namespace of its own; no memory or
            // descriptor table is unshared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.expect("a namespace");
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).expect("private");
            names.mount(&one).expect("mounted");
            descriptors.mount_by_descriptors(&two).expect("mounted");
            for root in [&one, &two] {
                assert_eq!(std::fs::read_dir(root).expect("readable").count(), 101);
                assert_eq!(
                    std::fs::read_to_string(root.join("top")).expect("a file"),
                    "0"
                );
                std::fs::write(root.join("new"), "new").expect("writable");
            }
            assert!(
                descriptors
                    .upper
                    .expect("writable")
                    .upper
                    .join("new")
                    .exists()
            );
        };
        std::thread::spawn(check).join().expect("no panic");
    }
}
