//! `cargo xtask`: everything a developer or CI does with this repository. Never needed by users
//! of a released binary.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod bench;
mod check;
mod demo;
mod fuzz;
mod instance;
mod packages;
mod peers;
mod shell;
mod stacks;
mod team;
mod test;
mod tidy;
mod traces;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Demo, tests and benches of Havre")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing, build, and bring the French Novel Tool up.
    Demo(demo::Options),
    /// Install what is missing and run every test; what CI runs.
    Test(test::Options),
    /// Measure; the last line printed is one JSON object.
    Bench(bench::Options),
    /// Throw mutated inputs at the reader of compose files.
    Fuzz(fuzz::Options),
    /// Bring small real applications up, use them, and remove them.
    Stacks(stacks::Options),
    /// Check the rules of the house that no other tool checks.
    Tidy,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Stacks(options) => stacks::run(&options),
        Task::Tidy => tidy::run(),
    }
}
