//! What a process started, and what that started, also where it broke away.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Most of a process's environment that is looked through.
const MAX_ENVIRONMENT: u64 = 1 << 20;
/// How long what goes on starting others is gone after.
const MAX_HUNT: Duration = Duration::from_secs(5);

/// Everything below a process, by the tree of parents.
pub(crate) fn of(id: i32) -> Vec<i32> {
    below(id, &parents())
}

/// Signals a group; one that is gone is no fault.
pub(crate) fn signal_group(id: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(id) {
        // Gone, or not ours: nothing can be done about either.
        kill_process_group(group, signal).unwrap_or_default();
    }
}

/// Kills a process's group, what is below it or was, and what has its mark.
pub(crate) fn kill(id: i32, mark: &str, before: Option<Vec<i32>>) {
    signal_group(id, Signal::KILL);
    let known = before.unwrap_or_default();
    hunt(|parents| {
        let mut found = below(id, parents);
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        for &other in below(own, parents).iter() {
            let is_known = known.contains(&other) || found.contains(&other);
            if !is_known && has_mark(other, mark) {
                found.push(other);
            }
        }
        // An id may be somebody else's by now: only what is below this process is meant.
        let ours = below(own, parents);
        found.extend(known.iter().filter(|id| ours.contains(id)));
        found.retain(|&other| other != id);
        found
    });
}

/// Kills everything below this process; all there is, if it is the first of its box.
pub(crate) fn kill_all() {
    let own = std::process::id();
    if own == 1 {
        // SAFETY: a system call without memory. -1 is all but the first process itself.
        unsafe { libc::kill(-1, libc::SIGKILL) };
        return;
    }
    hunt(|parents| below(i32::try_from(own).unwrap_or_default(), parents));
}

/// Kills what `find` finds until it finds nothing: what is killed can start nothing more.
fn hunt(find: impl Fn(&HashMap<i32, i32>) -> Vec<i32>) {
    let until = Instant::now() + MAX_HUNT;
    loop {
        let found = find(&parents());
        if found.is_empty() || Instant::now() > until {
            return;
        }
        for id in found {
            if let Some(id) = Pid::from_raw(id) {
                kill_process(id, Signal::KILL).unwrap_or_default();
            }
        }
        // They die when they are next to run.
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// The parent of every process that runs; without those that ended and were not reaped.
fn parents() -> HashMap<i32, i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: i32| Some((id, parent(id)?))).collect()
}

fn parent(id: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

fn below(id: i32, parents: &HashMap<i32, i32>) -> Vec<i32> {
    let mut found = vec![id];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        let children = parents.iter().filter(|(_, other)| **other == parent);
        let children: Vec<i32> = children.map(|(child, _)| *child).collect();
        found.extend(children.into_iter().filter(|child| *child != id));
        at += 1;
    }
    found.remove(0);
    found
}

fn has_mark(id: i32, mark: &str) -> bool {
    use std::io::Read as _;
    if mark.is_empty() {
        return false;
    }
    let Ok(file) = fs::File::open(format!("/proc/{id}/environ")) else {
        return false;
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_ENVIRONMENT).read_to_end(&mut bytes);
    read.is_ok()
        && bytes
            .split(|byte| *byte == 0)
            .any(|pair| pair == mark.as_bytes())
}
