//! The machine's git against the router. The test binary is its own hook.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod connecting;
mod fetching;
mod harness;
mod mirroring;
mod objects;
mod pushing;
mod refusing;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if let Some(name) = args.next() {
        let rest: Vec<_> = args.collect();
        let entered = name
            .to_str()
            .and_then(|name| havre_git::entrypoint(name, &rest));
        if let Some(code) = entered {
            return code;
        }
        if name == "connect" {
            return connecting::client(&rest);
        }
    }
    let arguments = Arguments::from_args();
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    let tests = [
        pushing::TESTS,
        connecting::TESTS,
        fetching::TESTS,
        refusing::TESTS,
        objects::TESTS,
        mirroring::TESTS,
    ];
    let mut tests = tests.concat();
    if std::env::var_os("HAVRE_LARGE").is_some() {
        let name = "pushing::two_gigabytes_take_little_memory";
        tests.push((name, pushing::two_gigabytes as fn()));
    }
    let trials = tests.into_iter().map(|(name, run)| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
