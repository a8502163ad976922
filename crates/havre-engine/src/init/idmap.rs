//! Users and groups of a container that has a user namespace of its own.
//!
//! ```text
//! on disk   in the container   on the host
//!    0     ◄─── mount ───►  0  ◄── namespace ──► first
//! ```
//! The namespace is made by a process of the host's before the container's first process is, and joined by that
//! one last. Mount and process namespaces stay the host's, so that root of the container may neither mount nor
//! see more than others. What has owners of its own, as layers of images have, is shown through mounts that add
//! `first` to each.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::{MoveMountFlags, move_mount};

use super::{SetupError, mounts, source, step};
use crate::spec::{ContainerSpec, IDS, IdRange};
use crate::sys;
use havre_image::overlay::{Overlay, Writable};

/// The group of terminals, in any image.
const TTY_GROUP: u32 = 5;

/// Users and groups of one container as the host has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owners(Option<IdRange>);

impl Owners {
    /// Of this container.
    pub fn of(spec: &ContainerSpec) -> Self {
        Self(spec.security.user_namespace)
    }

    /// A user or group of the container, on the host.
    pub fn on_host(self, id: u32) -> Result<u32, SetupError> {
        match self.0 {
            None => Ok(id),
            Some(range) => range.on_host(id).ok_or_else(|| {
                SetupError::Refused(format!(
                    "user or group {id} is not among the {IDS} that the container has"
                ))
            }),
        }
    }

    /// Options of a memory file system that belongs to the container's root; they begin with a comma.
    pub fn of_memory(self) -> String {
        let first = self.0.map(|range| range.first);
        first.map_or_else(String::new, |id| format!(",uid={id},gid={id}"))
    }

    /// The group of the container's terminals.
    pub fn tty_group(self) -> u32 {
        self.0.map_or(TTY_GROUP, |range| range.first + TTY_GROUP)
    }

    /// Gives what was just made to the container's root.
    pub fn give(self, file: impl AsFd) -> io::Result<()> {
        self.give_at(file, OsStr::new(""), AtFlags::EMPTY_PATH)
    }

    /// The same for what is in a folder.
    pub fn give_in(self, folder: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<()> {
        self.give_at(folder, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn give_at(self, at: impl AsFd, name: &OsStr, flags: AtFlags) -> io::Result<()> {
        let Some(range) = self.0 else { return Ok(()) };
        let (uid, gid) = (Uid::from_raw(range.first), Gid::from_raw(range.first));
        Ok(rustix::fs::chownat(at, name, Some(uid), Some(gid), flags)?)
    }

    /// Gives the folder that receives a container's changes to its root, unless it has an owner in it already.
    fn give_upper(self, writable: &Writable) -> io::Result<()> {
        let Some(range) = self.0 else { return Ok(()) };
        let folder = open_layer(&writable.upper)?;
        let owner = rustix::fs::fstat(&folder)?.st_uid;
        match range.has(owner) {
            true => Ok(()),
            false => self.give(folder),
        }
    }
}

/// Where mounts are attached that are to become layers of an overlay: memory that the root file system covers
/// afterwards. Older kernels take no mount as a layer that is attached nowhere.
pub struct Stage<'a> {
    folder: &'a Path,
    namespace: BorrowedFd<'a>,
    owners: Owners,
    next: std::cell::Cell<u32>,
}

impl<'a> Stage<'a> {
    /// Mounts the memory at `folder`.
    pub fn new(
        spec: &ContainerSpec,
        folder: &'a Path,
        namespace: BorrowedFd<'a>,
    ) -> Result<Self, SetupError> {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let point = folder.to_string_lossy();
        step(
            sys::mount("havre", &point, "tmpfs", flags, "mode=0700,size=64k"),
            || "mount memory for the container's layers".to_owned(),
        )?;
        Ok(Self {
            folder,
            namespace,
            owners: Owners::of(spec),
            next: std::cell::Cell::new(0),
        })
    }

    /// The overlay with its layers as the container is to see them.
    pub fn shown(&self, overlay: &Overlay) -> Result<Overlay, SetupError> {
        let what = || "give the container its root file system".to_owned();
        if let Some(writable) = &overlay.upper {
            step(self.owners.give_upper(writable), what)?;
        }
        let layer = |path: &PathBuf| {
            let opened = step(open_layer(path), || format!("open {}", path.display()))?;
            self.attach(shown(opened, path, self.namespace)?)
        };
        let lower = overlay.lower.iter().map(layer);
        Ok(Overlay {
            lower: lower.collect::<Result<_, _>>()?,
            upper: overlay.upper.clone(),
        })
    }

    /// Folders one over the other, or a single file or folder, as a mount that is attached nowhere.
    pub fn layers(
        &self,
        lower: &[PathBuf],
        upper: Option<&Writable>,
        (uid, gid): (u32, u32),
    ) -> Result<OwnedFd, SetupError> {
        let what = || {
            let names: Vec<_> = lower.iter().map(|it| it.display().to_string()).collect();
            format!("mount {}", names.join(", "))
        };
        // Who has the source is root in the container.
        let other = match (uid, gid, self.owners.0) {
            (0, 0, _) | (_, _, None) => None,
            (_, _, Some(range)) => Some(step(
                namespace(range.first, &turned(range, uid), &turned(range, gid)),
                what,
            )?),
        };
        let namespace = other.as_ref().map_or(self.namespace, AsFd::as_fd);
        let open = |path: &PathBuf| {
            let opened = step(source::open(path), || format!("open {}", path.display()))?;
            shown(opened, path, namespace)
        };
        if let (None, [only]) = (upper, lower) {
            return open(only);
        }
        if let Some(writable) = upper {
            step(self.owners.give_upper(writable), what)?;
        }
        let lower: Result<_, _> = lower.iter().map(|path| self.attach(open(path)?)).collect();
        let overlay = Overlay {
            lower: lower?,
            upper: upper.cloned(),
        };
        let place = step(self.place(FileType::Directory), what)?;
        step(overlay.mount(&place), what)?;
        step(mounts::copy(CWD, &place.to_string_lossy(), false), what)
    }

    fn attach(&self, mount: OwnedFd) -> Result<PathBuf, SetupError> {
        let what = || "prepare a layer of the container".to_owned();
        let kind = FileType::from_raw_mode(step(rustix::fs::fstat(&mount), what)?.st_mode);
        let place = step(self.place(kind), what)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        step(move_mount(&mount, "", CWD, &place, flags), what)?;
        Ok(place)
    }

    fn place(&self, kind: FileType) -> io::Result<PathBuf> {
        let number = self.next.get();
        self.next.set(number + 1);
        let place = self.folder.join(number.to_string());
        match kind {
            FileType::Directory => std::fs::create_dir(&place)?,
            _ => drop(std::fs::File::create_new(&place)?),
        }
        Ok(place)
    }
}

/// A folder of an image; links may lead there.
fn open_layer(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A read-only mount of what is open, without what is mounted below it, whose owners are those of the namespace.
fn shown(opened: OwnedFd, path: &Path, namespace: BorrowedFd) -> Result<OwnedFd, SetupError> {
    let what = || format!("mount {}", path.display());
    let mount = step(mounts::copy(opened, "", false), what)?;
    step(sys::mount_mapped(mount.as_fd(), namespace), || {
        format!(
            "show the owners of {} as the container's: its file system has to allow mapped mounts, as ext4, \
             xfs and btrfs do, tmpfs from Linux 6.3 on, and an overlay never",
            path.display()
        )
    })?;
    Ok(mount)
}

/// Part of a map: numbers from `inside` on are those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    inside: u32,
    outside: u32,
    count: u32,
}

/// All numbers of the range in their order.
pub fn plain(range: IdRange) -> Vec<Extent> {
    vec![Extent {
        inside: 0,
        outside: range.first,
        count: IDS,
    }]
}

/// The same with `owner` and 0 in each other's place.
fn turned(range: IdRange, owner: u32) -> Vec<Extent> {
    if owner == 0 {
        return plain(range);
    }
    let extent = |inside, by, count| Extent {
        inside,
        outside: range.first + by,
        count,
    };
    let mut map = vec![extent(owner, 0, 1)];
    if owner < IDS {
        map.extend([
            extent(0, owner, 1),
            extent(1, 1, owner - 1),
            extent(owner + 1, owner + 1, IDS - owner - 1),
        ]);
    } else {
        map.push(extent(1, 1, IDS - 1));
    }
    map.retain(|extent| extent.count > 0);
    map
}

/// A user namespace of `owner` whose users and groups are these of the host; it is there as long as it is open, or
/// used.
pub fn namespace(owner: u32, users: &[Extent], groups: &[Extent]) -> io::Result<OwnedFd> {
    let holder = sys::hold_user_namespace(owner)?;
    let made = (|| {
        // The process namespace that this one is in may be another than that of /proc.
        let pid = sys::pid_of_child(&holder.pidfd)?;
        std::fs::write(format!("/proc/{pid}/uid_map"), text(users))?;
        std::fs::write(format!("/proc/{pid}/gid_map"), text(groups))?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(
            format!("/proc/{pid}/ns/user"),
            flags,
            Mode::empty(),
        )?)
    })();
    sys::kill_pidfd(&holder.pidfd, libc::SIGKILL)?;
    sys::await_end(holder.pidfd.as_fd())?;
    made
}

fn text(map: &[Extent]) -> String {
    let line = |it: &Extent| format!("{} {} {}\n", it.inside, it.outside, it.count);
    map.iter().map(line).collect()
}

/// Whether the root file system can be shown with other owners.
pub fn probe(path: &Path, range: IdRange) -> Result<(), SetupError> {
    let map = plain(range);
    let namespace = step(namespace(range.first, &map, &map), || {
        "make a user namespace".to_owned()
    })?;
    let opened = step(open_layer(path), || format!("open {}", path.display()))?;
    shown(opened, path, namespace.as_fd()).map(drop)
}

/// Takes on the users and groups of a namespace: one that was opened, or that of a process by its pidfd.
pub fn join(namespace: BorrowedFd) -> Result<(), SetupError> {
    step(sys::setns(namespace, libc::CLONE_NEWUSER), || {
        "enter the container's user namespace".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(map: &[Extent], id: u32) -> Option<u32> {
        let of = map
            .iter()
            .find(|it| (it.inside..it.inside + it.count).contains(&id));
        of.map(|it| it.outside + (id - it.inside))
    }

    #[test]
    fn an_owner_and_root_change_places_and_all_others_stay() {
        let range = IdRange { first: 1 << 20 };
        let shown = |owner, id| image(&turned(range, owner), id).map(|id| id - range.first);
        for owner in [0, 1, 1000, IDS - 1] {
            assert_eq!(shown(owner, owner), Some(0), "{owner}");
            assert_eq!(shown(owner, 0), Some(owner), "{owner}");
            for other in [2, 999, 1001, IDS - 2] {
                assert_eq!(shown(owner, other), Some(other), "{owner} {other}");
            }
            let map = turned(range, owner);
            assert_eq!(map.iter().map(|it| it.count).sum::<u32>(), IDS, "{map:?}");
            assert!(map.len() <= 5);
        }
        assert_eq!((shown(70_000, 70_000), shown(70_000, 0)), (Some(0), None));
        assert_eq!((shown(70_000, 1), shown(0, IDS)), (Some(1), None));
    }
}
