//! What those who come from Docker type first, and what it is called here.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::Cli;

/// Docker's word, and what does that here.
const DOCKER: [(&str, &str); 27] = [
    ("abort", "`havre rollout abort`"),
    ("attach", "`havre logs -f SERVICE`"),
    (
        "build",
        "`havre up` builds what changed; `--no-cache` all of it",
    ),
    ("compose", "leave that word out: `havre up`"),
    ("connect", NETWORKS),
    ("cp", "`havre exec SERVICE cat FILE > FILE`"),
    ("create", "`havre up`"),
    ("disconnect", NETWORKS),
    ("events", "`havre releases`, and `havre logs -f`"),
    ("images", "`havre image ls`"),
    ("inspect", "`havre why SERVICE`"),
    ("kill", STOP),
    ("ls", "`havre status`"),
    ("pause", "`havre rollout pause`"),
    ("port", "`havre status`"),
    ("pull", "`havre up --pull`"),
    ("resume", "`havre rollout resume`"),
    ("rm", STOP),
    (
        "run",
        "`havre exec SERVICE COMMAND`; what runs once per release is a job or a `pre_start`",
    ),
    ("start", "`havre up`, or `havre scale SERVICE=1`"),
    ("stats", "`havre ps`"),
    ("stop", STOP),
    ("top", "`havre ps`"),
    ("unpause", "`havre rollout resume`"),
    ("validate", "`havre check`"),
    ("volume", VOLUMES),
    ("volumes", VOLUMES),
];
const STOP: &str = "`havre down` (named volumes stay), or `havre scale SERVICE=0`";
const NETWORKS: &str =
    "the compose file says who is on a network: `external: true` under `networks`";
const VOLUMES: &str =
    "`havre config --volumes` lists them, `havre down --volumes` removes those of an environment";

/// What docker compose takes before the command and these commands behind it.
const BEHIND: [&str; 11] = [
    "-p",
    "--project",
    "--project-name",
    "-e",
    "--environment",
    "-f",
    "--file",
    "--env-file",
    "--profile",
    "-C",
    "--project-directory",
];

/// What to write instead, where that is known.
pub fn hint(error: &clap::Error, args: &[OsString]) -> Option<String> {
    let named = |kind| match error.get(kind)? {
        ContextValue::String(word) => Some(word.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = named(ContextKind::InvalidSubcommand)?;
            let (_, here) = DOCKER.iter().find(|(docker, _)| *docker == word)?;
            Some((*here).to_owned())
        }
        ErrorKind::UnknownArgument => {
            let word = named(ContextKind::InvalidArg)?;
            let at = args.iter().position(|arg| {
                arg.to_str()
                    .is_some_and(|arg| arg.split('=').next() == Some(word))
            })?;
            let commands = Cli::command();
            let is_command =
                |arg: &OsString| commands.get_subcommands().any(|one| one.get_name() == arg);
            (BEHIND.contains(&word) && !args[..at].iter().any(is_command)).then(|| {
                let known = match word {
                    "--project-name" => "--project",
                    "--project-directory" => "-C",
                    word => word,
                };
                format!("it belongs behind the command: `havre COMMAND {known} …`")
            })
        }
        _ => None,
    }
}
