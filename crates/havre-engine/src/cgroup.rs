//! Control groups of one container, on version 2, version 1 and the hybrid of both.
//!
//! ```text
//! <hierarchy>/havre-<instance>/shim            all shims
//! <hierarchy>/havre-<instance>/run/<parent>/<id>.c   one container
//! ```
//! The tree stands beside those of the init system, so that ending the daemon's unit ends
//! neither shims nor containers.

mod devices;
mod limits;
mod stats;
mod teardown;

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::devices::Access;
use crate::spec::Limits;
use crate::sys;
pub use limits::Controller;
use limits::{Setting, Version};
pub use stats::Stats;
pub use teardown::containers;

/// The cgroup file systems of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Mount point of version 2, with or without controllers.
    v2: Option<PathBuf>,
    /// Version 1: the mount point and the controllers (or `name=…`) on it.
    v1: Vec<(PathBuf, Vec<String>)>,
}

/// One group in all hierarchies that matter to it.
#[derive(Clone, Debug)]
pub struct Cgroup {
    hierarchies: Hierarchies,
    /// Below each mount point.
    relative: PathBuf,
}

/// Setting up or removing a cgroup failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup file system at all.
    #[error("cannot read the mounted cgroup hierarchies")]
    Detect(#[source] io::Error),
    /// Nothing is mounted.
    #[error("no cgroup hierarchy is mounted below /sys/fs/cgroup")]
    None,
    /// A limit needs a controller that is not there.
    #[error("a limit needs the cgroup controller {name}, which this machine does not offer")]
    Controller {
        /// Its name.
        name: &'static str,
    },
    /// A file of the hierarchy.
    #[error("cannot {action} {path}")]
    File {
        /// `create`, `write`, …
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program that restricts devices.
    #[error("cannot restrict the devices of {path}")]
    Devices {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::File {
        action,
        path,
        source,
    }
}

impl Hierarchies {
    /// Reads what is mounted.
    pub fn detect() -> Result<Self, CgroupError> {
        let text = fs::read_to_string("/proc/self/mountinfo").map_err(CgroupError::Detect)?;
        let found = Self::parse(&text);
        if found.v2.is_none() && found.v1.is_empty() {
            Err(CgroupError::None)
        } else {
            Ok(found)
        }
    }

    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let mut right = right.split(' ');
            let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
            let Some(point) = left.split(' ').nth(4) else {
                continue;
            };
            if !point.starts_with("/sys/fs/cgroup") {
                continue;
            }
            let point = PathBuf::from(point);
            match kind {
                Some("cgroup2") if found.v2.is_none() => found.v2 = Some(point),
                Some("cgroup") => {
                    let names = options.split(',').map(str::to_owned).collect();
                    found.v1.push((point, names));
                }
                _ => {}
            }
        }
        found
    }

    /// Mount points of version 1 that carry one of `controllers`.
    fn v1_with(&self, controllers: &[&str]) -> Vec<&Path> {
        let carries = |names: &[String]| names.iter().any(|n| controllers.contains(&n.as_str()));
        self.v1
            .iter()
            .filter(|(_, n)| carries(n))
            .map(|(p, _)| p.as_path())
            .collect()
    }

    /// Controllers of version 2 that are really there.
    fn v2_controllers(&self) -> Vec<String> {
        let Some(root) = &self.v2 else {
            return Vec::new();
        };
        let text = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Name and state of each controller that limits need, for `havre doctor`.
    pub fn offered(&self) -> Vec<(Controller, bool)> {
        let v2 = self.v2_controllers();
        Controller::ALL
            .iter()
            .map(|c| {
                (
                    *c,
                    v2.iter().any(|n| n == c.v2()) || !self.v1_with(&[c.v1()]).is_empty(),
                )
            })
            .collect()
    }

    /// Whether version 2 carries memory, cpu and pids.
    fn unified(&self) -> bool {
        self.v1_with(&["memory", "cpu", "pids"]).is_empty()
    }
}

impl Cgroup {
    /// The group of a container. `parent` and `id` are validated names.
    pub fn of_container(hierarchies: &Hierarchies, instance: &str, parent: &str, id: &str) -> Self {
        let relative = instance_root(instance)
            .join("run")
            .join(parent)
            .join(format!("{id}.c"));
        Self {
            hierarchies: hierarchies.clone(),
            relative,
        }
    }

    /// The group of all shims of an instance.
    pub fn of_shims(hierarchies: &Hierarchies, instance: &str) -> Self {
        Self {
            hierarchies: hierarchies.clone(),
            relative: instance_root(instance).join("shim"),
        }
    }

    /// In every hierarchy of version 1 (also those by which systemd counts the processes of the
    /// daemon's unit) but cpuset, whose groups refuse tasks until configured.
    fn v1_dirs(&self) -> Vec<PathBuf> {
        let joined = |names: &[String]| !names.iter().any(|n| n == "cpuset");
        let points = self
            .hierarchies
            .v1
            .iter()
            .filter(|(_, names)| joined(names));
        points
            .map(|(point, _)| point.join(&self.relative))
            .collect()
    }

    fn v2_dir(&self) -> Option<PathBuf> {
        self.hierarchies
            .v2
            .as_ref()
            .map(|root| root.join(&self.relative))
    }

    /// Makes the group and sets its limits, those of devices too. Safe to repeat.
    pub fn create(&self, limits: &Limits, access: &Access) -> Result<(), CgroupError> {
        self.make()?;
        let version = if self.hierarchies.unified() {
            Version::V2
        } else {
            Version::V1
        };
        for setting in limits::settings(limits, version) {
            self.apply(&setting)?;
        }
        self.restrict_devices(access)
    }

    /// Makes the group without limits.
    pub fn make(&self) -> Result<(), CgroupError> {
        persist(|| self.try_make(), is_missing)
    }

    /// Makes the group and forks a child into it, in version 2.
    ///
    /// # Safety
    /// As of [`sys::fork`].
    pub unsafe fn fork_into(&self) -> io::Result<Option<sys::Forked>> {
        let attempt = || {
            self.try_make()
                .and_then(|()| self.open_v2())
                .map_err(|error| match error {
                    CgroupError::File { source, .. } => source,
                    other => io::Error::other(other),
                })
        };
        let gone = |error: &io::Error| {
            error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
        };
        persist(
            || {
                let folder = attempt()?;
                // SAFETY: the caller is single-threaded.
                unsafe { sys::fork(0, folder.as_ref().map(AsFd::as_fd)) }
            },
            gone,
        )
    }

    fn try_make(&self) -> Result<(), CgroupError> {
        if let Some(root) = &self.hierarchies.v2 {
            let dir = root.join(&self.relative);
            fs::create_dir_all(&dir).map_err(file_error("create", &dir))?;
            self.enable_controllers(root)?;
        }
        for dir in self.v1_dirs() {
            fs::create_dir_all(&dir).map_err(file_error("create", &dir))?;
        }
        Ok(())
    }

    /// Hands the controllers down from the root to the group's parent.
    fn enable_controllers(&self, root: &Path) -> Result<(), CgroupError> {
        let offered = self.hierarchies.v2_controllers();
        let wanted: Vec<_> = Controller::ALL
            .iter()
            .map(|c| c.v2())
            .filter(|c| offered.iter().any(|o| o == c))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut dir = root.to_owned();
        for part in &self.relative {
            enable(&dir, &wanted, dir == root)?;
            dir.push(part);
        }
        Ok(())
    }

    fn apply(&self, setting: &Setting) -> Result<(), CgroupError> {
        let dir = if self.hierarchies.unified() {
            self.v2_dir()
        } else {
            let points = self.hierarchies.v1_with(&[setting.controller.v1()]);
            points.first().map(|p| p.join(&self.relative))
        };
        let missing = CgroupError::Controller {
            name: setting.controller.v2(),
        };
        let Some(dir) = dir else {
            return if setting.optional {
                Ok(())
            } else {
                Err(missing)
            };
        };
        let path = dir.join(setting.file);
        match fs::write(&path, &setting.value) {
            Ok(()) => Ok(()),
            Err(_) if setting.optional => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(missing),
            Err(error) => Err(file_error("write", &path)(error)),
        }
    }

    /// Docker's device rules. They matter because containers may make device nodes: without a
    /// controller for them nothing runs.
    fn restrict_devices(&self, access: &Access) -> Result<(), CgroupError> {
        let rules = match access {
            Access::Everything => return self.open_devices(),
            Access::Rules(rules) => rules,
        };
        if let Some(path) = self.v2_dir() {
            let dir = fs::File::open(&path).map_err(file_error("open", &path))?;
            return devices::attach(dir.as_fd(), rules)
                .map_err(|source| CgroupError::Devices { path, source });
        }
        let points = self.hierarchies.v1_with(&["devices"]);
        if points.is_empty() {
            return Err(CgroupError::Controller { name: "devices" });
        }
        for point in points {
            let dir = point.join(&self.relative);
            let deny = dir.join("devices.deny");
            fs::write(&deny, "a").map_err(file_error("write", &deny))?;
            let allow = dir.join("devices.allow");
            for rule in devices::v1_rules(rules) {
                fs::write(&allow, rule).map_err(file_error("write", &allow))?;
            }
        }
        Ok(())
    }

    /// In version 2 nothing is restricted that no program restricts.
    fn open_devices(&self) -> Result<(), CgroupError> {
        if self.hierarchies.v2.is_some() {
            return Ok(());
        }
        for point in self.hierarchies.v1_with(&["devices"]) {
            let allow = point.join(&self.relative).join("devices.allow");
            fs::write(&allow, "a").map_err(file_error("write", &allow))?;
        }
        Ok(())
    }

    /// The version 2 folder, for a child to start in.
    pub fn open_v2(&self) -> Result<Option<OwnedFd>, CgroupError> {
        let Some(dir) = self.v2_dir() else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&dir, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(error) => Err(file_error("open", &dir)(error.into())),
        }
    }

    /// Moves a process into the version 1 groups. The first move costs milliseconds, the others
    /// next to nothing.
    pub fn attach_v1(&self, pid: u32) -> Result<(), CgroupError> {
        let attach_all = || self.v1_dirs().iter().try_for_each(|dir| attach(dir, pid));
        persist(
            || match attach_all() {
                // Also how a folder that has just been removed shows.
                Err(error) if is_missing(&error) => self.try_make().and_then(|()| attach_all()),
                done => done,
            },
            is_missing,
        )
    }

    /// Files by which processes get in.
    pub fn doors(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let folders = self.v2_dir().into_iter().chain(self.v1_dirs());
        let door = |folder: PathBuf| {
            let path = folder.join("cgroup.procs");
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::open(&path, flags, Mode::empty())
                .map_err(|error| file_error("open", &path)(error.into()))
        };
        folders.map(door).collect()
    }

    fn all_dirs(&self) -> Vec<PathBuf> {
        let v1 = self
            .hierarchies
            .v1
            .iter()
            .map(|(p, _)| p.join(&self.relative));
        self.v2_dir().into_iter().chain(v1).collect()
    }

    /// What a container mounts below `/sys/fs/cgroup`: file system type, options and folder name
    /// of each; one entry with an empty name for version 2 alone.
    pub fn mounts(&self) -> Vec<(&'static str, String, String)> {
        if self.hierarchies.unified() {
            return vec![("cgroup2", String::new(), String::new())];
        }
        let mut mounts = Vec::new();
        for (point, names) in &self.hierarchies.v1 {
            let shown = |n: &&String| Controller::SHOWN.contains(&n.as_str());
            let options: Vec<_> = names.iter().filter(shown).cloned().collect();
            if let (Some(name), false) = (point.file_name(), options.is_empty()) {
                let name = name.to_string_lossy().into_owned();
                mounts.push(("cgroup", options.join(","), name));
            }
        }
        if self.hierarchies.v2.is_some() {
            mounts.push(("cgroup2", String::new(), "unified".to_owned()));
        }
        mounts
    }
}

/// The removal of another container may delete an empty parent between any two steps, hence
/// several attempts.
fn persist<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    again: impl Fn(&E) -> bool,
) -> Result<T, E> {
    for _ in 0..20 {
        match attempt() {
            Err(error) if again(&error) => {}
            done => return done,
        }
    }
    attempt()
}

fn is_missing(error: &CgroupError) -> bool {
    matches!(error, CgroupError::File { source, .. } if source.kind() == ErrorKind::NotFound)
}

fn instance_root(instance: &str) -> PathBuf {
    PathBuf::from(format!("havre-{instance}"))
}

fn attach(dir: &Path, pid: u32) -> Result<(), CgroupError> {
    let path = dir.join("cgroup.procs");
    fs::write(&path, pid.to_string()).map_err(file_error("write", &path))
}

/// Hands controllers down to the children of `dir`. One that the kernel refuses stays away here
/// and is missed only by a limit that needs it.
fn enable(dir: &Path, wanted: &[&str], is_root: bool) -> Result<(), CgroupError> {
    let path = dir.join("cgroup.subtree_control");
    let now = fs::read_to_string(&path).map_err(file_error("read", &path))?;
    for controller in wanted {
        if now.split_whitespace().any(|n| n == *controller) {
            continue;
        }
        let change = format!("+{controller}");
        let mut result = fs::write(&path, &change);
        if is_root && matches!(&result, Err(e) if e.kind() == ErrorKind::ResourceBusy) {
            // Inside a container the visible root is an ordinary group: it may hold processes or
            // hand controllers down, not both.
            evacuate(dir)?;
            result = fs::write(&path, &change);
        }
        match result {
            Err(error) if error.kind() == ErrorKind::NotFound && !dir.exists() => {
                return Err(file_error("write", &path)(error));
            }
            Err(error) => {
                tracing::debug!(controller, path = %path.display(), %error, "not handed down");
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Moves the processes of a cgroup namespace's root into a leaf.
fn evacuate(root: &Path) -> Result<(), CgroupError> {
    let leaf = root.join("havre-init");
    fs::create_dir_all(&leaf).map_err(file_error("create", &leaf))?;
    let procs = root.join("cgroup.procs");
    let text = fs::read_to_string(&procs).map_err(file_error("read", &procs))?;
    for pid in text.lines().filter_map(|l| l.parse::<u32>().ok()) {
        match attach(&leaf, pid) {
            Err(CgroupError::File { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => {
            }
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_of_a_hybrid_machine() {
        let text = "\
30 20 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
31 30 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw\n\
32 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
33 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let found = Hierarchies::parse(text);
        assert_eq!(
            found.v2.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
        assert!(!found.unified());
        assert_eq!(
            found.v1_with(&["cpuacct"]),
            [Path::new("/sys/fs/cgroup/cpu,cpuacct")]
        );
        let group = Cgroup::of_container(&found, "t", "a/b", "web");
        let mounts = group.mounts();
        assert_eq!(
            mounts[0],
            ("cgroup", "cpu,cpuacct".to_owned(), "cpu,cpuacct".to_owned())
        );
        assert_eq!(mounts[2], ("cgroup2", String::new(), "unified".to_owned()));
    }

    #[test]
    fn mountinfo_of_version_2() {
        let text =
            "31 30 0:26 / /sys/fs/cgroup rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Hierarchies::parse(text);
        assert!(found.unified());
        let group = Cgroup::of_container(&found, "t", "a", "web");
        assert_eq!(group.mounts(), [("cgroup2", String::new(), String::new())]);
        let dir = PathBuf::from("/sys/fs/cgroup/havre-t/run/a/web.c");
        assert_eq!(group.v2_dir(), Some(dir));
    }
}
