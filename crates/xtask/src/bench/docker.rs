//! A dockerd of the bench's own, as the peer: own data, network and mount namespaces, so that
//! neither a docker of this machine nor its firewall notices.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::shell::{has, read, wait_until};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// A running dockerd.
pub struct Docker {
    dockerd: Child,
    socket: String,
    /// Parent of its containers' cgroups.
    cgroup: String,
}

impl Docker {
    /// Starts it in a folder that is to be made, and waits until it answers.
    pub fn start(folder: &Path) -> Result<Self> {
        for program in ["docker", "dockerd", "unshare"] {
            ensure!(has(program), "{program} is not installed");
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let log = File::create(folder.join("log")).context("cannot make the log of dockerd")?;
        let socket = format!("unix://{}", folder.join("docker.sock").display());
        let cgroup = format!("havre-bench-docker-{}", std::process::id());
        let dockerd = Command::new("unshare")
            .args(["--net", "--mount", "dockerd", "--host", &socket])
            .args(["--cgroup-parent", &format!("/{cgroup}")])
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("run"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start dockerd")?;
        let mut docker = Self {
            dockerd,
            socket,
            cgroup,
        };
        let answers = wait_until("dockerd answers", START, || docker.is_up());
        if let Err(error) = answers {
            let said = fs::read_to_string(folder.join("log")).unwrap_or_default();
            let last = said.lines().last().unwrap_or("it said nothing").to_owned();
            docker.stop()?;
            return Err(error.context(last));
        }
        Ok(docker)
    }

    /// Takes an archive of files as an image.
    pub fn import(&self, archive: &Path, name: &str) -> Result<()> {
        let archive = archive.to_string_lossy();
        read(self.client().args(["import", &archive, name])).map(drop)
    }

    /// How long `docker run --rm` takes.
    pub fn run(&self, image: &str, program: &str) -> Result<Duration> {
        let begun = Instant::now();
        read(self.client().args(["run", "--rm", image, program]))?;
        Ok(begun.elapsed())
    }

    /// Ends it and waits for that.
    pub fn stop(mut self) -> Result<()> {
        let pid = self.dockerd.id().to_string();
        if self.dockerd.try_wait()?.is_none() {
            read(Command::new("kill").arg(&pid))?;
        }
        let ended = wait_until("dockerd ends", STOP, || Ok(self.dockerd.try_wait()?));
        if ended.is_err() {
            self.dockerd.kill().context("cannot kill dockerd")?;
            self.dockerd.wait().context("cannot wait for dockerd")?;
        }
        remove_cgroups(&self.cgroup)?;
        ended.map(drop)
    }

    fn is_up(&mut self) -> Result<Option<()>> {
        if let Some(status) = self.dockerd.try_wait()? {
            anyhow::bail!("dockerd ended with {status}");
        }
        let version = read(
            self.client()
                .args(["version", "--format", "{{.Server.Version}}"]),
        );
        Ok(version.is_ok().then_some(()))
    }

    fn client(&self) -> Command {
        let mut client = Command::new("docker");
        client.args(["--host", &self.socket]);
        for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY"] {
            client.env_remove(name);
        }
        client
    }
}

/// Removes what is left of a parent of cgroups, in each hierarchy of cgroup v1 or the one of v2.
fn remove_cgroups(name: &str) -> Result<()> {
    let base = PathBuf::from("/sys/fs/cgroup");
    let mut candidates = vec![base.join(name)];
    for entry in fs::read_dir(&base).context("cannot list the cgroups")? {
        candidates.push(entry?.path().join(name));
    }
    for cgroup in candidates.iter().filter(|path| path.is_dir()) {
        fs::remove_dir(cgroup).with_context(|| format!("cannot remove {}", cgroup.display()))?;
    }
    Ok(())
}
