//! The processes that Havre starts of itself: each crate knows its own.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the process that `args` names (without the program's own name); `None` when they are a
/// user's words.
pub fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    let (name, rest) = args.split_first()?;
    let name = name.to_str()?;
    match name {
        "job-runner" => return Some(havre_runner::main(&words(rest))),
        "job-container" => return Some(havre_actions::container()),
        "job-docker" => return Some(havre_actions::docker(rest)),
        "job-action" => return Some(havre_actions::main(rest)),
        _ => {}
    }
    havre_engine::entrypoint(name, rest)
        .or_else(|| havre_net::entrypoint(name, rest))
        .or_else(|| havre_edge::entrypoint(name, rest))
        .or_else(|| havre_git::entrypoint(name, rest))
}

/// Arguments that we write ourselves are text.
fn words(args: &[OsString]) -> Vec<String> {
    args.iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}
