//! Devices of the host that a container is given: which they are, and what may be done with them.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;

use crate::init::source;
use crate::spec::{ContainerSpec, DeviceSpec};

/// Where the host has its devices.
const DEV: &str = "/dev";

/// Most devices of one container.
const MAX_NODES: usize = 8192;
/// Deepest folder of devices.
const MAX_DEPTH: usize = 8;
/// What a privileged container has of its own below `/dev`.
const OWN: [&str; 5] = ["console", "fd", "mqueue", "pts", "shm"];

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Below `/dev` of the container.
    path: PathBuf,
    kind: Kind,
    major: u32,
    minor: u32,
    /// Permission bits, as on the host; so are owner and group.
    mode: u32,
    owner: (u32, u32),
}

/// Kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of bytes.
    Char,
    /// Of blocks.
    Block,
}

/// Devices that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `None`: of both kinds.
    pub kind: Option<Kind>,
    /// `None`: each.
    pub major: Option<u32>,
    /// `None`: each.
    pub minor: Option<u32>,
    /// Of [`MAKE`], [`READ`] and [`WRITE`].
    pub access: u8,
}

/// May be made by mknod; the kernel's own number, as of the others.
pub const MAKE: u8 = 1;
/// May be read.
pub const READ: u8 = 2;
/// May be written.
pub const WRITE: u8 = 4;

/// What a container may do with devices beside those that each has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whatever its user may.
    Everything,
    /// What these rules say.
    Rules(Vec<Rule>),
}

impl Rule {
    /// `c 189:* rmw`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let kind = match parts.next()? {
            "a" => None,
            "b" => Some(Kind::Block),
            "c" => Some(Kind::Char),
            _ => return None,
        };
        let (major, minor) = parts.next()?.split_once(':')?;
        let number = |text: &str| match text {
            "*" => Some(None),
            digits => digits.parse().ok().map(Some),
        };
        let access = access(parts.next()?)?;
        parts.next().is_none().then_some(Self {
            kind,
            major: number(major)?,
            minor: number(minor)?,
            access,
        })
    }
}

/// `rwm`
fn access(text: &str) -> Option<u8> {
    let bits = text.chars().try_fold(0, |bits, letter| match letter {
        'm' => Some(bits | MAKE),
        'r' => Some(bits | READ),
        'w' => Some(bits | WRITE),
        _ => None,
    });
    bits.filter(|bits| *bits != 0)
}

/// Whether a container may be given this.
pub fn is_valid(device: &DeviceSpec) -> bool {
    let below = Path::new(&device.target).strip_prefix("/dev");
    let plain = below.is_ok_and(|below| {
        let mut parts = below.components();
        let own = parts
            .clone()
            .next()
            .is_none_or(|first| OWN.iter().any(|own| first.as_os_str() == *own));
        !own && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
    });
    plain && device.source.is_absolute() && access(&device.permissions).is_some()
}

/// The devices to make in a container. Reads the host's `/dev`.
pub fn nodes(spec: &ContainerSpec) -> io::Result<Vec<Node>> {
    let mut nodes = Vec::new();
    if spec.security.privileged {
        let own = |path: &Path| OWN.iter().any(|own| path == Path::new(own));
        let dev = source::open(Path::new(DEV))?;
        collect(dev.as_fd(), Path::new(""), 0, &own, &mut nodes)?;
    }
    for device in &spec.devices.given {
        nodes.extend(given(device)?);
    }
    Ok(nodes)
}

/// A device, or all in a folder.
fn given(device: &DeviceSpec) -> io::Result<Vec<Node>> {
    let below = Path::new(&device.target)
        .strip_prefix(DEV)
        .map_err(io::Error::other)?;
    let failed = |error: io::Error| {
        let source = device.source.display();
        io::Error::new(error.kind(), format!("{source}: {error}"))
    };
    let found = open(&device.source).map_err(failed)?;
    let stat = rustix::fs::fstat(&found)?;
    let mut nodes = Vec::new();
    match is_folder(&stat) {
        true => collect(found.as_fd(), below, 0, &|_| false, &mut nodes).map_err(failed)?,
        false => nodes.extend(node(below, &stat)),
    }
    match nodes.is_empty() {
        true => Err(failed(io::Error::other("it is no device"))),
        false => Ok(nodes),
    }
}

/// Opens a device's source through no link but those that stay in the host's `/dev`, such as
/// `/dev/serial/by-id/…`: they change when something is plugged in, and no container makes them.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let Ok(below) = path.strip_prefix(DEV) else {
        return source::open(path);
    };
    if below.as_os_str().is_empty() {
        return source::open(path);
    }
    let dev = source::open(Path::new(DEV))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat2(dev, below, flags, Mode::empty(), resolve) {
        // Another file system, such as /dev/pts.
        Err(Errno::XDEV) => source::open(path),
        opened => Ok(opened?),
    }
}

/// Devices below a folder, but for paths that `skip` names. Links are not followed.
fn collect(
    folder: BorrowedFd<'_>,
    below: &Path,
    depth: usize,
    skip: &dyn Fn(&Path) -> bool,
    nodes: &mut Vec<Node>,
) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(folder, c".", flags, Mode::empty())?;
    for entry in Dir::new(readable)? {
        let entry = entry?;
        let name = entry.file_name();
        let path = below.join(OsStr::from_bytes(name.to_bytes()));
        if matches!(name.to_bytes(), b"." | b"..") || skip(&path) {
            continue;
        }
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Unplugged meanwhile.
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        if is_folder(&stat) && depth < MAX_DEPTH {
            let inner = rustix::fs::openat(folder, name, flags | OFlags::PATH, Mode::empty())?;
            collect(inner.as_fd(), &path, depth + 1, skip, nodes)?;
        }
        nodes.extend(node(&path, &stat));
        if nodes.len() > MAX_NODES {
            return Err(io::Error::other(format!("more than {MAX_NODES} devices")));
        }
    }
    Ok(())
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn node(path: &Path, stat: &Stat) -> Option<Node> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Kind::Char,
        FileType::BlockDevice => Kind::Block,
        _ => return None,
    };
    Some(Node {
        path: path.to_owned(),
        kind,
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
        mode: stat.st_mode & 0o777,
        owner: (stat.st_uid, stat.st_gid),
    })
}

/// What the container may do with devices.
pub fn allowed(spec: &ContainerSpec) -> io::Result<Access> {
    if spec.security.privileged {
        return Ok(Access::Everything);
    }
    let mut rules: Vec<Rule> = spec
        .devices
        .rules
        .iter()
        .filter_map(|rule| Rule::parse(rule))
        .collect();
    for device in &spec.devices.given {
        let access = access(&device.permissions).unwrap_or(0);
        rules.extend(given(device)?.into_iter().map(|node| Rule {
            kind: Some(node.kind),
            major: Some(node.major),
            minor: Some(node.minor),
            access,
        }));
    }
    Ok(Access::Rules(rules))
}

impl Node {
    /// Makes it below `dev`, in place of what has its name.
    pub fn make(&self, dev: impl AsFd) -> io::Result<()> {
        let mut folder: OwnedFd = dev.as_fd().try_clone_to_owned()?;
        let parents = self.path.parent().into_iter().flat_map(Path::components);
        for part in parents {
            let name = part.as_os_str();
            match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            folder = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
        }
        let name = self.path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let kind = match self.kind {
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
        };
        let device = rustix::fs::makedev(self.major, self.minor);
        rustix::fs::mknodat(&folder, name, kind, Mode::from_raw_mode(self.mode), device)?;
        let (uid, gid) = self.owner;
        let owner = (Uid::from_raw(uid), Gid::from_raw(gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&folder, name, Some(owner.0), Some(owner.1), flags)?;
        Ok(())
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/dev/{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn rules_are_read_as_the_kernel_writes_them() {
        let rule = |kind, major, minor, access| {
            Some(Rule {
                kind,
                major,
                minor,
                access,
            })
        };
        for (text, expected) in [
            ("c 189:* rmw", rule(Some(Kind::Char), Some(189), None, 7)),
            ("b 8:0 r", rule(Some(Kind::Block), Some(8), Some(0), READ)),
            ("a *:* rw", rule(None, None, None, READ | WRITE)),
            ("c 1:1", None),
            ("c 1:1 ", None),
            ("c 1:1 rx", None),
            ("d 1:1 r", None),
            ("c 1:1 r w", None),
            ("c 4294967296:1 r", None),
        ] {
            assert_eq!(Rule::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn devices_stay_below_dev_and_leave_the_containers_own_alone() {
        for (target, expected) in [
            ("/dev/net/tun", true),
            ("/dev/ttyUSB0", true),
            ("/dev", false),
            ("/dev/../etc/x", false),
            ("/dev/pts/0", false),
            ("/dev/shm", false),
            ("/etc/x", false),
        ] {
            let device = DeviceSpec {
                source: "/dev/null".into(),
                target: target.to_owned(),
                permissions: "rwm".to_owned(),
            };
            assert_eq!(is_valid(&device), expected, "{target}");
        }
    }

    /// A container may have made any link outside of `/dev`.
    #[test]
    fn only_links_of_dev_itself_are_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = std::fs::canonicalize(dir.path()).expect("there");
        symlink("/dev/null", dir.join("link")).expect("a link");
        symlink("/dev", dir.join("folder")).expect("a link");
        let device = |source: PathBuf| DeviceSpec {
            source,
            target: "/dev/given".to_owned(),
            permissions: "r".to_owned(),
        };
        for source in ["link", "folder", "folder/null"] {
            let refused = given(&device(dir.join(source))).expect_err(source);
            assert!(
                refused.to_string().contains("a link is in its way"),
                "{refused}"
            );
        }
        let null = given(&device("/dev/null".into())).expect("it is there");
        assert_eq!((null[0].major, null[0].minor), (1, 3));
        // To /proc.
        for source in ["/dev/fd/0", "/dev/stdin"] {
            assert!(given(&device(source.into())).is_err(), "{source}");
        }
        let refused = given(&device(dir)).expect_err("nothing in it");
        assert!(
            refused.to_string().ends_with("it is no device"),
            "{refused}"
        );
    }
}
