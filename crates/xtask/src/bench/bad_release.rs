//! Releases that are bad in every way, under load: each must go back, and nobody should notice, or few.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::figures::{mention, print_figure, rounded};
use super::installation::Installation;
use super::load::{Load, print_report};
use crate::shell::say;

/// The share of the visitors of `live` that a release is tried on, in percent.
const SHARE: f64 = 10.0;
const ROLLOUT: &str = "{strategy: canary, steps: [10%], step: 6s, bake: 4s, ready_timeout: 8s}";
/// How bad, and whether it shows before a visitor sees it.
const KINDS: [(&str, bool); 7] = [
    ("crash", true),
    ("hang", true),
    ("unhealthy", true),
    ("migration", true),
    ("slow", false),
    ("errors", false),
    ("leak", false),
];

pub fn measure(place: &Installation, each: u32) -> Result<Value> {
    place.bring_up_with_live(ROLLOUT)?;
    let mut found = serde_json::Map::new();
    let (mut failed, mut not_back, mut too_many) = (0, 0_u32, 0);
    for (kind, hidden) in KINDS {
        say(&format!("{each} releases that are bad: {kind}"));
        let load = Load::start(place)?;
        std::thread::sleep(Duration::from_secs(1));
        let begun = Instant::now();
        let mut reasons = Vec::new();
        for number in 1..=each {
            match went_back(place, kind, number)? {
                Some(reason) => reasons.push(reason),
                None => not_back += 1,
            }
        }
        let rolled = begun.elapsed().as_secs_f64();
        let report = load.finish()?;
        print_report(&report);
        let share = report.failed as f64 / report.requests as f64 * 100.0;
        match hidden {
            true => {
                print_figure("requests that failed", report.failed as f64, "", 0.0);
                failed += report.failed;
            }
            false => {
                print_figure("share of requests that failed", share, "%", SHARE);
                too_many += u64::from(share > SHARE);
            }
        }
        mention(
            "seconds until it was back (mean)",
            rolled / f64::from(each),
            "s",
        );
        say(&format!(
            "for example: {}",
            reasons.first().map_or("-", String::as_str)
        ));
        found.insert(
            kind.to_owned(),
            json!({
                "went_back": reasons.len(),
                "requests": report.requests,
                "failed": report.failed,
                "failed_percent": rounded(share),
                "streams_cut": report.streams_cut,
                "back_after_s": rounded(rolled / f64::from(each)),
                "reason": reasons.first(),
            }),
        );
    }
    print_figure(
        "releases that did not go back",
        f64::from(not_back),
        "",
        0.0,
    );
    let mut all = json!({
        "bench": "bad-release",
        "failed": failed + u64::from(not_back) + too_many,
        "not_back": not_back,
    });
    if let Some(all) = all.as_object_mut() {
        all.extend(found);
    }
    Ok(all)
}

/// Tries a bad release; why it went back, by the history.
fn went_back(place: &Installation, kind: &str, number: u32) -> Result<Option<String>> {
    let release = format!("{kind}-{number}");
    let tried = place.up_with(&[("LIVE_MODE", kind), ("LIVE_RELEASE", &release)]);
    if tried.is_ok() {
        // The next one is to be compared with a good one.
        place.up()?;
        return Ok(None);
    }
    place.wait_until_calm(Duration::from_secs(60))?;
    let releases = place.json(&["releases", "--last", "1"])?;
    ensure!(
        releases[0]["state"] == "went_back",
        "the newest release did not go back: {releases}"
    );
    let reason = releases[0]["reason"].as_str();
    let reason = reason.context("a release went back for no reason")?;
    if reason.is_empty() {
        bail!("a release went back for an empty reason");
    }
    Ok(Some(reason.to_owned()))
}
