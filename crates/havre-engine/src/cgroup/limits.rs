//! Which file of which controller gets which value. Pure.

use crate::spec::Limits;

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// Memory.
    Memory,
    /// Processor time.
    Cpu,
    /// Number of tasks.
    Pids,
    /// Block devices.
    Io,
}

impl Controller {
    /// All that limits can need.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Cpu, Self::Pids, Self::Io];
    /// Those of version 1 that a container sees: where programs look for their limits.
    pub const SHOWN: [&'static str; 5] = ["memory", "cpu", "cpuacct", "pids", "blkio"];

    /// Its name in version 2.
    pub fn v2(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Io => "io",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Memory => "cgroup memory",
            Self::Cpu => "cgroup cpu",
            Self::Pids => "cgroup pids",
            Self::Io => "cgroup io",
        }
    }

    /// Its name in version 1.
    pub fn v1(self) -> &'static str {
        match self {
            Self::Io => "blkio",
            other => other.v2(),
        }
    }
}

/// Which interface the controllers are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One tree per controller; also of the hybrid layout.
    V1,
    /// One tree.
    V2,
}

/// One file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Whose file.
    pub controller: Controller,
    /// Its name.
    pub file: &'static str,
    /// Its contents.
    pub value: String,
    /// A kernel without it is good enough: weights and swap accounting.
    pub optional: bool,
}

/// Scheduling period of the CPU limit in microseconds, the kernel's default.
const CPU_PERIOD_USEC: u64 = 100_000;

/// Files to write for `limits`, in order.
pub fn settings(limits: &Limits, version: Version) -> Vec<Setting> {
    let mut all = Vec::new();
    let mut add = |controller, file, value: String, optional| {
        all.push(Setting {
            controller,
            file,
            value,
            optional,
        });
    };
    let v2 = version == Version::V2;
    if let Some(bytes) = limits.memory_bytes {
        add(
            Controller::Memory,
            pick(v2, "memory.max", "memory.limit_in_bytes"),
            bytes.to_string(),
            false,
        );
        // No swap beyond the limit: version 1 counts both together, version 2 swap alone.
        let swap = if v2 { 0 } else { bytes };
        add(
            Controller::Memory,
            pick(v2, "memory.swap.max", "memory.memsw.limit_in_bytes"),
            swap.to_string(),
            true,
        );
    }
    if let Some(bytes) = limits.memory_reservation_bytes {
        add(
            Controller::Memory,
            pick(v2, "memory.low", "memory.soft_limit_in_bytes"),
            bytes.to_string(),
            false,
        );
    }
    if let Some(nano) = limits.nano_cpus {
        let quota = (u128::from(nano) * u128::from(CPU_PERIOD_USEC) / 1_000_000_000).max(1000);
        if v2 {
            add(
                Controller::Cpu,
                "cpu.max",
                format!("{quota} {CPU_PERIOD_USEC}"),
                false,
            );
        } else {
            add(
                Controller::Cpu,
                "cpu.cfs_period_us",
                CPU_PERIOD_USEC.to_string(),
                false,
            );
            add(
                Controller::Cpu,
                "cpu.cfs_quota_us",
                quota.to_string(),
                false,
            );
        }
    }
    if let Some(weight) = limits.cpu_weight {
        let shares = (weight * 1024 / 100).clamp(2, 262_144);
        let value = if v2 { weight.clamp(1, 10_000) } else { shares };
        add(
            Controller::Cpu,
            pick(v2, "cpu.weight", "cpu.shares"),
            value.to_string(),
            false,
        );
    }
    if let Some(pids) = limits.pids {
        add(Controller::Pids, "pids.max", pids.to_string(), false);
    }
    if let Some(weight) = limits.io_weight {
        let weight = weight.clamp(1, 10_000);
        let old = weight.clamp(10, 1000).to_string();
        if v2 {
            add(
                Controller::Io,
                "io.weight",
                format!("default {weight}"),
                true,
            );
            add(
                Controller::Io,
                "io.bfq.weight",
                weight.min(1000).to_string(),
                true,
            );
        } else {
            add(Controller::Io, "blkio.weight", old.clone(), true);
            add(Controller::Io, "blkio.bfq.weight", old, true);
        }
    }
    all
}

fn pick(v2: bool, new: &'static str, old: &'static str) -> &'static str {
    if v2 { new } else { old }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: &Limits, version: Version) -> Vec<(&'static str, String)> {
        settings(limits, version)
            .into_iter()
            .map(|s| (s.file, s.value))
            .collect()
    }

    #[test]
    fn both_interfaces() {
        let limits = Limits {
            nano_cpus: Some(500_000_000),
            cpu_weight: Some(200),
            memory_bytes: Some(64 << 20),
            memory_reservation_bytes: Some(32 << 20),
            pids: Some(100),
            io_weight: Some(50),
        };
        let v2 = [
            ("memory.max", "67108864"),
            ("memory.swap.max", "0"),
            ("memory.low", "33554432"),
            ("cpu.max", "50000 100000"),
            ("cpu.weight", "200"),
            ("pids.max", "100"),
            ("io.weight", "default 50"),
            ("io.bfq.weight", "50"),
        ];
        assert_eq!(
            written(&limits, Version::V2),
            v2.map(|(f, v)| (f, v.to_owned()))
        );
        let v1 = [
            ("memory.limit_in_bytes", "67108864"),
            ("memory.memsw.limit_in_bytes", "67108864"),
            ("memory.soft_limit_in_bytes", "33554432"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpu.shares", "2048"),
            ("pids.max", "100"),
            ("blkio.weight", "50"),
            ("blkio.bfq.weight", "50"),
        ];
        assert_eq!(
            written(&limits, Version::V1),
            v1.map(|(f, v)| (f, v.to_owned()))
        );
    }

    #[test]
    fn nothing_asked_nothing_written() {
        assert!(settings(&Limits::default(), Version::V2).is_empty());
    }
}
