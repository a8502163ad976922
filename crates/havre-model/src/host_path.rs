//! Which mounts of the machine's own files give the machine away. Whoever asks has resolved
//! the links; all but [`endangered_inside`] is pure.

use std::path::{Component, Path, PathBuf};

use crate::allow::Allow;

/// What sockets of container engines are called, wherever they are.
const ENGINE_SOCKETS: [&str; 4] = ["containerd.sock", "crio.sock", "docker.sock", "podman.sock"];

/// The system's own. Whoever writes there, or into a folder that holds it, can have a program of its
/// own run as root or change the kernel's settings; which files do it, no list could tell.
const SYSTEM: [&str; 19] = [
    "/bin",
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/snap",
    "/sys",
    "/usr",
    "/var/lib",
    "/var/snap",
    "/var/spool",
];

/// Reading is enough: passwords and keys, other programs' memory, and what a read-only mount does not
/// close: sockets and terminals.
const SECRETS: [&str; 25] = [
    // The first that is in a folder names it in messages: what everybody knows.
    "/etc/shadow",
    "/etc/credstore",
    "/etc/credstore.encrypted",
    "/etc/havre",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/kubernetes",
    "/etc/rancher",
    "/etc/security/opasswd",
    "/etc/ssh",
    "/proc",
    "/root/.ssh",
    "/run",
    "/var/backups/gshadow.bak",
    "/var/backups/shadow.bak",
    "/var/lib/havre",
    "/var/lib/incus",
    "/var/lib/kubelet",
    "/var/lib/lxd",
    "/var/lib/rancher",
    // The key of all credentials, and what programs had in memory when they crashed.
    "/var/lib/systemd",
    "/var/snap/lxd",
    "/dev/pts",
    "/dev/console",
];

/// Harmless though they lie in one of those folders: no program runs what stands there.
const HARMLESS: [&str; 8] = [
    "/dev/full",
    "/dev/null",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
    "/etc/localtime",
    "/etc/timezone",
    "/usr/share/zoneinfo",
];

/// Harmless to read, though they lie among [`SECRETS`].
const HARMLESS_TO_READ: [&str; 4] = [
    "/etc/ssh/ssh_known_hosts",
    "/run/log",
    "/run/systemd/resolve",
    "/run/udev",
];

/// Where programs keep what they share in memory; folders in it are made for one purpose.
const MEMORY: &str = "/dev/shm";
/// Folders of all users, with keys in the one, and sockets of root's programs in the other (tmux, agents of SSH).
const OF_ALL_USERS: [&str; 2] = ["/home", "/tmp"];

/// Folders of keys and of what logs in elsewhere, wherever they are: of SSH, and Havre's of a user.
const KEYS: [&str; 2] = [".ssh", ".config/havre"];
/// What shells run of a home folder.
const STARTED: [&str; 6] = [
    ".bash_login",
    ".bash_profile",
    ".bashrc",
    ".profile",
    ".zshenv",
    ".zshrc",
];

/// What containers are shown of the system in order to read it, and hardly to change it: names of the
/// machine and its users, certificates, modules, programs.
const FOR_READING: [&str; 21] = [
    "/bin",
    "/dev/disk",
    "/dev/serial",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
    "/lib/modules",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/lib/modules",
    "/usr/sbin",
    "/usr/src",
    "/var/lib/docker/containers",
];

/// A mount that needs its owner's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endangered {
    /// What would allow it.
    pub needs: Allow,
    /// What lies in it that makes it dangerous; `None`: it is that itself.
    pub holds: Option<&'static str>,
}

/// What mounting `source` of this machine into a container gives away, if anything. `own` is the
/// project's folder: what lies there is its owner's, wherever the folder is.
pub fn endangered(source: &Path, read_only: bool, own: &Path) -> Option<Endangered> {
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
    let below = |paths: &[&str]| paths.iter().any(|path| source.starts_with(path));
    let touches =
        |path: &&&'static str| source.starts_with(path) || Path::new(path).starts_with(&source);
    if source == Path::new(MEMORY) {
        return Some(Endangered {
            needs: Allow::HostIpc,
            holds: None,
        });
    }
    if below(&HARMLESS) || source.starts_with(MEMORY) || read_only && below(&HARMLESS_TO_READ) {
        return None;
    }
    let of_all = |path: &&str| source == Path::new(path);
    if is_of_keys(&source) || OF_ALL_USERS.iter().any(of_all) {
        return Some(Endangered {
            needs: Allow::HostPaths,
            holds: None,
        });
    }
    if let Some(path) = SECRETS.iter().find(touches) {
        return found(path);
    }
    if read_only {
        return None;
    }
    if is_of_a_home(&source) && (is_started(&source) || !is_own(&source, own)) {
        return Some(Endangered {
            needs: Allow::HostPaths,
            holds: None,
        });
    }
    if is_own(&source, own) {
        return None;
    }
    SYSTEM.iter().find(touches).and_then(|path| found(path))
}

/// What reading `source`, a file or a folder with all below it, gives away. Sockets cannot be read: of
/// the machine's run folder only Havre's counts.
pub fn endangered_by_reading(source: &Path, own: &Path) -> Option<Endangered> {
    let source = plain(source);
    if is_own(&source, own) {
        return None;
    }
    let of_havre = Path::new("/run/havre");
    let other_run = source.starts_with("/run")
        && !source.starts_with(of_havre)
        && !of_havre.starts_with(&source);
    endangered(&source, true, own).filter(|_| !other_run)
}

/// Whether `source` lies in the project's folder. A folder that holds others' makes nothing its
/// project's own; root's home is one where people work.
fn is_own(source: &Path, own: &Path) -> bool {
    let own = plain(own);
    let mut others = SYSTEM.iter().filter(|tree| **tree != "/root");
    source.starts_with(&own)
        && own != Path::new("/home")
        && !others.any(|tree| Path::new(tree).starts_with(&own))
}

/// A home folder, or what shells run of it.
fn is_of_a_home(source: &Path) -> bool {
    let home = if is_started(source) {
        source.parent()
    } else {
        Some(source)
    };
    home.is_some_and(|home| home == Path::new("/root") || home.parent() == Some(Path::new("/home")))
}

/// Whether one of the folders of [`KEYS`] is on the way.
fn is_of_keys(source: &Path) -> bool {
    let is_one = |way: &Path| KEYS.iter().any(|keys| way.ends_with(keys));
    source.ancestors().any(is_one)
}

fn is_started(source: &Path) -> bool {
    let name = source.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| STARTED.contains(&name))
}

/// What lies in the folder `real` itself and gives the machine away: the one question here that
/// looks at the machine.
pub fn endangered_inside(real: &Path) -> Option<Endangered> {
    let is_there = |name: &str| real.join(name).symlink_metadata().is_ok();
    if let Some(socket) = ENGINE_SOCKETS.into_iter().find(|name| is_there(name)) {
        return Some(Endangered {
            needs: Allow::DockerSocket,
            holds: Some(socket),
        });
    }
    let keys = KEYS.into_iter().find(|name| is_there(name))?;
    Some(Endangered {
        needs: Allow::HostPaths,
        holds: Some(keys),
    })
}

/// Whether this is where programs of the machine keep what they share in memory.
pub fn is_shared_memory(source: &Path) -> bool {
    plain(source) == Path::new(MEMORY)
}

/// Whether this is mounted for reading, whatever its options say.
pub fn is_for_reading(source: &Path) -> bool {
    let source = plain(source);
    FOR_READING.iter().any(|path| source.starts_with(path))
}

/// Whether a mount shows a container the place that it is at.
pub fn is_same(source: &Path, target: &Path) -> bool {
    plain(source) == plain(target)
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

    /// In a project at /srv/shop.
    fn needs(source: &str, read_only: bool) -> Option<Allow> {
        endangered(Path::new(source), read_only, Path::new("/srv/shop")).map(|found| found.needs)
    }

    #[test]
    fn ordinary_mounts_need_nobodys_word() {
        for source in [
            "/data",
            "/dev/shm/frames",
            "/etc/localtime",
            "/etc/timezone",
            "/home/me/.config/app",
            "/home/me/data",
            "/mnt/media",
            "/opt/app",
            "/srv",
            "/srv/app",
            "/tmp/cache",
            "/var/backups/shop",
            "/usr/share/zoneinfo/Europe/Paris",
            "/var/log",
            "/var/www",
        ] {
            assert_eq!(needs(source, false), None, "{source}");
        }
        for source in [
            "/dev/dri",
            "/etc/letsencrypt",
            "/etc/passwd",
            "/etc/ssl/certs",
            "/home/me",
            "/lib/modules",
            "/run/udev",
            "/sys",
            "/usr/lib/os-release",
            "/var/lib/docker/containers",
            "/var/lib/dpkg",
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
            "/dev",
            "/dev/console",
            "/dev/pts/0",
            "/etc",
            "/etc/../etc/",
            "/etc/credstore.encrypted/db",
            "/etc/havre",
            "/etc/havre/machine.yaml",
            "/etc/havre/seal-1.key",
            "/etc/kubernetes/admin.conf",
            "/etc/security",
            "/etc/shadow",
            "/etc/shadow-",
            "/home",
            "/home/me/.config/havre",
            "/home/me/.config/havre/tokens/server",
            "/home/me/.ssh",
            "/home/me/.ssh/id_ed25519",
            "/proc",
            "/proc/1/root/srv",
            "/root",
            "/run",
            "/run/dbus/system_bus_socket",
            "/run/havre/api.sock",
            "/run/podman",
            "/run/user/1000",
            "/srv/shop/.ssh",
            "/tmp",
            "/var",
            "/var/backups",
            "/var/lib",
            "/var/lib/havre/secrets",
            "/var/lib/rancher/k3s/server/token",
            "/var/lib/systemd",
            "/var/lib/systemd/credential.secret",
            "/var/run",
            "/var/snap/lxd/common/lxd/unix.socket",
            "/srv/../var/./run/dbus",
        ] {
            assert_eq!(needs(source, true), Some(Allow::HostPaths), "{source}");
        }
        for source in ["/var/run/docker.sock", "/run/containerd/containerd.sock"] {
            assert_eq!(needs(source, true), Some(Allow::DockerSocket), "{source}");
        }
        assert_eq!(needs("/dev/shm", true), Some(Allow::HostIpc));
        for source in [
            "/boot",
            "/dev/sda",
            "/etc/apt",
            "/etc/cron.d/x",
            "/etc/environment",
            "/etc/ld.so.cache",
            "/etc/logrotate.d",
            "/etc/modprobe.d",
            "/home/me/.bashrc",
            "/root/.bashrc",
            "/run/systemd/system",
            "/usr",
            "/usr/bin/env",
            "/usr/libexec",
            "/usr/local/lib",
            "/usr/share",
            "/var/lib/dpkg/info",
            "/var/snap",
            "/var/spool/cron",
        ] {
            assert_eq!(needs(source, false), Some(Allow::HostPaths), "{source}");
        }
    }

    #[test]
    fn what_is_mounted_for_reading_alone_is_harmless_to_read_and_not_to_write() {
        for source in FOR_READING {
            assert!(is_for_reading(Path::new(source)), "{source}");
            assert_eq!(needs(source, true), None, "{source}");
            assert_eq!(needs(source, false), Some(Allow::HostPaths), "{source}");
        }
        let page = include_str!("../../../docs/isolation.md");
        let (_, listed) = page.split_once("<!-- for-reading -->").unwrap();
        let (listed, _) = listed.split_once("<!-- /for-reading -->").unwrap();
        let listed: Vec<&str> = listed
            .split_whitespace()
            .map(|path| path.trim_matches('`'))
            .collect();
        assert_eq!(listed, FOR_READING, "docs/isolation.md");
        for source in [
            "/",
            "/etc",
            "/etc/shadow",
            "/etc/cron.d",
            "/usr",
            "/usr/share",
            "/var/lib",
        ] {
            assert!(!is_for_reading(Path::new(source)), "{source}");
        }
        assert!(is_for_reading(Path::new("/lib/../sys/class")));
        assert!(is_same(Path::new("/sys/"), Path::new("/sys")));
        assert!(!is_same(Path::new("/sys"), Path::new("/host/sys")));
    }

    #[test]
    fn what_lies_in_the_projects_folder_is_its_owners() {
        for (own, source, expected) in [
            ("/root/shop", "/root/shop/config", false),
            ("/root/shop", "/root/shop", false),
            ("/root/shop", "/root/other", true),
            ("/root/shop", "/root/shop/.ssh", true),
            ("/root", "/root/data", false),
            ("/root", "/root", true),
            ("/root", "/root/.bashrc", true),
            ("/home/me", "/home/me", false),
            ("/home/me", "/home/me/.bashrc", true),
            ("/home/me/shop", "/home/me/shop/data", false),
            ("/home/me/shop", "/home/me", true),
            ("/home", "/home/me", true),
            ("/var/lib/shop", "/var/lib/shop/data", false),
            ("/var/lib/shop", "/var/lib/dpkg", true),
            ("/", "/etc/cron.d", true),
            ("/etc", "/etc/cron.d", true),
            ("/var", "/var/lib/dpkg", true),
            ("/usr", "/usr/bin", true),
        ] {
            let found = endangered(Path::new(source), false, Path::new(own));
            assert_eq!(found.is_some(), expected, "{source} of {own}");
        }
    }

    #[test]
    fn what_is_only_read_is_judged_by_its_content() {
        for (source, expected) in [
            ("/etc/havre/seal-1.key", true),
            ("/etc/havre/machine.yaml", true),
            ("/etc/credstore/db", true),
            ("/etc/shadow", true),
            ("/etc/shadow-", true),
            ("/home/me/.config/havre/tokens/server", true),
            ("/var/lib/systemd/credential.secret", true),
            ("/etc/ssh/ssh_host_ed25519_key", true),
            ("/home/me/.ssh/id_ed25519", true),
            ("/proc/self/environ", true),
            ("/", true),
            ("/run", true),
            ("/run/havre", true),
            ("/var/lib/havre/state.db", true),
            ("/etc/ssl/certs", false),
            ("/home/me/src", false),
            ("/run/secrets/token", false),
            ("/srv/keys/token", false),
            ("/root/shop/.ssh/key", false),
            ("/root/other/.ssh/key", true),
        ] {
            let found = endangered_by_reading(Path::new(source), Path::new("/root/shop"));
            assert_eq!(found.is_some(), expected, "{source}");
        }
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
