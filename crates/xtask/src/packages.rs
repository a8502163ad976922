//! Debian packages that tasks need.

use anyhow::{Result, bail};

use crate::shell::{command, has, read, say, succeed};

/// What building the workspace needs beside Rust.
pub const BUILD: &[&str] = &["gcc", "libc6-dev", "make"];
/// What the demo needs.
pub const DEMO: &[&str] = &["mmdebstrap", "curl", "ca-certificates"];

/// What jobs of the example's workflow find on the machine.
pub const JOBS: &[&str] = &["git", "python3", "python3-venv", "chromium"];

/// Installs those of `packages` that are missing.
pub fn install(packages: &[&str]) -> Result<()> {
    if !has("dpkg-query") {
        say("this is not Debian: nothing is installed, missing programs show as they are needed");
        return Ok(());
    }
    let missing: Vec<&&str> = packages.iter().filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.into_iter().copied().collect();
    say(&format!("installing {}", names.join(" ")));
    if std::env::var_os("USER").is_none() && !is_root()? {
        bail!(
            "installing packages needs root; run: apt-get install {}",
            names.join(" ")
        );
    }
    let mut last = None;
    for attempt in 0..3 {
        if attempt > 0 {
            say("trying once more");
        }
        match apt(&names) {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("apt-get was not run")))
}

/// Installs what jobs of the example's workflow need.
pub fn install_for_jobs() -> Result<()> {
    install(JOBS)?;
    match has("npm") {
        true => Ok(()),
        false => install(&["nodejs", "npm"]),
    }
}

/// Whether this process runs as root.
pub fn is_root() -> Result<bool> {
    Ok(read(command("id").arg("-u"))?.trim() == "0")
}

fn is_installed(package: &str) -> bool {
    read(command("dpkg-query").args(["-W", "-f=${Status}", package]))
        .is_ok_and(|status| status.contains("ok installed"))
}

fn apt(names: &[&str]) -> Result<()> {
    let quiet = [
        "-qq",
        "-o",
        "DPkg::Lock::Timeout=300",
        "-o",
        "Acquire::Retries=3",
    ];
    let env = ("DEBIAN_FRONTEND", "noninteractive");
    succeed(
        command("apt-get")
            .args(quiet)
            .arg("update")
            .env(env.0, env.1),
    )?;
    succeed(
        command("apt-get")
            .args(quiet)
            .args(["install", "-y", "--no-install-recommends"])
            .args(names)
            .env(env.0, env.1)
            .stdout(std::process::Stdio::null()),
    )
}
