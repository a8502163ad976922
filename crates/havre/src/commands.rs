//! One function per command: asks, waits, prints.

use std::process::ExitCode;

use havre_api::Course;
use havre_app::{MachineFileError, Root};

use crate::cli::promotion::ReleasesCommand;
use crate::cli::{Cli, Command, Global, RolloutCommand};
use crate::context::{Context, Destination, destination};
use crate::error::Failure;
use crate::exit::Exit;
use crate::ui::Ui;

pub mod access;
mod audit;
pub mod ca;
mod cert;
pub mod change;
mod ci;
mod context;
pub mod daemon;
mod dial_stdio;
pub mod doctor;
pub mod exec;
mod findings;
mod git;
pub mod image;
mod login;
pub mod logs;
pub mod manual;
mod network;
pub mod plan;
mod project;
mod promotion;
mod ps;
mod releases;
mod schema;
mod secret;
pub mod status;
pub mod up;
mod vars;
pub mod version;
mod why;

/// Runs a command and tells how it ended.
pub fn run(mut cli: Cli) -> ExitCode {
    let ui = Ui::new(cli.global.color, cli.global.quiet);
    let json = cli.command.wants_json();
    let Global { root, context, .. } = cli.global;
    let to = match cli.command.goes_somewhere() {
        true => destination(context.as_deref(), root.is_some()),
        false => Ok(Destination::Here),
    };
    let root = Root::new(root);
    let ended = cli.leading.add_to(cli.command.project()).and(to);
    let ended = ended
        .map_err(Ended::Failure)
        .and_then(|to| dispatch(&Context { root, ui, to }, cli.command));
    match ended {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(Ended::Code(code)) => ExitCode::from(code),
        Err(Ended::Failure(failure)) if failure.is_broken_pipe() => ExitCode::from(Exit::Ok.code()),
        Err(Ended::Failure(failure)) => {
            ui.painted(failure.render(ui.err).trim_end());
            // On one line: it may follow lines of the answer.
            if json && let Err(error) = ui.data(&format!("{}\n", failure.json())) {
                ui.painted(&Failure::from(error).render(ui.err));
            }
            ExitCode::from(failure.exit.code())
        }
    }
}

/// How a command ends when not with an [`Exit`] of its own.
enum Ended {
    /// With the code of the command that ran in a replica.
    Code(u8),
    Failure(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn dispatch(context: &Context, command: Command) -> Result<Exit, Ended> {
    let exit = match command {
        Command::Up(args) => block_on(up::run(context, args))?,
        Command::Check(args) => block_on(project::check(context, &args))?,
        Command::Ci(command) => ci::run(context, command)?,
        Command::Config(args) => project::config(context, &args)?,
        Command::Plan(args) => block_on(plan::run(context, args))?,
        Command::Status(args) => block_on(status::run(context, args))?,
        Command::Why(args) => block_on(why::run(context, args))?,
        Command::Ps(args) => block_on(ps::run(context, args))?,
        Command::Logs(args) => block_on(logs::run(context, args))?,
        Command::Exec(args) => {
            let run = async {
                exec::run(context, args).await.map_err(|failure| Failure {
                    exit: failure.exit.of_exec(),
                    ..failure
                })
            };
            return Err(Ended::Code(block_on(run)?));
        }
        Command::Restart(args) => block_on(change::restart(context, args))?,
        Command::Releases(args) => match args.command {
            Some(ReleasesCommand::Provenance { release, project }) => {
                let environment = project.environment()?;
                block_on(promotion::provenance(context, environment, release))?
            }
            None => block_on(releases::list(context, args.list))?,
        },
        Command::Env(command) => block_on(promotion::env(context, command))?,
        Command::Promote(args) => block_on(promotion::promote(context, *args))?,
        Command::Approve(args) => block_on(promotion::approve(context, args))?,
        Command::Reject(args) => block_on(promotion::reject(context, args))?,
        Command::Freeze(args) => block_on(promotion::freeze(context, args))?,
        Command::Rollback(args) => block_on(releases::rollback(context, args))?,
        Command::Rollout(command) => match command {
            RolloutCommand::Pause(args) => block_on(releases::steer(context, args, Course::Pause))?,
            RolloutCommand::Resume(args) => {
                block_on(releases::steer(context, args, Course::Resume))?
            }
            RolloutCommand::Abort(args) => block_on(releases::steer(context, args, Course::Abort))?,
            RolloutCommand::History(args) => block_on(releases::list(context, args))?,
            RolloutCommand::Undo(args) => block_on(releases::rollback(context, args))?,
        },
        Command::Scale(args) => block_on(change::scale(context, args))?,
        Command::Down(args) => block_on(change::down(context, args))?,
        Command::Audit(command) => block_on(audit::run(context, command))?,
        Command::Image(command) => block_on(image::run(context, command))?,
        Command::Network(command) => block_on(network::run(context, command))?,
        Command::Token(command) => block_on(access::token(context, command))?,
        Command::User(command) => block_on(access::user(context, command))?,
        Command::Secret(command) => block_on(secret::run(context, command))?,
        Command::Vars(command) => block_on(vars::run(context, command))?,
        Command::Cert(command) => block_on(cert::run(context, command))?,
        Command::Ca(command) => block_on(ca::run(context, command))?,
        Command::Context(command) => context::run(context, command)?,
        Command::Login(args) => block_on(login::run(context, args))?,
        Command::DialStdio => dial_stdio::run(context)?,
        Command::Git(command) => git::run(context, command)?,
        Command::GitReceivePack { repository } => {
            git::connect(context, "git-receive-pack", &repository)?
        }
        Command::GitUploadPack { repository } => {
            git::connect(context, "git-upload-pack", &repository)?
        }
        Command::Daemon(args) => daemon::run(context, args)?,
        Command::Doctor(args) => block_on(doctor::run(context, &args))?,
        Command::Schema { machine } => schema::print(context, machine)?,
        Command::Version(args) => block_on(version::run(context, args))?,
        Command::Completions { shell } => manual::completions(context, shell)?,
        Command::Man { dir } => manual::man(context, dir.as_deref())?,
    };
    Ok(exit)
}

/// Why the machine's own file cannot be used.
fn machine_file_failure(error: MachineFileError) -> Failure {
    match error {
        MachineFileError::Content { ref failure, .. } => {
            let mut failed = Failure::new(Exit::Project, error.to_string());
            failed.findings = failure.errors.iter().map(ToString::to_string).collect();
            failed.hint("`havre check --machine` looks at it and starts nothing")
        }
        MachineFileError::Open { ref path } => {
            let hint = format!("chown root {0} && chmod go-w {0}", path.display());
            Failure::new(Exit::Failed, error.to_string()).hint(hint)
        }
        MachineFileError::Readable { ref path } => Failure::new(Exit::Failed, error.to_string())
            .hint(format!("chmod o-r {}", path.display())),
        MachineFileError::Unreadable { ref source, .. } => {
            Failure::new(Exit::Failed, error.to_string()).caused_by(source)
        }
    }
}

/// Runs a command's future; what it left behind (a read of standard input) does not hold the
/// program up.
fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, "cannot start").caused_by(&error))?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}
