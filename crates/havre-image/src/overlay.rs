//! Overlay mounts through the new mount API, which takes one layer per call.
//!
//! `mount(2)` packs all layers into one page of options and fails at about sixty long paths;
//! `fsconfig("lowerdir+")` has no such limit.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_bind, mount_remount, move_mount,
    unmount,
};

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
