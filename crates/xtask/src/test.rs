//! `cargo xtask test`: what CI runs. Installs what is missing, then every check, the quick ones
//! first.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::packages;
use crate::shell::{command, has, say, succeed};

/// Real peers of the tests, and what drives them.
const PEERS: &[&str] = &[
    "age",
    "apache2-utils",
    "busybox-static",
    "docker-registry",
    "git",
    "iproute2",
    "iptables",
    "nftables",
    "nghttp2-client",
    "openssh-client",
    "openssh-server",
    "openssl",
    "procps",
    "python3-jsonschema",
    "python3-venv",
    "python3-yaml",
    "skopeo",
    "strace",
    "systemd",
    "tar",
    "util-linux",
    "zstd",
];

#[derive(Args)]
pub struct Options {
    /// Leave the stacks, and the demo with the example's own tests, out.
    #[arg(long)]
    quick: bool,
}

pub fn run_all(options: &Options) -> Result<()> {
    step("packages", || {
        packages::install(&[packages::BUILD, packages::DEMO, PEERS].concat())?;
        if crate::peers::compose()?.is_none() {
            say("docker compose is not built for this machine: its test is skipped");
        }
        crate::peers::grpc()?;
        crate::peers::sops()?;
        crate::peers::actions()?;
        packages::install_for_jobs()?;
        if crate::peers::pebble()?.is_none() {
            say("tests with an authority for certificates are skipped");
        }
        Ok(())
    })?;
    step("format", || {
        succeed(command("cargo").args(["fmt", "--all", "--check"]))
    })?;
    step("tidy", crate::tidy::run)?;
    step("clippy", || {
        succeed(command("cargo").args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--features",
            "xtask/bench",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    step("licences", licences)?;
    step("tests of the workspace", tests)?;
    if options.quick {
        return Ok(());
    }
    step("stacks", || {
        let xtask = std::env::current_exe().context("this program has no path")?;
        succeed(command(xtask).arg("stacks"))
    })?;
    // With the example's own tests, as its workflow runs them.
    step("demo --check", || {
        let xtask = std::env::current_exe().context("this program has no path")?;
        succeed(command(xtask).args(["demo", "--check"]))
    })
}

pub fn run(options: &Options) -> Result<()> {
    if !packages::is_root()? {
        bail!("the tests need root: they make namespaces, mounts and cgroups of their own");
    }
    run_all(options)
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    say(name);
    let start = Instant::now();
    work().with_context(|| format!("{name} failed"))?;
    say(&format!("{name}: {:.0} s", start.elapsed().as_secs_f64()));
    Ok(())
}

/// What a test prints that lacks something.
const SKIPPED: &str = "skipped: needs ";

/// Runs all tests, counts those that lacked something, and allows none of them in CI. What failed
/// is told once more at the end, where a log of which only the end is kept has it.
fn tests() -> Result<()> {
    let mut tests = command("cargo");
    tests
        .args([
            "test",
            "--workspace",
            "--no-fail-fast",
            "--features",
            "xtask/bench",
            "--",
            "--show-output",
        ])
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped());
    let mut child = tests.spawn().context("cannot run cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut report = Report::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read the output of cargo test")?;
        if report.read(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().context("cargo test was lost")?;
    if !status.success() {
        say(&format!("what failed:\n{}", report.failures.join("\n")));
        bail!("cargo test ended with {status}");
    }
    let skipped = report.skipped;
    if !skipped.is_empty() {
        say(&format!(
            "{} tests were skipped:\n  {}",
            skipped.len(),
            skipped.join("\n  ")
        ));
        if std::env::var_os("CI").is_some() {
            bail!("no test may be skipped in CI");
        }
    }
    Ok(())
}

/// What `cargo test` printed.
#[derive(Default)]
struct Report {
    part: Part,
    skipped: Vec<String>,
    /// Lines of the tests that failed.
    failures: Vec<String>,
}

/// Where in the output of a test program a line is.
#[derive(Clone, Copy, Default)]
enum Part {
    #[default]
    Progress,
    Successes,
    Failures,
}

impl Report {
    /// Whether a line is to be shown: what tests print that pass is not.
    fn read(&mut self, line: &str) -> bool {
        match line {
            "successes:" => self.part = Part::Successes,
            "failures:" => self.part = Part::Failures,
            // Tests that run themselves again in a namespace print a result of their own, of one
            // test alone.
            _ if line.starts_with("test result: ") && line.contains(" 0 filtered out") => {
                self.part = Part::Progress;
            }
            _ => {}
        }
        self.skipped
            .extend(line.find(SKIPPED).map(|at| line[at..].to_owned()));
        match self.part {
            Part::Progress => true,
            Part::Successes => false,
            Part::Failures => {
                self.failures.push(line.to_owned());
                true
            }
        }
    }
}

fn licences() -> Result<()> {
    if !has("cargo-deny") {
        say("skipped: needs cargo-deny");
        return Ok(());
    }
    succeed(command("cargo").args(["deny", "--log-level", "error", "check", "licenses", "bans"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_skipped_tests_are_kept_and_the_output_of_successes_is_not_shown() {
        let output = "\
running 3 tests
test one ... ok
test two ... FAILED

successes:

---- one stdout ----
skipped: needs a peer
running 1 test
test result: ok. 1 passed; 0 failed; 2 filtered out; finished in 1s

successes:
    one

failures:

---- two stdout ----
no!

failures:
    two

test result: FAILED. 1 passed; 1 failed; 0 filtered out; finished in 2s
running 0 tests";
        let mut report = Report::default();
        let shown: Vec<&str> = output.lines().filter(|line| report.read(line)).collect();
        assert_eq!(report.skipped, ["skipped: needs a peer"]);
        assert!(report.failures.contains(&"no!".to_owned()));
        assert!(!shown.contains(&"skipped: needs a peer"));
        assert_eq!(shown.last(), Some(&"running 0 tests"));
    }
}
