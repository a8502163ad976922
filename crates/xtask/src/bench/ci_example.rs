//! The example's workflow by `havre ci run`, beside its commands by hand: both halves side by side, in a fresh copy of
//! the tree, with what package managers have fetched before. Both fill their caches once before it counts.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::ci_step::Place;
use super::figures::{median, mention, print_figure, rounded};
use crate::instance::example;
use crate::shell::{command, read, say, succeed};

const RUNS: usize = 3;
const BAR_RATIO: f64 = 1.2;
/// The commands of each half, as the workflow has them.
const BACK: &str = "cd backend && python3.11 -m venv ../.venv && . ../.venv/bin/activate && \
     pip install -r requirements-dev.txt && black --check .. && python -m pytest";
const FRONT: &str =
    "cd frontend && npm ci && npm run lint && npm run typecheck && npm test && npm run build";

pub fn measure(binary: &Path) -> Result<Value> {
    let place = Place::new(binary)?;
    let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
    for run in 0..=RUNS {
        say(&format!("by hand, {run} of {RUNS}"));
        let hand = by_hand_once(&place)?;
        say(&format!("by havre ci run, {run} of {RUNS}"));
        let havre = ours_once(&place)?;
        if run > 0 {
            by_hand.push(hand);
            ours.push(havre);
        }
    }
    let (ours, hand) = (median(&ours), median(&by_hand));
    print_figure("havre ci run beside by hand", ours / hand, "×", BAR_RATIO);
    mention("havre ci run (median)", ours, "s");
    mention("by hand (median)", hand, "s");
    Ok(json!({
        "bench": "ci-example",
        "ratio": rounded(ours / hand),
        "havre_s": rounded(ours),
        "by_hand_s": rounded(hand),
        "runs": RUNS,
    }))
}

/// Seconds of the whole command, from a repository that is there.
fn ours_once(place: &Place) -> Result<f64> {
    // The folder is of the same name each time: it is the repository's, whose caches are found.
    let folder = copied(&place.path("havre/novel"))?;
    succeed(
        command("git")
            .args(["init", "--quiet", "-b", "main"])
            .current_dir(&folder),
    )?;
    let begun = Instant::now();
    // Of a pull request nothing is brought anywhere.
    let told = read(place.havre(&folder).args(["--event", "pull_request"]))?;
    let took = begun.elapsed().as_secs_f64();
    let well = "\"told\":\"ended\",\"result\":\"success\"";
    let ended = told.lines().filter(|line| line.contains(well)).count();
    ensure!(ended == 2, "{ended} jobs ended well, and not two");
    Ok(took)
}

/// Seconds of both halves, with the copy that they are run in.
fn by_hand_once(place: &Place) -> Result<f64> {
    let begun = Instant::now();
    let folder = copied(&place.path("hand/novel"))?;
    let home = place.path("home");
    std::fs::create_dir_all(&home).context("cannot make a home folder")?;
    let halves = [(BACK, "back"), (FRONT, "front")].map(|(script, name)| {
        let said = place.path(name);
        Ok((half(&folder, &home, script, &said)?, said))
    });
    let halves: Vec<(Child, PathBuf)> = halves.into_iter().collect::<Result<_>>()?;
    for (mut half, said) in halves {
        let status = half.wait().context("cannot wait for a half")?;
        ensure!(
            status.success(),
            "a half failed:\n{}",
            std::fs::read_to_string(said)?
        );
    }
    Ok(begun.elapsed().as_secs_f64())
}

fn half(folder: &Path, home: &Path, script: &str, said: &Path) -> Result<Child> {
    let said = std::fs::File::create(said).context("cannot make a file for what it says")?;
    let mut half = Command::new("bash");
    half.args(["-e", "-c", &format!("exec 2>&1; {script}")])
        .current_dir(folder)
        .env("HOME", home)
        .env("CI", "true")
        .stdin(Stdio::null())
        .stdout(said);
    half.spawn().context("cannot run bash")
}

/// A copy of the example, instead of what is there.
fn copied(to: &Path) -> Result<PathBuf> {
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
    }
    let parent = to.parent().context("a copy is in a folder")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    succeed(command("cp").arg("-r").arg(example()).arg(to))?;
    Ok(to.to_owned())
}
