//! What an installation leaves on a machine: processes, mounts, namespaces, network devices,
//! cgroups, firewall rules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::instance::Instance;
use crate::shell::{command, has, read};

/// All there is of the kinds that Havre makes, a line each.
pub fn of_machine(instance: &Instance) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    processes(&instance.binary, &mut found)?;
    lines(
        "mount",
        &fs::read_to_string("/proc/self/mountinfo")?,
        4,
        &mut found,
    );
    for line in fs::read_to_string("/proc/net/dev")?.lines().skip(2) {
        if let Some((name, _)) = line.split_once(':') {
            found.insert(format!("network device {}", name.trim()));
        }
    }
    lines(
        "route",
        &fs::read_to_string("/proc/net/route")?,
        1,
        &mut found,
    );
    cgroups(Path::new("/sys/fs/cgroup"), 0, &mut found);
    if has("nft") {
        for line in read(command("nft").args(["list", "tables"]))?.lines() {
            found.insert(format!("firewall {line}"));
        }
    }
    for folder in ["/run/netns", "/run/havre", "/var/lib/havre"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            found.insert(format!("file {}", entry.path().display()));
        }
    }
    Ok(found)
}

/// What is in `after` but not in `before`.
pub fn new_since(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Vec<String> {
    after.difference(before).cloned().collect()
}

fn processes(binary: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let path: PathBuf = entry.path();
        // A process may end while it is looked at.
        let Ok(exe) = fs::read_link(path.join("exe")) else {
            continue;
        };
        if exe == binary
            || exe
                .to_string_lossy()
                .starts_with(&*binary.to_string_lossy())
        {
            let arguments = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            found.insert(format!("process {}", arguments.replace('\0', " ").trim()));
        }
    }
    Ok(())
}

/// One column of a table of the kernel.
fn lines(kind: &str, text: &str, column: usize, found: &mut BTreeSet<String>) {
    for line in text.lines() {
        if let Some(value) = line.split_whitespace().nth(column) {
            found.insert(format!("{kind} {value}"));
        }
    }
}

fn cgroups(folder: &Path, depth: usize, found: &mut BTreeSet<String>) {
    if depth > 4 {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            if path.to_string_lossy().contains("havre") {
                found.insert(format!("cgroup {}", path.display()));
            }
            cgroups(&path, depth + 1, found);
        }
    }
}
