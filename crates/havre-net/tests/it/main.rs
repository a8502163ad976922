//! Tests against the real kernel. Each runs in a "machine" of its own: fresh network, mount and
//! process namespaces, with a second network namespace as the internet, so that nothing touches
//! the real host and nothing can be left behind on it.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod firewall;
mod killer;
mod lifecycle;
mod machine;
mod names;
mod reach;
mod services;
mod shared;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: its name and body, run inside a machine.
type Test = (&'static str, fn());

fn tests() -> Vec<Test> {
    [
        reach::TESTS,
        names::TESTS,
        lifecycle::TESTS,
        firewall::TESTS,
        services::TESTS,
        shared::TESTS,
    ]
    .concat()
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && let Some(code) = havre_net::entrypoint(&first.to_string_lossy(), rest)
    {
        return code;
    }
    if let Some(code) = lifecycle::act(&arguments) {
        return code;
    }
    if let Some(name) = machine::wanted_inside(&arguments) {
        return machine::run_inside(&name, &tests());
    }
    let trials = tests()
        .into_iter()
        .map(|(name, _)| Trial::test(name, move || machine::run(name).map_err(Failed::from)))
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
