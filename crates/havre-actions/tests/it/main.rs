//! Actions, each as a process of its own in a folder of its own, told by variables as in a job.
//!
//! This binary is that process as well: started as `job-action NAME PHASE` it is the action.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod artifacts;
mod cache;
mod checkout;
mod docker;
mod fake;
mod job;
mod page;
mod real;
mod reports;
mod script;
mod tools;
mod web;

use std::ffi::OsString;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [first, rest @ ..] = args.as_slice()
        && first == "job-action"
    {
        return havre_actions::main(rest);
    }
    let all = [
        artifacts::TESTS,
        cache::TESTS,
        checkout::TESTS,
        docker::TESTS,
        page::TESTS,
        real::TESTS,
        script::TESTS,
        reports::TESTS,
        tools::TESTS,
    ]
    .concat();
    let trial = |(name, run): (&str, fn())| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
    };
    libtest_mimic::run(
        &Arguments::from_args(),
        all.into_iter().map(trial).collect(),
    )
    .exit_code()
}

/// Tests of a module, by their names.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}
