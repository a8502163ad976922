//! A team that works on the example: a repository of its own, which is pushed to an installation of Havre.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::instance::{Instance, copy_example};
use crate::shell::{command, read, say, succeed};

pub const STAGING: &str = "staging";
pub const PRODUCTION: &str = "production";
/// For a push until its run has ended, with images that are built for the first time.
const DEADLINE: Duration = Duration::from_secs(30 * 60);
/// Between two looks at what waits for somebody to agree.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The team's repository, with the installation as its remote `havre`.
pub struct Team<'a> {
    pub instance: &'a Instance,
    pub folder: PathBuf,
}

/// How a push ended.
pub struct Pushed {
    /// What was to be seen, where it was not shown as it came.
    pub said: String,
    pub took: Duration,
    /// Promotions that were agreed with.
    pub approved: usize,
}

impl<'a> Team<'a> {
    /// A copy of the example in a repository; what environments need is set there.
    pub fn new(instance: &'a Instance, folder: PathBuf) -> Result<Self> {
        copy_example(&folder)?;
        let team = Self { instance, folder };
        team.git(&["init", "--quiet", "--initial-branch", "main"])?;
        team.git(&["config", "user.name", "The team"])?;
        team.git(&["config", "user.email", "team@localhost"])?;
        team.commit("The French Novel Tool")?;
        for environment in [STAGING, PRODUCTION] {
            let set = ["secret", "set", "DB_PASSWORD", "--generate", "32"];
            succeed(team.havre(&set).args(["-E", environment]))?;
        }
        succeed(&mut team.havre(&["git", "remote", "--add"]))?;
        Ok(team)
    }

    /// `havre` in the repository.
    pub fn havre(&self, arguments: &[&str]) -> Command {
        let mut havre = self.instance.havre(arguments);
        havre.current_dir(&self.folder);
        havre
    }

    /// What a command prints with `--json`.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = read(&mut self.havre(&[arguments, &["--json"]].concat()))?;
        serde_json::from_str(&text).with_context(|| format!("{arguments:?} printed no JSON"))
    }

    fn git(&self, arguments: &[&str]) -> Result<()> {
        let mut git = command("git");
        git.args(arguments).current_dir(&self.folder);
        succeed(&mut git)
    }

    /// A commit of all that has changed.
    pub fn commit(&self, message: &str) -> Result<()> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", message])
    }

    /// Pushes, and agrees with what waits for production meanwhile. `shown`: what is to be seen is shown as it comes.
    pub fn push(&self, shown: bool) -> Result<Pushed> {
        let begun = Instant::now();
        let log = self.instance.root.join("push.log");
        let mut child = self.start_push(match shown {
            true => None,
            false => Some(&log),
        })?;
        let mut approved = 0;
        let status = loop {
            if let Some(status) = child.try_wait().context("git push was lost")? {
                break status;
            }
            if begun.elapsed() > DEADLINE {
                child.kill().context("git push does not end")?;
                bail!("git push did not end within {DEADLINE:?}");
            }
            for promotion in self.waiting()? {
                say(&format!(
                    "havre approve {promotion}, as somebody of the team would"
                ));
                let mut approve =
                    self.havre(&["approve", &promotion, "--comment", "tried it in staging"]);
                match shown {
                    true => succeed(&mut approve)?,
                    false => drop(read(&mut approve)?),
                }
                approved += 1;
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let said = match shown {
            true => String::new(),
            false => fs::read_to_string(&log).context("cannot read what git push said")?,
        };
        ensure!(status.success(), "git push ended with {status}\n{said}");
        Ok(Pushed {
            said,
            took: begun.elapsed(),
            approved,
        })
    }

    /// `git push`; what it says goes to `log`, or is shown.
    pub fn start_push(&self, log: Option<&PathBuf>) -> Result<Child> {
        let mut push = command("git");
        push.args(["push", "--quiet", "havre", "main"]);
        push.current_dir(&self.folder).stdin(Stdio::null());
        if let Some(log) = log {
            let file = File::create(log).context("cannot make a file for what git push says")?;
            push.stdout(file.try_clone()?).stderr(file);
        }
        push.spawn().context("cannot run git push")
    }

    /// Numbers of promotions to production that wait for somebody to agree.
    fn waiting(&self) -> Result<Vec<String>> {
        let all = self.json(&["env", "ls"])?;
        let of_production = all.as_array().into_iter().flatten();
        let of_production =
            of_production.filter(|environment| environment["id"]["environment"] == PRODUCTION);
        let waiting = of_production.flat_map(|it| it["waiting"].as_array().into_iter().flatten());
        let asks = |gate: &Value| gate["gate"] == "approval" && gate["state"] == "waits";
        let waiting = waiting.filter(|promotion| {
            let mut gates = promotion["gates"].as_array().into_iter().flatten();
            gates.any(asks)
        });
        Ok(waiting
            .map(|promotion| promotion["promotion"].to_string())
            .collect())
    }

    /// The newest run: its state, and that of each of its jobs.
    pub fn newest_run(&self) -> Result<(String, Vec<(String, String)>)> {
        let runs = self.json(&["ci", "ls", "--last", "1"])?;
        let run = &runs[0];
        let number = run["number"].to_string();
        let shown = self.json(&["ci", "show", &number])?;
        let jobs = shown["jobs"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let jobs = jobs.map(|job| (text(&job["id"]), text(&job["state"])));
        Ok((text(&run["state"]), jobs.collect()))
    }

    /// The release that serves in an environment, and its images by digest.
    pub fn serving(&self, environment: &str) -> Result<(u64, Vec<String>)> {
        let status = self.json(&["status", "-E", environment])?;
        let release = status[0]["release"]
            .as_u64()
            .with_context(|| format!("nothing serves in {environment}: {status}"))?;
        let number = release.to_string();
        let statement =
            read(&mut self.havre(&["releases", "provenance", &number, "-E", environment]))?;
        let statement: Value = serde_json::from_str(&statement).context("no statement")?;
        let subjects = statement["subject"].as_array().into_iter().flatten();
        let mut images: Vec<String> = subjects.map(|it| it["digest"].to_string()).collect();
        images.sort();
        ensure!(
            !images.is_empty(),
            "release {release} has no images: {statement}"
        );
        Ok((release, images))
    }
}
