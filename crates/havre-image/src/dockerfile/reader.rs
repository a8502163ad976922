//! From logical lines to typed instructions.

mod flags;
mod mount;

use super::error::{DockerfileError, Problem};
use super::instruction::{
    CommandLine, Copy, CopyFlags, Dockerfile, Health, HealthTimes, Heredoc, Instruction, Run,
    RunNetwork, Span, Stage, Step, Warning,
};
use super::similar::closest;
use super::source::{self, LineRef, Logical};
use super::words::{self, Json};
use flags::Flags;
use mount::run_mount;

const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Far more than anybody writes; each costs time or memory whatever it says.
const MAX_STAGES: usize = 500;
const MAX_INSTRUCTIONS: usize = 10_000;

/// Reads a Dockerfile; `file` is its name in messages.
pub fn parse(file: &str, text: &str) -> Result<Dockerfile, DockerfileError> {
    let source = source::read(file, text)?;
    let mut dockerfile = Dockerfile {
        file: file.to_owned(),
        escape: source.escape,
        global_args: Vec::new(),
        stages: Vec::new(),
        warnings: source.warnings,
    };
    for (index, line) in source.lines.iter().enumerate() {
        let place = LineRef {
            file,
            line: line.span.line,
            text: &line.first_line,
        };
        let too_many = |what, limit| place.error(Problem::TooMany { what, limit });
        if index == MAX_INSTRUCTIONS {
            return Err(too_many("instructions", MAX_INSTRUCTIONS));
        }
        if line.keyword == "FROM" && dockerfile.stages.len() == MAX_STAGES {
            return Err(too_many("stages", MAX_STAGES));
        }
        let mut reader = Reader {
            line,
            escape: source.escape,
            warnings: Vec::new(),
        };
        let read = if line.keyword == "FROM" {
            reader.stage(dockerfile.stages.len()).map(|stage| {
                warn_of_twin(&mut reader.warnings, &dockerfile.stages, &stage);
                dockerfile.stages.push(stage);
            })
        } else {
            reader
                .step()
                .and_then(|step| place_step(&mut dockerfile, step))
        };
        read.map_err(|problem| place.error(problem))?;
        dockerfile.warnings.append(&mut reader.warnings);
    }
    if dockerfile.stages.is_empty() {
        let text = text.lines().next().unwrap_or_default();
        return Err(LineRef {
            file,
            line: 1,
            text,
        }
        .error(Problem::Empty));
    }
    Ok(dockerfile)
}

/// Reads the trigger of an ONBUILD found in a base image; `span` is the FROM that pulled it in.
pub fn parse_trigger(file: &str, trigger: &str, span: Span) -> Result<Step, DockerfileError> {
    let source = source::read(file, trigger)?;
    let place = LineRef {
        file,
        line: span.line,
        text: trigger,
    };
    let [line] = source.lines.as_slice() else {
        return Err(place.error(Problem::Empty));
    };
    let mut reader = Reader {
        line,
        escape: source.escape,
        warnings: Vec::new(),
    };
    let step = reader.step().map_err(|problem| place.error(problem))?;
    Ok(Step { span, ..step })
}

fn place_step(dockerfile: &mut Dockerfile, step: Step) -> Result<(), Problem> {
    match dockerfile.stages.last_mut() {
        Some(stage) => stage.steps.push(step),
        None if matches!(step.instruction, Instruction::Arg(_)) => {
            dockerfile.global_args.push(step);
        }
        None => {
            let instruction = step.instruction.keyword().to_owned();
            return Err(Problem::BeforeFrom { instruction });
        }
    }
    Ok(())
}

fn warn_of_twin(warnings: &mut Vec<Warning>, stages: &[Stage], stage: &Stage) {
    let Some(name) = &stage.name else { return };
    if let Some(twin) = stages.iter().find(|s| s.name.as_ref() == Some(name)) {
        warnings.push(Warning {
            line: stage.span.line,
            message: format!(
                "stage {name} was already named in line {}; later references mean this one",
                twin.span.line
            ),
        });
    }
}

struct Reader<'a> {
    line: &'a Logical,
    escape: char,
    warnings: Vec<Warning>,
}

impl Reader<'_> {
    fn warn(&mut self, message: &str) {
        self.warnings.push(Warning {
            line: self.line.span.line,
            message: message.to_owned(),
        });
    }

    fn arguments(&self, reason: &str) -> Problem {
        Problem::Arguments {
            instruction: self.line.keyword.clone(),
            reason: reason.to_owned(),
        }
    }

    fn stage(&mut self, index: usize) -> Result<Stage, Problem> {
        let (mut flags, rest) = self.flags(&["platform"])?;
        let platform = flags.one("platform")?;
        let parts: Vec<&str> = rest.split_whitespace().collect();
        let (base, name) = match parts.as_slice() {
            [base] => (*base, None),
            [base, r#as, name] if r#as.eq_ignore_ascii_case("as") => (*base, Some(*name)),
            _ => return Err(self.arguments("needs an image, and optionally AS and a name")),
        };
        Ok(Stage {
            index,
            name: name.map(stage_name).transpose()?,
            base: base.to_owned(),
            platform,
            span: self.line.span,
            text: format!("FROM {}", self.line.rest),
            steps: Vec::new(),
        })
    }

    fn step(&mut self) -> Result<Step, Problem> {
        let instruction = self.instruction()?;
        let text = format!("{} {}", self.line.keyword, self.line.rest);
        Ok(Step {
            span: self.line.span,
            text,
            instruction,
        })
    }

    fn instruction(&mut self) -> Result<Instruction, Problem> {
        match self.line.keyword.as_str() {
            "RUN" => self.run().map(Instruction::Run),
            "COPY" => self.copy(COPY_FLAGS).map(Instruction::Copy),
            "ADD" => self.copy(ADD_FLAGS).map(Instruction::Add),
            "HEALTHCHECK" => self.healthcheck().map(Instruction::Healthcheck),
            "ONBUILD" => self.onbuild().map(Instruction::Onbuild),
            "FROM" => Err(self.arguments("cannot stand here")),
            keyword => {
                let keyword = keyword.to_owned();
                if !INSTRUCTIONS.contains(&keyword.as_str()) {
                    return Err(Problem::UnknownInstruction {
                        word: self.line.word.clone(),
                        suggestion: closest(&keyword, INSTRUCTIONS),
                    });
                }
                let (_, rest) = self.flags(&[])?;
                let rest = rest.to_owned();
                self.plain(&keyword, &rest)
            }
        }
    }

    /// Instructions without flags.
    fn plain(&mut self, keyword: &str, rest: &str) -> Result<Instruction, Problem> {
        Ok(match keyword {
            "CMD" => Instruction::Cmd(self.command(rest)?),
            "ENTRYPOINT" => Instruction::Entrypoint(self.command(rest)?),
            "ENV" => Instruction::Env(self.pairs(rest)?),
            "LABEL" => Instruction::Label(self.pairs(rest)?),
            "ARG" => Instruction::Arg(self.names(rest)?),
            "USER" => Instruction::User(self.text(rest)?),
            "WORKDIR" => Instruction::Workdir(self.text(rest)?),
            "STOPSIGNAL" => Instruction::StopSignal(self.text(rest)?),
            "MAINTAINER" => {
                self.warn(
                    "MAINTAINER is deprecated; write LABEL org.opencontainers.image.authors=…",
                );
                Instruction::Maintainer(self.text(rest)?)
            }
            "EXPOSE" => {
                self.text(rest)?;
                Instruction::Expose(rest.split_whitespace().map(str::to_owned).collect())
            }
            "VOLUME" => Instruction::Volume(self.list(rest, 1, "needs at least one path")?),
            "SHELL" => match words::json_array(rest) {
                Some(Json::Strings(argv)) if !argv.is_empty() => Instruction::Shell(argv),
                _ => {
                    return Err(self.arguments("needs the form [\"program\", \"argument\"]"));
                }
            },
            _ => return Err(self.arguments("cannot stand here")),
        })
    }

    fn flags(&self, known: &'static [&'static str]) -> Result<(Flags, &str), Problem> {
        let (raw, rest) = words::flags(&self.line.rest, self.escape);
        let mut items = Vec::new();
        for flag in raw {
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (flag, None),
            };
            if !known.contains(&name.as_str()) {
                return Err(Problem::UnknownFlag {
                    instruction: self.line.keyword.clone(),
                    flag: name,
                    known: known.to_vec(),
                });
            }
            items.push((name, value));
        }
        Ok((
            Flags {
                instruction: self.line.keyword.clone(),
                items,
            },
            rest,
        ))
    }

    fn text(&self, rest: &str) -> Result<String, Problem> {
        if rest.is_empty() {
            return Err(self.arguments("needs an argument"));
        }
        Ok(rest.to_owned())
    }

    /// JSON array or words.
    fn list(&self, rest: &str, least: usize, reason: &str) -> Result<Vec<String>, Problem> {
        let list = match words::json_array(rest) {
            Some(Json::Strings(list)) => list,
            Some(Json::NotStrings) => return Err(self.not_strings()),
            None => rest.split_whitespace().map(str::to_owned).collect(),
        };
        if list.len() < least || list.iter().any(String::is_empty) {
            return Err(self.arguments(reason));
        }
        Ok(list)
    }

    fn not_strings(&self) -> Problem {
        self.arguments("in its JSON form takes strings only")
    }

    fn command(&mut self, rest: &str) -> Result<CommandLine, Problem> {
        match words::json_array(rest) {
            Some(Json::Strings(argv)) => Ok(CommandLine::Exec(argv)),
            Some(Json::NotStrings) => Err(self.not_strings()),
            None => {
                if rest.starts_with('[') && rest.ends_with(']') && rest.contains(['\'', ',']) {
                    self.warn(
                        "this looks like the JSON form but is not valid JSON (strings need \
                         double quotes), so a shell gets it as text",
                    );
                }
                Ok(CommandLine::Shell(rest.to_owned()))
            }
        }
    }

    /// `name=value …`, or the old `name value`.
    fn pairs(&self, rest: &str) -> Result<Vec<(String, String)>, Problem> {
        let words = words::split(rest, self.escape);
        let Some(first) = words.first() else {
            return Err(self.arguments("needs name=value"));
        };
        if !first.contains('=') {
            let (name, value) = source::split_keyword(rest);
            if value.is_empty() {
                return Err(self.arguments(&format!("needs a value: {name}=…")));
            }
            return Ok(vec![(name.to_owned(), value.to_owned())]);
        }
        let mut pairs = Vec::new();
        for word in &words {
            match word.split_once('=') {
                Some(("", _)) => return Err(self.arguments("has an empty name")),
                Some((name, value)) => pairs.push((name.to_owned(), value.to_owned())),
                None => {
                    return Err(self.arguments(&format!(
                        "has {word:?} without =; quote values that contain spaces"
                    )));
                }
            }
        }
        Ok(pairs)
    }

    fn names(&self, rest: &str) -> Result<Vec<(String, Option<String>)>, Problem> {
        let words = words::split(rest, self.escape);
        if words.is_empty() {
            return Err(self.arguments("needs a name"));
        }
        let mut names = Vec::new();
        for word in words {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
                None => (word, None),
            };
            if name.is_empty() {
                return Err(self.arguments("has an empty name"));
            }
            names.push((name, default));
        }
        Ok(names)
    }

    fn run(&mut self) -> Result<Run, Problem> {
        let (mut flags, rest) = self.flags(&["mount", "network", "security"])?;
        let rest = rest.to_owned();
        let mounts: Result<Vec<_>, _> = flags
            .all("mount")
            .iter()
            .map(|value| run_mount(value))
            .collect();
        let network = match flags.one("network")?.as_deref() {
            None | Some("default") => RunNetwork::Default,
            Some("none") => RunNetwork::None,
            Some("host") => RunNetwork::Host,
            Some(_) => return Err(flags.wrong("network", "must be default, none or host")),
        };
        let insecure = match flags.one("security")?.as_deref() {
            None | Some("sandbox") => false,
            Some("insecure") => true,
            Some(_) => return Err(flags.wrong("security", "must be sandbox or insecure")),
        };
        if rest.is_empty() {
            return Err(self.arguments("needs a command"));
        }
        let command = self.command(&rest)?;
        if command == CommandLine::Exec(Vec::new()) {
            return Err(self.arguments("needs a command"));
        }
        Ok(Run {
            command,
            heredocs: self.line.heredocs.clone(),
            mounts: mounts?,
            network,
            insecure,
        })
    }

    fn copy(&mut self, known: &'static [&'static str]) -> Result<Copy, Problem> {
        let (mut flags, rest) = self.flags(known)?;
        let needs = "needs a source and a destination";
        let mut sources = self.list(rest, 2, needs)?;
        let destination = sources.pop().ok_or_else(|| self.arguments(needs))?;
        if words::heredoc_word(&destination).is_some() {
            return Err(self.arguments("has a heredoc where the destination should be"));
        }
        let documents: Vec<Heredoc> = self.line.heredocs.clone();
        if !documents.is_empty() {
            sources.retain(|source| words::heredoc_word(source).is_none());
        }
        let read = CopyFlags {
            from: flags.one("from")?,
            chown: flags.one("chown")?,
            chmod: flags.one("chmod")?,
            link: flags.switch("link")?.unwrap_or(false),
            parents: flags.switch("parents")?.unwrap_or(false),
            exclude: flags.all("exclude"),
            checksum: flags.one("checksum")?,
            keep_git_dir: flags.switch("keep-git-dir")?.unwrap_or(false),
            unpack: flags.switch("unpack")?,
        };
        if read.from.as_ref().is_some_and(|from| from.contains('$')) {
            return Err(flags.wrong(
                "from",
                "takes no variables; name a stage with FROM $IMAGE AS name and copy from that",
            ));
        }
        Ok(Copy {
            sources,
            heredocs: documents,
            destination,
            flags: read,
        })
    }

    fn healthcheck(&mut self) -> Result<Health, Problem> {
        let (mut flags, rest) = self.flags(&[
            "interval",
            "timeout",
            "start-period",
            "start-interval",
            "retries",
        ])?;
        let (kind, command) = source::split_keyword(rest);
        let command = command.to_owned();
        match kind.to_ascii_uppercase().as_str() {
            "NONE" if command.is_empty() => Ok(Health::None),
            "NONE" => Err(self.arguments("NONE takes no arguments")),
            "CMD" if command.is_empty() => Err(self.arguments("CMD needs a command")),
            "CMD" => {
                let times = HealthTimes {
                    interval: flags.duration("interval")?,
                    timeout: flags.duration("timeout")?,
                    start_period: flags.duration("start-period")?,
                    start_interval: flags.duration("start-interval")?,
                    retries: flags.count("retries")?,
                };
                match self.command(&command)? {
                    CommandLine::Exec(argv) if argv.is_empty() => {
                        Err(self.arguments("CMD needs a command"))
                    }
                    command => Ok(Health::Check { command, times }),
                }
            }
            _ => Err(self.arguments("needs CMD with a command, or NONE")),
        }
    }

    fn onbuild(&mut self) -> Result<String, Problem> {
        let (_, rest) = self.flags(&[])?;
        let (word, trigger_rest) = source::split_keyword(rest);
        let keyword = word.to_ascii_uppercase();
        if keyword.is_empty() {
            return Err(self.arguments("needs an instruction"));
        }
        if ["ONBUILD", "FROM", "MAINTAINER"].contains(&keyword.as_str()) {
            return Err(self.arguments(&format!("cannot trigger {keyword}")));
        }
        let mut trigger = rest.to_owned();
        for heredoc in &self.line.heredocs {
            trigger.push('\n');
            trigger.push_str(heredoc.raw.trim_end_matches(['\n', '\r']));
        }
        // Read it now, so that a mistake shows where it is written.
        let inner = Logical {
            keyword,
            word: word.to_owned(),
            rest: trigger_rest.to_owned(),
            heredocs: self.line.heredocs.clone(),
            span: self.line.span,
            first_line: self.line.first_line.clone(),
        };
        Reader {
            line: &inner,
            escape: self.escape,
            warnings: Vec::new(),
        }
        .instruction()?;
        Ok(trigger)
    }
}

const COPY_FLAGS: &[&str] = &["from", "chown", "chmod", "link", "parents", "exclude"];
const ADD_FLAGS: &[&str] = &[
    "chown",
    "chmod",
    "link",
    "exclude",
    "checksum",
    "keep-git-dir",
    "unpack",
];

fn stage_name(name: &str) -> Result<String, Problem> {
    let lower = name.to_ascii_lowercase();
    let valid = lower.starts_with(|c: char| c.is_ascii_lowercase())
        && lower
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    if !valid {
        return Err(Problem::Stage {
            reason: format!(
                "stage name {name:?} must start with a letter and contain only letters, digits, \
                 - _ ."
            ),
        });
    }
    if lower == "scratch" || lower == "context" {
        return Err(Problem::Stage {
            reason: format!("stage name {name:?} is reserved"),
        });
    }
    Ok(lower)
}
