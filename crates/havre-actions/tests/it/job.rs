//! A job with folders of its own, in which steps are run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Folders and variables of a job.
pub(crate) struct Job {
    folder: TempDir,
    pub(crate) vars: BTreeMap<String, String>,
}

/// What a step did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) state: BTreeMap<String, String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) path: Vec<String>,
}

impl Job {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "work/shop", "temp", "tools"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let vars = [
            ("PATH", std::env::var("PATH").unwrap()),
            ("HOME", at("home")),
            ("GITHUB_WORKSPACE", at("work/shop")),
            ("RUNNER_TEMP", at("temp")),
            ("RUNNER_TOOL_CACHE", at("tools")),
            ("RUNNER_OS", "Linux".to_owned()),
            ("RUNNER_ARCH", "X64".to_owned()),
            ("GITHUB_REPOSITORY", "acme/shop".to_owned()),
            ("GITHUB_REF", "refs/heads/main".to_owned()),
            ("GITHUB_REF_NAME", "main".to_owned()),
            ("GITHUB_SHA", "0".repeat(40)),
            ("GITHUB_RUN_ID", "7".to_owned()),
            ("GITHUB_EVENT_NAME", "push".to_owned()),
            ("GITHUB_SERVER_URL", "https://shop.localhost".to_owned()),
            ("HAVRE_SOURCES", "tree".to_owned()),
        ];
        let vars = vars
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Self { folder, vars }
    }

    /// A path in the job's folder.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.vars.insert(name.to_owned(), value.into());
    }

    pub(crate) fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    pub(crate) fn main(&self, action: &str, inputs: &[(&str, &str)]) -> Done {
        self.phase(action, "main", inputs, &BTreeMap::new())
    }

    /// The post phase, with what the main phase kept.
    pub(crate) fn post(&self, action: &str, inputs: &[(&str, &str)], main: &Done) -> Done {
        self.phase(action, "post", inputs, &main.state)
    }

    fn phase(
        &self,
        action: &str,
        phase: &str,
        inputs: &[(&str, &str)],
        state: &BTreeMap<String, String>,
    ) -> Done {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["job-action", action, phase])
            .env_clear()
            .envs(&self.vars)
            .current_dir(self.at("work/shop"));
        for (name, value) in inputs {
            command.env(format!("INPUT_{}", name.to_uppercase()), value);
        }
        command.envs(
            state
                .iter()
                .map(|(name, value)| (format!("STATE_{name}"), value)),
        );
        let files = [
            "GITHUB_OUTPUT",
            "GITHUB_STATE",
            "GITHUB_ENV",
            "GITHUB_PATH",
            "GITHUB_STEP_SUMMARY",
        ];
        for name in files {
            let path = self.write(&format!("commands/{name}"), "");
            command.env(name, path);
        }
        let output = command.output().unwrap();
        let log = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let told = |name: &str| values(&self.read(&format!("commands/{name}")));
        Done {
            code: output.status.code(),
            log,
            outputs: told("GITHUB_OUTPUT"),
            state: told("GITHUB_STATE"),
            env: told("GITHUB_ENV"),
            path: self
                .read("commands/GITHUB_PATH")
                .lines()
                .map(str::to_owned)
                .collect(),
        }
    }
}

impl Done {
    pub(crate) fn well(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.log);
        self
    }

    /// It failed, and the last error says this.
    pub(crate) fn badly(self, why: &str) -> Self {
        assert_eq!(self.code, Some(1), "{}", self.log);
        let last = self
            .log
            .lines()
            .rfind(|line| line.starts_with("::error::"))
            .unwrap_or_default();
        assert!(last.contains(why), "{why} is not in: {}", self.log);
        self
    }

    pub(crate) fn output(&self, name: &str) -> &str {
        self.outputs.get(name).map_or("", String::as_str)
    }
}

/// The heredoc form, strictly: nothing else is read by a runner.
fn values(text: &str) -> BTreeMap<String, String> {
    let mut lines = text.lines();
    let mut values = BTreeMap::new();
    while let Some(head) = lines.next() {
        let (name, end) = head.split_once("<<").expect("a heredoc");
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
        values.insert(name.to_owned(), value.join("\n"));
    }
    values
}

/// git in a folder, with nothing of the machine's own configuration.
pub(crate) fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@example.org",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
