//! `cargo xtask demo`: from a bare machine to the example on HTTPS, by the way that its team's changes take.

mod chain;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::check;
use crate::instance::{Instance, example};
use crate::packages;
use crate::shell::{command, say, succeed, workspace};
use crate::team::{PRODUCTION, STAGING, Team};
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
    /// Use this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Folder of the demo's installation.
    #[arg(long, default_value = "/var/tmp/havre-demo")]
    root: PathBuf,
}

pub fn run(options: &Options) -> Result<()> {
    if !packages::is_root()? {
        bail!("the demo needs root: containers, namespaces and low ports do");
    }
    packages::install(&[packages::BUILD, packages::DEMO].concat())?;
    packages::install_for_jobs()?;
    let binary = match &options.binary {
        Some(binary) => std::fs::canonicalize(binary)
            .with_context(|| format!("cannot find {}", binary.display()))?,
        None => build()?,
    };
    let instance = Instance::new(binary, options.root.clone())?;
    if options.down {
        down(&instance)?;
        return Ok(());
    }
    if options.check {
        return checked(&instance);
    }
    let team = bring_to_production(&instance, true)?;
    print_what_next(&team)
}

/// Builds the binary as users get it.
pub fn build() -> Result<PathBuf> {
    say("building havre");
    succeed(command("cargo").args(["build", "--quiet", "--release", "--package", "havre"]))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or(workspace().join("target"), PathBuf::from);
    Ok(target.join("release/havre"))
}

/// The way of the example from a push to production, by a team whose repository is in the installation.
fn bring_to_production(instance: &Instance, shown: bool) -> Result<Team<'_>> {
    instance.ensure_base_image()?;
    let folder = repository(instance);
    if folder.join(".git").exists() {
        say("the demo is there already");
        return Ok(Team { instance, folder });
    }
    say("making the team's repository, and the passwords of its databases");
    let team = Team::new(instance, folder)?;
    say("git push havre main: tests, staging, a browser, somebody's word, production");
    let pushed = team.push(shown)?;
    chain::went_through(&team, &pushed)?;
    Ok(team)
}

fn repository(instance: &Instance) -> PathBuf {
    instance.root.join("novels")
}

fn down(instance: &Instance) -> Result<()> {
    let folder = repository(instance);
    if folder.exists() {
        say("taking it down");
        instance.down(&folder)?;
    }
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
    let result = bring_to_production(instance, false).and_then(|team| {
        check::end_to_end(instance, HOST)?;
        chain::check(&team)
    });
    if result.is_err() {
        say("the check failed; what the installation says:");
        for arguments in [
            ["status"].as_slice(),
            &["ps", "--all"],
            &["logs", "--tail", "20"],
        ] {
            // For the reader only: the check has failed already.
            for environment in [STAGING, PRODUCTION] {
                let mut havre = instance.havre(arguments);
                let folder = repository(instance);
                let folder = if folder.exists() { folder } else { example() };
                havre.args(["-E", environment]).current_dir(folder);
                havre.status().ok();
            }
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

fn print_what_next(team: &Team<'_>) -> Result<()> {
    let instance = team.instance;
    let havre = instance.binary.display();
    for environment in [STAGING, PRODUCTION] {
        let status = team.json(&["status", "-E", environment])?;
        let routes = status[0]["routes"].as_array().into_iter().flatten();
        let urls = routes.filter_map(|route| route["url"].as_str());
        let url = urls.min_by_key(|url| url.len()).unwrap_or_default();
        println!("{environment:<10} {url}");
    }
    println!(
        "\nTo push a change, as the team does (export HAVRE_ROOT={}):\n",
        instance.root.display()
    );
    println!("  cd {}", team.folder.display());
    for (command, what) in [
        ("edit frontend/src/app/page.tsx", "or any other file"),
        ("git commit -am 'A change'", ""),
        ("git push havre main", "Ctrl-C leaves it running"),
        (&format!("{havre} ci show 2"), "how far it is"),
        (&format!("{havre} env ls"), "what waits for a word"),
        (
            &format!("{havre} approve 5"),
            "the number that the push names",
        ),
    ] {
        println!("{}", format!("  {command:<56} {}", remark(what)).trim_end());
    }
    println!("\nWhat else to try there:\n");
    for (arguments, what) in [
        ("status", "what runs; -E staging for what is tried"),
        ("releases", "which commit, run and word each came by"),
        ("logs -f backend", "what it says"),
        ("exec -it backend sh", "a shell"),
        ("scale backend=3", "more replicas"),
        ("ca trust", "let your system trust its certificates"),
    ] {
        let command = format!("{havre} {arguments}");
        println!("  {command:<56} {}", remark(what));
    }
    println!("\nRemove everything: cargo xtask demo --down");
    Ok(())
}

fn remark(what: &str) -> String {
    match what {
        "" => String::new(),
        what => format!("# {what}"),
    }
}
