//! The edge as a process: real sockets on loopback, ports chosen by the kernel, origins of our own.
//!
//! This binary is the edge as well: started with `edge …` it is the process under test.

mod basics;
mod edge;
mod http1;
mod origin;

use std::ffi::OsString;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Names a test by its module and function.
macro_rules! trials {
    ($($module:ident :: { $($function:ident),* $(,)? })*) => {
        vec![$($(trial(
            concat!(stringify!($module), "::", stringify!($function)),
            $module::$function,
        )),*),*]
    };
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let name = args
        .first()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    if let Some(code) = havre_edge::entrypoint(&name, args.get(1..).unwrap_or_default()) {
        return code;
    }
    let trials = trials! {
        basics::{
            proxies_over_https_and_redirects,
            refuses_older_states_and_keeps_the_newest_on_disk,
        }
    };
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
