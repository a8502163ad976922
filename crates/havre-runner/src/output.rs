//! What a step prints: lines, commands in them, and what problem matchers find.

use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use havre_base::read_small;
use havre_job::{Annotation, Level, LineKind};

use crate::command::{self, Command};
use crate::masks::Added;
use crate::matcher::{self, Match, Matcher, Progress};
use crate::tell::Teller;

/// Most bytes of outputs and state that commands of one process say.
const MAX_SAID: usize = 16 << 20;

/// What stands before a line that says what is carried out.
const COMMAND: [&str; 2] = ["[command]", "##[command]"];

/// What an output needs to know.
pub(crate) struct Around {
    /// Tells.
    pub teller: Arc<Teller>,
    /// Where files of findings are.
    pub workspace: PathBuf,
    /// Those of the job, which steps add to.
    pub matchers: Arc<Mutex<Vec<Arc<Matcher>>>>,
    /// Whether commands are shown from the start.
    pub echo: bool,
}

/// What the commands of an output said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Outputs, in their order.
    pub outputs: Vec<(String, String)>,
    /// State for the post step.
    pub state: Vec<(String, String)>,
    /// Whether one could not be carried out.
    pub failed: Option<String>,
}

/// One step's output.
pub(crate) struct Output {
    around: Arc<Around>,
    step: u32,
    echo: bool,
    /// What lets commands be commands again.
    stopped: Option<String>,
    warned: bool,
    said: Said,
    said_bytes: usize,
    progress: Vec<(Arc<Matcher>, Progress)>,
}

impl Output {
    /// Of a step, by its place.
    pub fn new(around: Arc<Around>, step: u32) -> Self {
        Self {
            echo: around.echo,
            around,
            step,
            stopped: None,
            warned: false,
            said: Said::default(),
            said_bytes: 0,
            progress: Vec::new(),
        }
    }

    /// What was said so far.
    pub fn take(&mut self) -> Said {
        std::mem::take(&mut self.said)
    }

    /// Takes a line, without its end.
    pub fn line(&mut self, line: &str) {
        let command = COMMAND.iter().find_map(|head| line.strip_prefix(head));
        if let (Some(command), None) = (command, &self.stopped) {
            return self.tell(LineKind::Command, command);
        }
        let may_be_command = line.contains("::") || line.contains("##[");
        if may_be_command
            && let Some(command) = command::parse(line, self.stopped.as_deref())
            && self.command(line, &command)
        {
            return;
        }
        if self.matched(line) {
            return;
        }
        self.tell(LineKind::Plain, line);
    }

    /// Takes part of a line that is too long to be anything but text; it is masked.
    pub fn part(&self, text: &str) {
        let step = Some(self.step);
        self.around.teller.masked_line(step, LineKind::Plain, text);
    }

    fn tell(&self, kind: LineKind, text: &str) {
        let step = Some(self.step);
        self.around.teller.line(step, kind, text.to_owned());
    }

    fn fail(&mut self, why: String) {
        self.tell(LineKind::Error, &why);
        self.said.failed.get_or_insert(why);
    }

    /// Carries a command out; false if it is to be output.
    fn command(&mut self, line: &str, command: &Command) -> bool {
        if let Some(token) = &self.stopped {
            if !command.is(token) {
                return false;
            }
            self.stopped = None;
            self.tell(LineKind::Command, line);
            return true;
        }
        let shows = self.echo
            && ![
                "add-mask", "debug", "echo", "endgroup", "error", "group", "notice", "warning",
            ]
            .iter()
            .any(|quiet| command.is(quiet));
        if shows || command.is("stop-commands") {
            self.tell(LineKind::Command, line);
        }
        let name = command.name.to_lowercase();
        match name.as_str() {
            "stop-commands" => self.stop(&command.data),
            "echo" => match command.data.trim().to_lowercase().as_str() {
                "on" => self.echo = true,
                "off" => self.echo = false,
                _ => self.fail("`::echo::` takes `on` or `off`".to_owned()),
            },
            "add-mask" => self.add_mask(&command.data),
            "group" => self.tell(LineKind::Group, &command.data),
            "endgroup" => self.tell(LineKind::EndGroup, ""),
            "debug" => self.tell(LineKind::Debug, &command.data),
            "notice" => self.issue(Level::Notice, command),
            "warning" => self.issue(Level::Warning, command),
            "error" => self.issue(Level::Error, command),
            "set-output" => {
                self.warn_deprecated("set-output", "GITHUB_OUTPUT");
                self.named(command, |said| &mut said.outputs);
            }
            "save-state" => {
                self.warn_deprecated("save-state", "GITHUB_STATE");
                self.named(command, |said| &mut said.state);
            }
            "set-env" | "add-path" => {
                let file = if name == "set-env" {
                    "GITHUB_ENV"
                } else {
                    "GITHUB_PATH"
                };
                self.fail(format!(
                    "`::{name}::` is switched off, as whatever a step prints could use it: write to the file ${file} instead"
                ));
            }
            "add-matcher" => self.add_matcher(&command.data),
            "remove-matcher" => self.remove_matcher(command),
            _ => return false,
        }
        true
    }

    fn stop(&mut self, token: &str) {
        let token = token.trim();
        if token.is_empty() || command::KNOWN.contains(&token.to_lowercase().as_str()) {
            self.fail("`::stop-commands::` needs a word that is no command, best one that nobody can guess".to_owned());
            return;
        }
        self.stopped = Some(token.to_owned());
    }

    fn add_mask(&mut self, value: &str) {
        if value.trim().is_empty() {
            self.tell(LineKind::Warning, "an empty text cannot be masked");
            return;
        }
        if self.echo {
            self.tell(LineKind::Command, "::add-mask::***");
        }
        let lines = value.split(['\n', '\r']);
        match self
            .around
            .teller
            .masks
            .add(std::iter::once(value).chain(lines))
        {
            Added::Masked => {}
            Added::TooShort => {
                let text = "`::add-mask::` of less than three characters is not masked: it would be everywhere";
                self.tell(LineKind::Warning, text);
            }
            Added::TooMany => self.fail("the job masks more values than can be kept".to_owned()),
        }
    }

    fn warn_deprecated(&mut self, name: &str, file: &str) {
        if !std::mem::replace(&mut self.warned, true) {
            let text = format!("`::{name}::` is deprecated: write to the file ${file} instead");
            self.tell(LineKind::Warning, &text);
        }
    }

    fn named(&mut self, command: &Command, list: impl Fn(&mut Said) -> &mut Vec<(String, String)>) {
        match command.property("name") {
            None | Some("") => {
                let name = &command.name;
                self.fail(format!(
                    "`::{name}::` needs a name: `::{name} name=NAME::VALUE`"
                ));
            }
            Some(key) => {
                self.said_bytes += key.len() + command.data.len();
                if self.said_bytes > MAX_SAID {
                    self.fail(format!(
                        "the step's commands say more than {MAX_SAID} bytes"
                    ));
                    return;
                }
                list(&mut self.said).push((key.to_owned(), command.data.clone()));
            }
        }
    }

    fn issue(&self, level: Level, command: &Command) {
        match command.data.is_empty() {
            true => self.tell(kind(level), ""),
            false => {
                let step = Some(self.step);
                self.around.teller.lines(step, kind(level), &command.data);
            }
        }
        let number = |name: &str| {
            command
                .property(name)
                .and_then(|text| text.trim().parse().ok())
        };
        let line: Option<u32> = number("line");
        let end_line: Option<u32> = number("endLine").filter(|_| line.is_some());
        let column = number("col").or_else(|| number("column"));
        let end_column = number("endColumn");
        // Columns of different lines say nothing.
        let one_line = line.is_some() && end_line.is_none_or(|end| Some(end) == line);
        let file = command.property("file").filter(|file| !file.is_empty());
        self.annotate(Annotation {
            level,
            message: command.data.clone(),
            title: command.property("title").map(str::to_owned),
            file: file.map(|file| self.inside(file)),
            line,
            end_line,
            column: column.filter(|_| one_line),
            end_column: end_column.filter(|_| one_line),
        });
    }

    fn annotate(&self, annotation: Annotation) {
        self.around.teller.annotation(Some(self.step), annotation);
    }

    /// A path as it is from the workspace, if it is in it.
    fn inside(&self, file: &str) -> String {
        let inside = Path::new(file).strip_prefix(&self.around.workspace);
        inside.map_or_else(|_| file.to_owned(), |path| path.display().to_string())
    }

    fn add_matcher(&mut self, path: &str) {
        let path = path.trim();
        let added = match path.is_empty() {
            true => Err("`::add-matcher::` needs the path of a file".to_owned()),
            false => read_small(&self.around.workspace.join(path), matcher::MAX_FILE)
                .map_err(|error| error.to_string())
                .and_then(|text| matcher::read(&text))
                .map_err(|why| format!("the problem matchers of `{path}` cannot be used: {why}")),
        };
        match added {
            Err(why) => self.tell(LineKind::Warning, &why),
            Ok(matchers) => {
                let shared = &self.around.matchers;
                let mut all = shared.lock().unwrap_or_else(PoisonError::into_inner);
                for matcher in matchers {
                    all.retain(|other| !other.owner.eq_ignore_ascii_case(&matcher.owner));
                    all.insert(0, Arc::new(matcher));
                }
                all.truncate(matcher::MAX_MATCHERS);
            }
        }
    }

    fn remove_matcher(&mut self, command: &Command) {
        let owner = match command.property("owner") {
            Some(owner) if !owner.is_empty() => owner.to_owned(),
            _ => {
                let text = "`::remove-matcher::` needs an owner: `::remove-matcher owner=OWNER::`";
                self.tell(LineKind::Warning, text);
                return;
            }
        };
        let shared = &self.around.matchers;
        let mut all = shared.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|matcher| !matcher.owner.eq_ignore_ascii_case(&owner));
    }

    /// Whether a matcher completed a finding with this line.
    fn matched(&mut self, line: &str) -> bool {
        self.follow_matchers();
        if self.progress.is_empty() || line.len() > matcher::MAX_LINE {
            return false;
        }
        let plain = without_colours(line);
        for at in 0..self.progress.len() {
            let (matcher, progress) = &mut self.progress[at];
            let Some(found) = progress.line(matcher, &plain) else {
                continue;
            };
            let others = self.progress.iter_mut().enumerate();
            for (_, (_, progress)) in others.filter(|(other, _)| *other != at) {
                progress.reset();
            }
            if let Some(annotation) = self.finding(&found) {
                self.tell(kind(annotation.level), &plain);
                self.annotate(annotation);
                return true;
            }
        }
        false
    }

    /// Keeps up with what steps added and removed.
    fn follow_matchers(&mut self) {
        let shared = self
            .around
            .matchers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut mine = self.progress.iter().map(|(matcher, _)| matcher);
        let same = shared.len() == self.progress.len()
            && shared
                .iter()
                .all(|one| mine.next().is_some_and(|other| Arc::ptr_eq(one, other)));
        if same {
            return;
        }
        let mut old = std::mem::take(&mut self.progress);
        for matcher in shared.iter() {
            let known = old
                .iter()
                .position(|(other, _)| Arc::ptr_eq(other, matcher));
            self.progress.push(match known {
                Some(at) => old.swap_remove(at),
                None => (Arc::clone(matcher), Progress::new(matcher)),
            });
        }
    }

    fn finding(&self, found: &Match) -> Option<Annotation> {
        let message = found.message()?;
        let level = match found.severity().unwrap_or("error").to_lowercase().as_str() {
            "error" => Level::Error,
            "warning" => Level::Warning,
            "notice" => Level::Notice,
            _ => return None,
        };
        let (line, column) = found.place();
        Some(Annotation {
            level,
            message: message.to_owned(),
            title: found.code().map(str::to_owned),
            file: found
                .file()
                .and_then(|file| self.existing(file, found.beside())),
            line,
            end_line: None,
            column,
            end_column: None,
        })
    }

    /// A file of the workspace that a finding names, from there.
    fn existing(&self, file: &str, from: Option<&str>) -> Option<String> {
        let beside = from.and_then(|from| Path::new(from).parent());
        let path = beside.unwrap_or(Path::new("")).join(file);
        let path = normal(&self.around.workspace.join(path));
        let inside = path.strip_prefix(&self.around.workspace).ok()?;
        path.is_file().then(|| inside.display().to_string())
    }
}

fn kind(level: Level) -> LineKind {
    match level {
        Level::Notice => LineKind::Notice,
        Level::Warning => LineKind::Warning,
        Level::Error => LineKind::Error,
    }
}

/// Without `.` and `..`, by the text alone.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// Without what terminals take for colours.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let after = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest = after.strip_prefix('m').unwrap_or(after);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(without_colours("a\u{1b}[31;1mb\u{1b}[0mc"), "abc");
        assert_eq!(without_colours("a\u{1b}[Kb\u{1b}[7"), "aKb");
    }

    #[test]
    fn paths_are_made_plain() {
        assert_eq!(normal(Path::new("/a/./b/../c")), Path::new("/a/c"));
    }
}
