//! The `havre` program: the command line, and the entry points of the processes that Havre starts.
//!
//! ```text
//! havre shim … │ havre edge … │ …  ─► the crate that owns the process (entrypoints.rs)
//! havre daemon                     ─► havre_app::run
//! havre up, status, …              ─► commands/ ─► havre_api::Client ─► the daemon
//! ```

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

mod cli;
mod commands;
mod connect;
mod context;
mod contexts;
mod elsewhere;
mod entrypoints;
mod error;
mod exit;
mod human;
mod identity;
mod origin;
mod outputs;
mod paint;
mod progress;
mod prompt;
mod secret_input;
mod sending;
mod slips;
mod systemd;
mod table;
mod target;
mod ui;

fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = entrypoints::dispatch(&args) {
        return code;
    }
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; the rest is a usage error. Unprintable is unreadable.
            error.print().ok();
            if let Some(hint) = slips::hint(&error) {
                writeln!(std::io::stderr(), "\n  hint: {hint}").ok();
            }
            let exit = if error.use_stderr() {
                exit::Exit::Usage
            } else {
                exit::Exit::Ok
            };
            return ExitCode::from(exit.code());
        }
    };
    commands::run(cli)
}
