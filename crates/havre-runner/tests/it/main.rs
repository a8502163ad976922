//! Tests of the runner as a process, which is how it is used: this program is also the runner, and the actions that
//! come along. Cases are data; what needs a hand in between is code.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod built_in;
mod cases;
mod ends;
mod fetched;
mod output;
mod results;
mod runner;
mod speed;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("job-runner") => havre_runner::main(&args[2..]),
        Some("job-action") => built_in::main(&args[2..]),
        _ => {
            let mut trials: Vec<Trial> = cases::trials();
            trials.extend(ends::trials());
            trials.extend(fetched::trials());
            trials.extend(output::trials());
            trials.extend(results::trials());
            trials.extend(speed::trials());
            libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
        }
    }
}
