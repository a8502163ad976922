//! The machine's git.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::step::Step;

/// git in one folder.
pub(crate) struct Git<'s> {
    step: &'s Step,
    folder: PathBuf,
    /// Header and value for requests; never shown.
    credentials: Option<(String, String)>,
}

impl<'s> Git<'s> {
    pub(crate) fn new(step: &'s Step, folder: &Path) -> Self {
        Self {
            step,
            folder: folder.to_owned(),
            credentials: None,
        }
    }

    /// Sends a header with requests to addresses that begin like `server`.
    pub(crate) fn with_credentials(mut self, server: &str, header: String) -> Self {
        self.credentials = Some((format!("http.{server}/.extraheader"), header));
        self
    }

    /// Runs it, shown in the log, with its output there.
    pub(crate) fn run(&self, args: &[&str]) -> Result<(), Failure> {
        self.step.say(&format!("[command]git {}", args.join(" ")));
        let mut command = self.command(args);
        let status = command.status().map_err(no_git)?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::Program {
            command: format!("git {}", args.join(" ")),
            status: status.to_string(),
        })
    }

    /// What it prints, trimmed; `None` where it fails, which is an answer too.
    pub(crate) fn ask(&self, args: &[&str]) -> Result<Option<String>, Failure> {
        let mut command = self.command(args);
        command.stderr(Stdio::null());
        let output = command.output().map_err(no_git)?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(output.status.success().then_some(text))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        // The folder may belong to another user than the job's, e.g. the one an image chose.
        let mut settings = vec![("safe.directory", "*")];
        if let Some((key, header)) = &self.credentials {
            settings.push((key, header));
        }
        // By variables: arguments could be read by everybody.
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (place, (key, value)) in settings.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{place}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{place}"), value);
        }
        command
            .args(args)
            .current_dir(&self.folder)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .stdin(Stdio::null());
        command
    }
}

fn no_git(source: std::io::Error) -> Failure {
    if source.kind() == std::io::ErrorKind::NotFound {
        let advice = "there is no git here: install it in an earlier step, or choose an image that has it (`container:`)";
        return Failure::Refused(advice.to_owned());
    }
    Failure::Io {
        doing: "start git".to_owned(),
        source,
    }
}
