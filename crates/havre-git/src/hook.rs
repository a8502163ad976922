//! The hooks of a push: this binary once more, started by git as git's user. It says to the daemon what git says, and to the pusher
//! what the daemon says.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::view::{HOOK_NAMES, SOCKET};

/// What the process is called.
const ENTRY: &str = "git-hook";
/// Names the push.
pub(crate) const SECRET: &str = "HAVRE_PUSH";
/// Most that git says of a push, and the daemon reads.
pub(crate) const MOST_TOLD: u64 = 1 << 20;
/// Options of a push.
const MOST_OPTIONS: usize = 100;

/// What a hook tells the daemon: a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub secret: String,
    pub hook: String,
    /// As git gives them, `OLD NEW REFERENCE` a line.
    pub updates: String,
    pub options: Vec<String>,
    /// The folder of the new objects, while they are in quarantine.
    pub incoming: Option<String>,
}

/// What the daemon answers, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// For the pusher.
    Say(String),
    /// The push goes on, or its hook has nothing more to say.
    Accept,
    /// Nothing moves.
    Refuse,
}

impl Answer {
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Say(text) => format!("s{}\n", text.replace('\n', " ")),
            Self::Accept => "a\n".to_owned(),
            Self::Refuse => "r\n".to_owned(),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let line = line.strip_suffix('\n')?;
        match line.split_at_checked(1)? {
            ("s", text) => Some(Self::Say(text.to_owned())),
            ("a", "") => Some(Self::Accept),
            ("r", "") => Some(Self::Refuse),
            _ => None,
        }
    }
}

/// Runs the process of this crate that `name` names; `None` when it names none of them.
pub fn entrypoint(name: &str, args: &[OsString]) -> Option<ExitCode> {
    if name != ENTRY {
        return None;
    }
    let hook = args.first().and_then(|hook| hook.to_str());
    let hook = hook.filter(|hook| HOOK_NAMES.contains(hook));
    let ran = match hook {
        Some(hook) => run(hook, Path::new(SOCKET)),
        None => Err(io::Error::other("no such hook")),
    };
    Some(match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // The pusher may have left.
            writeln!(io::stderr(), "havre cannot look at this push: {error}").ok();
            ExitCode::FAILURE
        }
    })
}

/// Whether the push goes on.
fn run(hook: &str, socket: &Path) -> io::Result<bool> {
    let told = Told {
        secret: env::var(SECRET).map_err(io::Error::other)?,
        hook: hook.to_owned(),
        updates: updates()?,
        options: options()?,
        incoming: incoming(),
    };
    let mut stream = UnixStream::connect(socket)?;
    let mut line = serde_json::to_vec(&told)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answers = BufReader::new(stream);
    let mut err = io::stderr();
    loop {
        let mut line = String::new();
        answers.read_line(&mut line)?;
        match Answer::parse(&line) {
            Some(Answer::Say(text)) => writeln!(err, "{text}")?,
            Some(Answer::Accept) => return Ok(true),
            Some(Answer::Refuse) => return Ok(false),
            None => return Err(io::Error::other("the daemon went away")),
        }
    }
}

fn updates() -> io::Result<String> {
    let mut updates = String::new();
    io::stdin()
        .take(MOST_TOLD + 1)
        .read_to_string(&mut updates)?;
    match updates.len() as u64 > MOST_TOLD / 2 {
        true => Err(io::Error::other("it moves too many references at once")),
        false => Ok(updates),
    }
}

fn options() -> io::Result<Vec<String>> {
    let Ok(count) = env::var("GIT_PUSH_OPTION_COUNT") else {
        return Ok(Vec::new());
    };
    let count: usize = count.parse().map_err(io::Error::other)?;
    if count > MOST_OPTIONS {
        return Err(io::Error::other("it has too many options"));
    }
    let option = |at| env::var(format!("GIT_PUSH_OPTION_{at}")).map_err(io::Error::other);
    (0..count).map(option).collect()
}

fn incoming() -> Option<String> {
    let path = env::var("GIT_QUARANTINE_PATH").ok()?;
    let name = Path::new(&path).file_name()?;
    Some(name.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        for answer in [
            Answer::Say("a: b".to_owned()),
            Answer::Say(String::new()),
            Answer::Accept,
            Answer::Refuse,
        ] {
            assert_eq!(Answer::parse(&answer.line()), Some(answer));
        }
        let one_line = Answer::Say("a\na".to_owned()).line();
        assert_eq!(one_line, "sa a\n");
        for broken in ["", "a", "x\n", "ab\n", "é\n"] {
            assert_eq!(Answer::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn other_processes_are_others() {
        assert!(entrypoint("shim", &[]).is_none());
    }
}
