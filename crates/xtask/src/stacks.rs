//! `cargo xtask stacks`: small real applications from `tests/stacks`, brought up, looked at over
//! HTTPS, restarted, taken down and up again, and removed without a trace.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::instance::Instance;
use crate::packages;
use crate::shell::{command, say, succeed, workspace};
use crate::traces;

#[derive(Args)]
pub struct Options {
    /// Only these
    names: Vec<String>,
    /// This binary instead of a debug build
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Folder of the installation
    #[arg(long, default_value = "/var/tmp/havre-stacks")]
    root: PathBuf,
}

pub fn run(options: &Options) -> Result<()> {
    if !packages::is_root()? {
        bail!("stacks need root: containers, namespaces and low ports do");
    }
    packages::install(&[packages::BUILD, packages::DEMO].concat())?;
    let binary = match &options.binary {
        Some(binary) => std::path::absolute(binary)?,
        None => build()?,
    };
    let all = all()?;
    let unknown: Vec<&String> = options.names.iter().filter(|n| !all.contains(*n)).collect();
    ensure!(
        unknown.is_empty(),
        "no such stack: {unknown:?}; there are {all:?}"
    );
    let chosen = match options.names.is_empty() {
        true => all.into_iter().collect(),
        false => options.names.clone(),
    };
    run_all(binary, &options.root, &chosen)
}

/// The debug build, which the tests have made already.
fn build() -> Result<PathBuf> {
    say("building havre");
    succeed(command("cargo").args(["build", "--quiet", "--package", "havre"]))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or(workspace().join("target"), PathBuf::from);
    Ok(target.join("debug/havre"))
}

fn folder() -> PathBuf {
    workspace().join("tests/stacks")
}

fn all() -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder()).context("cannot list tests/stacks")?;
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry?;
        if entry.path().join("check.sh").exists() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn run_all(binary: PathBuf, root: &Path, names: &[String]) -> Result<()> {
    ensure!(
        !root.exists(),
        "{} is there already: take down what is in it (havre --root … down, daemon stop) and \
         remove it, or choose another --root",
        root.display()
    );
    let instance = Instance::new(binary, root.to_owned())?;
    let before = traces::of_machine(&instance)?;
    instance.ensure_base_image()?;
    let ca = instance.ca()?;
    let mut failed = Vec::new();
    for name in names {
        let stack = Stack {
            instance: &instance,
            ca: &ca,
            name,
        };
        let begun = Instant::now();
        let result = stack.live();
        if let Err(error) = &result {
            say(&format!("{name} failed: {error:#}"));
            stack.print_state();
            failed.push(name.as_str());
        }
        let gone = stack.havre(&["down", "--volumes"]);
        if let (Err(error), true) = (gone, result.is_ok()) {
            return Err(error.context(format!("{name} cannot be taken down")));
        }
        say(&format!("{name}: {:.0} s", begun.elapsed().as_secs_f64()));
    }
    instance.remove()?;
    let left = traces::new_since(&before, &traces::of_machine(&instance)?);
    ensure!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
    ensure!(
        failed.is_empty(),
        "stacks that failed: {}",
        failed.join(", ")
    );
    say(&format!("{} stacks work and left no trace", names.len()));
    Ok(())
}

/// A stack on the installation.
struct Stack<'a> {
    instance: &'a Instance,
    ca: &'a Path,
    name: &'a str,
}

impl Stack<'_> {
    /// Its whole life but for its end.
    fn live(&self) -> Result<()> {
        if folder().join(self.name).join("prepare.sh").exists() {
            self.script("prepare.sh", false)?;
        }
        say(&format!("{}: up", self.name));
        self.havre(&["--quiet", "up"])?;
        self.check(false)?;
        say(&format!("{}: restart", self.name));
        self.havre(&["--quiet", "restart"])?;
        self.check(true)?;
        say(&format!("{}: down and up again", self.name));
        self.havre(&["--quiet", "down"])?;
        self.havre(&["--quiet", "up"])?;
        self.check(true)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut havre = self.instance.havre(arguments);
        havre.current_dir(folder().join(self.name));
        havre
    }

    fn havre(&self, arguments: &[&str]) -> Result<()> {
        // Where it answers is of no interest here.
        succeed(self.command(arguments).stdout(std::process::Stdio::null()))
    }

    fn check(&self, again: bool) -> Result<()> {
        self.script("check.sh", again)
    }

    fn script(&self, name: &str, again: bool) -> Result<()> {
        let host = format!("{}.localhost", self.name);
        let mut script = Command::new("sh");
        script
            .args(["-e", name])
            .current_dir(folder().join(self.name))
            .env("HAVRE", &self.instance.binary)
            .env("HAVRE_ROOT", &self.instance.root)
            .env("CA", self.ca)
            .env("URL", format!("https://{host}:{}", self.instance.https))
            .env("HTTPS_HOST", format!("{host}:{}", self.instance.https));
        if again {
            script.env("AGAIN", "1");
        }
        succeed(&mut script).with_context(|| format!("its {name} failed"))
    }

    fn print_state(&self) {
        for arguments in [
            ["status"].as_slice(),
            &["ps", "--all"],
            &["logs", "--tail", "15"],
        ] {
            // For the reader only: the stack has failed already.
            self.command(arguments).status().ok();
        }
    }
}
