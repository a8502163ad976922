//! The typed form of a Dockerfile. Words are as written: quotes and variables are still in them.

use std::time::Duration;

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// Its name in messages.
    pub file: String,
    /// The escape character: `\` or `` ` ``.
    pub escape: char,
    /// ARG instructions before the first FROM.
    pub global_args: Vec<Step>,
    /// In the order of the file; never empty.
    pub stages: Vec<Stage>,
    /// Things that work but are probably not meant.
    pub warnings: Vec<Warning>,
}

/// Something worth telling that does not stop the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Line, counted from 1.
    pub line: u32,
    /// What and what to do.
    pub message: String,
}

/// FROM and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Position in the file, from 0.
    pub index: usize,
    /// `AS name`, lower case.
    pub name: Option<String>,
    /// Image or earlier stage, not expanded.
    pub base: String,
    /// `--platform`, not expanded.
    pub platform: Option<String>,
    /// Where FROM stands.
    pub span: Span,
    /// The FROM line, for messages.
    pub text: String,
    /// The instructions, ARG included.
    pub steps: Vec<Step>,
}

/// Lines of an instruction, counted from 1, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First line.
    pub line: u32,
    /// Last line, heredocs included.
    pub end: u32,
}

/// One instruction with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it stands.
    pub span: Span,
    /// The logical line: continuations joined, without heredoc bodies.
    pub text: String,
    /// What it says.
    pub instruction: Instruction,
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// RUN.
    Run(Run),
    /// CMD.
    Cmd(CommandLine),
    /// ENTRYPOINT.
    Entrypoint(CommandLine),
    /// ENV, in order.
    Env(Vec<(String, String)>),
    /// ARG, name and default.
    Arg(Vec<(String, Option<String>)>),
    /// COPY.
    Copy(Copy),
    /// ADD.
    Add(Copy),
    /// LABEL.
    Label(Vec<(String, String)>),
    /// USER.
    User(String),
    /// WORKDIR.
    Workdir(String),
    /// EXPOSE.
    Expose(Vec<String>),
    /// VOLUME.
    Volume(Vec<String>),
    /// HEALTHCHECK.
    Healthcheck(Health),
    /// STOPSIGNAL.
    StopSignal(String),
    /// SHELL.
    Shell(Vec<String>),
    /// ONBUILD: the trigger's text, read by [`super::parse_trigger`] when it fires.
    Onbuild(String),
    /// MAINTAINER (deprecated): sets the image's author.
    Maintainer(String),
}

impl Instruction {
    /// The keyword.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Run(_) => "RUN",
            Self::Cmd(_) => "CMD",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Arg(_) => "ARG",
            Self::Copy(_) => "COPY",
            Self::Add(_) => "ADD",
            Self::Label(_) => "LABEL",
            Self::User(_) => "USER",
            Self::Workdir(_) => "WORKDIR",
            Self::Expose(_) => "EXPOSE",
            Self::Volume(_) => "VOLUME",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::Shell(_) => "SHELL",
            Self::Onbuild(_) => "ONBUILD",
            Self::Maintainer(_) => "MAINTAINER",
        }
    }
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// Text for the stage's SHELL.
    Shell(String),
    /// `["program", "argument"]`.
    Exec(Vec<String>),
}

/// A document inside the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word after `<<`, without quotes.
    pub name: String,
    /// The body, tabs already stripped for `<<-`.
    pub content: String,
    /// The body as written, with the line that ends it; what a shell gets.
    pub raw: String,
    /// False where the word was quoted: variables stay as they are.
    pub expand: bool,
}

/// RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What to run.
    pub command: CommandLine,
    /// Documents named in the command.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`.
    pub mounts: Vec<RunMount>,
    /// `--network`.
    pub network: RunNetwork,
    /// `--security=insecure`.
    pub insecure: bool,
}

/// `--network` of RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunNetwork {
    /// As the build has it.
    Default,
    /// None.
    None,
    /// The host's.
    Host,
}

/// `--mount` of RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMount {
    /// `type=`, `bind` when not given.
    pub kind: MountKind,
    /// The other options, values not expanded; `None` for a bare word.
    pub options: Vec<(String, Option<String>)>,
}

impl RunMount {
    /// The value of the first option with one of these names.
    pub fn option(&self, names: &[&str]) -> Option<&str> {
        self.options
            .iter()
            .find(|(key, _)| names.contains(&key.as_str()))
            .and_then(|(_, value)| value.as_deref())
    }

    /// Whether a yes/no option is on: bare or `true`; `None` when it is not given.
    pub fn switch(&self, names: &[&str]) -> Option<bool> {
        self.options
            .iter()
            .find(|(key, _)| names.contains(&key.as_str()))
            .map(|(_, value)| matches!(value.as_deref(), None | Some("true" | "1")))
    }
}

/// `type=` of `--mount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    Bind,
    /// A folder kept between builds.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret file.
    Secret,
    /// An SSH agent.
    Ssh,
}

/// COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Paths, patterns or (ADD) addresses.
    pub sources: Vec<String>,
    /// Documents that become files, in the order of their names in the instruction.
    pub heredocs: Vec<Heredoc>,
    /// Where to.
    pub destination: String,
    /// The flags.
    pub flags: CopyFlags,
}

/// Flags of COPY and ADD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyFlags {
    /// `--from`: stage or image.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`: do not look at what earlier layers have at the destination.
    pub link: bool,
    /// `--parents`: keep the folders of the source path.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--checksum` (ADD).
    pub checksum: Option<String>,
    /// `--keep-git-dir` (ADD).
    pub keep_git_dir: bool,
    /// `--unpack` (ADD); `None`: local archives are unpacked.
    pub unpack: Option<bool>,
}

/// HEALTHCHECK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// `NONE`: switch an inherited check off.
    None,
    /// `CMD`.
    Check {
        /// The probe.
        command: CommandLine,
        /// When to probe.
        times: HealthTimes,
    },
}

/// Times of a health check; `None`: the default of whoever runs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthTimes {
    /// `--interval`.
    pub interval: Option<Duration>,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--start-period`.
    pub start_period: Option<Duration>,
    /// `--start-interval`.
    pub start_interval: Option<Duration>,
    /// `--retries`.
    pub retries: Option<u32>,
}
