//! Steps that run a script.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use havre_job::LineKind;
use havre_workflow::{RunDefaults, Template};

use super::Run;
use crate::execute::{Executed, Process, execute};
use crate::shell;

impl Run<'_> {
    /// What the step says, or else job and workflow; a composite action has no defaults.
    fn chosen<'t>(
        &'t self,
        own: Option<&'t Template>,
        default: impl Fn(&'t RunDefaults) -> Option<&'t Template>,
    ) -> Option<&'t Template> {
        let defaults = self.job.defaults;
        let around = match self.view.inside {
            Some(_) => None,
            None => defaults.into_iter().find_map(default),
        };
        own.or(around)
    }

    pub(super) fn script(
        &self,
        script: &Template,
        shell: Option<&Template>,
        folder: Option<&Template>,
    ) -> Result<Executed, String> {
        let contents = self.text("run", script)?.replace("\r\n", "\n");
        let chosen = self.chosen(shell, |defaults| defaults.shell.as_ref());
        let chosen = chosen.map(|shell| self.text("shell", shell)).transpose()?;
        let runner = &self.job.document.runner;
        let shell = shell::shell(chosen.as_deref(), runner.in_container)?;
        let folder = self.chosen(folder, |defaults| defaults.working_directory.as_ref());
        let folder = folder.map(|folder| self.text("working-directory", folder));
        let folder = Path::new(&runner.workspace).join(folder.transpose()?.unwrap_or_default());
        let path = self.write_script(&contents, &shell)?;
        let arguments = shell.arguments.iter();
        let arguments: Vec<String> = arguments.map(|word| word.replace("{0}", &path)).collect();
        self.announce(&contents, &shell);
        Ok(execute(
            self.job,
            Process {
                place: self.slot.place,
                programs: &shell.programs,
                arguments: &arguments,
                folder: &folder,
                env: &self.env,
                own: &self.job.for_identity(),
                folders: &self.view.folders,
                github: self.job.github(self.view, &self.slot.id),
                deadline: self.deadline,
                goes_on: &|| self.goes_on(),
            },
        ))
    }

    fn write_script(&self, contents: &str, shell: &shell::Shell) -> Result<String, String> {
        let number = self.job.numbers.fetch_add(1, Ordering::Relaxed);
        let name = format!("script_{number}{}", shell.extension);
        let path = Path::new(&self.job.document.runner.temp).join(name);
        let (before, after) = shell.around;
        let written = fs::write(&path, format!("{before}{contents}{after}\n"));
        written.map_err(|error| {
            format!(
                "the script cannot be written to {}: {error}",
                path.display()
            )
        })?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn announce(&self, contents: &str, shell: &shell::Shell) {
        let first = contents.trim().lines().next().unwrap_or_default();
        self.tell(LineKind::Group, &format!("Run {first}"));
        for line in contents.trim_end().lines() {
            self.tell(LineKind::Plain, line);
        }
        let program = shell.programs.first().map_or("", String::as_str);
        let line = format!("shell: {program} {}", shell.arguments.join(" "));
        self.tell(LineKind::Plain, &line);
        self.announce_pairs("env:", &self.env);
        self.tell_end();
    }
}
