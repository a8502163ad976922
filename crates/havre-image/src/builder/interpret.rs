//! What an instruction does to the stage: a change of the configuration, work on the file
//! system, or both. Pure.

mod mount;

use std::collections::BTreeMap;

use crate::config::{Empty, Healthcheck, ImageConfig, RunConfig};
use crate::dockerfile::{
    CommandLine, Copy, Health, HealthTimes, Instruction, Problem, Run, RunNetwork, Step,
    expand_heredoc, expand_words,
};

use super::action::{Action, CopyAction, MakeDir, RunAction, SCRIPT_DIR};
use super::chmod::Chmod;
use super::scope::{Globals, Growth};

/// PATH of a stage whose image sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a stage inherits from the one it starts from, beside the image's configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables {
    args: BTreeMap<String, String>,
    grown: usize,
}

impl Variables {
    /// What they take.
    pub fn bytes(&self) -> usize {
        let pairs = self.args.iter();
        pairs.map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// A stage under way.
pub(super) struct State<'a> {
    /// The image so far, without its layers.
    pub config: ImageConfig,
    /// What ARG set and no ENV since, also in stages below; it hides what the image's configuration
    /// says.
    args: BTreeMap<String, String>,
    growth: Growth,
    /// CMD was given in this stage, so that ENTRYPOINT leaves it.
    cmd_given: bool,
    escape: char,
    globals: &'a Globals,
}

impl<'a> State<'a> {
    /// A stage that starts from `base`, with the variables of the stage that made it.
    pub fn new(
        base: ImageConfig,
        inherited: Variables,
        escape: char,
        globals: &'a Globals,
    ) -> Self {
        let mut config = base;
        config.run.on_build.clear();
        if variable(&config.run, "PATH").is_none() {
            config.run.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        Self {
            config,
            args: inherited.args,
            growth: Growth::from(inherited.grown),
            cmd_given: false,
            escape,
            globals,
        }
    }

    /// Applies an instruction.
    pub fn apply(&mut self, step: &Step) -> Result<Action, Problem> {
        match &step.instruction {
            Instruction::Run(run) => return self.run(run).map(Action::Run),
            Instruction::Copy(copy) => return self.copy("COPY", copy).map(Action::Copy),
            Instruction::Add(copy) => return self.copy("ADD", copy).map(Action::Copy),
            Instruction::Workdir(path) => {
                let path = self.expand(path)?;
                if path.is_empty() {
                    return Err(wrong("WORKDIR", &path, "is empty"));
                }
                let path = absolute(self.cwd(), &path);
                self.config.run.working_dir.clone_from(&path);
                let user = self.config.run.user.clone();
                return Ok(Action::MakeDir(MakeDir { path, user }));
            }
            Instruction::Arg(names) => self.arg(names)?,
            Instruction::Env(pairs) => {
                for (name, value) in self.pairs("ENV", pairs)? {
                    set_variable(&mut self.config.run, &name, &value);
                    self.args.remove(&name);
                }
            }
            Instruction::Label(pairs) => {
                let pairs = self.pairs("LABEL", pairs)?;
                self.config.run.labels.extend(pairs);
            }
            Instruction::Cmd(line) => {
                self.config.run.cmd = Some(self.argv(line));
                self.cmd_given = true;
            }
            Instruction::Entrypoint(line) => {
                self.config.run.entrypoint = Some(self.argv(line)).filter(|argv| !argv.is_empty());
                if !self.cmd_given {
                    self.config.run.cmd = None;
                }
            }
            Instruction::User(user) => {
                // Empty, as a variable may be, is root.
                self.config.run.user = self.expand(user)?;
            }
            Instruction::Expose(ports) => self.expose(ports)?,
            Instruction::Volume(paths) => {
                for path in paths {
                    let path = self.expand(path)?;
                    if path.is_empty() {
                        return Err(wrong("VOLUME", &path, "is empty"));
                    }
                    self.config.run.volumes.insert(path, Empty {});
                }
            }
            Instruction::Healthcheck(health) => {
                self.config.run.healthcheck = Some(self.healthcheck(health));
            }
            Instruction::StopSignal(signal) => {
                let signal = self.expand(signal)?;
                let number = signal.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n));
                let name = signal.to_ascii_uppercase();
                let named = name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-".contains(c))
                    && name.starts_with(|c: char| c.is_ascii_uppercase());
                if !number && !named {
                    return Err(wrong(
                        "STOPSIGNAL",
                        &signal,
                        "is neither a name nor a number",
                    ));
                }
                self.config.run.stop_signal = Some(signal);
            }
            Instruction::Shell(argv) => self.config.run.shell = Some(argv.clone()),
            Instruction::Onbuild(trigger) => self.config.run.on_build.push(trigger.clone()),
            Instruction::Maintainer(name) => self.config.author = Some(name.clone()),
        }
        Ok(Action::Configure)
    }

    /// The working directory; absolute.
    pub fn cwd(&self) -> &str {
        match self.config.run.working_dir.as_str() {
            "" => "/",
            path => path,
        }
    }

    /// What a stage on top of this one inherits beside the configuration.
    pub fn variables(&self) -> Variables {
        Variables {
            args: self.args.clone(),
            grown: self.growth.bytes(),
        }
    }

    /// A variable as an instruction sees it: of ARG and ENV the later one counts.
    fn lookup(&self, name: &str) -> Option<String> {
        self.args
            .get(name)
            .cloned()
            .or_else(|| variable(&self.config.run, name).map(str::to_owned))
    }

    fn expand(&self, word: &str) -> Result<String, Problem> {
        let lookup = |name: &str| self.lookup(name);
        self.growth.expand(word, self.escape, &lookup)
    }

    /// All pairs see the variables as they were before the instruction.
    fn pairs(
        &self,
        keyword: &str,
        pairs: &[(String, String)],
    ) -> Result<Vec<(String, String)>, Problem> {
        let mut expanded = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let name = self.expand(name)?;
            if name.is_empty() {
                return Err(wrong(keyword, &name, "the name is empty"));
            }
            expanded.push((name, self.expand(value)?));
        }
        Ok(expanded)
    }

    fn arg(&mut self, names: &[(String, Option<String>)]) -> Result<(), Problem> {
        for (name, default) in names {
            let name = self.expand(name)?;
            let value = match (self.globals.given(&name), default) {
                (Some(value), _) => Some(value),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.globals.inherited(&name),
            };
            if let Some(value) = value {
                self.args.insert(name, value);
            }
        }
        Ok(())
    }

    fn shell(&self) -> Vec<String> {
        match &self.config.run.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        }
    }

    fn argv(&self, line: &CommandLine) -> Vec<String> {
        match line {
            CommandLine::Exec(argv) => argv.clone(),
            CommandLine::Shell(text) if text.is_empty() => Vec::new(),
            CommandLine::Shell(text) => {
                let mut argv = self.shell();
                argv.push(text.clone());
                argv
            }
        }
    }

    fn run(&self, run: &Run) -> Result<RunAction, Problem> {
        let (command, script) = command_and_script(run);
        let mut env = BTreeMap::new();
        for pair in &self.config.run.env {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            env.insert(name.to_owned(), value.to_owned());
        }
        env.extend(self.args.clone());
        let mut proxies = self.globals.proxies();
        proxies.retain(|name, _| !env.contains_key(name));
        let mounts: Result<_, Problem> = run.mounts.iter().map(|mount| self.mount(mount)).collect();
        Ok(RunAction {
            argv: self.argv(&command),
            env,
            proxies,
            user: self.config.run.user.clone(),
            cwd: self.cwd().to_owned(),
            network: run.network != RunNetwork::None,
            mounts: mounts?,
            script,
        })
    }

    fn copy(&self, keyword: &'static str, copy: &Copy) -> Result<CopyAction, Problem> {
        let flags = &copy.flags;
        let mut sources = Vec::new();
        for source in &copy.sources {
            let source = self.expand(source)?;
            if keyword == "ADD" && is_remote(&source) {
                return Err(Problem::Unsupported {
                    what: format!("ADD {source}"),
                    hint: "ADD takes local files only; fetch it in a RUN step, or before the build"
                        .to_owned(),
                });
            }
            sources.push(source);
        }
        let mut documents = Vec::new();
        for heredoc in &copy.heredocs {
            let content = if heredoc.expand {
                expand_heredoc(&heredoc.content, &|name| self.lookup(name))?
            } else {
                heredoc.content.clone()
            };
            documents.push((heredoc.name.clone(), content));
        }
        let destination = self.expand(&copy.destination)?;
        let ends_as_folder =
            |path: &str| path.ends_with('/') || path.ends_with("/.") || [".", ""].contains(&path);
        let into_folder = ends_as_folder(&destination);
        let given = |text: &Option<String>| -> Result<Option<String>, Problem> {
            let text = text.as_ref().map(|text| self.expand(text)).transpose()?;
            Ok(text.filter(|text| !text.is_empty()))
        };
        let chmod = match given(&flags.chmod)? {
            None => None,
            Some(text) => Some(Chmod::parse(&text).map_err(|reason| {
                let flag = "chmod".to_owned();
                Problem::Flag {
                    instruction: keyword.to_owned(),
                    flag,
                    reason,
                }
            })?),
        };
        let exclude: Result<Vec<String>, Problem> = flags
            .exclude
            .iter()
            .map(|pattern| self.expand(pattern))
            .collect();
        Ok(CopyAction {
            keyword,
            from: flags.from.clone(),
            several: sources.len() + documents.len() > 1,
            mirror: false,
            sources,
            documents,
            destination: absolute(self.cwd(), &destination),
            into_folder,
            chown: given(&flags.chown)?,
            chmod,
            link: flags.link,
            parents: flags.parents,
            exclude: exclude?,
            unpack: keyword == "ADD" && flags.unpack != Some(false),
        })
    }

    fn expose(&mut self, ports: &[String]) -> Result<(), Problem> {
        for port in ports {
            let words = expand_words(port, self.escape, &|name| self.lookup(name))?;
            self.growth
                .count(port, words.iter().map(String::len).sum())?;
            for text in words {
                for port in exposed(&text).ok_or_else(|| {
                    wrong(
                        "EXPOSE",
                        &text,
                        "must be a port or range like 80, 53/udp, 8000-8010",
                    )
                })? {
                    self.config.run.exposed_ports.insert(port, Empty {});
                }
            }
        }
        Ok(())
    }

    fn healthcheck(&self, health: &Health) -> Healthcheck {
        let Health::Check { command, times } = health else {
            return Healthcheck {
                test: vec!["NONE".to_owned()],
                ..Healthcheck::default()
            };
        };
        let test = match command {
            CommandLine::Exec(argv) => {
                let mut test = vec!["CMD".to_owned()];
                test.extend(argv.iter().cloned());
                test
            }
            CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
        };
        let HealthTimes {
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } = times;
        let nanoseconds = |time: &Option<std::time::Duration>| {
            time.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
        };
        Healthcheck {
            test,
            interval: nanoseconds(interval),
            timeout: nanoseconds(timeout),
            start_period: nanoseconds(start_period),
            start_interval: nanoseconds(start_interval),
            retries: retries.map_or(0, i64::from),
        }
    }
}

/// The command with its heredocs put back for the shell; or a script of its own.
fn command_and_script(run: &Run) -> (CommandLine, Option<(String, String)>) {
    let CommandLine::Shell(text) = &run.command else {
        return (run.command.clone(), None);
    };
    let Some(first) = run.heredocs.first() else {
        return (run.command.clone(), None);
    };
    let alone = run.heredocs.len() == 1
        && text
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .starts_with("<<")
        && !text.contains(char::is_whitespace)
        && !text.contains([';', '|', '&', '>']);
    if alone && first.content.starts_with("#!") {
        let path = format!("{SCRIPT_DIR}/{}", first.name);
        let script = (first.name.clone(), first.content.clone());
        return (CommandLine::Shell(path), Some(script));
    }
    if alone {
        return (CommandLine::Shell(first.content.clone()), None);
    }
    let mut whole = text.clone();
    for heredoc in &run.heredocs {
        whole.push('\n');
        whole.push_str(heredoc.raw.trim_end_matches(['\n', '\r']));
    }
    (CommandLine::Shell(whole), None)
}

fn wrong(instruction: &str, value: &str, reason: &str) -> Problem {
    Problem::Value {
        instruction: instruction.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"]
        .iter()
        .any(|p| source.starts_with(p))
}

/// `path` from `cwd`, without `.`, `..` and double slashes; `..` ends at the root.
pub(super) fn absolute(cwd: &str, path: &str) -> String {
    let from = if path.starts_with('/') { "" } else { cwd };
    let mut parts: Vec<&str> = Vec::new();
    for part in from.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `80`, `53/udp`, `8000-8002/tcp`; a host part before `:` is dropped as by Docker.
fn exposed(text: &str) -> Option<Vec<String>> {
    let text = text.rsplit(':').next()?;
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return None;
    }
    let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
    let (low, high) = (low.parse::<u16>().ok()?, high.parse::<u16>().ok()?);
    (low > 0 && low <= high).then(|| {
        (low..=high)
            .map(|port| format!("{port}/{protocol}"))
            .collect()
    })
}

fn variable<'r>(run: &'r RunConfig, name: &str) -> Option<&'r str> {
    run.env
        .iter()
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn set_variable(run: &mut RunConfig, name: &str, value: &str) {
    let pair = format!("{name}={value}");
    let same = |old: &&mut String| {
        old.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    match run.env.iter_mut().find(same) {
        Some(old) => *old = pair,
        None => run.env.push(pair),
    }
}
