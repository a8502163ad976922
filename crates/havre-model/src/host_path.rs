//! Which mounts of the machine's own files give the machine away. Pure; whoever asks has resolved
//! the links.

use std::path::{Component, Path, PathBuf};

use crate::allow::Allow;

/// What sockets of container engines are called, wherever they are.
const ENGINE_SOCKETS: [&str; 4] = ["containerd.sock", "crio.sock", "docker.sock", "podman.sock"];

/// Whoever writes there, or into a folder that holds it, can have a program of its own run as root
/// or change the kernel's settings.
const CONTROL: [&str; 40] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc/cron.d",
    "/etc/cron.daily",
    "/etc/cron.hourly",
    "/etc/cron.monthly",
    "/etc/cron.weekly",
    "/etc/crontab",
    "/etc/group",
    "/etc/init.d",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/pam.d",
    "/etc/passwd",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/shadow",
    "/etc/ssh",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/systemd",
    "/etc/udev",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root/.ssh",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/sbin",
    "/var/lib/docker",
    "/var/spool/cron",
];

/// Reading is enough: passwords and keys, and sockets that a read-only mount does not close.
const SECRETS: [&str; 9] = [
    "/etc/shadow",
    "/etc/ssh",
    "/root/.ssh",
    "/run/containerd",
    "/run/dbus",
    "/run/docker.sock",
    "/run/havre",
    "/run/systemd/private",
    "/var/lib/havre",
];

/// Harmless though they lie in one of those folders.
const HARMLESS: [&str; 9] = [
    "/dev/full",
    "/dev/null",
    "/dev/random",
    "/dev/shm",
    "/dev/urandom",
    "/dev/zero",
    "/etc/ssh/ssh_known_hosts",
    "/usr/lib/ssl",
    "/usr/lib/locale",
];

/// A mount that needs its owner's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endangered {
    /// What would allow it.
    pub needs: Allow,
    /// What lies in it that makes it dangerous; `None`: it is that itself.
    pub holds: Option<&'static str>,
}

/// What mounting `source` of this machine into a container gives away, if anything. With
/// `sees_through`, the container may look into the machine's processes once it has their `/proc`
/// (`SYS_PTRACE`).
pub fn endangered(source: &Path, read_only: bool, sees_through: bool) -> Option<Endangered> {
    let source = plain(source);
    let found = |path: &'static str| {
        Some(Endangered {
            needs: Allow::HostPaths,
            holds: (!source.starts_with(path)).then_some(path),
        })
    };
    if is_engine_socket(&source) {
        return Some(Endangered {
            needs: Allow::DockerSocket,
            holds: None,
        });
    }
    if HARMLESS.iter().any(|path| source.starts_with(path)) {
        return None;
    }
    let touches =
        |path: &&&'static str| source.starts_with(path) || Path::new(path).starts_with(&source);
    if let Some(path) = SECRETS.iter().find(touches) {
        return found(path);
    }
    if !read_only && let Some(path) = CONTROL.iter().find(touches) {
        return found(path);
    }
    let processes = Path::new("/proc");
    if sees_through && source.starts_with(processes) {
        return found("/proc");
    }
    None
}

/// Whether this is, by its name, the socket of a container engine.
pub fn is_engine_socket(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| ENGINE_SOCKETS.contains(&name))
}

/// By the letter, and with the folders that are links on every machine of today.
fn plain(source: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in source.components() {
        match component {
            Component::Normal(part) => plain.push(part),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
        if plain == Path::new("/var/run") {
            plain = "/run".into();
        }
    }
    plain
}

/// Why nothing can be mounted at `target` inside a container: what protects the machine, or what
/// programs rely on, is there.
pub fn taken(target: &Path) -> Option<&'static str> {
    let target = plain(target);
    let is = |path: &str| target == Path::new(path);
    if is("/") {
        Some("it is the image's own root folder")
    } else if target.starts_with("/proc") {
        Some("it shows the container's own processes, and programs believe it")
    } else if target.starts_with("/sys/fs/cgroup") {
        Some("it shows the container's own limits")
    } else if is("/dev") || is("/dev/pts") {
        Some("it has the container's own devices, to which `devices` adds")
    } else if is("/sys") {
        Some("it shows the container's own network, and hides what concerns the machine")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(source: &str, read_only: bool) -> Option<Allow> {
        endangered(Path::new(source), read_only, false).map(|found| found.needs)
    }

    #[test]
    fn ordinary_mounts_need_nobodys_word() {
        for source in [
            "/etc/localtime",
            "/etc/timezone",
            "/etc/letsencrypt",
            "/etc/ssl/certs",
            "/dev/shm",
            "/home/me/data",
            "/mnt/media",
            "/opt/app",
            "/srv/app",
            "/usr/share/zoneinfo",
            "/var/log",
            "/var/www",
            "/tmp",
        ] {
            assert_eq!(needs(source, false), None, "{source}");
        }
        for source in [
            "/dev/dri",
            "/etc/passwd",
            "/lib/modules",
            "/proc",
            "/sys",
            "/usr/lib/os-release",
            "/var/lib/docker/containers",
        ] {
            assert_eq!(needs(source, true), None, "{source}");
            assert_eq!(needs(source, false), Some(Allow::HostPaths), "{source}");
        }
    }

    #[test]
    fn what_gives_the_machine_away_needs_it() {
        for source in [
            "/",
            "//",
            "/etc",
            "/etc/../etc/",
            "/etc/shadow",
            "/root",
            "/run",
            "/run/dbus/system_bus_socket",
            "/run/havre/api.sock",
            "/var",
            "/var/lib",
            "/var/lib/havre/secrets",
            "/var/run",
            "/srv/../var/./run/dbus",
        ] {
            assert_eq!(needs(source, true), Some(Allow::HostPaths), "{source}");
        }
        for source in ["/var/run/docker.sock", "/run/containerd/containerd.sock"] {
            assert_eq!(needs(source, true), Some(Allow::DockerSocket), "{source}");
        }
        for source in ["/usr", "/usr/bin/env", "/boot", "/etc/cron.d/x", "/dev/sda"] {
            assert_eq!(needs(source, false), Some(Allow::HostPaths), "{source}");
        }
        assert!(endangered(Path::new("/proc"), true, true).is_some());
        assert!(endangered(Path::new("/srv"), true, true).is_none());
    }

    #[test]
    fn places_that_protect_the_machine_are_not_covered() {
        for (path, expected) in [
            ("/data", true),
            ("/host/proc", true),
            ("/sys/kernel/debug", true),
            ("/proc/1", false),
            ("/a/../proc", false),
            ("/", false),
            ("/sys/fs/cgroup", false),
            ("/dev/", false),
            ("/dev/shm", true),
        ] {
            assert_eq!(taken(Path::new(path)).is_none(), expected, "{path}");
        }
    }
}
