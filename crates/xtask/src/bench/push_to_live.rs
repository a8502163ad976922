//! From `git push` of a changed line until staging serves it: by the example's workflow as it is, with its tests, and by
//! one that only brings it there.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use havre_testing::load::{LoadPlan, Visitor};
use serde_json::{Value, json};

use super::figures::{median, mention, print_figure, rounded};
use super::installation::Installation;
use crate::demo::HOST;
use crate::instance::set_version;
use crate::packages;
use crate::shell::say;
use crate::team::Team;

const WITH_TESTS: u32 = 2;
const WITHOUT_TESTS: u32 = 5;
const POLL: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(600);
const BAR_S: f64 = 10.0;

const WORKFLOW: &str = ".github/workflows/ci.yml";
/// What is left of the way when nothing is tried.
const BARE: &str = "\
name: Live
on: {push: {branches: [main]}}
jobs:
  staging:
    runs-on: ubuntu-latest
    environment: staging
    steps:
      - uses: actions/checkout@v5
      - run: printf %s \"$DB_PASSWORD\" > secrets/db_password.txt
        env: {DB_PASSWORD: \"${{ secrets.DB_PASSWORD }}\"}
      - run: havre up --environment staging
";

pub fn measure(place: &Installation) -> Result<Value> {
    packages::install_for_jobs()?;
    place.have_base_image()?;
    let team = Team::new(&place.instance, place.project.clone())?;
    let path = team.folder.join(WORKFLOW);
    let whole = fs::read_to_string(&path).context("the example has no workflow")?;
    let (tested, _) = whole
        .split_once("\n  e2e:\n")
        .context("the example's workflow has no job e2e")?;
    say("pushing for the first time: images are built, caches filled");
    fs::write(&path, tested)?;
    // Of this first one nobody knows when staging begins to answer.
    team.commit("Until staging")?;
    team.push(false)?;
    let visitor = visitor(place)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let round = |times: u32, major: u32| -> Result<Vec<f64>> {
        let mut took = Vec::new();
        for number in 1..=times {
            let version = format!("{major}.0.{number}");
            set_version(&team.folder, &version)?;
            team.commit("A changed line")?;
            let seconds = runtime.block_on(live(place, &team, &visitor, &version))?;
            say(&format!(
                "staging serves {version} {seconds:.2} s after the push"
            ));
            took.push(seconds);
        }
        Ok(took)
    };
    let with_tests = round(WITH_TESTS, 2)?;
    fs::write(&path, BARE)?;
    let without_tests = round(WITHOUT_TESTS, 3)?;
    let (with, without) = (median(&with_tests), median(&without_tests));
    mention(
        "pushed until staging serves it, with tests (median)",
        with,
        "s",
    );
    print_figure("the same without tests (median)", without, "s", BAR_S);
    Ok(json!({
        "bench": "push-to-live",
        "with_tests_s": rounded(with),
        "without_tests_s": rounded(without),
        "with_tests": WITH_TESTS,
        "without_tests": WITHOUT_TESTS,
    }))
}

/// Seconds from the start of the push until staging answers with that version.
async fn live(
    place: &Installation,
    team: &Team<'_>,
    visitor: &Visitor,
    version: &str,
) -> Result<f64> {
    let log = place.instance.root.join("push.log");
    let begun = Instant::now();
    let mut push = team.start_push(Some(&log))?;
    let wanted = format!("\"{version}\"");
    let mut ticks = tokio::time::interval(POLL);
    let mut answered = None;
    loop {
        ticks.tick().await;
        if answered.is_none()
            && let Ok((200, text)) = visitor.get("/api/v1/version").await
            && text.contains(&wanted)
        {
            answered = Some(begun.elapsed().as_secs_f64());
        }
        if let Some(status) = push.try_wait().context("git push was lost")? {
            let said = || fs::read_to_string(&log).unwrap_or_default();
            ensure!(
                status.success(),
                "git push ended with {status}:\n{}",
                said()
            );
            match answered {
                Some(seconds) => return Ok(seconds),
                None => bail!("the push ended and staging does not serve it:\n{}", said()),
            }
        }
        if begun.elapsed() > DEADLINE {
            push.kill().context("git push does not end")?;
            bail!("staging does not serve {version} within {DEADLINE:?}");
        }
    }
}

fn visitor(place: &Installation) -> Result<Visitor> {
    let host = format!("staging.{HOST}");
    let mut plan = LoadPlan::new(&place.instance.url(&host, ""), 0.0);
    plan.resolve = Some(([127, 0, 0, 1], place.instance.https).into());
    plan.ca_pem = Some(fs::read_to_string(place.instance.ca()?)?);
    Ok(Visitor::new(&plan)?)
}
