//! `cargo xtask bench`: figures, each beside a peer where there is one. The last line printed is
//! one JSON object.

use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {}

pub fn run(options: &Options) -> Result<()> {
    match options.bench {}
}
