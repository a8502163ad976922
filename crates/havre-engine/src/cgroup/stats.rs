//! What a group has used.

use std::fs;

use super::Cgroup;

/// What a cgroup has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stats {
    /// Bytes charged now, page cache included.
    pub memory_current: u64,
    /// Highest of these, where the kernel tells.
    pub memory_peak: Option<u64>,
    /// CPU time in microseconds.
    pub cpu_usec: u64,
    /// Tasks now.
    pub pids: u64,
    /// Processes that the kernel killed for memory since the container was created.
    pub oom_kills: u64,
}

impl Cgroup {
    /// Processes killed for memory so far; 0 where the kernel does not count.
    pub fn oom_kills(&self) -> u64 {
        if self.hierarchies.unified() {
            self.read_v2("memory.events")
                .map_or(0, |t| keyed(&t, "oom_kill"))
        } else {
            self.read_v1("memory", "memory.oom_control")
                .map_or(0, |t| keyed(&t, "oom_kill"))
        }
    }

    /// What the group uses.
    pub fn stats(&self) -> Stats {
        let number = |text: Option<String>| text.and_then(|t| t.trim().parse::<u64>().ok());
        let cpu = self.read_v2("cpu.stat").map(|t| keyed(&t, "usage_usec"));
        let cpu_v1 = || number(self.read_v1("cpuacct", "cpuacct.usage")).map(|nanos| nanos / 1000);
        let (memory_current, memory_peak, pids) = if self.hierarchies.unified() {
            (
                number(self.read_v2("memory.current")),
                number(self.read_v2("memory.peak")),
                number(self.read_v2("pids.current")),
            )
        } else {
            (
                number(self.read_v1("memory", "memory.usage_in_bytes")),
                number(self.read_v1("memory", "memory.max_usage_in_bytes")),
                number(self.read_v1("pids", "pids.current")),
            )
        };
        Stats {
            memory_current: memory_current.unwrap_or(0),
            memory_peak,
            cpu_usec: cpu.or_else(cpu_v1).unwrap_or(0),
            pids: pids.unwrap_or(0),
            oom_kills: self.oom_kills(),
        }
    }

    fn read_v2(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.v2_dir()?.join(file)).ok()
    }

    fn read_v1(&self, controller: &str, file: &str) -> Option<String> {
        let points = self.hierarchies.v1_with(&[controller]);
        fs::read_to_string(points.first()?.join(&self.relative).join(file)).ok()
    }
}

/// The number after `key ` in a file of `key value` lines.
fn keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}
