//! What a container was allowed to have of the host's `/dev`, found before the host is out of sight.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, mkdirat};

use super::mounts;
use super::{SetupError, step};
use crate::devices::{self, Node};
use crate::spec::ContainerSpec;

/// Devices and memory of the host.
pub struct OfHost {
    devices: Vec<Node>,
    shared_memory: Option<OwnedFd>,
}

impl OfHost {
    /// Looks for them.
    pub fn find(spec: &ContainerSpec) -> Result<Self, SetupError> {
        let devices = step(devices::nodes(spec), || "find its devices".to_owned())?;
        let shared_memory = match spec.shares.ipc {
            false => None,
            true => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let what = || "share the host's memory".to_owned();
                let folder = step(
                    rustix::fs::openat(CWD, "/dev/shm", flags, Mode::empty()),
                    what,
                )?;
                Some(step(mounts::copy(folder, "", false), what)?)
            }
        };
        Ok(Self {
            devices,
            shared_memory,
        })
    }

    /// Makes the devices below the container's `/dev`.
    pub fn make_devices(&self, dev: &OwnedFd) -> Result<(), SetupError> {
        for node in &self.devices {
            step(node.make(dev), || format!("make {node}"))?;
        }
        Ok(())
    }

    /// Attaches the host's shared memory at `shm` of `dev`; returns whether the container has it.
    pub fn share_memory(&self, dev: &OwnedFd) -> Result<bool, SetupError> {
        let Some(memory) = &self.shared_memory else {
            return Ok(false);
        };
        let what = || "mount /dev/shm".to_owned();
        step(mkdirat(dev, "shm", Mode::from_raw_mode(0o755)), what)?;
        let place = step(mounts::open_in(dev, "shm", OFlags::PATH), what)?;
        step(mounts::attach(memory, place), what)?;
        Ok(true)
    }
}
