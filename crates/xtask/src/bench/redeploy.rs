//! From a changed line of the back end to its answer over HTTPS, and `up` with nothing changed.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use havre_testing::load::Visitor;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::figures::{median, mention, print_figure, rounded};
use super::installation::Installation;
use crate::shell::say;

const TIMES: u32 = 5;
const POLL: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(300);
const CHANGED_BAR_S: f64 = 6.0;
const UNCHANGED_BAR_S: f64 = 1.0;

pub fn measure(place: &Installation) -> Result<Value> {
    place.bring_up()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let visitor = place.visitor()?;
    let (mut answered, mut done, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
    let mut failed = 0;
    for number in 1..=TIMES {
        let version = format!("1.0.{number}");
        place.set_version(&version)?;
        let change = change(place, &runtime, &visitor, &version)?;
        let nothing = place.up()?.as_secs_f64();
        say(&format!(
            "{version} answers after {:.2} s, up ends after {:.2} s, again with nothing changed \
             {nothing:.2} s",
            change.answered_s, change.done_s
        ));
        for why in &change.failures {
            say(&format!("a poll failed: {why}"));
        }
        failed += change.failures.len();
        answered.push(change.answered_s);
        done.push(change.done_s);
        unchanged.push(nothing);
    }
    let (changed_s, unchanged_s) = (median(&answered), median(&unchanged));
    print_figure(
        "a changed line answers (median)",
        changed_s,
        "s",
        CHANGED_BAR_S,
    );
    mention("its rollout is over (median)", median(&done), "s");
    print_figure(
        "up with nothing changed (median)",
        unchanged_s,
        "s",
        UNCHANGED_BAR_S,
    );
    mention("requests that failed meanwhile", failed as f64, "");
    Ok(json!({
        "bench": "redeploy",
        "changed_s": rounded(changed_s),
        "unchanged_s": rounded(unchanged_s),
        "changed_up_s": rounded(median(&done)),
        "failed": failed,
        "times": TIMES,
    }))
}

/// One redeploy.
struct Change {
    /// When the new version answered first, from the start of `up`.
    answered_s: f64,
    /// When `up` ended.
    done_s: f64,
    failures: Vec<String>,
}

fn change(
    place: &Installation,
    runtime: &tokio::runtime::Runtime,
    visitor: &Visitor,
    version: &str,
) -> Result<Change> {
    let said = place.instance.root.join("up.log");
    let log = File::create(&said).with_context(|| format!("cannot make {}", said.display()))?;
    let begun = Instant::now();
    let mut up = place
        .havre(&["--quiet", "up"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot run havre up")?;
    let (mut answered_s, mut done_s) = (None, None);
    let mut failures = Vec::new();
    let wanted = format!("\"{version}\"");
    runtime.block_on(async {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while answered_s.is_none() || done_s.is_none() {
            ticks.tick().await;
            match visitor.get("/api/v1/version").await {
                Ok((200, text)) if text.contains(&wanted) => {
                    answered_s.get_or_insert_with(|| begun.elapsed().as_secs_f64());
                }
                Ok((200, _)) => {}
                Ok((status, _)) => failures.push(format!("status {status}")),
                Err(why) => failures.push(why),
            }
            if done_s.is_none()
                && let Some(status) = up.try_wait()?
            {
                if !status.success() {
                    let said = std::fs::read_to_string(&said).unwrap_or_default();
                    bail!("havre up ended with {status}:\n{said}");
                }
                done_s = Some(begun.elapsed().as_secs_f64());
            }
            if begun.elapsed() > DEADLINE {
                bail!("{version} did not answer within {DEADLINE:?}");
            }
        }
        Ok(())
    })?;
    Ok(Change {
        answered_s: answered_s.unwrap_or_default(),
        done_s: done_s.unwrap_or_default(),
        failures,
    })
}
