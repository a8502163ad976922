//! What a step is told by variables, and how it tells.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::failure::{Failure, refused};

/// A step of a job, seen from inside its process.
pub(crate) struct Step {
    vars: BTreeMap<String, String>,
}

impl Step {
    /// Of this process. Variables that are no UTF-8 are left out.
    pub(crate) fn of_process() -> Self {
        let vars = std::env::vars_os();
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            vars: vars.filter_map(text).collect(),
        }
    }

    /// A variable that is there and not empty.
    pub(crate) fn var(&self, name: &str) -> Option<&str> {
        self.vars
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// A variable without which nothing can be done.
    pub(crate) fn needed(&self, name: &str) -> Result<&str, Failure> {
        let missing = || {
            Failure::Refused(format!(
                "{name} is not set: this runs inside a job of Havre only"
            ))
        };
        self.var(name).ok_or_else(missing)
    }

    /// An input, trimmed; empty where it is not given.
    pub(crate) fn input(&self, name: &str) -> String {
        let variable = format!("INPUT_{}", name.replace(' ', "_").to_uppercase());
        self.vars
            .get(&variable)
            .map(|value| value.trim().to_owned())
            .unwrap_or_default()
    }

    /// An input that is there and not empty.
    pub(crate) fn given(&self, name: &str) -> Option<String> {
        Some(self.input(name)).filter(|value| !value.is_empty())
    }

    /// A boolean input as YAML's core schema writes them; `default` where it is empty.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, Failure> {
        match self.input(name).as_str() {
            "" => Ok(default),
            "true" | "True" | "TRUE" => Ok(true),
            "false" | "False" | "FALSE" => Ok(false),
            other => refused(format!("`{name}` must be true or false, not `{other}`")),
        }
    }

    /// A number from `least` on; `default` where it is empty.
    pub(crate) fn number(&self, name: &str, least: u64, default: u64) -> Result<u64, Failure> {
        let text = self.input(name);
        if text.is_empty() {
            return Ok(default);
        }
        match text.parse() {
            Ok(number) if number >= least => Ok(number),
            Ok(_) | Err(_) => refused(format!(
                "`{name}` must be a number from {least} on, not `{text}`"
            )),
        }
    }

    /// The lines of an input that are not empty, trimmed.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = self.input(name);
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn workspace(&self) -> Result<PathBuf, Failure> {
        self.needed("GITHUB_WORKSPACE").map(PathBuf::from)
    }

    /// Scratch space of the job.
    pub(crate) fn temp(&self) -> Result<PathBuf, Failure> {
        self.needed("RUNNER_TEMP").map(PathBuf::from)
    }

    /// A name that nobody can guess.
    pub(crate) fn fresh_name(&self, prefix: &str) -> String {
        let random = || RandomState::new().hash_one(std::process::id());
        format!("{prefix}-{:016x}{:016x}", random(), random())
    }

    pub(crate) fn output(&self, name: &str, value: &str) -> Result<(), Failure> {
        self.tell_file("GITHUB_OUTPUT", name, value)
    }

    /// Keeps something for the post phase, which finds it by [`Self::state`].
    pub(crate) fn keep(&self, name: &str, value: &str) -> Result<(), Failure> {
        self.tell_file("GITHUB_STATE", name, value)
    }

    /// A variable of all later steps.
    pub(crate) fn export(&self, name: &str, value: &str) -> Result<(), Failure> {
        self.tell_file("GITHUB_ENV", name, value)
    }

    /// Puts a folder before all others in the PATH of later steps.
    pub(crate) fn add_path(&self, folder: &Path) -> Result<(), Failure> {
        self.append("GITHUB_PATH", &format!("{}\n", folder.display()))
    }

    pub(crate) fn state(&self, name: &str) -> Option<&str> {
        self.var(&format!("STATE_{name}"))
    }

    /// A line that is part of the log.
    pub(crate) fn say(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // Nobody reads: there is nobody to tell that either, and what a step does does not depend on it.
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {}
    }

    pub(crate) fn error(&self, text: &str) {
        self.command("error", text);
    }

    /// All variables.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let each = self.vars.iter();
        each.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Tells why it fails, last.
    pub(crate) fn fail(&self, failure: &Failure) -> ExitCode {
        let why = havre_base::one_line(failure);
        failure.screen().lines().for_each(|line| self.say(line));
        match failure {
            Failure::Built {
                place: Some((file, line)),
                ..
            } => self.error_at(file, *line, &why),
            _ => self.error(&why),
        }
        ExitCode::FAILURE
    }

    /// An error in a file of the workspace.
    pub(crate) fn error_at(&self, file: &str, line: u32, text: &str) {
        let file = escaped(file).replace(':', "%3A").replace(',', "%2C");
        self.say(&format!(
            "::error file={file},line={line}::{}",
            escaped(text)
        ));
    }

    pub(crate) fn warning(&self, text: &str) {
        self.command("warning", text);
    }

    pub(crate) fn notice(&self, text: &str) {
        self.command("notice", text);
    }

    /// Has the log of later steps looked through by a matcher.
    pub(crate) fn add_matcher(&self, path: &Path) {
        self.command("add-matcher", &path.to_string_lossy());
    }

    pub(crate) fn mask(&self, value: &str) {
        if !value.is_empty() {
            self.command("add-mask", value);
        }
    }

    pub(crate) fn group(&self, title: &str) {
        self.command("group", title);
    }

    pub(crate) fn end_group(&self) {
        self.command("endgroup", "");
    }

    fn command(&self, name: &str, text: &str) {
        self.say(&format!("::{name}::{}", escaped(text)));
    }

    fn tell_file(&self, variable: &str, name: &str, value: &str) -> Result<(), Failure> {
        let end = self.fresh_name("end");
        self.append(variable, &format!("{name}<<{end}\n{value}\n{end}\n"))
    }

    fn append(&self, variable: &str, text: &str) -> Result<(), Failure> {
        let path = self.needed(variable)?;
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .open(Path::new(path));
        opened
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(Failure::io(format!("write the file of {variable}")))
    }
}

/// A message of a workflow command.
fn escaped(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_a_command_stays_on_its_line() {
        assert_eq!(escaped("100 %\r\nnext"), "100 %25%0D%0Anext");
    }

    #[test]
    fn flags_are_those_of_yaml() {
        let step = |value: &str| Step {
            vars: [("INPUT_FETCH-TAGS".to_owned(), value.to_owned())].into(),
        };
        assert!(step(" TRUE ").flag("fetch-tags", false).unwrap());
        assert!(!step("").flag("fetch-tags", false).unwrap());
        assert!(step("yes").flag("fetch-tags", false).is_err());
        assert_eq!(step("7").number("fetch-tags", 0, 1).unwrap(), 7);
        assert!(step("-1").number("fetch-tags", 0, 1).is_err());
    }
}
