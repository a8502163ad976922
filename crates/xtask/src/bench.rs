//! `cargo xtask bench`: figures, each beside its bar, and beside a peer where there is one. The
//! last line of standard output is one JSON object; everything else goes to standard error.

#[cfg(feature = "bench")]
mod acme;
#[cfg(feature = "bench")]
mod bad_release;
#[cfg(feature = "bench")]
mod canary;
#[cfg(feature = "bench")]
mod chaos;
#[cfg(feature = "bench")]
mod check;
#[cfg(feature = "bench")]
mod ci_cache;
#[cfg(feature = "bench")]
mod ci_example;
#[cfg(feature = "bench")]
mod ci_neighbour;
#[cfg(feature = "bench")]
mod ci_step;
#[cfg(feature = "bench")]
mod corpus;
#[cfg(feature = "bench")]
mod docker;
#[cfg(feature = "bench")]
mod edge;
#[cfg(feature = "bench")]
mod expressions;
#[cfg(feature = "bench")]
mod figures;
#[cfg(feature = "bench")]
mod footprint;
#[cfg(feature = "bench")]
mod installation;
#[cfg(feature = "bench")]
mod kill;
#[cfg(feature = "bench")]
mod load;
#[cfg(feature = "bench")]
mod push_to_live;
#[cfg(feature = "bench")]
mod reboot;
#[cfg(feature = "bench")]
mod redact;
#[cfg(feature = "bench")]
mod redeploy;
#[cfg(feature = "bench")]
mod rollout;
#[cfg(feature = "bench")]
mod rotate;
#[cfg(feature = "bench")]
mod seal;
#[cfg(feature = "bench")]
mod selfheal;
#[cfg(feature = "bench")]
mod start;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use crate::packages;

#[derive(Args)]
pub struct Options {
    /// Measure this binary instead of building one.
    #[arg(long, global = true)]
    binary: Option<PathBuf>,
    /// Keep images and build cache in this folder for the next bench, instead of removing all.
    #[arg(long, global = true)]
    root: Option<PathBuf>,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// `havre check` of generated compose files, large and hostile ones, beside docker compose.
    Check,
    /// `havre check` of a folder of projects beside docker compose: what is accepted, what is refused
    /// and why, and whose configuration differs.
    Corpus {
        /// Folder of projects: subfolders with a compose file, and compose files.
        folder: PathBuf,
    },
    /// The edge under 512 requests at a time, beside nginx: requests per second, and how many of them
    /// open a connection to the replica.
    Edge,
    /// A container's life, create to delete, beside `docker run --rm`.
    Start,
    /// Memory of Havre's own processes while the example is idle.
    Footprint,
    /// Masking the forms of 500 secrets in a log, beside sed and a plain replacement of the values.
    Redact,
    /// Simple expressions of workflows, read once and evaluated again and again; and GitHub's own cases.
    Expressions,
    /// A job's cache of 500 MB, saved and restored by GitHub's own client, beside a plain copy.
    CiCache,
    /// Jobs of `havre ci run`: 100 steps of `true`, and from the end of one job to the first step of the next.
    CiStep,
    /// The example's workflow by `havre ci run`, warm, beside the same commands by hand in a copy of it.
    CiExample,
    /// The latency of production while jobs and a build of another project take all that they are given.
    CiNeighbour,
    /// From `git push` of a changed line until staging serves it, with the tests of the example's workflow and without.
    PushToLive,
    /// A thousand secrets opened after a reboot.
    Seal,
    /// From a changed line to its answer, and `up` with nothing changed.
    Redeploy,
    /// Releases under load: what fails.
    Rollout {
        /// How many releases.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        rollouts: u32,
    },
    /// A database's password and a session key are rotated under load while daemon and command are killed.
    Rotate,
    /// Releases under load while daemon, edge, shims and replicas are killed.
    Chaos {
        /// Kills of the daemon; a fifth of it of the edge and of shims, two fifths of replicas.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(5..))]
        kills: u32,
    },
    /// Releases that crash, hang, answer with errors, …: what visitors notice.
    BadRelease {
        /// How many of each kind.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        each: u32,
    },
    /// A replica of three is killed, hangs or runs out of memory.
    Selfheal {
        /// How often each.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        each: u32,
    },
    /// Fifty names get certificates from a real authority and are renewed under load; and a year on paper.
    Acme,
    /// Two hundred secrets through a whole life, with programs that print them: where they are in clear.
    Canary,
    /// All is killed and the run folder cleared, as by a power failure.
    Reboot,
}

pub fn run(options: &Options) -> Result<()> {
    if !packages::is_root()? {
        bail!("benches need root: containers and namespaces do");
    }
    packages::install(&[packages::BUILD, packages::DEMO].concat())?;
    measure(options)
}

/// Runs this bench again in a release build that has the benches.
#[cfg(not(feature = "bench"))]
fn measure(_: &Options) -> Result<()> {
    use crate::shell::{command, say, succeed};
    say("building the benches");
    let build = [
        "run",
        "--quiet",
        "--release",
        "--package",
        "xtask",
        "--features",
        "bench",
        "--",
    ];
    succeed(
        command("cargo")
            .args(build)
            .args(std::env::args_os().skip(1)),
    )
}

#[cfg(feature = "bench")]
fn measure(options: &Options) -> Result<()> {
    use anyhow::Context as _;
    // Not every bench needs it.
    let binary = || match &options.binary {
        Some(binary) => std::fs::canonicalize(binary)
            .with_context(|| format!("cannot find {}", binary.display())),
        None => crate::demo::build(),
    };
    let installation = || installation::Installation::new(binary()?, options.root.clone());
    let found = match &options.bench {
        Bench::Check => check::measure(&binary()?),
        Bench::Edge => edge::measure(&binary()?),
        Bench::Corpus { folder } => corpus::measure(&binary()?, folder),
        Bench::Start => installation()?.use_and_remove(start::measure),
        Bench::Footprint => installation()?.use_and_remove(footprint::measure),
        Bench::Redact => redact::measure(),
        Bench::Expressions => expressions::measure(),
        Bench::CiCache => ci_cache::measure(&binary()?),
        Bench::CiStep => ci_step::measure(&binary()?),
        Bench::CiExample => ci_example::measure(&binary()?),
        Bench::CiNeighbour => installation()?.use_and_remove(ci_neighbour::measure),
        Bench::PushToLive => installation()?.use_and_remove(push_to_live::measure),
        Bench::Seal => seal::measure(),
        Bench::Redeploy => installation()?.use_and_remove(redeploy::measure),
        Bench::Rollout { rollouts } => {
            installation()?.use_and_remove(|place| rollout::measure(place, *rollouts))
        }
        Bench::Rotate => installation()?.use_and_remove(rotate::measure),
        Bench::Chaos { kills } => installation()?.use_and_remove(|place| {
            use kill::Victim;
            let round = |victim, kills| chaos::Round { victim, kills };
            let rounds = [
                round(Victim::Daemon, *kills),
                round(Victim::Edge, kills / 5),
                round(Victim::Shim, kills / 5),
                round(Victim::Replica, kills * 2 / 5),
            ];
            chaos::measure(place, &rounds)
        }),
        Bench::BadRelease { each } => {
            installation()?.use_and_remove(|place| bad_release::measure(place, *each))
        }
        Bench::Selfheal { each } => {
            installation()?.use_and_remove(|place| selfheal::measure(place, *each))
        }
        Bench::Acme => installation()?.use_and_remove(acme::measure),
        Bench::Canary => installation()?.use_and_remove(canary::measure),
        Bench::Reboot => installation()?.use_and_remove(reboot::measure),
    }?;
    println!("{found}");
    Ok(())
}
