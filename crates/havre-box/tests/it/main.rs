//! Real boxes, with a network of their own; the runner is a strict stand-in that this binary is itself.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod disk;
mod harness;
mod host;
mod kernel;
mod life;
mod services;
mod stand_in;
mod tools;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if let Some(name) = args.next() {
        let rest: Vec<_> = args.collect();
        let name = name.to_str().unwrap_or_default();
        let of_engine = havre_engine::entrypoint(name, &rest);
        if let Some(code) = of_engine.or_else(|| havre_net::entrypoint(name, &rest)) {
            return code;
        }
        if name == "job-runner" {
            return stand_in::main();
        }
    }
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = Vec::new();
    for tests in [
        disk::TESTS,
        host::TESTS,
        kernel::TESTS,
        life::TESTS,
        services::TESTS,
        tools::TESTS,
    ] {
        trials.extend(tests.iter().map(|(name, run)| {
            let run = *run;
            Trial::test(*name, move || harness::run(run))
        }));
    }
    if let Some(missing) = harness::missing() {
        eprintln!("skipped: needs {missing}");
        trials = trials
            .into_iter()
            .map(|t| t.with_ignored_flag(true))
            .collect();
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    harness::clean_up();
    conclusion.exit_code()
}
