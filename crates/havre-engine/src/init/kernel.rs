//! What a container sees of the kernel: `/proc`, `/sys`, `/dev` and the control groups.
//!
//! All of it is made before anything of the image's or the user's choice is mounted, and by
//! descriptor, so that neither a link of the image nor a volume can stand where a device, a masked
//! or a read-only path is expected.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use havre_image::root::Root;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, mknodat, symlinkat};
use rustix::mount::MountAttrFlags;

use super::host::OfHost;
use super::idmap::Owners;
use super::mounts::{self, NODEV, NOEXEC, NOSUID, RDONLY, STRICTATIME};
use super::{SetupError, descriptors, step};
use crate::cgroup::Cgroup;
use crate::spec::ContainerSpec;
use crate::sys;

/// Docker's masked paths: host information without a namespace.
pub const MASKED: [&str; 12] = [
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

/// Masked in the folder of each processor, also as Docker does.
pub const MASKED_OF_CPU: &str = "thermal_throttle";

/// Docker's read-only paths.
pub const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Default devices: name, major, minor.
pub const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const DEVICE_LINKS: [(&str, &str); 6] = [
    ("pts/ptmx", "ptmx"),
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
];

/// Folders with a descriptor per processor at most.
const MAX_CPUS: usize = 8192;

/// The kernel's file systems of one container, mounted.
pub struct Kernel {
    proc: OwnedFd,
    dev: OwnedFd,
    pts: OwnedFd,
    /// Where control groups are to be mounted.
    cgroups: OwnedFd,
    /// Nothing is masked or read-only.
    open: bool,
}

impl Kernel {
    /// Mounts them below `root`.
    pub fn mount(root: &Root, spec: &ContainerSpec, of_host: &OfHost) -> Result<Self, SetupError> {
        let root = root.as_fd();
        let open = spec.security.privileged;
        let all = NOSUID | NOEXEC | NODEV;
        let proc = mount_in(root, "proc", "/proc", "proc", "", all)?;
        let (options, attributes) = match open {
            true => ("", all),
            false => ("ro", all | RDONLY),
        };
        let sys = mount_in(root, "sys", "/sys", "sysfs", options, attributes)?;
        let owners = Owners::of(spec);
        let memory = format!("mode=755,size=65536k{}", owners.of_memory());
        let attributes = NOSUID | STRICTATIME;
        let dev = mount_in(root, "dev", "/dev", "tmpfs", &memory, attributes)?;
        let group = owners.tty_group();
        let pts = format!("newinstance,ptmxmode=0666,mode=0620,gid={group}");
        let pts = mount_in(&dev, "pts", "/dev/pts", "devpts", &pts, NOSUID | NOEXEC)?;
        let (size, of_root) = (spec.shm_size_bytes, owners.of_memory());
        let shm = format!("mode=1777,size={size}{of_root}");
        if !of_host.share_memory(&dev)? {
            mount_in(&dev, "shm", "/dev/shm", "tmpfs", &shm, all)?;
        }
        mount_in(&dev, "mqueue", "/dev/mqueue", "mqueue", "", all)?;
        devices(&dev, owners)?;
        of_host.make_devices(&dev)?;
        let what = || "find /sys/fs/cgroup".to_owned();
        let cgroups = step(mounts::open_in(&sys, "fs/cgroup", OFlags::PATH), what)?;
        let kernel = Self {
            proc,
            dev,
            pts,
            cgroups,
            open,
        };
        kernel.sysctls(spec)?;
        if !open {
            kernel.close(&sys)?;
        }
        Ok(kernel)
    }

    /// Hides, and protects, what has no namespace.
    fn close(&self, sys: &OwnedFd) -> Result<(), SetupError> {
        for path in READ_ONLY {
            self.make_read_only(path)?;
        }
        for path in MASKED {
            match path.strip_prefix("/proc/") {
                Some(below) => self.mask(&self.proc, below, path)?,
                None => self.mask(sys, path.trim_start_matches("/sys/"), path)?,
            }
        }
        self.mask_cpus(sys)
    }

    /// The null device.
    pub fn null(&self) -> Result<OwnedFd, SetupError> {
        let opened = mounts::open_in(&self.dev, "null", OFlags::RDWR | OFlags::NOCTTY);
        step(opened, || "open /dev/null".to_owned())
    }

    /// The master side of a new terminal.
    pub fn open_terminal(&self) -> Result<OwnedFd, SetupError> {
        let opened = mounts::open_in(&self.pts, "ptmx", OFlags::RDWR | OFlags::NOCTTY);
        step(opened, || "open a terminal".to_owned())
    }

    /// Shows a terminal as `/dev/console`.
    pub fn bind_console(&self, terminal: &OwnedFd) -> Result<(), SetupError> {
        let what = || "make /dev/console".to_owned();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = step(
            rustix::fs::openat(&self.dev, "console", flags, mode).map_err(io::Error::from),
            what,
        )?;
        let mount = step(mounts::copy(terminal, "", false), what)?;
        step(mounts::attach(mount, file), what)
    }

    /// Where something that this process has open is, by the name it has in the container.
    pub fn name_of(&self, fd: impl AsFd) -> io::Result<String> {
        let link = format!("thread-self/fd/{}", fd.as_fd().as_raw_fd());
        let name = rustix::fs::readlinkat(&self.proc, link, Vec::new())?;
        name.into_string()
            .map_err(|_| io::Error::other("its name is not UTF-8"))
    }

    /// Settings that a namespace of the container holds; checked when the spec was.
    fn sysctls(&self, spec: &ContainerSpec) -> Result<(), SetupError> {
        for (name, value) in &spec.sysctls {
            let path = format!("sys/{}", name.replace('.', "/"));
            let written = mounts::open_in(&self.proc, &path, OFlags::WRONLY)
                .and_then(|file| Ok(rustix::io::write(file, value.as_bytes())?));
            step(written, || format!("set the sysctl {name}"))?;
        }
        Ok(())
    }

    fn make_read_only(&self, path: &str) -> Result<(), SetupError> {
        let what = || format!("make {path} read-only");
        let below = path.trim_start_matches("/proc/");
        let Some(place) = step(mounts::place_in(&self.proc, below), what)? else {
            return Ok(());
        };
        let tree = step(mounts::copy(&place, "", true), what)?;
        step(sys::mount_read_only(tree.as_fd(), true), what)?;
        step(mounts::attach(tree, place), what)
    }

    /// Hides a file behind the null device, a folder behind an empty one.
    fn mask(&self, fs: &OwnedFd, below: &str, path: &str) -> Result<(), SetupError> {
        let what = || format!("mask {path}");
        let Some(place) = step(mounts::place_in(fs, below), what)? else {
            return Ok(());
        };
        let cover = if is_dir(&place)? {
            step(mounts::new("tmpfs", "size=0k,ro", RDONLY), what)?
        } else {
            let null = step(mounts::copy(&self.dev, "null", false), what)?;
            if !descriptors::is_null(null.as_fd())? {
                let text = format!("{path} cannot be masked: /dev/null is another device");
                return Err(SetupError::Refused(text));
            }
            null
        };
        step(mounts::attach(cover, place), what)
    }

    fn mask_cpus(&self, sys: &OwnedFd) -> Result<(), SetupError> {
        let what = || "look at the processors in /sys".to_owned();
        let base = "devices/system/cpu";
        let folder = match mounts::open_in(sys, base, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => step(opened, what)?,
        };
        for entry in step(Dir::read_from(&folder), what)?.take(MAX_CPUS) {
            let entry = step(entry, what)?;
            let name = entry.file_name().to_string_lossy();
            let number = name.strip_prefix("cpu").unwrap_or_default();
            if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
                let below = format!("{base}/{name}/{MASKED_OF_CPU}");
                self.mask(sys, &below, &format!("/sys/{below}"))?;
            }
        }
        Ok(())
    }

    /// Mounts the control groups; the process is in its own and in their namespace by now.
    pub fn mount_cgroups(&self, cgroup: &Cgroup) -> Result<(), SetupError> {
        let all = NOSUID | NOEXEC | NODEV;
        let protected = if self.open { all } else { all | RDONLY };
        let what = || "mount /sys/fs/cgroup".to_owned();
        let mounts = cgroup.mounts();
        if let [(kind, options, name)] = &mounts[..]
            && name.is_empty()
        {
            let mount = step(mounts::new(kind, options, protected), what)?;
            return step(mounts::attach(mount, &self.cgroups), what);
        }
        let base = step(mounts::new("tmpfs", "mode=755", all), what)?;
        step(mounts::attach(&base, &self.cgroups), what)?;
        for (kind, options, name) in mounts {
            let what = || format!("mount /sys/fs/cgroup/{name}");
            step(mkdirat(&base, &name, Mode::from_raw_mode(0o755)), what)?;
            let place = step(mounts::open_in(&base, &name, OFlags::PATH), what)?;
            let mount = step(mounts::new(kind, &options, protected), what)?;
            step(mounts::attach(mount, place), what)?;
        }
        step(sys::mount_read_only(base.as_fd(), false), what)
    }
}

/// Mounts a file system on the folder `name` of `parent`, which is made when missing.
fn mount_in(
    parent: impl AsFd + Copy,
    name: &str,
    path: &str,
    kind: &str,
    options: &str,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, SetupError> {
    let what = || format!("mount {path}");
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => step(Err(error), what)?,
    }
    let stat = step(
        rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW),
        what,
    )?;
    // A link in its place could send masked paths elsewhere.
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        let text = format!("{path} of the image is no directory");
        return Err(SetupError::Refused(text));
    }
    let place = step(
        mounts::open_in(parent, name, OFlags::PATH | OFlags::DIRECTORY),
        what,
    )?;
    let mount = step(mounts::new(kind, options, attributes), what)?;
    step(mounts::attach(&mount, place), what)?;
    Ok(mount)
}

fn devices(dev: &OwnedFd, owners: Owners) -> Result<(), SetupError> {
    for (name, major, minor) in DEVICES {
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(0o666);
        step(
            mknodat(dev, name, FileType::CharacterDevice, mode, device),
            || format!("create /dev/{name}"),
        )?;
        step(owners.give_in(dev, name), || format!("create /dev/{name}"))?;
    }
    for (target, link) in DEVICE_LINKS {
        step(symlinkat(target, dev, link), || {
            format!("create /dev/{link}")
        })?;
    }
    Ok(())
}

/// Whether a mount or a place to mount on is a folder.
pub fn is_dir(fd: &OwnedFd) -> Result<bool, SetupError> {
    let stat = step(rustix::fs::fstat(fd), || "inspect a mount".to_owned())?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
