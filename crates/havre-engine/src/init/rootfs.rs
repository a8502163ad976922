//! The container's file system: overlay, standard mounts and devices, volumes, files in memory.
//!
//! What comes from the host is opened as a detached mount first; then the root is switched, and
//! every target is resolved inside it, so that no link of the image leads out.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree, unmount,
};

use super::{SetupError, step, subpath, volume};
use crate::cgroup::Cgroup;
use crate::spec::{ContainerSpec, FileSpec, MountSpec};
use crate::sys;

const NOSUID: libc::c_ulong = libc::MS_NOSUID;
const NOEXEC: libc::c_ulong = libc::MS_NOEXEC;
const NODEV: libc::c_ulong = libc::MS_NODEV;
const RDONLY: libc::c_ulong = libc::MS_RDONLY;

/// Docker's masked paths: host information without a namespace.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Docker's read-only paths.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Default devices: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Files that programs of the container expect to be able to change.
const WRITABLE_FILES: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// Mounts the root file system, enters it and sets everything up that needs no cgroup.
pub fn enter(spec: &ContainerSpec, root: &Path) -> Result<(), SetupError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    step(mount_change("/", private), || {
        "separate the mounts from the host's".to_owned()
    })?;
    let binds = open_binds(spec)?;
    let files = copy_files(spec, root)?;
    mount_root(spec, root)?;
    switch_root(root)?;
    standard_mounts(spec)?;
    devices()?;
    for (mount, source) in spec.mounts.iter().zip(binds) {
        place(mount, source)?;
    }
    for (file, source) in spec.files.iter().zip(files) {
        attach(source, &file.target, false)?;
    }
    step(make_dir(&spec.cwd), || {
        format!("create the working directory {}", spec.cwd)
    })?;
    sysctls(spec)
}

/// What needs the cgroup namespace, and what makes the rest read-only.
pub fn finish(spec: &ContainerSpec, cgroup: &Cgroup) -> Result<(), SetupError> {
    cgroup_mounts(cgroup)?;
    for path in READ_ONLY {
        make_read_only(path)?;
    }
    for path in MASKED {
        mask(path)?;
    }
    if spec.read_only {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let what = || "make the root file system read-only".to_owned();
        let root = step(rustix::fs::open("/", flags, Mode::empty()), what)?;
        step(sys::mount_read_only(root.as_fd(), false), what)?;
    }
    Ok(())
}

/// Detached copies of what the host contributes; `None` for memory.
fn open_binds(spec: &ContainerSpec) -> Result<Vec<Option<OwnedFd>>, SetupError> {
    spec.mounts
        .iter()
        .map(|mount| match mount {
            MountSpec::Tmpfs { .. } => Ok(None),
            MountSpec::Bind {
                source,
                target,
                read_only,
                subpath,
            }
            | MountSpec::Volume {
                source,
                target,
                read_only,
                subpath,
            } => {
                let what = || match subpath {
                    None => format!("mount {} at {target}", source.display()),
                    Some(below) => format!("mount {below} of {} at {target}", source.display()),
                };
                let flags = OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_RECURSIVE;
                let tree = match subpath {
                    None => step(open_tree(CWD, source.as_path(), flags), what)?,
                    Some(below) => {
                        let inside = step(subpath::open(source, below), what)?;
                        let flags = flags | OpenTreeFlags::AT_EMPTY_PATH;
                        step(open_tree(inside, "", flags), what)?
                    }
                };
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
    let flags = NOSUID | NODEV | NOEXEC;
    // Never written to swap where the kernel can promise it (6.4).
    let mounted = sys::mount("havre", &point, "tmpfs", flags, "mode=0700,noswap")
        .or_else(|_| sys::mount("havre", &point, "tmpfs", flags, "mode=0700"));
    step(mounted, || {
        "mount memory for the container's files".to_owned()
    })?;
    spec.files
        .iter()
        .enumerate()
        .map(|(index, file)| copy_file(file, scratch, index))
        .collect()
}

fn copy_file(file: &FileSpec, scratch: &Path, index: usize) -> Result<OwnedFd, SetupError> {
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
    let (uid, gid) = (Uid::from_raw(file.uid), Gid::from_raw(file.gid));
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

fn mount_root(spec: &ContainerSpec, root: &Path) -> Result<(), SetupError> {
    let what = || "mount the root file system".to_owned();
    match (&spec.rootfs.lower[..], &spec.rootfs.upper) {
        // The kernel has no overlay of a single layer.
        ([only], None) => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = step(open_tree(CWD, only.as_path(), flags), what)?;
            step(sys::mount_read_only(tree.as_fd(), false), what)?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            step(move_mount(&tree, "", CWD, root, flags), what)
        }
        _ => step(spec.rootfs.mount(root), what),
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

fn standard_mounts(spec: &ContainerSpec) -> Result<(), SetupError> {
    let all = NOSUID | NOEXEC | NODEV;
    let shm = format!("mode=1777,size={}", spec.shm_size_bytes);
    let pts = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    for (target, kind, flags, data) in [
        ("/proc", "proc", all, ""),
        ("/sys", "sysfs", all | RDONLY, ""),
        (
            "/dev",
            "tmpfs",
            NOSUID | libc::MS_STRICTATIME,
            "mode=755,size=65536k",
        ),
        ("/dev/pts", "devpts", NOSUID | NOEXEC, pts),
        ("/dev/shm", "tmpfs", all, shm.as_str()),
        ("/dev/mqueue", "mqueue", all, ""),
    ] {
        let what = || format!("mount {target}");
        // A link in their place could send masked paths elsewhere.
        match fs::symlink_metadata(target) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                return Err(SetupError::Refused(format!(
                    "{target} of the image is no directory"
                )));
            }
            Err(_) => step(make_dir(target), what)?,
        }
        step(sys::mount(kind, target, kind, flags, data), what)?;
    }
    Ok(())
}

fn devices() -> Result<(), SetupError> {
    for (name, major, minor) in DEVICES {
        let path = format!("/dev/{name}");
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(0o666);
        step(
            rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, mode, device),
            || format!("create {path}"),
        )?;
    }
    for (target, link) in [
        ("pts/ptmx", "/dev/ptmx"),
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("/proc/kcore", "/dev/core"),
    ] {
        step(std::os::unix::fs::symlink(target, link), || {
            format!("create {link}")
        })?;
    }
    Ok(())
}

fn place(mount: &MountSpec, source: Option<OwnedFd>) -> Result<(), SetupError> {
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
            step(make_dir(target), what)?;
            let mode = mode.unwrap_or(0o1777);
            let mut data = format!("mode={mode:o},uid={uid},gid={gid}");
            if let Some(size) = size_bytes {
                data.push_str(&format!(",size={size}"));
            }
            let flags = match exec {
                true => NOSUID | NODEV,
                false => NOSUID | NODEV | NOEXEC,
            };
            step(sys::mount("tmpfs", target, "tmpfs", flags, &data), what)
        }
        (MountSpec::Bind { target, .. }, Some(source)) => {
            let is_dir = is_dir(&source)?;
            attach(source, target, is_dir)
        }
        (
            MountSpec::Volume {
                target, read_only, ..
            },
            Some(source),
        ) => {
            let what = || format!("mount the volume {target}");
            step(make_dir(target), what)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let image = step(rustix::fs::open(target, flags, Mode::empty()), what)?;
            let mounted = step(source.try_clone(), what)?;
            attach(source, target, true)?;
            step(volume::populate(image, target), || {
                format!("fill the new volume {target}")
            })?;
            if *read_only {
                step(sys::mount_read_only(mounted.as_fd(), true), what)?;
            }
            Ok(())
        }
        (MountSpec::Bind { target, .. } | MountSpec::Volume { target, .. }, None) => {
            Err(SetupError::Refused(format!("nothing to mount at {target}")))
        }
    }
}

fn is_dir(mount: &OwnedFd) -> Result<bool, SetupError> {
    let stat = step(rustix::fs::fstat(mount), || "inspect a mount".to_owned())?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Attaches a detached mount at `target`, which is made when missing.
fn attach(mount: OwnedFd, target: &str, is_dir: bool) -> Result<(), SetupError> {
    let what = || format!("mount at {target}");
    if is_dir {
        step(make_dir(target), what)?;
    } else {
        step(make_file(target), what)?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    step(move_mount(&mount, "", CWD, target, flags), what)
}

fn make_dir(path: &str) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
}

fn make_file(path: &str) -> io::Result<()> {
    if Path::new(path).exists() {
        return Ok(());
    }
    if let Some(parent) = Path::new(path).parent() {
        make_dir(&parent.to_string_lossy())?;
    }
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o644)
        .open(path)
        .map(drop)
}

/// Settings that a namespace of the container holds; checked when the spec was.
fn sysctls(spec: &ContainerSpec) -> Result<(), SetupError> {
    for (name, value) in &spec.sysctls {
        let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
        step(fs::write(&path, value), || format!("set the sysctl {name}"))?;
    }
    Ok(())
}

fn cgroup_mounts(cgroup: &Cgroup) -> Result<(), SetupError> {
    let flags = NOSUID | NOEXEC | NODEV | RDONLY;
    let base = "/sys/fs/cgroup";
    let mounts = cgroup.mounts();
    if let [(kind, data, name)] = &mounts[..]
        && name.is_empty()
    {
        return step(sys::mount("cgroup", base, kind, flags, data), || {
            format!("mount {base}")
        });
    }
    let what = || format!("mount {base}");
    step(
        sys::mount("tmpfs", base, "tmpfs", NOSUID | NOEXEC | NODEV, "mode=755"),
        what,
    )?;
    for (kind, data, name) in mounts {
        let target = format!("{base}/{name}");
        let what = || format!("mount {target}");
        step(make_dir(&target), what)?;
        step(sys::mount("cgroup", &target, kind, flags, &data), what)?;
    }
    let flags = libc::MS_REMOUNT | flags;
    step(sys::mount("tmpfs", base, "tmpfs", flags, "mode=755"), what)
}

fn make_read_only(path: &str) -> Result<(), SetupError> {
    let what = || format!("make {path} read-only");
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    match open_tree(CWD, path, flags) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        tree => {
            let tree = step(tree, what)?;
            step(sys::mount_read_only(tree.as_fd(), true), what)?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            step(move_mount(&tree, "", CWD, path, flags), what)
        }
    }
}

/// Hides a file behind /dev/null, a folder behind an empty one.
fn mask(path: &str) -> Result<(), SetupError> {
    let what = || format!("mask {path}");
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => step(Err(error), what),
        Ok(meta) if meta.is_dir() => {
            step(sys::mount("tmpfs", path, "tmpfs", RDONLY, "size=0k"), what)
        }
        Ok(_) => step(sys::mount("/dev/null", path, "", libc::MS_BIND, ""), what),
    }
}

/// The mount point of the container's console, before its terminal exists.
pub fn prepare_console() -> Result<(), SetupError> {
    step(make_file("/dev/console"), || {
        "create /dev/console".to_owned()
    })
}

/// Shows the terminal as /dev/console where that is prepared and free.
pub fn bind_console(master: &OwnedFd) -> io::Result<()> {
    let console = Path::new("/dev/console");
    let free = fs::symlink_metadata(console).is_ok_and(|m| m.is_file());
    if !free {
        return Ok(());
    }
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN stores an unsigned integer.
    sys::check(i64::from(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number)
    }))?;
    sys::mount(
        &format!("/dev/pts/{number}"),
        "/dev/console",
        "",
        libc::MS_BIND,
        "",
    )
}
