//! A view of the file system that consists of a few folders.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, chmodat, mkdirat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::{ConfineError, Folder, failed, step};

/// Room for names of folders and nothing else.
const SIZE: &str = "64k";

/// From now on `folders`, under their own names, are all there is. What is mounted below them is not
/// shown. Files that are open stay open.
pub fn show_only(folders: &[Folder<'_>]) -> Result<(), ConfineError> {
    let Some(first) = folders.first() else {
        return failed(io::ErrorKind::InvalidInput.into(), "show no folder");
    };
    // SAFETY: the flag concerns mounts, not descriptors.
    let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
    step(unshared, || "make a mount namespace".to_owned())?;
    // Nothing that is unmounted here is unmounted elsewhere.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    step(mount_change("/", private), || {
        "separate its mounts from the host's".to_owned()
    })?;
    let clones = folders
        .iter()
        .map(|folder| clone(folder.path))
        .collect::<Result<Vec<OwnedFd>, _>>()?;
    let root = step(empty_root(), || "make an empty root".to_owned())?;
    step(attach(&root, CWD, first.path), || {
        "mount an empty root".to_owned()
    })?;
    for (folder, tree) in folders.iter().zip(&clones) {
        let shown =
            make_way(&root, folder.path).and_then(|relative| attach(tree, &root, &relative));
        step(shown, || format!("show {}", folder.path.display()))?;
    }
    step(enter(&root), || "enter its root".to_owned())?;
    folders.iter().try_for_each(harden)
}

fn clone(path: &Path) -> Result<OwnedFd, ConfineError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    step(open_tree(CWD, path, flags), || {
        format!("take hold of {}", path.display())
    })
}

fn empty_root() -> rustix::io::Result<OwnedFd> {
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&tmpfs, "mode", "0755")?;
    fsconfig_set_string(&tmpfs, "size", SIZE)?;
    fsconfig_create(&tmpfs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn attach(tree: &OwnedFd, at: impl AsFd, path: &Path) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree, "", at, path, flags)
}

/// Makes a folder and its parents in the new root; returns its path there.
fn make_way(root: &OwnedFd, path: &Path) -> rustix::io::Result<PathBuf> {
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir => continue,
            Component::Normal(name) => relative.push(name),
            Component::CurDir | Component::ParentDir | Component::Prefix(_) => {
                return Err(Errno::INVAL);
            }
        }
        let mode = Mode::from_raw_mode(0o755);
        match mkdirat(root, &relative, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        // Whatever the umask.
        chmodat(root, &relative, mode, AtFlags::empty())?;
    }
    Ok(relative)
}

/// Makes `root` the root; the one before is not reachable any more.
fn enter(root: &OwnedFd) -> rustix::io::Result<()> {
    rustix::process::fchdir(root)?;
    // The old root comes to lie on top of the new one, and goes.
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

/// Nothing in it is a program, a device, or more than its reader.
fn harden(folder: &Folder<'_>) -> Result<(), ConfineError> {
    let mut flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if !folder.writable {
        flags |= MountFlags::RDONLY;
    }
    step(mount_remount(folder.path, flags, ""), || {
        format!("restrict {}", folder.path.display())
    })
}
