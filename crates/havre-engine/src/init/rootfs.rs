//! The container's file system: overlay, the kernel's file systems, volumes, files in memory.
//!
//! What comes from the host is opened as a detached mount first; then the root is switched, and
//! every target is resolved inside it, so that no link of the image leads out.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use havre_image::root::{Root, Spot};
use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree, unmount,
};

use super::host::OfHost;
use super::idmap::{Owners, Stage};
use super::kernel::{self, Kernel};
use super::mounts::{self, NODEV, NOEXEC, NOSUID};
use super::secrets::{self, Prepared};
use super::{SetupError, source, step, subpath, volume};
use crate::cgroup::Cgroup;
use crate::confidential::Contents;
use crate::spec::{ContainerSpec, FileSpec, MountSpec, SECRETS_DIR};
use crate::{sys, validate};
use havre_image::overlay::Overlay;

/// Files that programs of the container expect to be able to change.
const WRITABLE_FILES: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// A container's root, entered.
pub struct Inside {
    /// Where its paths begin.
    pub root: Root,
    /// What it sees of the kernel.
    pub kernel: Kernel,
    /// To whom belongs what is made in it.
    owners: Owners,
}

/// Mounts the root file system, enters it and sets everything up that needs no cgroup.
pub fn enter(
    spec: &ContainerSpec,
    root: &Path,
    contents: &Contents,
    users: Option<BorrowedFd>,
    socket: BorrowedFd,
) -> Result<Inside, SetupError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    step(mount_change("/", private), || {
        "separate the mounts from the host's".to_owned()
    })?;
    let files = copy_files(spec, root)?;
    let secrets = secrets::prepare(spec, root, contents, socket)?;
    let of_host = OfHost::find(spec)?;
    let stage = users
        .map(|users| Stage::new(spec, root, users))
        .transpose()?;
    let binds = open_binds(spec, stage.as_ref())?;
    let shown = stage.as_ref().map(|stage| stage.shown(&spec.rootfs));
    let rootfs = shown.transpose()?.unwrap_or_else(|| spec.rootfs.clone());
    mount_root(&rootfs, root)?;
    switch_root(root)?;
    let what = || "open the root file system".to_owned();
    let root = step(Root::open(Path::new("/")), what)?;
    let kernel = Kernel::mount(&root, spec, &of_host)?;
    let inside = Inside {
        root,
        kernel,
        owners: Owners::of(spec),
    };
    for (mount, source) in spec.mounts.iter().zip(binds) {
        inside.place(mount, source)?;
    }
    inside.attach_secrets(spec, secrets)?;
    for (file, source) in spec.files.iter().zip(files) {
        inside.attach_file(source, &file.target)?;
    }
    step(inside.make_dir(&spec.cwd), || {
        format!("create the working directory {}", spec.cwd)
    })?;
    Ok(inside)
}

/// What needs the cgroup namespace, and what makes the rest read-only.
pub fn finish(inside: &Inside, spec: &ContainerSpec, cgroup: &Cgroup) -> Result<(), SetupError> {
    inside.kernel.mount_cgroups(cgroup)?;
    if spec.read_only {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let what = || "make the root file system read-only".to_owned();
        let root = step(rustix::fs::open("/", flags, Mode::empty()), what)?;
        step(sys::mount_read_only(root.as_fd(), false), what)?;
    }
    Ok(())
}

/// Detached copies of what the host contributes; `None` for memory.
fn open_binds(
    spec: &ContainerSpec,
    stage: Option<&Stage>,
) -> Result<Vec<Option<OwnedFd>>, SetupError> {
    spec.mounts
        .iter()
        .map(|mount| match mount {
            MountSpec::Tmpfs { .. } => Ok(None),
            MountSpec::Seen { by, path, target } => {
                let what = || format!("mount {path} of another container at {target}");
                step(source::seen(*by, path), what).map(Some)
            }
            MountSpec::Layers {
                lower,
                upper,
                target,
                owner,
            } => match stage {
                Some(stage) => stage.layers(lower, upper.as_ref(), *owner).map(Some),
                None => Err(nothing_to_mount(target)),
            },
            MountSpec::Bind {
                source: path,
                target,
                read_only,
                subpath,
            }
            | MountSpec::Volume {
                source: path,
                target,
                read_only,
                subpath,
            } => {
                let what = || match subpath {
                    None => format!("mount {} at {target}", path.display()),
                    Some(below) => format!("mount {below} of {} at {target}", path.display()),
                };
                let opened = match subpath {
                    None => source::open(path),
                    Some(below) => subpath::open(path, below),
                };
                let tree = step(mounts::copy(step(opened, what)?, "", true), what)?;
                // A volume may have to receive the image's contents first.
                if *read_only && matches!(mount, MountSpec::Bind { .. }) {
                    step(sys::mount_read_only(tree.as_fd(), true), what)?;
                }
                Ok(Some(tree))
            }
        })
        .collect()
}

/// Copies the files into memory that only this mount namespace sees: a file system mounted at
/// `scratch` for the moment, covered by the root file system afterwards.
fn copy_files(spec: &ContainerSpec, scratch: &Path) -> Result<Vec<OwnedFd>, SetupError> {
    if spec.files.is_empty() {
        return Ok(Vec::new());
    }
    let point = scratch.to_string_lossy();
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // Never written to swap where the kernel can promise it (6.4).
    let mounted = sys::mount("havre", &point, "tmpfs", flags, "mode=0700,noswap")
        .or_else(|_| sys::mount("havre", &point, "tmpfs", flags, "mode=0700"));
    step(mounted, || {
        "mount memory for the container's files".to_owned()
    })?;
    spec.files
        .iter()
        .enumerate()
        .map(|(index, file)| copy_file(file, Owners::of(spec), scratch, index))
        .collect()
}

fn copy_file(
    file: &FileSpec,
    owners: Owners,
    scratch: &Path,
    index: usize,
) -> Result<OwnedFd, SetupError> {
    let what = || format!("copy {} for {}", file.source.display(), file.target);
    let path = scratch.join(index.to_string());
    let mut from = step(fs::File::open(&file.source), what)?;
    let mut to = step(
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path),
        what,
    )?;
    step(io::copy(&mut from, &mut to), what)?;
    let (uid, gid) = (owners.on_host(file.uid)?, owners.on_host(file.gid)?);
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    step(rustix::fs::fchown(&to, Some(uid), Some(gid)), what)?;
    step(
        rustix::fs::fchmod(&to, Mode::from_raw_mode(file.mode)),
        what,
    )?;
    drop(to);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = step(open_tree(CWD, &path, flags), what)?;
    if !WRITABLE_FILES.contains(&file.target.as_str()) {
        step(sys::mount_read_only(tree.as_fd(), false), what)?;
    }
    Ok(tree)
}

fn mount_root(rootfs: &Overlay, root: &Path) -> Result<(), SetupError> {
    let what = || "mount the root file system".to_owned();
    match (&rootfs.lower[..], &rootfs.upper) {
        // The kernel has no overlay of a single layer.
        ([only], None) => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = step(open_tree(CWD, only.as_path(), flags), what)?;
            step(sys::mount_read_only(tree.as_fd(), false), what)?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            step(move_mount(&tree, "", CWD, root, flags), what)
        }
        _ => step(rootfs.mount(root), what),
    }
}

fn switch_root(root: &Path) -> Result<(), SetupError> {
    let what = || "switch to the root file system".to_owned();
    step(rustix::process::chdir(root), what)?;
    // The old root lands on top of the new one, from where it is taken off.
    step(rustix::process::pivot_root(".", "."), what)?;
    step(unmount(".", UnmountFlags::DETACH), what)?;
    step(rustix::process::chdir("/"), what)
}

impl Inside {
    fn place(&self, mount: &MountSpec, source: Option<OwnedFd>) -> Result<(), SetupError> {
        match (mount, source) {
            (
                MountSpec::Tmpfs {
                    target,
                    size_bytes,
                    mode,
                    owner: (uid, gid),
                    exec,
                },
                _,
            ) => {
                let what = || format!("mount memory at {target}");
                let mode = mode.unwrap_or(0o1777);
                let (uid, gid) = (self.owners.on_host(*uid)?, self.owners.on_host(*gid)?);
                let mut options = format!("mode={mode:o},uid={uid},gid={gid}");
                if let Some(size) = size_bytes {
                    options.push_str(&format!(",size={size}"));
                }
                let flags = match exec {
                    true => NOSUID | NODEV,
                    false => NOSUID | NODEV | NOEXEC,
                };
                let at = self.folder_for(target)?;
                let memory = step(mounts::new("tmpfs", &options, flags), what)?;
                step(mounts::attach(memory, at), what)
            }
            (
                MountSpec::Bind { target, .. }
                | MountSpec::Layers { target, .. }
                | MountSpec::Seen { target, .. },
                Some(source),
            ) => {
                if kernel::is_dir(&source)? {
                    let at = self.folder_for(target)?;
                    step(mounts::attach(source, at), || format!("mount at {target}"))
                } else {
                    self.attach_file(source, target)
                }
            }
            (
                MountSpec::Volume {
                    target, read_only, ..
                },
                Some(source),
            ) => {
                let what = || format!("mount the volume {target}");
                let at = self.folder_for(target)?;
                step(volume::populate(&at, &source), || {
                    format!("fill the new volume {target}")
                })?;
                if *read_only {
                    step(sys::mount_read_only(source.as_fd(), true), what)?;
                }
                step(mounts::attach(source, at), what)
            }
            (
                MountSpec::Bind { target, .. }
                | MountSpec::Layers { target, .. }
                | MountSpec::Seen { target, .. }
                | MountSpec::Volume { target, .. },
                None,
            ) => Err(nothing_to_mount(target)),
        }
    }

    fn attach_secrets(&self, spec: &ContainerSpec, secrets: Prepared) -> Result<(), SetupError> {
        secrets.give_away(spec, &self.root)?;
        if let Some(folder) = secrets.folder {
            let at = self.folder_for(SECRETS_DIR)?;
            let what = || format!("mount at {SECRETS_DIR}");
            step(mounts::attach(folder, at), what)?;
        }
        for (mount, target) in secrets.elsewhere {
            self.attach_file(mount, &target)?;
        }
        Ok(())
    }

    /// Attaches a detached mount of a file.
    fn attach_file(&self, mount: OwnedFd, target: &str) -> Result<(), SetupError> {
        let what = || format!("mount at {target}");
        let at = step(self.make_file(target), what)?;
        self.allow(&at, target)?;
        step(mounts::attach(mount, at), what)
    }

    /// The folder that `target` means, to mount on; made when missing.
    fn folder_for(&self, target: &str) -> Result<OwnedFd, SetupError> {
        let at = step(self.make_dir(target), || format!("mount at {target}"))?;
        self.allow(&at, target)?;
        Ok(at)
    }

    /// Refuses a place that a link of the image led to and that nobody has asked for by its name:
    /// covered, the kernel's file systems would show what the image wants.
    fn allow(&self, at: &OwnedFd, target: &str) -> Result<(), SetupError> {
        let name = step(self.kernel.name_of(at), || {
            format!("find out where {target} leads")
        })?;
        let written = Path::new(target)
            .components()
            .eq(Path::new(&name).components());
        let refused = match written {
            true => validate::is_protected(&name),
            false => validate::is_of_the_kernel(&name) || !is_of_files(at)?,
        };
        if refused {
            return Err(SetupError::Refused(format!(
                "{target} of the image leads to {name}, where nothing can be mounted"
            )));
        }
        Ok(())
    }
}

/// Whether this is on a file system that holds files, not one by which the kernel is seen.
fn is_of_files(at: &OwnedFd) -> Result<bool, SetupError> {
    const KERNELS: [i64; 6] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x1cd1,      // devpts
        0x1980_0202, // mqueue
    ];
    let stat = step(rustix::fs::fstatfs(at), || {
        "inspect a place to mount on".to_owned()
    })?;
    Ok(!KERNELS.contains(&(stat.f_type as i64)))
}

/// Refuses what has no source.
fn nothing_to_mount(target: &str) -> SetupError {
    SetupError::Refused(format!("nothing to mount at {target}"))
}

impl Inside {
    /// The folder at `path`, by way of folders and links of the container; what is missing is made.
    fn make_dir(&self, path: &str) -> io::Result<OwnedFd> {
        let spot = self.missing_above(path)?;
        if spot.stat.is_some() {
            return open_spot(&spot, OFlags::PATH | OFlags::DIRECTORY);
        }
        let made = rustix::fs::mkdirat(&spot.dir, &spot.name, Mode::from_raw_mode(0o755));
        let folder = match made {
            // Another container with the same volume has made it just now.
            Ok(()) | Err(rustix::io::Errno::EXIST) => {
                open_spot(&spot, OFlags::PATH | OFlags::DIRECTORY)?
            }
            Err(error) => return Err(error.into()),
        };
        self.owners.give(&folder)?;
        Ok(folder)
    }

    /// The file, socket or device at `path`; an empty file where there is nothing.
    fn make_file(&self, path: &str) -> io::Result<OwnedFd> {
        let spot = self.missing_above(path)?;
        if spot.stat.is_none() {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o644);
            match rustix::fs::openat(&spot.dir, &spot.name, flags, mode) {
                Ok(file) => self.owners.give(file)?,
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        open_spot(&spot, OFlags::PATH)
    }

    fn missing_above(&self, path: &str) -> io::Result<Spot> {
        let finish = |folder: &OwnedFd, name: &std::ffi::OsStr| self.owners.give_in(folder, name);
        self.root.spot_making(Path::new(path), &finish)
    }
}

fn open_spot(spot: &Spot, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(&*spot.dir, &spot.name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&opened)?;
    // With O_PATH, a link that has just appeared would be opened itself.
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err(rustix::io::Errno::LOOP.into());
    }
    Ok(opened)
}
