//! An installation for one bench, with a copy of the example of its own. Whatever happens,
//! everything is taken down at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use havre_testing::load::{LoadPlan, Visitor};
use serde_json::Value;

use crate::demo::HOST;
use crate::instance::{Instance, copy_example, ensure_secrets, set_version};
use crate::shell::{read, say, wait_until};

/// For processes that were told to end.
const END: Duration = Duration::from_secs(15);

/// Where a bench works.
pub struct Installation {
    pub instance: Instance,
    /// The copy of the example, which may be edited.
    pub project: PathBuf,
    keep: bool,
}

impl Installation {
    /// In `root`, whose images are kept, or in a folder of its own.
    pub fn new(binary: PathBuf, root: Option<PathBuf>) -> Result<Self> {
        let keep = root.is_some();
        let root = match root {
            Some(root) => std::path::absolute(root)?,
            None => PathBuf::from(format!("/var/tmp/havre-bench-{}", std::process::id())),
        };
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        Ok(Self {
            project: root.join("project"),
            instance: Instance::on_any_ports(binary, root)?,
            keep,
        })
    }

    /// Runs a bench and takes down what it started, also after a failure.
    pub fn use_and_remove(self, bench: impl FnOnce(&Self) -> Result<Value>) -> Result<Value> {
        say(&format!(
            "measuring {} in {}",
            self.instance.binary.display(),
            self.instance.root.display()
        ));
        let result = bench(&self);
        if let Err(error) = &result {
            say(&format!("the bench failed: {error:#}"));
            self.print_state();
        }
        let removed = self.remove();
        let found = result?;
        removed.context("the bench worked but could not be taken down")?;
        Ok(found)
    }

    /// `havre` for the copy of the example.
    pub fn havre(&self, arguments: &[&str]) -> Command {
        let mut havre = self.instance.havre(arguments);
        havre.current_dir(&self.project);
        havre
    }

    /// Copies the example, brings it up and waits until it answers.
    pub fn bring_up(&self) -> Result<()> {
        self.copy_example()?;
        self.start()
    }

    /// The same with a service more, at `/live`, that has WebSockets and misbehaves on wish.
    /// `rollout` is that section of havre.yaml.
    pub fn bring_up_with_live(&self, rollout: &str) -> Result<()> {
        self.copy_example()?;
        for (name, text) in [
            ("live.py", include_str!("live/live.py")),
            ("bench.yaml", include_str!("live/compose.yaml")),
            ("havre.yaml", &settings(rollout)),
        ] {
            fs::write(self.project.join(name), text)
                .with_context(|| format!("cannot write {name}"))?;
        }
        self.start()
    }

    fn start(&self) -> Result<()> {
        ensure_secrets(&self.project)?;
        self.have_base_image()?;
        say("bringing the French Novel Tool up");
        let begun = Instant::now();
        self.up()?;
        say(&format!("up after {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Stores the base image of the Dockerfiles, once for a root.
    pub fn have_base_image(&self) -> Result<()> {
        let imported = self.instance.root.join("base-imported");
        if !imported.exists() {
            self.instance.ensure_base_image()?;
            fs::write(&imported, "").context("cannot note that the base image is there")?;
        }
        Ok(())
    }

    /// `havre up`; what it says is shown only when it fails.
    pub fn up(&self) -> Result<Duration> {
        self.up_with(&[])
    }

    /// `havre up` with these variables for the compose files.
    pub fn up_with(&self, variables: &[(&str, &str)]) -> Result<Duration> {
        let begun = Instant::now();
        let variables = variables.iter().copied();
        read(self.havre(&["--quiet", "up"]).envs(variables))?;
        Ok(begun.elapsed())
    }

    /// What a command prints with `--json`.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = read(&mut self.havre(&[arguments, &["--json"]].concat()))?;
        serde_json::from_str(&text).with_context(|| format!("{arguments:?} printed no JSON"))
    }

    /// Waits until all is as it should be and nothing moves; how long that took.
    pub fn wait_until_calm(&self, deadline: Duration) -> Result<Duration> {
        let begun = Instant::now();
        wait_until("the environment is calm", deadline, || {
            // A daemon that was killed a moment ago does not answer.
            let Ok(status) = self.json(&["status"]) else {
                return Ok(None);
            };
            let environment = &status[0];
            let calm = environment["state"] == "running" && environment["operation"].is_null();
            Ok(calm.then_some(()))
        })?;
        Ok(begun.elapsed())
    }

    /// The load generator's view of the installation, without any load.
    pub fn plan(&self) -> Result<LoadPlan> {
        let url = self.instance.url(HOST, "");
        let ca = self.instance.ca()?;
        let pem = fs::read_to_string(&ca);
        let pem = pem.with_context(|| format!("cannot read {}", ca.display()))?;
        let mut plan = LoadPlan::new(&url, 0.0);
        plan.resolve = Some(([127, 0, 0, 1], self.instance.https).into());
        plan.ca_pem = Some(pem);
        Ok(plan)
    }

    pub fn visitor(&self) -> Result<Visitor> {
        Ok(Visitor::new(&self.plan()?)?)
    }

    /// Changes the one line with the version of the back end.
    pub fn set_version(&self, version: &str) -> Result<()> {
        set_version(&self.project, version)
    }

    /// The example, without what has to hold before something comes into its environments: benches change it as they
    /// like.
    fn copy_example(&self) -> Result<()> {
        copy_example(&self.project)?;
        let path = self.project.join("havre.yaml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (open, _) = text
            .split_once("environments:")
            .context("the example's havre.yaml has no environments")?;
        fs::write(&path, open).with_context(|| format!("cannot write {}", path.display()))
    }

    fn print_state(&self) {
        if !self.project.exists() {
            return;
        }
        for arguments in [
            ["status"].as_slice(),
            &["ps", "--all"],
            &["logs", "--tail", "20"],
        ] {
            // For the reader only, and not among the figures.
            self.havre(arguments)
                .stdout(std::io::stderr())
                .status()
                .ok();
        }
    }

    /// Takes down what runs, and removes the root unless it is kept.
    fn remove(&self) -> Result<()> {
        let root = &self.instance.root;
        if self.project.exists() {
            say("taking it down");
            let down = self.instance.down(&self.project);
            // Also after a failure, which is told when all was tried.
            read(&mut self.instance.havre(&["daemon", "stop"]))?;
            down?;
        }
        let left = wait_until("all processes and mounts are gone", END, || {
            let left = traces_of(&self.instance)?;
            Ok(left.is_empty().then_some(()))
        });
        if left.is_err() {
            bail!(
                "left behind:\n  {}",
                traces_of(&self.instance)?.join("\n  ")
            );
        }
        let gone = if self.keep { &self.project } else { root };
        if gone.exists() {
            fs::remove_dir_all(gone)
                .with_context(|| format!("cannot remove {}", gone.display()))?;
        }
        Ok(())
    }
}

fn settings(rollout: &str) -> String {
    format!(
        "compose: [docker-compose.yml, docker-compose.prod.yml, bench.yaml]\n\
         domain: {HOST}\n\
         routes:\n\
         - {{path: /, service: frontend, port: 3000}}\n\
         - {{path: /api, service: backend, port: 5000}}\n\
         - {{path: /live, service: live, port: 8000}}\n\
         rollout: {rollout}\n"
    )
}

/// Processes and mounts that name the folder.
fn traces_of(instance: &Instance) -> Result<Vec<String>> {
    let mut found: Vec<String> = processes_of(instance)?
        .into_iter()
        .map(|(pid, arguments)| format!("process {pid}: {}", arguments.join(" ")))
        .collect();
    let mounts = mounts_of(&instance.root)?;
    found.extend(mounts.iter().map(|path| format!("mount {path}")));
    Ok(found)
}

/// Where something is mounted below the folder, in the order of mounting.
pub fn mounts_of(root: &Path) -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let paths = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(paths
        .filter(|path| Path::new(path).starts_with(root))
        .map(str::to_owned)
        .collect())
}

/// Havre's processes of the installation, with their arguments.
pub fn processes_of(instance: &Instance) -> Result<Vec<(u32, Vec<String>)>> {
    let mut found = Vec::new();
    let own = std::process::id();
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may end while it is looked at.
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
            continue;
        };
        let arguments: Vec<String> = line
            .split(|byte| *byte == 0)
            .filter(|argument| !argument.is_empty())
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect();
        // A shim calls itself so, whatever the binary's name.
        let is_havre = arguments
            .first()
            .is_some_and(|program| program == "havre" || Path::new(program) == instance.binary);
        let ours = arguments
            .iter()
            .skip(1)
            .any(|argument| Path::new(argument).starts_with(&instance.root));
        if is_havre && ours && pid != own {
            found.push((pid, arguments));
        }
    }
    Ok(found)
}
