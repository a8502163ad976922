//! The command line: what can be said, and where it leads.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use havre_app::Share;

use crate::exit::Exit;
use crate::paint::ColorChoice;
use crate::target::{FolderArgs, LeadingArgs, LoadArgs, Named, ProjectArgs};

pub mod ci;
pub mod git;
pub mod mirror;
pub mod promotion;
pub mod runs;
pub mod secret;
pub mod values;
pub mod vars;

use ci::CiCommand;
use git::GitCommand;

/// All of production for a compose application, in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "havre",
    version,
    after_help = Exit::help(),
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(flatten)]
    pub leading: LeadingArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Args, Debug)]
pub struct Global {
    /// Keep everything below this folder instead of /var/lib/havre and /run/havre
    #[arg(
        long,
        env = "HAVRE_ROOT",
        hide_env_values = true,
        value_name = "DIR",
        global = true,
        help_heading = "Global options"
    )]
    pub root: Option<PathBuf>,
    /// Where to go: a context (`havre context`), or the address of a daemon
    #[arg(
        short = 'c',
        long,
        env = "HAVRE_CONTEXT",
        hide_env_values = true,
        value_name = "NAME",
        global = true,
        help_heading = "Global options"
    )]
    pub context: Option<String>,
    /// When to use colours
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        global = true,
        help_heading = "Global options"
    )]
    pub color: ColorChoice,
    /// Print errors only
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring an environment to what the project's files say
    Up(UpArgs),
    /// Check the project's files and report every problem
    Check(CheckArgs),
    /// Workflows: check and explain their files, run them here, see and steer the runs of a daemon
    #[command(subcommand)]
    Ci(CiCommand),
    /// Show the project as one compose file: merged, interpolated, secrets masked
    Config(ConfigArgs),
    /// Show what `up` would do, and do nothing
    Plan(PlanArgs),
    /// Show environments, their services and where they answer
    Status(StatusArgs),
    /// Explain why a service is as it is, on one screen
    Why(WhyArgs),
    /// List replicas
    Ps(PsArgs),
    /// Show the output of replicas
    Logs(LogsArgs),
    /// Run a command in a running replica
    Exec(ExecArgs),
    /// Replace replicas by new ones of the same release
    Restart(RestartArgs),
    /// List releases: what each changed and what became of it
    Releases(ReleasesTopArgs),
    /// List environments, what has to hold before anything comes in, and what waits
    #[command(subcommand)]
    Env(promotion::EnvCommand),
    /// Bring a release of one environment, by the same images, to another
    Promote(Box<promotion::PromoteArgs>),
    /// Agree with a promotion
    Approve(promotion::AnswerArgs),
    /// Say no to a promotion
    Reject(promotion::AnswerArgs),
    /// Let nothing new come into an environment
    Freeze(promotion::FreezeArgs),
    /// Go back to an earlier release
    Rollback(RollbackArgs),
    /// Pause, resume or abort the current rollout; list releases, or roll back
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Change the number of replicas
    Scale(ScaleArgs),
    /// Take an environment down
    Down(DownArgs),
    /// Show who did what, and verify that the record of it is whole
    #[command(subcommand)]
    Audit(AuditCommand),
    /// List, import and remove images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Create, list and remove networks that environments share
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Create, list and revoke tokens: access from elsewhere, for programs and people
    #[command(subcommand)]
    Token(TokenCommand),
    /// Say what people may do: members of the group `havre`, logins of an issuer
    #[command(subcommand)]
    User(UserCommand),
    /// Set, read and list secrets, and the keys they are kept under
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Set, list and remove variables that workflows read as `vars`
    #[command(subcommand)]
    Vars(vars::VarsCommand),
    /// Certificates of hosts: list, renew, import, and why one is as it is
    #[command(subcommand)]
    Cert(CertCommand),
    /// This machine's own certificate authority
    #[command(subcommand)]
    Ca(CaCommand),
    /// Add, list and choose the daemons that commands go to
    #[command(subcommand)]
    Context(ContextCommand),
    /// Keep a token for a context that is reached over HTTPS
    Login(LoginArgs),
    /// Where a project's repository is, for `git push`, and the password for it
    #[command(subcommand)]
    Git(GitCommand),
    /// Take a push for git at the other end
    #[command(hide = true)]
    GitReceivePack {
        /// As git names it: /PROJECT.git
        repository: String,
    },
    /// Answer a fetch for git at the other end
    #[command(hide = true)]
    GitUploadPack {
        /// As git names it: /PROJECT.git
        repository: String,
    },
    /// Pass standard input and output on to the daemon's socket
    #[command(hide = true)]
    DialStdio,
    /// Run the control plane in the foreground, stop it, or have systemd run it
    Daemon(DaemonArgs),
    /// Check whether this machine has what Havre needs, or a project for traps
    Doctor(DoctorArgs),
    /// Print the JSON Schema of havre.yaml, for editors
    Schema {
        /// That of the machine's own file, machine.yaml
        #[arg(long)]
        machine: bool,
    },
    /// Show the versions of this command and of the daemon
    Version(JsonArg),
    /// Print a script that completes commands
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual, or write its pages into a folder
    Man {
        /// Write one page per command into this folder
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

impl Command {
    /// Whether the answer is for a program.
    pub fn wants_json(&self) -> bool {
        let json = match self {
            Self::Up(args) => args.json,
            Self::Check(args) => args.form.json,
            Self::Ci(CiCommand::Check(args)) => args.form.json,
            Self::Ci(CiCommand::Explain(args)) => args.json,
            Self::Ci(CiCommand::Lock(args)) => args.json,
            Self::Ci(CiCommand::Run(args)) => args.json,
            Self::Ci(CiCommand::Runs(command)) => return command.wants_json(),
            Self::Doctor(args) => args.form.json,
            Self::Config(args) => args.json,
            Self::Plan(args) => args.json,
            Self::Status(args) => args.json,
            Self::Why(args) => args.json,
            Self::Ps(args) => args.json,
            Self::Logs(args) => args.json,
            Self::Restart(args) => args.json,
            Self::Releases(args) => args.list.json,
            Self::Env(command) => return command.wants_json(),
            Self::Promote(args) => args.json,
            Self::Approve(args) | Self::Reject(args) => args.json,
            Self::Freeze(args) => args.json,
            Self::Rollback(args) => args.json,
            Self::Rollout(command) => match command {
                RolloutCommand::Pause(args)
                | RolloutCommand::Resume(args)
                | RolloutCommand::Abort(args) => args.json,
                RolloutCommand::History(args) => args.json,
                RolloutCommand::Undo(args) => args.json,
            },
            Self::Scale(args) => args.json,
            Self::Down(args) => args.json,
            Self::Audit(AuditCommand::Log(args)) => args.json,
            Self::Audit(AuditCommand::Verify { json, .. }) => *json,
            Self::Image(ImageCommand::Ls(json))
            | Self::Image(ImageCommand::Import { json, .. })
            | Self::Image(ImageCommand::Rm { json, .. })
            | Self::Image(ImageCommand::Prune { json, .. })
            | Self::Network(NetworkCommand::Create { json, .. })
            | Self::Network(NetworkCommand::Ls(json))
            | Self::Network(NetworkCommand::Inspect { json, .. })
            | Self::Network(NetworkCommand::Rm { json, .. })
            | Self::Token(TokenCommand::Create { json, .. })
            | Self::Token(TokenCommand::Ls(json))
            | Self::Token(TokenCommand::Revoke { json, .. })
            | Self::User(UserCommand::Add { json, .. })
            | Self::User(UserCommand::Ls(json))
            | Self::User(UserCommand::Rm { json, .. })
            | Self::Context(ContextCommand::Ls(json) | ContextCommand::Show { json, .. })
            | Self::Version(json) => *json,
            Self::Secret(command) => return command.wants_json(),
            Self::Vars(command) => return command.wants_json(),
            Self::Git(GitCommand::Mirror(command)) => return command.wants_json(),
            Self::Cert(CertCommand::Ls(json) | CertCommand::Why { json, .. }) => *json,
            Self::Exec(_)
            | Self::Audit(AuditCommand::Export { .. })
            | Self::Image(ImageCommand::Provenance { .. })
            | Self::Cert(CertCommand::Renew { .. } | CertCommand::Import { .. })
            | Self::Ca(_)
            | Self::Context(_)
            | Self::Login(_)
            | Self::Git(GitCommand::Remote(_) | GitCommand::Credential { .. })
            | Self::GitReceivePack { .. }
            | Self::GitUploadPack { .. }
            | Self::DialStdio
            | Self::Daemon(_)
            | Self::Schema { .. }
            | Self::Completions { .. }
            | Self::Man { .. } => return false,
        };
        json.json
    }

    /// Whether it is about a daemon, which may be elsewhere.
    pub fn goes_somewhere(&self) -> bool {
        !matches!(
            self,
            Self::Ci(CiCommand::Check(_) | CiCommand::Lock(_) | CiCommand::Run(_))
                | Self::Context(_)
                | Self::GitReceivePack { .. }
                | Self::GitUploadPack { .. }
                | Self::DialStdio
                | Self::Schema { .. }
                | Self::Completions { .. }
                | Self::Man { .. }
        )
    }

    /// What the command line says of the project, where the command reads one.
    pub fn project(&mut self) -> Option<Named<'_>> {
        Some(match self {
            Self::Up(args) => args.load.named(),
            Self::Check(args) => args.load.named(),
            Self::Config(args) => args.load.named(),
            Self::Plan(args) => args.load.named(),
            Self::Doctor(args) => args.load.named(),
            Self::Status(args) => args.folder.named(),
            Self::Secret(command) => return command.project(),
            Self::Vars(command) => return command.project(),
            Self::Why(args) => args.project.named(),
            Self::Ps(args) => args.project.named(),
            Self::Logs(args) => args.project.named(),
            Self::Exec(args) => args.project.named(),
            Self::Restart(args) => args.project.named(),
            Self::Releases(args) => match &mut args.command {
                Some(promotion::ReleasesCommand::Provenance { project, .. }) => project.named(),
                None => args.list.folder.named(),
            },
            Self::Env(command) => match command {
                promotion::EnvCommand::Ls(args) => args.folder.named(),
                promotion::EnvCommand::Apply(args) => args.load.named(),
                promotion::EnvCommand::Report(args) => args.project.named(),
                promotion::EnvCommand::Show { .. } => return None,
            },
            Self::Promote(args) => args.project.named(),
            Self::Freeze(args) => args.project.named(),
            Self::Rollback(args) => args.project.named(),
            Self::Rollout(command) => match command {
                RolloutCommand::Pause(args)
                | RolloutCommand::Resume(args)
                | RolloutCommand::Abort(args) => args.folder.named(),
                RolloutCommand::History(args) => args.folder.named(),
                RolloutCommand::Undo(args) => args.project.named(),
            },
            Self::Scale(args) => args.project.named(),
            Self::Down(args) => args.folder.named(),
            Self::Git(GitCommand::Remote(args)) => args.folder.named(),
            Self::Git(GitCommand::Mirror(command)) => command.project(),
            Self::Ci(CiCommand::Explain(args)) => args.project.named(),
            Self::Ci(CiCommand::Runs(command)) => return command.project(),
            Self::Git(GitCommand::Credential { .. })
            | Self::GitReceivePack { .. }
            | Self::GitUploadPack { .. }
            | Self::Ci(CiCommand::Check(_) | CiCommand::Lock(_) | CiCommand::Run(_))
            | Self::Approve(_)
            | Self::Reject(_)
            | Self::Audit(_)
            | Self::Image(_)
            | Self::Network(_)
            | Self::Token(_)
            | Self::User(_)
            | Self::Cert(_)
            | Self::Ca(_)
            | Self::Context(_)
            | Self::Login(_)
            | Self::DialStdio
            | Self::Daemon(_)
            | Self::Schema { .. }
            | Self::Version(_)
            | Self::Completions { .. }
            | Self::Man { .. } => return None,
        })
    }
}

/// `--json`.
#[derive(Args, Clone, Copy, Debug)]
pub struct JsonArg {
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// How findings are printed.
#[derive(Args, Clone, Copy, Debug)]
pub struct FindingsForm {
    #[command(flatten)]
    pub json: JsonArg,
    /// Print SARIF 2.1.0, for services that review code
    #[arg(long, conflicts_with = "json")]
    pub sarif: bool,
}

/// `havre up`.
#[derive(Args, Debug)]
pub struct UpArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    /// Build without the layer cache
    #[arg(long)]
    pub no_cache: bool,
    /// Ask registries for newer images
    #[arg(long)]
    pub pull: bool,
    /// Do not wait for the end of the rollout
    #[arg(short, long)]
    pub detach: bool,
    /// Do not wait for what has to hold before anything comes into the environment, for this reason: it is on record
    #[arg(long = "override", value_name = "REASON")]
    pub overridden: Option<String>,
    #[command(flatten)]
    pub entry: promotion::EntryArg,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    /// Check the machine's own file, machine.yaml, and no project
    #[arg(long)]
    pub machine: bool,
    #[command(flatten)]
    pub form: FindingsForm,
}

/// `havre config`.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    /// Show secrets as they are
    #[arg(long)]
    pub reveal: bool,
    /// Say behind each value which file and line it comes from
    #[arg(long)]
    pub source: bool,
    /// Only the names of the services
    #[arg(long, conflicts_with_all = ["images", "volumes", "json", "source"])]
    pub services: bool,
    /// Only the names of the images
    #[arg(long, conflicts_with_all = ["volumes", "json", "source"])]
    pub images: bool,
    /// Only the names of the volumes
    #[arg(long, conflicts_with_all = ["json", "source"])]
    pub volumes: bool,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre doctor`.
#[derive(Args, Debug)]
#[command(mut_arg("path", |path| {
    path.help("Look for traps in the project of this folder instead of at the machine")
}))]
pub struct DoctorArgs {
    /// Say why a rule matters and what to do
    #[arg(long, value_name = "RULE")]
    pub explain: Option<String>,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub form: FindingsForm,
}

/// `havre plan`.
#[derive(Args, Debug)]
pub struct PlanArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre releases`.
#[derive(Args, Debug)]
pub struct ReleasesArgs {
    /// Number of releases to show, the newest first
    #[arg(long = "last", value_name = "N", default_value_t = 10)]
    pub last: u32,
    #[command(flatten)]
    pub folder: FolderArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre releases` with what belongs to it.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ReleasesTopArgs {
    #[command(flatten)]
    pub list: ReleasesArgs,
    #[command(subcommand)]
    pub command: Option<promotion::ReleasesCommand>,
}

/// `havre rollback`.
#[derive(Args, Debug)]
pub struct RollbackArgs {
    /// Its number; without it, the release that served before the one that serves
    #[arg(value_name = "RELEASE")]
    pub release: Option<u64>,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre rollout`.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Pause the current rollout
    Pause(SteerArgs),
    /// Resume a paused rollout
    Resume(SteerArgs),
    /// Abort the current rollout: the release before serves again
    Abort(SteerArgs),
    /// List releases, as `havre releases` does
    History(ReleasesArgs),
    /// Go back to an earlier release, as `havre rollback` does
    Undo(RollbackArgs),
}

/// `havre rollout pause`, `resume` and `abort`.
#[derive(Args, Debug)]
pub struct SteerArgs {
    #[command(flatten)]
    pub folder: FolderArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    pub folder: FolderArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre why`.
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre ps`.
#[derive(Args, Debug)]
pub struct PsArgs {
    /// Only of these services
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Show replicas that ended, too
    #[arg(short, long)]
    pub all: bool,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre logs`. The one command where `-f` is no file: whoever comes from docker or kubectl follows with it.
#[derive(Args, Debug)]
#[command(mut_arg("files", |file| file.short(None)))]
pub struct LogsArgs {
    /// Only of these services
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Follow log output
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines of each replica
    #[arg(short = 'n', long, value_name = "N", value_parser = values::parse_tail, default_value = "all")]
    pub tail: values::Tail,
    /// Only lines since then: a time (2024-05-01T10:00:00Z) or an age (15m, 2h)
    #[arg(long, value_name = "WHEN", value_parser = values::parse_since)]
    pub since: Option<havre_api::Timestamp>,
    /// Show when each line was printed
    #[arg(long)]
    pub timestamps: bool,
    /// Do not show which replica printed a line
    #[arg(long)]
    pub no_prefix: bool,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre exec`.
#[derive(Args, Debug)]
pub struct ExecArgs {
    /// In which service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Program and arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<String>,
    /// Pass standard input on
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// As this user (`user[:group]`)
    #[arg(short, long)]
    pub user: Option<String>,
    /// In this folder
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Set a variable, or pass on one of the caller's
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// In this replica instead of any that is ready
    #[arg(long, value_name = "ID")]
    pub replica: Option<String>,
    #[command(flatten)]
    pub project: ProjectArgs,
}

/// `havre restart`.
#[derive(Args, Debug)]
pub struct RestartArgs {
    /// Only these services
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre scale`.
#[derive(Args, Debug)]
pub struct ScaleArgs {
    /// Service and desired number of replicas
    #[arg(value_name = "SERVICE=N", required = true, value_parser = values::parse_scale)]
    pub replicas: Vec<(String, u32)>,
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre down`.
#[derive(Args, Debug)]
pub struct DownArgs {
    /// Remove named volumes too: what is in them is lost
    #[arg(short, long)]
    pub volumes: bool,
    #[command(flatten)]
    pub folder: FolderArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show who did what, when and from where, the newest last
    Log(AuditLogArgs),
    /// Check that no record was edited, removed or put in
    Verify {
        /// A record that was noted elsewhere, as this command prints it: check that the trail still goes back to it
        #[arg(long = "head", value_name = "NUMBER:HASH", value_parser = values::parse_head)]
        heads: Vec<String>,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Print all records as JSON lines, with the hashes that chain them
    Export {
        /// Only from this record on
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        from: u64,
    },
}

/// `havre audit log`.
#[derive(Args, Debug)]
pub struct AuditLogArgs {
    /// Only since then: a time (2024-05-01T10:00:00Z) or an age (15m, 2h, 30d)
    #[arg(long, value_name = "WHEN", value_parser = values::parse_since)]
    pub since: Option<havre_api::Timestamp>,
    /// Only before then
    #[arg(long, value_name = "WHEN", value_parser = values::parse_since)]
    pub until: Option<havre_api::Timestamp>,
    /// Only by this one: a name, KIND:NAME (token:ci), or an id
    #[arg(long, value_name = "WHO")]
    pub principal: Option<String>,
    /// Only this: up, exec, secret/get, or all that begins so (secret)
    #[arg(long, value_name = "WHAT")]
    pub action: Option<String>,
    /// Only of this project
    #[arg(short, long, value_name = "NAME")]
    pub project: Option<String>,
    /// Only of environments of this name
    #[arg(short = 'E', long, value_name = "NAME")]
    pub environment: Option<String>,
    /// Only the newest N
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub tail: u32,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List stored images
    Ls(JsonArg),
    /// Read images from an OCI layout, a docker-archive or the files of a root file system
    Import {
        /// Folder or tar file, plain or compressed
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Name for the image instead of the names in the archive
        #[arg(long, value_name = "NAME")]
        tag: Option<String>,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Print what is said of where an image comes from: in-toto statements, one a line, the newest first
    Provenance {
        /// Name or digest
        #[arg(value_name = "IMAGE")]
        image: String,
    },
    /// Remove images by name or digest
    Rm {
        /// Name or digest
        #[arg(value_name = "IMAGE", required = true)]
        images: Vec<String>,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Remove what no environment and no name needs
    Prune {
        /// Named images that no environment uses too, and the build cache
        #[arg(short, long)]
        all: bool,
        /// Remove nothing: list all that is stored, what would go, and why
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        json: JsonArg,
    },
}

/// `havre network`.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Create a network that environments join: by `external: true` in their compose files
    Create {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// Without a way out of the machine
        #[arg(long)]
        internal: bool,
        #[command(flatten)]
        json: JsonArg,
    },
    /// List shared networks and the environments on them
    Ls(JsonArg),
    /// Show who is on a network, and by which names others reach it
    Inspect {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Remove networks that no environment is on
    Rm {
        /// Its name
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        #[command(flatten)]
        json: JsonArg,
    },
}

/// A role, and where.
#[derive(Args, Clone, Debug)]
pub struct GrantArgs {
    /// viewer looks, deployer changes what runs, admin does all else
    #[arg(long, value_name = "ROLE", value_parser = values::parse_role)]
    pub role: havre_api::Role,
    /// Where: production (of the project here), shop/production, shop/*, or * for the whole machine; may
    /// be repeated
    #[arg(long = "env", value_name = "ENVIRONMENT", required = true)]
    pub environments: Vec<String>,
    /// The project of environments that are named alone, instead of the one in this folder
    #[arg(short, long, value_name = "NAME")]
    pub project: Option<String>,
}

/// `havre token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token and show it once
    Create {
        /// What it is called; without it, by what it may do
        #[arg(value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        grant: GrantArgs,
        /// How long it holds: 12h, 90d, or never
        #[arg(long, value_name = "AGE", value_parser = values::parse_lifetime, default_value = "90d")]
        expires: values::Lifetime,
        #[command(flatten)]
        json: JsonArg,
    },
    /// List tokens and logins: what they may do, until when, and when they were used last
    Ls(JsonArg),
    /// Revoke tokens: commands and logs that they have under way end too, rollouts go on
    Revoke {
        /// Its number or its name
        #[arg(value_name = "TOKEN", required = true)]
        tokens: Vec<String>,
        #[command(flatten)]
        json: JsonArg,
    },
}

/// `havre user`.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Enter a person, or change what they may do
    Add {
        /// The name of a user of this machine, or any name for one whom an issuer vouches for
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        grant: GrantArgs,
        /// The issuer that vouches for them, as machine.yaml calls it
        #[arg(long, value_name = "ISSUER", requires = "subject")]
        issuer: Option<String>,
        /// What the issuer calls them (`sub`)
        #[arg(long, value_name = "SUBJECT", requires = "issuer")]
        subject: Option<String>,
        #[command(flatten)]
        json: JsonArg,
    },
    /// List people with rights of their own
    Ls(JsonArg),
    /// Take people's rights away, and log them out
    Rm {
        /// Their names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        #[command(flatten)]
        json: JsonArg,
    },
}

/// `havre cert`.
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// List hosts: who signed what serves them, until when, and when the next one is due
    Ls(JsonArg),
    /// Explain a host's certificate: what was tried, the authority's own words, and what to do
    Why {
        /// The host
        #[arg(value_name = "HOST")]
        host: String,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Order a new certificate now; the present one serves until then
    Renew {
        /// The host
        #[arg(value_name = "HOST")]
        host: String,
    },
    /// Serve a certificate that you bring, until its end is near
    Import {
        /// The certificate and those above it, in PEM, the site's own first
        #[arg(value_name = "CERTIFICATE")]
        certificate: PathBuf,
        /// Its key, in PEM
        #[arg(value_name = "KEY")]
        key: PathBuf,
        /// For this host only, instead of all that it names
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
    },
}

/// `havre ca`.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Print the certificate that clients have to trust
    Export {
        /// Write it to this file instead
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Make this machine's programs trust it
    Trust {
        /// Undo that
        #[arg(long)]
        remove: bool,
    },
}

/// `havre context`.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// Add a daemon that commands can go to
    Add(ContextAdd),
    /// List contexts
    Ls(JsonArg),
    /// Choose where commands go that name no context
    Use {
        /// Its name; `local` is this machine
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Remove contexts, and the tokens kept for them
    Rm {
        /// Its name
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Show one context: the one in use where none is named
    Show {
        /// Its name
        #[arg(value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        json: JsonArg,
    },
}

/// `havre context add`.
#[derive(Args, Debug)]
pub struct ContextAdd {
    /// The name to call it by
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where it is: https://HOST[:PORT] or ssh://[USER@]HOST[:PORT]
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// Believe these authorities too when it says who it is
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Have commands go there that name no context
    #[arg(long = "use")]
    pub r#use: bool,
    /// Replace the context of this name
    #[arg(long)]
    pub replace: bool,
}

/// `havre login`.
#[derive(Args, Debug)]
pub struct LoginArgs {
    /// Read the token from standard input instead of asking for it
    #[arg(long)]
    pub token_stdin: bool,
    /// Log in by an issuer of identities instead: as a job of GitHub Actions, or as a person in a browser
    #[arg(long, conflicts_with = "token_stdin")]
    pub oidc: bool,
    /// Which of the server's issuers, by its name there
    #[arg(long, value_name = "NAME", requires = "oidc")]
    pub issuer: Option<String>,
    /// Show the server an identity that is meant for this, where that is not the server's own address
    #[arg(long, value_name = "AUDIENCE", requires = "oidc")]
    pub audience: Option<String>,
    /// Believe the server when it names another issuer, or another client of it, than at the first login, or
    /// that of another context
    #[arg(long, requires = "oidc")]
    pub new_issuer: bool,
    /// Type a code on any device instead of using a browser on this machine
    #[arg(long, requires = "oidc")]
    pub device: bool,
    /// Log in by this identity token (a JWT), as other CI systems write it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["token_stdin", "device"])]
    pub id_token_file: Option<PathBuf>,
}

impl LoginArgs {
    /// Whether an issuer says who it is.
    pub fn is_by_identity(&self) -> bool {
        self.oidc || self.id_token_file.is_some()
    }
}

/// `havre daemon`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DaemonArgs {
    #[command(subcommand)]
    pub command: Option<DaemonCommand>,
    #[command(flatten)]
    pub settings: DaemonSettings,
}

/// What a daemon is run with; `install` takes the same.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonSettings {
    /// Listen here for plain HTTP; may be repeated (0.0.0.0:80 and [::]:80)
    #[arg(
        long,
        env = "HAVRE_HTTP",
        hide_env_values = true,
        value_name = "ADDR",
        value_delimiter = ','
    )]
    pub http: Vec<SocketAddr>,
    /// Listen here for HTTPS; may be repeated (0.0.0.0:443 and [::]:443)
    #[arg(
        long,
        env = "HAVRE_HTTPS",
        hide_env_values = true,
        value_name = "ADDR",
        value_delimiter = ','
    )]
    pub https: Vec<SocketAddr>,
    /// A proxy or CDN in front of this machine: its X-Forwarded-* are believed, and it may have any number
    /// of connections; may be repeated
    #[arg(
        long = "trusted-proxy",
        env = "HAVRE_TRUSTED_PROXIES",
        hide_env_values = true,
        value_name = "ADDR[/BITS]",
        value_delimiter = ',',
        value_parser = network
    )]
    pub trusted_proxies: Vec<String>,
    /// Connections to the proxy that one address may have open (1024)
    #[arg(
        long,
        env = "HAVRE_CONNECTIONS_PER_ADDRESS",
        hide_env_values = true,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub connections_per_address: Option<u32>,
    /// What of the build cache stays however short the disk is: 5GB, or a share of the disk (2%)
    #[arg(
        long,
        env = "HAVRE_BUILD_CACHE_FLOOR",
        hide_env_values = true,
        value_name = "SIZE"
    )]
    pub build_cache_floor: Option<Share>,
    /// The most that the build cache takes (15%)
    #[arg(
        long,
        env = "HAVRE_BUILD_CACHE_CEILING",
        hide_env_values = true,
        value_name = "SIZE"
    )]
    pub build_cache_ceiling: Option<Share>,
}

fn network(text: &str) -> Result<String, String> {
    match havre_app::is_network(text) {
        true => Ok(text.to_owned()),
        false => Err("neither an address nor a block such as 203.0.113.0/24".to_owned()),
    }
}

/// What to do with the daemon other than to run it.
#[derive(Debug, Subcommand)]
pub enum DaemonCommand {
    /// Show what runs, since when, and what its tasks did last
    Status(JsonArg),
    /// Stop the daemon and the edge
    Stop {
        /// Even while environments are up: nobody reaches them until a daemon starts again
        #[arg(long)]
        force: bool,
    },
    /// Have systemd run the daemon: at boot, and again whenever it ends; what is not given stays as the
    /// running daemon, or the unit, has it
    Install(InstallArgs),
    /// Stop the daemon and the edge, and remove the unit of systemd
    Uninstall {
        /// Even while environments are up: nobody reaches them until a daemon starts again
        #[arg(long)]
        force: bool,
    },
}

/// `havre daemon install`: what is not given stays as it is.
#[derive(Args, Debug)]
pub struct InstallArgs {
    #[command(flatten)]
    pub settings: DaemonSettings,
}

#[cfg(test)]
mod tests;
