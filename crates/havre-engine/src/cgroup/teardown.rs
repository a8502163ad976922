//! Ending what is in a group, and removing it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::{Cgroup, CgroupError, Hierarchies, file_error, instance_root};
use crate::sys;

/// Longest wait for killed processes to leave a cgroup.
const EMPTY_DEADLINE: Duration = Duration::from_secs(5);

/// Longest wait for the last shim to leave its cgroup.
const LAST_SHIM_DEADLINE: Duration = Duration::from_millis(500);

impl Cgroup {
    /// SIGKILL for everything in the group.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if let Some(dir) = self.v2_dir() {
            let path = dir.join("cgroup.kill");
            match fs::write(&path, "1") {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound && !dir.exists() => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(file_error("write", &path)(error)),
            }
        }
        self.kill_processes(&self.processes()?)
    }

    fn kill_processes(&self, pids: &[u32]) -> Result<(), CgroupError> {
        for pid in pids {
            if let Some(pid) = rustix::process::Pid::from_raw(*pid as i32) {
                match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                    Err(error) => {
                        return Err(file_error("kill the processes of", &self.relative)(
                            error.into(),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// SIGKILL for each process in the group, until none is left: what ends by itself where a
    /// container has a process namespace of its own. Not through `cgroup.kill`, since something may
    /// be started in the group again.
    pub fn kill_each(&self) -> Result<(), CgroupError> {
        let deadline = sys::since_boot() + EMPTY_DEADLINE;
        loop {
            let pids = self.processes()?;
            if pids.is_empty() || sys::since_boot() > deadline {
                return Ok(());
            }
            self.kill_processes(&pids)?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Processes in the group, in whichever hierarchy.
    pub fn processes(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = Vec::new();
        for dir in self.v2_dir().into_iter().chain(self.v1_dirs()) {
            let path = dir.join("cgroup.procs");
            match fs::read_to_string(&path) {
                Ok(text) => pids.extend(text.lines().filter_map(|l| l.parse::<u32>().ok())),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(file_error("read", &path)(error)),
            }
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Kills what is left, removes the group and every parent that is empty then. Blocks until
    /// the processes are gone, at most five seconds. Safe to repeat.
    pub fn destroy(&self) -> Vec<CgroupError> {
        let deadline = sys::since_boot() + EMPTY_DEADLINE;
        let mut errors = Vec::new();
        let dirs: Vec<_> = self.all_dirs();
        loop {
            if let Err(error) = self.kill() {
                errors.push(error);
                return errors;
            }
            let stuck: Vec<_> = dirs.iter().filter_map(|d| remove_dir(d).err()).collect();
            if stuck.is_empty() {
                break;
            }
            if sys::since_boot() > deadline {
                errors.extend(stuck);
                return errors;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        for dir in dirs {
            remove_empty_parents(&dir);
        }
        errors
    }

    /// Removes the group of shims once no container of the instance is left. The last shim may
    /// still be on its way out, hence a short patience.
    pub fn remove_shims(&self) {
        let deadline = sys::since_boot() + LAST_SHIM_DEADLINE;
        for dir in self.all_dirs() {
            let containers = dir.with_file_name("run");
            while !containers.exists() {
                if remove_dir(&dir).is_ok() {
                    remove_empty_parents(&dir);
                    break;
                }
                if sys::since_boot() > deadline {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Ids of containers that have a group, from the tree of an instance: `(parent, id)`.
pub fn containers(hierarchies: &Hierarchies, instance: &str) -> Vec<(String, String)> {
    let points = hierarchies
        .v2
        .iter()
        .chain(hierarchies.v1.iter().map(|(p, _)| p));
    let mut found = Vec::new();
    for point in points {
        let top = point.join(instance_root(instance)).join("run");
        collect_containers(&top, &top, &mut found);
    }
    found.sort();
    found.dedup();
    found
}

fn collect_containers(top: &Path, dir: &Path, found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        // Files are many more; their kind is known without asking for each.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        match (name.strip_suffix(".c"), dir.strip_prefix(top)) {
            (Some(id), Ok(parent)) => {
                found.push((parent.to_string_lossy().into_owned(), id.to_owned()));
            }
            _ => collect_containers(top, &entry.path(), found),
        }
    }
}

fn remove_dir(dir: &Path) -> Result<(), CgroupError> {
    match fs::remove_dir(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_error("remove", dir)(error)),
    }
}

/// Up to and including `havre-<instance>`; stops at the first that is in use.
fn remove_empty_parents(dir: &Path) {
    for parent in dir.ancestors().skip(1) {
        let ours = parent
            .iter()
            .any(|part| part.to_string_lossy().starts_with("havre-"));
        if !ours || fs::remove_dir(parent).is_err() {
            return;
        }
    }
}
