//! Memory of Havre's own processes while the example is idle.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::figures::{mention, print_figure};
use super::installation::{Installation, processes_of};
use crate::shell::say;

/// After the rollout, until memory is looked at.
const IDLE: Duration = Duration::from_secs(20);
const TOTAL_BAR_KB: f64 = 60_000.0;
const SHIM_BAR_KB: f64 = 1_500.0;
/// The entry points of the binary.
const KINDS: &[&str] = &["daemon", "edge", "dns", "shim"];

pub fn measure(place: &Installation) -> Result<Value> {
    place.bring_up()?;
    say(&format!("idle for {} s", IDLE.as_secs()));
    std::thread::sleep(IDLE);
    let mut found: BTreeMap<&str, Vec<Memory>> = BTreeMap::new();
    for (pid, arguments) in processes_of(&place.instance)? {
        let kind = KINDS
            .iter()
            .find(|kind| arguments.iter().any(|argument| argument == **kind))
            .with_context(|| format!("unknown process {pid}: {}", arguments.join(" ")))?;
        let memory = Memory::of(pid)?;
        eprintln!(
            "{:>8} kB PSS {:>8} kB private dirty   {}",
            memory.pss_kb,
            memory.private_dirty_kb,
            arguments.join(" ")
        );
        found.entry(*kind).or_default().push(memory);
    }
    for kind in KINDS {
        ensure!(found.contains_key(kind), "no {kind} runs");
    }
    let pss = |kind: &str| -> u64 { found[kind].iter().map(|memory| memory.pss_kb).sum() };
    let total: u64 = KINDS.iter().map(|kind| pss(kind)).sum();
    let shims = &found["shim"];
    let dirty = shims
        .iter()
        .map(|memory| memory.private_dirty_kb)
        .max()
        .unwrap_or_default();
    for kind in KINDS {
        mention(
            &format!("PSS of {} {kind}", found[kind].len()),
            pss(kind) as f64,
            "kB",
        );
    }
    print_figure("PSS of all", total as f64, "kB", TOTAL_BAR_KB);
    print_figure(
        "private dirty of a shim (largest)",
        dirty as f64,
        "kB",
        SHIM_BAR_KB,
    );
    Ok(json!({
        "bench": "footprint",
        "total_pss_kb": total,
        "shim_private_dirty_kb": dirty,
        "daemon_pss_kb": pss("daemon"),
        "edge_pss_kb": pss("edge"),
        "dns_pss_kb": pss("dns"),
        "shims_pss_kb": pss("shim"),
        "shims": shims.len(),
    }))
}

/// Of one process, as the kernel counts.
struct Memory {
    pss_kb: u64,
    private_dirty_kb: u64,
}

impl Memory {
    fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&text).with_context(|| format!("{path} is not as expected"))
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        Some(Self {
            pss_kb: field("Pss:")?,
            private_dirty_kb: field("Private_Dirty:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let text = "5568-7ffc [rollup]\nRss:  10372 kB\nPss:   3115 kB\nPss_Dirty:  1 kB\n\
                    Private_Dirty:       924 kB\n";
        let memory = Memory::parse(text).expect("a table");
        assert_eq!((memory.pss_kb, memory.private_dirty_kb), (3115, 924));
        assert!(Memory::parse("Rss: 1 kB").is_none());
    }
}
