//! What the engine needs of this machine, for `havre doctor`.

use std::fs;
use std::io;

use std::path::Path;

use rustix::mount::{FsOpenFlags, fsopen};
use rustix::process::PidfdFlags;

use crate::cgroup::{CgroupError, Hierarchies};
use crate::spec::IdRange;

/// One thing that containers need.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Requirement {
    /// Short.
    pub name: &'static str,
    /// Whether it is there.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do when it is not there.
    pub hint: &'static str,
}

/// Looks, and changes nothing.
pub fn probe() -> Vec<Requirement> {
    let mut all = vec![root(), kernel()];
    all.extend(namespaces());
    all.push(overlay());
    all.extend(cgroups());
    all.extend([seccomp(), pidfd()]);
    all
}

fn requirement(
    name: &'static str,
    result: Result<String, String>,
    hint: &'static str,
) -> Requirement {
    let ok = result.is_ok();
    let detail = result.unwrap_or_else(|problem| problem);
    Requirement {
        name,
        ok,
        detail,
        hint,
    }
}

fn root() -> Requirement {
    let uid = rustix::process::geteuid().as_raw();
    let result = if uid == 0 {
        Ok("yes".to_owned())
    } else {
        Err(format!("user {uid}"))
    };
    requirement("root", result, "run as root, for instance with sudo")
}

fn kernel() -> Requirement {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // clone3 into a cgroup (5.7), mount_setattr (5.12), cgroup.kill (5.14).
    let result = if version >= (5, 14) {
        Ok(release)
    } else {
        Err(release)
    };
    requirement("kernel", result, "Linux 5.14 or newer is needed")
}

fn namespaces() -> Vec<Requirement> {
    ["mnt", "pid", "ipc", "uts", "net", "cgroup"]
        .into_iter()
        .zip([
            "mount namespace",
            "pid namespace",
            "ipc namespace",
            "uts namespace",
            "net namespace",
            "cgroup namespace",
        ])
        .map(|(file, name)| {
            let found = fs::symlink_metadata(format!("/proc/self/ns/{file}"));
            let result = found.map(|_| "yes".to_owned()).map_err(|e| e.to_string());
            requirement(name, result, "the kernel was built without it")
        })
        .collect()
}

fn overlay() -> Requirement {
    let open = || {
        fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        io::Result::Ok("yes".to_owned())
    };
    let hint = "the kernel has no overlayfs; try modprobe overlay";
    requirement("overlayfs", open().map_err(|e| e.to_string()), hint)
}

fn cgroups() -> Vec<Requirement> {
    let hint = "mount cgroup2 at /sys/fs/cgroup";
    let hierarchies = match Hierarchies::detect() {
        Ok(hierarchies) => hierarchies,
        Err(error) => return vec![requirement("cgroups", Err(describe(&error)), hint)],
    };
    let hint = "enable the controller on the kernel's command line, e.g. cgroup_enable=memory";
    let controllers = hierarchies
        .offered()
        .into_iter()
        .map(|(controller, offered)| {
            let found = if offered {
                Ok("yes".to_owned())
            } else {
                Err("missing".to_owned())
            };
            requirement(controller.title(), found, hint)
        });
    controllers.collect()
}

fn describe(error: &CgroupError) -> String {
    let cause = std::error::Error::source(error).map(|c| format!(": {c}"));
    format!("{error}{}", cause.unwrap_or_default())
}

fn seccomp() -> Requirement {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
    let result = match actions {
        Ok(actions) if actions.split_whitespace().any(|a| a == "errno") => Ok("yes".to_owned()),
        Ok(actions) => Err(format!("only {}", actions.trim())),
        Err(error) => Err(error.to_string()),
    };
    requirement(
        "seccomp",
        result,
        "the kernel was built without CONFIG_SECCOMP_FILTER",
    )
}

fn pidfd() -> Requirement {
    let opened = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    let result = opened.map(|_| "yes".to_owned()).map_err(|e| e.to_string());
    requirement("pidfd", result, "Linux 5.14 or newer is needed")
}

/// What containers on the machine's own root file system need, beside what all need: that its owners can be
/// shown as others. Changes nothing.
pub fn probe_host_root(range: IdRange) -> Requirement {
    let result = crate::init::idmap::probe(Path::new("/"), range);
    requirement(
        "mapped mounts of /",
        result
            .map(|()| "yes".to_owned())
            .map_err(|e| havre_base::one_line(&e)),
        "jobs cannot run on `host` here: let them run in images",
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_requirement_is_named_once() {
        let all = super::probe();
        let names: std::collections::BTreeSet<_> = all.iter().map(|r| r.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(
            all.iter()
                .all(|r| !r.detail.is_empty() && !r.hint.is_empty()),
            "{all:?}"
        );
    }
}
