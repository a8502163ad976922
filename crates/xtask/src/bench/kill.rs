//! What benches end by SIGKILL, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::installation::{Installation, processes_of};
use crate::shell::{command, say, succeed};

/// A random number generator whose seed is printed.
pub struct Dice(u64);

impl Dice {
    /// From HAVRE_SEED, else from the clock.
    pub fn new() -> Self {
        let given = std::env::var("HAVRE_SEED").ok();
        let seed = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(1)
        });
        say(&format!("HAVRE_SEED={seed}"));
        Self(seed | 1)
    }

    /// Evenly in `0..below`.
    pub fn roll(&mut self, below: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % below.max(1)
    }

    pub fn moment(&mut self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.roll(longest))
    }
}

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    Daemon,
    Edge,
    Shim,
    Replica,
}

impl Victim {
    pub fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Edge => "edge",
            Self::Shim => "shim",
            Self::Replica => "replica",
        }
    }

    /// One that runs now, by its process id; `None`: there is none in this moment.
    pub fn choose(self, place: &Installation, dice: &mut Dice) -> Result<Option<u32>> {
        let mut found = match self {
            Self::Daemon => havre_processes(place, "daemon")?,
            Self::Edge => havre_processes(place, "edge")?,
            // Of what serves requests: a database has no second one to go on with.
            Self::Shim => shims(place)?,
            Self::Replica => replicas(place)?,
        };
        found.sort_unstable();
        if found.is_empty() {
            return Ok(None);
        }
        let chosen = dice.roll(found.len() as u64);
        Ok(usize::try_from(chosen)
            .ok()
            .and_then(|at| found.get(at))
            .copied())
    }
}

/// SIGKILL; whether there was something to kill.
pub fn kill(pid: u32) -> bool {
    // One that ended by itself a moment ago is no victim.
    succeed(
        command("kill")
            .args(["-KILL", &pid.to_string()])
            .stderr(std::process::Stdio::null()),
    )
    .is_ok()
}

fn havre_processes(place: &Installation, entry: &str) -> Result<Vec<u32>> {
    let processes = processes_of(&place.instance)?;
    Ok(processes
        .into_iter()
        .filter(|(_, arguments)| is_entry(arguments, entry))
        .map(|(pid, _)| pid)
        .collect())
}

/// Whether a command line is of this process of Havre: the daemon has its options first.
pub fn is_entry(arguments: &[String], entry: &str) -> bool {
    arguments.iter().skip(1).any(|argument| argument == entry)
}

/// Main processes of replicas that serve requests.
pub fn replicas(place: &Installation) -> Result<Vec<u32>> {
    // While the daemon is away there is nobody to ask.
    let Ok(found) = place.json(&["ps", "backend", "frontend", "live"]) else {
        return Ok(Vec::new());
    };
    let list = found.as_array().context("ps printed no list")?;
    Ok(list
        .iter()
        .filter_map(|replica| u32::try_from(replica["pid"].as_u64()?).ok())
        .collect())
}

/// Their shims: the parents.
fn shims(place: &Installation) -> Result<Vec<u32>> {
    Ok(replicas(place)?.into_iter().filter_map(parent).collect())
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// Containers with a shim that are no replica or job of the environment.
pub fn orphans(place: &Installation) -> Result<usize> {
    let processes = processes_of(&place.instance)?;
    let shims = processes
        .iter()
        .filter(|(_, arguments)| is_entry(arguments, "shim"));
    // An init of ours in a container is called as its shim is.
    let containers: BTreeSet<&String> = shims
        .filter_map(|(_, arguments)| arguments.last())
        .collect();
    let listed = place.json(&["ps", "--all"])?;
    let listed = listed.as_array().context("ps printed no list")?.len();
    Ok(containers.len().saturating_sub(listed))
}
