//! One of three replicas is killed, hangs or eats its memory: how soon it is replaced, and what fails.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::figures::{median, mention, print_figure, rounded};
use super::installation::Installation;
use super::kill::kill;
use super::load::{Load, print_report};
use crate::shell::{command, say, succeed, wait_until};

const REPLICAS: usize = 3;
/// A replica is replaced so soon after its fault is known.
const REPLACED_S: f64 = 3.0;
/// A failing health check takes its interval and retries to show.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Hang,
    Eat,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Hang => "hang",
            Self::Eat => "oom",
        }
    }
}

pub fn measure(place: &Installation, each: u32) -> Result<Value> {
    place.bring_up_with_live("{bake: 0s}")?;
    place.up_with(&[("LIVE_REPLICAS", "3")])?;
    let mut found = serde_json::Map::new();
    let (mut failed, mut slowest) = (0, 0.0_f64);
    for fault in [Fault::Kill, Fault::Hang, Fault::Eat] {
        say(&format!("{each} × {}", fault.name()));
        let load = Load::start(place)?;
        std::thread::sleep(Duration::from_secs(1));
        let mut times = Vec::new();
        for _ in 0..each {
            times.push(replaced_after(place, fault)?);
            // Longer than an ill replica's successor must wait for its turn.
            std::thread::sleep(Duration::from_secs(1));
        }
        let report = load.finish()?;
        print_report(&report);
        let median_s = median(&times);
        print_figure(
            "replaced after detection (median)",
            median_s,
            "s",
            REPLACED_S,
        );
        mention(
            "failures for one fault",
            report.failed as f64 / f64::from(each),
            "",
        );
        slowest = slowest.max(median_s);
        failed += report.failed;
        found.insert(
            fault.name().to_owned(),
            json!({
                "times": each,
                "replaced_s": rounded(median_s),
                "requests": report.requests,
                "failed": report.failed,
                "streams_cut": report.streams_cut,
            }),
        );
    }
    let mut all = json!({
        "bench": "selfheal",
        "failed": u32::from(slowest > REPLACED_S),
        "requests_failed": failed,
        "replaced_s": rounded(slowest),
    });
    if let Some(all) = all.as_object_mut() {
        all.extend(found);
    }
    Ok(all)
}

/// Does harm to one replica; seconds from the moment this is known until three are ready again.
fn replaced_after(place: &Installation, fault: Fault) -> Result<f64> {
    let replicas = replicas(place)?;
    ensure!(
        ready(&replicas) == REPLICAS,
        "not three are ready: {replicas:?}"
    );
    let victim = replicas.first().context("no replica")?;
    match fault {
        Fault::Kill => ensure!(kill(victim.pid), "the replica was gone"),
        Fault::Hang => {
            // The program, not the init that is its parent.
            let pid = child(victim.pid).unwrap_or(victim.pid).to_string();
            succeed(command("kill").args(["-STOP", &pid]))?;
        }
        Fault::Eat => {
            let eat = [
                "exec",
                "--replica",
                &victim.id,
                "live",
                "python",
                "-c",
                "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/eat')",
            ];
            // It ends when the replica does.
            place
                .havre(&eat)
                .stderr(std::process::Stdio::null())
                .status()?;
        }
    }
    wait_until("the fault is seen", DEADLINE, || {
        let now = self::replicas(place)?;
        let same = now.iter().find(|one| one.id == victim.id);
        let well = same.is_some_and(|one| one.ready && one.restarts == victim.restarts);
        Ok((!well).then_some(()))
    })?;
    let seen = Instant::now();
    wait_until("three are ready again", DEADLINE, || {
        Ok((ready(&self::replicas(place)?) == REPLICAS).then_some(()))
    })?;
    Ok(seen.elapsed().as_secs_f64())
}

struct Replica {
    id: String,
    pid: u32,
    restarts: u64,
    ready: bool,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (ready: {})", self.id, self.ready)
    }
}

fn ready(replicas: &[Replica]) -> usize {
    replicas.iter().filter(|replica| replica.ready).count()
}

fn replicas(place: &Installation) -> Result<Vec<Replica>> {
    let found = place.json(&["ps", "live"])?;
    let list = found.as_array().context("ps printed no list")?;
    Ok(list
        .iter()
        .map(|replica| Replica {
            id: replica["id"].as_str().unwrap_or_default().to_owned(),
            pid: replica["pid"]
                .as_u64()
                .and_then(|pid| u32::try_from(pid).ok())
                .unwrap_or_default(),
            restarts: replica["restarts"].as_u64().unwrap_or_default(),
            ready: replica["health"] == "healthy" && replica["state"] == "running",
        })
        .collect())
}

fn child(pid: u32) -> Option<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
