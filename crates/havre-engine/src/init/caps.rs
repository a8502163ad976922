//! Capabilities: Docker's default set, changed by the container's, and their application.

use std::io;

use crate::spec::Security;
use crate::sys;

/// A set of capabilities, bit n for capability number n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(u64);

/// Names by number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A name that is no capability.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability {0:?}")]
pub struct UnknownCapability(pub String);

impl CapSet {
    /// The set a container gets. As with Docker, `ALL` dropped plus some added leaves just those.
    pub fn of(security: &Security) -> Result<Self, UnknownCapability> {
        let all = |names: &[String]| names.iter().any(|n| n == "ALL");
        let every = security.privileged || all(&security.cap_add);
        let mut set = match (every, all(&security.cap_drop)) {
            (true, _) => Self::every(),
            (false, true) => Self::default(),
            (false, false) => Self::parse(&DEFAULT.map(str::to_owned))?,
        };
        let specific = |names: &[String]| {
            let names: Vec<_> = names.iter().filter(|n| *n != "ALL").cloned().collect();
            Self::parse(&names)
        };
        set.0 &= !specific(&security.cap_drop)?.0;
        set.0 |= specific(&security.cap_add)?.0;
        Ok(set)
    }

    fn every() -> Self {
        Self((1 << NAMES.len()) - 1)
    }

    fn parse(names: &[String]) -> Result<Self, UnknownCapability> {
        let mut set = 0;
        for name in names {
            let number = NAMES.iter().position(|n| n == name);
            set |= 1 << number.ok_or_else(|| UnknownCapability(name.clone()))?;
        }
        Ok(Self(set))
    }

    /// Whether the set has the capability of that name.
    pub fn has(self, name: &str) -> bool {
        NAMES
            .iter()
            .position(|n| *n == name)
            .is_some_and(|number| self.0 & (1 << number) != 0)
    }

    /// Limits what this process and its children can ever gain.
    pub fn limit_bounding(self) -> io::Result<()> {
        for number in 0..64 {
            if self.0 & (1 << number) != 0 {
                continue;
            }
            match sys::prctl(libc::PR_CAPBSET_DROP, number) {
                // Beyond the last capability of this kernel.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
                other => other?,
            }
        }
        Ok(())
    }

    /// Makes the set permitted and effective (for root) or clears both; never inheritable.
    pub fn apply(self, root: bool) -> io::Result<()> {
        let set = if root { self.0 & supported()? } else { 0 };
        let header = Header {
            version: CAPABILITY_VERSION_3,
            pid: 0,
        };
        let half = |bits: u64| Data {
            effective: bits as u32,
            permitted: bits as u32,
            inheritable: 0,
        };
        let data = [half(set), half(set >> 32)];
        // SAFETY: the structures of version 3, one header and two halves, live through the call.
        sys::check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
    }
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// What this process may give: a daemon may itself run with fewer capabilities than all.
fn supported() -> io::Result<u64> {
    let header = Header {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let zero = || Data {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    };
    let mut data = [zero(), zero()];
    // SAFETY: as in `apply`; the kernel fills both halves.
    sys::check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> u64 {
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let security = Security {
            cap_add: own(add),
            cap_drop: own(drop),
            ..Security::default()
        };
        CapSet::of(&security).expect("known names").0
    }

    #[test]
    fn sets_as_docker_shows_them() {
        assert_eq!(set(&[], &[]), 0xa804_25fb);
        assert_eq!(set(&["NET_ADMIN"], &["ALL"]), 1 << 12);
        assert_eq!(set(&["ALL"], &["SYS_ADMIN"]), ((1 << 41) - 1) & !(1 << 21));
        assert_eq!(set(&["SYS_PTRACE"], &["CHOWN"]), 0xa804_25fa | 1 << 19);
    }

    #[test]
    fn only_the_words_that_were_judged_are_taken() {
        for name in ["SYS_ADMN", "sys_admin", "CAP_SYS_ADMIN", "all", ""] {
            let security = Security {
                cap_add: vec![name.to_owned()],
                ..Security::default()
            };
            let unknown = Err(UnknownCapability(name.to_owned()));
            assert_eq!(CapSet::of(&security), unknown);
        }
    }
}
