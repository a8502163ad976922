//! Real containers, from busybox. The test binary is its own shim.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod attacker;
mod daemon;
mod escapes;
mod filesystem;
mod given;
mod harness;
mod inventory;
mod isolation;
mod lifecycle;
mod output;
mod page;
mod processes;
mod secrets;
mod users;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if let Some(name) = args.next() {
        let rest: Vec<_> = args.collect();
        if let Some(code) = name
            .to_str()
            .and_then(|n| havre_engine::entrypoint(n, &rest))
        {
            return code;
        }
        if name == "attack" {
            return attacker::main(&rest);
        }
        if name == "create-and-wait" {
            return daemon::create_and_wait(&rest);
        }
    }
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = Vec::new();
    for tests in [
        lifecycle::TESTS,
        output::TESTS,
        isolation::TESTS,
        filesystem::TESTS,
        given::TESTS,
        processes::TESTS,
        daemon::TESTS,
        inventory::TESTS,
        escapes::TESTS,
        page::TESTS,
        secrets::TESTS,
        users::TESTS,
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
