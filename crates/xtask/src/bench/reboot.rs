//! All processes end at once and the run folder is gone, as after a power failure: how long until the
//! example serves again, beyond what it takes to start by itself.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::figures::{median, mention, print_figure, rounded};
use super::installation::{Installation, mounts_of, processes_of};
use super::kill::{is_entry, kill};
use crate::shell::{read, say, succeed, wait_until};

/// Seconds that Havre may add.
const ADDED_S: f64 = 5.0;
const TIMES: usize = 3;
const DEADLINE: Duration = Duration::from_secs(120);

pub fn measure(place: &Installation) -> Result<Value> {
    place.bring_up()?;
    let mut own = Vec::new();
    let mut after = Vec::new();
    for _ in 0..TIMES {
        // What the application takes by itself: all of it ends and starts, in the same order, on a
        // machine that is up. Its images are there and its volumes filled.
        read(&mut place.havre(&["down"]))?;
        own.push(place.up()?.as_secs_f64());
        lose_power(place)?;
        let begun = Instant::now();
        // As a unit of systemd would, once.
        read(&mut place.havre(&["status"]))
            .or_else(|_| read(&mut place.havre(&["scale", "worker=1"])))?;
        until_served(place)?;
        after.push(begun.elapsed().as_secs_f64());
        place.wait_until_calm(DEADLINE)?;
    }
    let (own_s, after_s) = (median(&own), median(&after));
    mention("its own start (median)", own_s, "s");
    mention("serving again after (median)", after_s, "s");
    let added_s = after_s - own_s;
    print_figure("beyond its own start", added_s, "s", ADDED_S);
    Ok(json!({
        "bench": "reboot",
        "failed": u32::from(added_s > ADDED_S),
        "own_start_s": rounded(own_s),
        "serving_s": rounded(after_s),
        "converge_s": rounded(added_s),
    }))
}

/// Front end, back end and what is behind it answer.
fn until_served(place: &Installation) -> Result<()> {
    let visitor = place.visitor()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for path in ["/", "/api/v1/health/ready"] {
        wait_until(&format!("{path} answers"), DEADLINE, || {
            let answer = runtime.block_on(visitor.get(path));
            Ok(answer.is_ok_and(|(status, _)| status == 200).then_some(()))
        })?;
    }
    Ok(())
}

/// Ends everything of the installation at once and takes its run folder away.
fn lose_power(place: &Installation) -> Result<()> {
    let root = &place.instance.root;
    say("all is killed");
    let containers: Vec<u32> = place
        .json(&["ps"])?
        .as_array()
        .context("ps printed no list")?
        .iter()
        .filter_map(|replica| u32::try_from(replica["pid"].as_u64()?).ok())
        .collect();
    // The daemon first, or it would start again what ends.
    let mut ours = processes_of(&place.instance)?;
    ours.sort_by_key(|(_, arguments)| !is_entry(arguments, "daemon"));
    for pid in ours.iter().map(|(pid, _)| *pid).chain(containers) {
        kill(pid);
    }
    wait_until("all has ended", Duration::from_secs(15), || {
        Ok(processes_of(&place.instance)?.is_empty().then_some(()))
    })?;
    for mount in mounts_of(root)?.iter().rev() {
        succeed(std::process::Command::new("umount").args(["--lazy", mount]))?;
    }
    let run = root.join("run");
    if !run.exists() {
        bail!("there is no run folder at {}", run.display());
    }
    fs::remove_dir_all(&run).with_context(|| format!("cannot remove {}", run.display()))
}
