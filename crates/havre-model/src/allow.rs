//! What a service may have of the machine when its owner says so: `services.*.allow` of havre.yaml.
//! A closed list; nothing else, and no other file, can give it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that endangers the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allow {
    /// `cap_add` of what hands the machine over.
    Capabilities,
    /// `devices`, `device_cgroup_rules`.
    Devices,
    /// A mount of the socket of Docker, containerd or Podman.
    DockerSocket,
    /// `ipc: host`.
    HostIpc,
    /// `network_mode: host`.
    HostNetwork,
    /// Mounts of the machine's own folders, by which it can be taken over.
    HostPaths,
    /// `pid: host`.
    HostPid,
    /// `privileged: true`.
    Privileged,
}

impl Allow {
    /// Every one, by name.
    pub const ALL: [Self; 8] = [
        Self::Capabilities,
        Self::Devices,
        Self::DockerSocket,
        Self::HostIpc,
        Self::HostNetwork,
        Self::HostPaths,
        Self::HostPid,
        Self::Privileged,
    ];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Capabilities => "capabilities",
            Self::Devices => "devices",
            Self::DockerSocket => "docker-socket",
            Self::HostIpc => "host-ipc",
            Self::HostNetwork => "host-network",
            Self::HostPaths => "host-paths",
            Self::HostPid => "host-pid",
            Self::Privileged => "privileged",
        }
    }

    /// The one that is written so.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }

    /// What it gives away: a sentence without its subject, the service.
    pub fn gives_away(self) -> &'static str {
        match self {
            Self::Capabilities => {
                "has rights over the kernel, by which a program that means to becomes root of the machine"
            }
            Self::Devices => {
                "uses devices of the machine directly: what the driver lets a program do is not \
                 limited, and a disk among them is all of its data"
            }
            Self::DockerSocket => {
                "commands the other container engine of this machine, and with it the whole \
                 machine as root; Havre's own containers are not there"
            }
            Self::HostIpc => {
                "reads and writes the shared memory and the message queues of the machine's \
                 programs"
            }
            Self::HostNetwork => {
                "is on the machine's own network: it reaches whatever listens there, on 127.0.0.1 \
                 too, and can take any port; new replicas wait until the old ones have ended"
            }
            Self::HostPaths => {
                "sees or changes folders by which the machine can be taken over, as root"
            }
            Self::HostPid => {
                "sees the machine's processes with their command lines, and can signal those of its \
                 user"
            }
            Self::Privileged => {
                "has every capability, every device and no system call filter: it is root of the \
                 machine"
            }
        }
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
