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
    // The machine has other things to do as well: it is enough to have kept to the bar once.
    let mut best = u64::MAX;
    for _ in 0..20 {
        best = best.min(once(&steps));
        if best <= BAR * STEPS {
            break;
        }
    }
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
