//! An installation of Havre with a root and ports of its own, for demo, checks and benches.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::shell::{command, read, say, succeed, workspace};

/// Name under which the base image of the example's Dockerfiles is stored.
const BASE: &str = "debian:bookworm-slim";

const VERSION_FILE: &str = "backend/app/version.py";

/// A root, its ports and the binary that serves it.
pub struct Instance {
    pub binary: PathBuf,
    pub root: PathBuf,
    pub http: u16,
    pub https: u16,
}

impl Instance {
    /// The installation in `root`, on the usual ports where they are free, else on 8080 and 8443,
    /// else on any.
    pub fn new(binary: PathBuf, root: PathBuf) -> Result<Self> {
        let http = free_port(&[80, 8080])?;
        let https = free_port(&[443, 8443])?;
        Ok(Self {
            binary,
            root,
            http,
            https,
        })
    }

    /// The installation in `root`, on ports that the kernel chooses.
    #[cfg(feature = "bench")]
    pub fn on_any_ports(binary: PathBuf, root: PathBuf) -> Result<Self> {
        // Both at once, so that they differ.
        let http = TcpListener::bind(("0.0.0.0", 0)).context("no port is free")?;
        let https = TcpListener::bind(("0.0.0.0", 0)).context("no port is free")?;
        Ok(Self {
            binary,
            root,
            http: http.local_addr()?.port(),
            https: https.local_addr()?.port(),
        })
    }

    /// `havre --root …` with these arguments.
    pub fn havre(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.binary);
        command
            .env("HAVRE_ROOT", &self.root)
            .env("HAVRE_HTTP", format!("0.0.0.0:{}", self.http))
            .env("HAVRE_HTTPS", format!("0.0.0.0:{}", self.https))
            .args(arguments);
        command
    }

    /// `https://host[:port]path`.
    pub fn url(&self, host: &str, path: &str) -> String {
        match self.https {
            443 => format!("https://{host}{path}"),
            port => format!("https://{host}:{port}{path}"),
        }
    }

    /// Makes sure that the example's base image can be had: where no registry answers it is
    /// assembled from Debian's packages.
    pub fn ensure_base_image(&self) -> Result<()> {
        // Before the first command there is no daemon to ask, and no image either.
        let images = read(&mut self.havre(&["image", "ls", "--json"])).unwrap_or_default();
        if images.contains("bookworm-slim") {
            return Ok(());
        }
        say(&format!("assembling {BASE} with mmdebstrap"));
        let scratch = self.root.join("base.tar");
        std::fs::create_dir_all(&self.root)
            .with_context(|| format!("cannot make {}", self.root.display()))?;
        succeed(
            command("mmdebstrap")
                .args(["--quiet", "--variant=minbase", "bookworm"])
                .arg(&scratch)
                .stdin(std::process::Stdio::null()),
        )?;
        let path = scratch.to_string_lossy().into_owned();
        let imported = succeed(&mut self.havre(&["image", "import", &path, "--tag", BASE]));
        std::fs::remove_file(&scratch).context("cannot remove the archive of the base image")?;
        imported
    }

    /// The file with the certificate that clients must trust.
    pub fn ca(&self) -> Result<PathBuf> {
        let pem = read(&mut self.havre(&["ca", "export"]))?;
        let path = self.root.join("ca.pem");
        std::fs::write(&path, pem).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Takes all environments of a project down, with their volumes.
    pub fn down(&self, project: &Path) -> Result<()> {
        let mut status = self.havre(&["status", "--json"]);
        let all: Value = serde_json::from_str(&read(status.current_dir(project))?)?;
        for environment in all.as_array().into_iter().flatten() {
            let name = environment["id"]["environment"].as_str();
            let name = name.context("an environment has no name")?;
            let mut down = self.havre(&["down", "--volumes", "-E", name]);
            read(down.current_dir(project))?;
        }
        Ok(())
    }

    /// Removes the root, and ends what serves it.
    pub fn remove(&self) -> Result<()> {
        succeed(&mut self.havre(&["daemon", "stop"]))?;
        std::fs::remove_dir_all(&self.root)
            .with_context(|| format!("cannot remove {}", self.root.display()))
    }
}

/// The folder of the example application.
pub fn example() -> PathBuf {
    workspace().join("examples/french-novel-tool")
}

/// Copies the example: files that git tracks or would track, not `node_modules` and the like. What was in `to` is gone.
pub fn copy_example(to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
    }
    let files = read(
        command("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(example()),
    )?;
    for file in files.lines() {
        let target = to.join(file);
        let folder = target.parent().unwrap_or(to);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::copy(example().join(file), &target))
            .with_context(|| format!("cannot copy {file} to {}", target.display()))?;
    }
    Ok(())
}

/// Changes the one line with the version of the back end.
pub fn set_version(project: &Path, version: &str) -> Result<()> {
    let path = project.join(VERSION_FILE);
    let text = std::fs::read_to_string(&path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let changed: Vec<String> = text
        .lines()
        .map(|line| match line.starts_with("VERSION = ") {
            true => format!("VERSION = \"{version}\""),
            false => line.to_owned(),
        })
        .collect();
    let changed = changed.join("\n") + "\n";
    ensure!(changed != text, "{VERSION_FILE} has no version to change");
    std::fs::write(&path, changed).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes the example's secrets where they are missing.
pub fn ensure_secrets(project: &Path) -> Result<()> {
    if project.join("secrets/db_password.txt").exists() {
        return Ok(());
    }
    succeed(
        Command::new("sh")
            .arg("make-secrets.sh")
            .current_dir(project),
    )
}

fn free_port(wanted: &[u16]) -> Result<u16> {
    for port in wanted {
        if TcpListener::bind(("0.0.0.0", *port)).is_ok() {
            return Ok(*port);
        }
    }
    let any = TcpListener::bind(("0.0.0.0", 0)).context("no port is free")?;
    Ok(any.local_addr()?.port())
}
