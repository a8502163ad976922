//! `cargo xtask demo`: from a bare machine to the example on HTTPS.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::check;
use crate::instance::{Instance, ensure_secrets, example};
use crate::packages;
use crate::shell::{command, say, succeed, workspace};
use crate::traces;

/// The demo's host, as in the example's havre.yaml.
pub const HOST: &str = "novels.localhost";

#[derive(Args)]
pub struct Options {
    /// Verify the example end to end over HTTPS, then remove every trace.
    #[arg(long)]
    check: bool,
    /// Take the demo down and remove its folder.
    #[arg(long, conflicts_with = "check")]
    down: bool,
    /// Folder of the demo's installation.
    #[arg(long, default_value = "/var/tmp/havre-demo")]
    root: PathBuf,
}

pub fn run(options: &Options) -> Result<()> {
    if !packages::is_root()? {
        bail!("the demo needs root: containers, namespaces and low ports do");
    }
    packages::install(&[packages::BUILD, packages::DEMO].concat())?;
    let instance = Instance::new(build()?, options.root.clone())?;
    if options.down {
        down(&instance)?;
        return Ok(());
    }
    if options.check {
        return checked(&instance);
    }
    up(&instance)?;
    print_what_next(&instance);
    Ok(())
}

/// Builds the binary as users get it.
pub fn build() -> Result<PathBuf> {
    say("building havre");
    succeed(command("cargo").args(["build", "--quiet", "--release", "--package", "havre"]))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or(workspace().join("target"), PathBuf::from);
    Ok(target.join("release/havre"))
}

/// Brings the example up.
pub fn up(instance: &Instance) -> Result<()> {
    let project = example();
    ensure_secrets(&project)?;
    instance.ensure_base_image()?;
    say("bringing the French Novel Tool up");
    succeed(instance.havre(&["up"]).arg(&project))
}

fn down(instance: &Instance) -> Result<()> {
    succeed(
        instance
            .havre(&["down", "--volumes"])
            .current_dir(example()),
    )?;
    instance.remove()
}

fn checked(instance: &Instance) -> Result<()> {
    if instance.root.exists() {
        bail!(
            "{} is there already: run `cargo xtask demo --down` first, or choose another --root",
            instance.root.display()
        );
    }
    let before = traces::of_machine(instance)?;
    let result = up(instance).and_then(|()| check::end_to_end(instance, HOST));
    if result.is_err() {
        say("the check failed; what the installation says:");
        for arguments in [
            ["status"].as_slice(),
            &["ps", "--all"],
            &["logs", "--tail", "20"],
        ] {
            // For the reader only: the check has failed already.
            instance
                .havre(arguments)
                .current_dir(example())
                .status()
                .ok();
        }
    }
    let removed = down(instance);
    result?;
    removed.context("the example worked but could not be taken down")?;
    let left = traces::new_since(&before, &traces::of_machine(instance)?);
    if !left.is_empty() {
        bail!("left behind:\n  {}", left.join("\n  "));
    }
    say("the example works end to end and left no trace");
    Ok(())
}

fn print_what_next(instance: &Instance) {
    let example = example();
    let example = example
        .strip_prefix(workspace())
        .unwrap_or(&example)
        .display()
        .to_string();
    let havre = instance.binary.display();
    println!("\n{}\n", instance.url(HOST, "/"));
    println!(
        "What to try next, from {example} (export HAVRE_ROOT={}):",
        instance.root.display()
    );
    for (what, arguments) in [
        ("what runs", "status"),
        ("its containers", "ps"),
        ("their output", "logs -f backend"),
        ("a shell", "exec -it backend sh"),
        (
            "a change without a dropped request",
            "up        # after editing a file",
        ),
        ("more replicas", "scale backend=3"),
        ("let your system trust its certificates", "ca trust"),
        ("take it down", "down"),
    ] {
        println!("  {havre} {arguments:<28} # {what}");
    }
    println!("Remove everything: cargo xtask demo --down");
}
