//! The processes that Havre starts of itself: each crate knows its own.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the process that `args` names (without the program's own name); `None` when they are a
/// user's words.
pub fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    let (name, rest) = args.split_first()?;
    let name = name.to_str()?;
    havre_engine::entrypoint(name, rest)
        .or_else(|| havre_net::entrypoint(name, rest))
        .or_else(|| havre_edge::entrypoint(name, rest))
        .or_else(|| havre_git::entrypoint(name, rest))
}
