//! What those who come from Docker type first, and what it is called here.

use clap::error::{ContextKind, ContextValue, ErrorKind};

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

/// A flag that means something else at another command, and what is meant here.
const FLAGS: [(&str, &str); 2] = [
    (
        "-e",
        "`-E NAME` names the environment; `-e NAME=VALUE` sets a variable for `havre exec`",
    ),
    (
        "-t",
        "`--timestamps` of `logs` and `--tag` of `image import` have no short form; `-t` is the terminal of `exec`",
    ),
];

/// What to write instead, where that is known.
pub fn hint(error: &clap::Error) -> Option<String> {
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
            let (_, here) = FLAGS.iter().find(|(flag, _)| *flag == word)?;
            Some((*here).to_owned())
        }
        _ => None,
    }
}
