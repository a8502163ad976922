//! A control group for a process that is no container: bounds on all that it starts together.

use std::collections::HashSet;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cgroup::{Cgroup, CgroupError};
use crate::devices::Access;
use crate::spec::{ContainerId, Limits};

/// Names of the groups that are there: what is looked for among containers is none of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups(Arc<Mutex<HashSet<ContainerId>>>);

impl Groups {
    pub(crate) fn have(&self, name: &ContainerId) -> bool {
        self.names().contains(name)
    }

    fn names(&self) -> MutexGuard<'_, HashSet<ContainerId>> {
        // Every change is a single insert or removal: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One group. What is in it is killed when this is dropped; what a killed daemon leaves of it goes at
/// the next start.
#[derive(Debug)]
pub struct Group {
    cgroup: Cgroup,
    doors: Vec<OwnedFd>,
    name: ContainerId,
    groups: Groups,
}

impl Group {
    pub(crate) fn make(
        cgroup: Cgroup,
        name: ContainerId,
        groups: Groups,
        limits: &Limits,
    ) -> Result<Self, CgroupError> {
        groups.names().insert(name.clone());
        // Removed again if what follows fails.
        let mut group = Self {
            cgroup,
            doors: Vec::new(),
            name,
            groups,
        };
        group.cgroup.create(limits, &Access::Everything)?;
        group.doors = group.cgroup.doors()?;
        Ok(group)
    }

    /// By which a process gets in, see [`enter`].
    pub fn doors(&self) -> io::Result<Vec<OwnedFd>> {
        self.doors.iter().map(OwnedFd::try_clone).collect()
    }

    /// Whether the kernel has killed one of its processes for memory.
    pub fn ran_out_of_memory(&self) -> bool {
        self.cgroup.oom_kills() > 0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for error in self.cgroup.destroy() {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "a control group stays for a while");
        }
        self.groups.names().remove(&self.name);
    }
}

/// Moves the process that calls it through a door. System calls alone: for between fork and exec.
pub fn enter(door: BorrowedFd<'_>) -> io::Result<()> {
    // The kernel's word for whoever writes.
    rustix::io::write(door, b"0").map(drop).map_err(Into::into)
}
