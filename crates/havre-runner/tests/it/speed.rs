//! How long a step takes that does nothing.

use havre_job::Told;
use libtest_mimic::{Failed, Trial};

use crate::runner::Given;

/// Milliseconds of a step, with the start of its shell.
const BAR: u64 = 10;
const STEPS: u64 = 100;

pub fn trials() -> Vec<Trial> {
    vec![Trial::test("speed: 100 steps of `true`", steps)]
}

fn steps() -> Result<(), Failed> {
    let steps = "- run: \"true\"\n".repeat(STEPS as usize);
    // The best of some: the machine has other things to do.
    let took = (0..5).map(|_| once(&steps));
    let best = took.min().unwrap_or(u64::MAX);
    eprintln!("step_ms {:.2}", best as f64 / STEPS as f64);
    match best <= BAR * STEPS {
        true => Ok(()),
        false => Err(format!("{STEPS} steps took {best} ms").into()),
    }
}

fn once(steps: &str) -> u64 {
    let (told, _) = Given::steps(steps).run();
    let times = told.iter().filter_map(|told| match told {
        Told::Began { at_ms, .. } | Told::Ended { at_ms, .. } => Some(*at_ms),
        _ => None,
    });
    let times: Vec<u64> = times.collect();
    times[1] - times[0]
}
