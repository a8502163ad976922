//! What the way from a push to production has to keep: nothing untested gets to staging, nothing that a browser found
//! wrong to production, and what gets there are the very images that were tried.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::check;
use crate::instance::{ensure_secrets, set_version};
use crate::shell::say;
use crate::team::{PRODUCTION, Pushed, STAGING, Team};

/// A test that does not hold.
const FAILING_TEST: (&str, &str) = (
    "backend/tests/test_demo.py",
    "def test_what_does_not_hold():\n    assert 1 == 2\n",
);
/// What only a browser finds, where the whole application runs: no file is small enough.
const UNNOTICED: (&str, &str) = (
    "backend/app/wsgi.py",
    "\n# Nobody tests this file.\napp.config[\"MAX_CONTENT_LENGTH\"] = 1\n",
);
/// Jobs of the workflow.
const TESTS: &str = "backend";
const E2E: &str = "e2e";
const LIVE: &str = "production";

/// The run went well, and the same images serve in both environments.
pub fn went_through(team: &Team<'_>, pushed: &Pushed) -> Result<()> {
    let (state, jobs) = team.newest_run()?;
    ensure!(
        state == "success",
        "the run ended with {state}: {jobs:?}\n{}",
        pushed.said
    );
    ensure!(
        pushed.approved == 1,
        "{} promotions waited for a word, and not one",
        pushed.approved
    );
    let (staging, tried) = team.serving(STAGING)?;
    let (production, live) = team.serving(PRODUCTION)?;
    ensure!(
        tried == live,
        "production does not serve the images of staging:\n{live:?}\n{tried:?}"
    );
    say(&format!(
        "staging {staging} became production {production}, the same {} images, {:.0} s after the push",
        live.len(),
        pushed.took.as_secs_f64()
    ));
    Ok(())
}

/// Two changes that are not good enough, and one that is.
pub fn check(team: &Team<'_>) -> Result<()> {
    say("pushing a change that fails its tests");
    let before = (team.serving(STAGING)?, team.serving(PRODUCTION)?);
    let (path, text) = FAILING_TEST;
    let path = team.folder.join(path);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let pushed = change(team, "0.1.0", "A test that does not hold")?;
    failed(team, &pushed, TESTS)?;
    ensure!(
        before == (team.serving(STAGING)?, team.serving(PRODUCTION)?),
        "a change that failed its tests got somewhere"
    );

    say("pushing a change that only a browser finds wrong");
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    let (path, more) = UNNOTICED;
    let path = team.folder.join(path);
    let sound = fs::read_to_string(&path);
    let sound = sound.with_context(|| format!("cannot read {}", path.display()))?;
    fs::write(&path, format!("{sound}{more}"))?;
    let pushed = change(team, "0.2.0", "No file is small enough")?;
    failed(team, &pushed, E2E)?;
    ensure!(
        before.1 == team.serving(PRODUCTION)?,
        "a change that a browser found wrong got to production"
    );
    ensure!(
        before.0 != team.serving(STAGING)?,
        "the browser did not see the change"
    );
    refused_by_hand(team)?;

    say("pushing a change that is good");
    fs::write(&path, sound)?;
    let pushed = change(team, "1.0.1", "Files may be large again")?;
    went_through(team, &pushed)?;
    check::version(team.instance, super::HOST, "1.0.1")
}

fn change(team: &Team<'_>, version: &str, message: &str) -> Result<Pushed> {
    set_version(&team.folder, version)?;
    team.commit(message)?;
    team.push(false)
}

/// The run failed in that job, nobody was asked, and production's job did not run.
fn failed(team: &Team<'_>, pushed: &Pushed, job: &str) -> Result<()> {
    let (state, jobs) = team.newest_run()?;
    let of = |name: &str| {
        let found = jobs.iter().find(|(known, _)| known == name);
        found.map(|(_, state)| state.as_str())
    };
    ensure!(
        state == "failure" && of(job) == Some("failure") && of(LIVE) == Some("skipped"),
        "a change that is not good ended with {state}: {jobs:?}\n{}",
        pushed.said
    );
    ensure!(pushed.approved == 0, "somebody was asked for a word");
    say(&format!(
        "{job} failed and nothing came of it, {:.0} s after the push",
        pushed.took.as_secs_f64()
    ));
    Ok(())
}

/// What the browser found wrong is not promoted by hand either.
fn refused_by_hand(team: &Team<'_>) -> Result<()> {
    // The files name one; it is for jobs to know which.
    ensure_secrets(&team.folder)?;
    let mut promote = team.havre(&["promote", "latest", "--to", PRODUCTION]);
    let output = promote.output().context("cannot run havre promote")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(7) && said.contains("e2e"),
        "havre promote ended with {}, and not because of the test: {said}",
        output.status
    );
    Ok(())
}
