//! Releases under load while processes of Havre and of the application are killed at random moments.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use havre_testing::load::LoadReport;
use serde_json::{Value, json};

use super::figures::{mention, print_figure, rounded};
use super::installation::Installation;
use super::kill::{Dice, Victim, kill, orphans};
use super::load::{Load, print_report};
use crate::shell::say;

/// A release takes about so long: kills fall anywhere in it, and shortly after it.
const SPAN: Duration = Duration::from_secs(7);
/// All must be as it should be so soon after the last kill.
const CONVERGED_S: f64 = 10.0;
/// A release that is interrupted is asked for again, so often.
const TRIES: u32 = 12;
const CALM: Duration = Duration::from_secs(3);
/// A failure so soon after a kill may be its fault.
const BLAMED: Duration = Duration::from_millis(2500);

/// Kills of one kind.
pub struct Round {
    pub victim: Victim,
    pub kills: u32,
}

/// What came of them.
struct Outcome {
    report: LoadReport,
    kills: u32,
    releases: u32,
    converge_s: f64,
    orphans: usize,
    /// Failures that no kill explains.
    unexplained: usize,
    /// The most failures after one kill.
    worst: usize,
}

pub fn measure(place: &Installation, rounds: &[Round]) -> Result<Value> {
    let mut dice = Dice::new();
    place.bring_up_with_live("{bake: 2s, ready_timeout: 60s}")?;
    let mut release = 0;
    let mut found = serde_json::Map::new();
    let (mut failed, mut cut, mut orphans, mut converge_s) = (0, 0, 0, 0.0_f64);
    for round in rounds {
        let name = round.victim.name();
        say(&format!("{} × SIGKILL of {name}", round.kills));
        let outcome = kill_and_roll(place, round, &mut dice, &mut release)?;
        print_report(&outcome.report);
        let excused = match round.victim {
            // Nothing that serves users may notice.
            Victim::Daemon => 0,
            // What was under way on it, or through it, is lost.
            Victim::Edge | Victim::Shim | Victim::Replica => {
                outcome.report.failed - outcome.unexplained as u64
            }
        };
        let faults = outcome.report.failed - excused;
        print_figure(
            "failures that a kill does not excuse",
            faults as f64,
            "",
            0.0,
        );
        print_figure(
            "converged after the last kill",
            outcome.converge_s,
            "s",
            CONVERGED_S,
        );
        print_figure("orphans", outcome.orphans as f64, "", 0.0);
        mention("failures after one kill, at most", outcome.worst as f64, "");
        failed += faults;
        orphans += outcome.orphans;
        converge_s = converge_s.max(outcome.converge_s);
        if round.victim == Victim::Daemon {
            cut += outcome.report.streams_cut;
        }
        found.insert(
            name.to_owned(),
            json!({
                "kills": outcome.kills,
                "releases": outcome.releases,
                "requests": outcome.report.requests,
                "failed": outcome.report.failed,
                "failed_per_kill_at_most": outcome.worst,
                "unexplained": outcome.unexplained,
                "streams_cut": outcome.report.streams_cut,
                "converge_s": rounded(outcome.converge_s),
                "orphans": outcome.orphans,
            }),
        );
    }
    let mut all = json!({
        "bench": "chaos",
        "failed": failed,
        "streams_cut": cut,
        "converge_s": rounded(converge_s),
        "orphans": orphans,
    });
    if let Some(all) = all.as_object_mut() {
        all.extend(found);
    }
    Ok(all)
}

fn kill_and_roll(
    place: &Installation,
    round: &Round,
    dice: &mut Dice,
    release: &mut u32,
) -> Result<Outcome> {
    let load = Load::start(place)?;
    let begun = Instant::now();
    std::thread::sleep(CALM);
    let mut killed_at = Vec::new();
    let mut releases = 0;
    let rolled: Result<Duration> = (|| {
        while killed_at.len() < round.kills as usize {
            ensure!(
                releases < round.kills * 3,
                "{releases} releases, and only {} times was there a {} to kill",
                killed_at.len(),
                round.victim.name()
            );
            *release += 1;
            releases += 1;
            roll_and_kill(place, round.victim, dice, *release, |at| {
                killed_at.push(at.duration_since(begun));
            })?;
        }
        place.wait_until_calm(Duration::from_secs(120))
    })();
    let last = killed_at.last().copied().unwrap_or_default();
    let converge_s = rolled.map(|_| (begun.elapsed().saturating_sub(last)).as_secs_f64());
    let orphans = orphans(place)?;
    std::thread::sleep(CALM);
    let report = load.finish()?;
    let converge_s = converge_s?;
    let at = |ms: &u64| Duration::from_millis(*ms);
    let blamed = |failure: Duration, kill: &Duration| failure >= *kill && failure - *kill <= BLAMED;
    let unexplained = report
        .failed_at_ms
        .iter()
        .filter(|ms| !killed_at.iter().any(|kill| blamed(at(ms), kill)))
        .count();
    let worst = killed_at
        .iter()
        .map(|kill| {
            let after = report.failed_at_ms.iter();
            after.filter(|ms| blamed(at(ms), kill)).count()
        })
        .max()
        .unwrap_or(0);
    ensure!(
        report.failed_at_ms.len() as u64 == report.failed,
        "too many failures to tell them apart"
    );
    Ok(Outcome {
        kills: u32::try_from(killed_at.len()).unwrap_or(u32::MAX),
        releases,
        converge_s,
        orphans,
        unexplained,
        worst,
        report,
    })
}

/// One release, and a kill at some moment of it.
fn roll_and_kill(
    place: &Installation,
    victim: Victim,
    dice: &mut Dice,
    release: u32,
    mut killed: impl FnMut(Instant),
) -> Result<()> {
    let number = release.to_string();
    let moment = dice.moment(SPAN);
    std::thread::scope(|scope| {
        let rolling = scope.spawn(|| roll(place, &number));
        std::thread::sleep(moment);
        if let Some(pid) = victim.choose(place, dice)? {
            let at = Instant::now();
            if kill(pid) {
                killed(at);
            }
        }
        match rolling.join() {
            Ok(rolled) => rolled,
            Err(_) => anyhow::bail!("the release panicked"),
        }
    })
}

/// Asks for a release until it serves: whoever asks loses the daemon that answered.
fn roll(place: &Installation, number: &str) -> Result<()> {
    let mut last = None;
    for _ in 0..TRIES {
        match place.up_with(&[("LIVE_RELEASE", number)]) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    match last {
        Some(error) => Err(error.context(format!("release {number} never served"))),
        None => Ok(()),
    }
}
