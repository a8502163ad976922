//! What the daemon and a shim say to each other: one JSON object per SOCK_SEQPACKET packet.
//!
//! Shims outlive upgrades, so both sides ignore fields they do not know, a shim answers a request
//! it does not know with an error, and nothing here is renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spec::Observed;

/// Of this form of the protocol.
pub const VERSION: u32 = 1;

/// Largest packet.
pub const MAX_PACKET: usize = 160 * 1024;

/// From the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Answered by `Hello`.
    Hello,
    /// Answered by `State`.
    State,
    /// Answered by `State`, now and after each change.
    Subscribe,
    /// Signal for the container's first process.
    Signal {
        /// Number.
        signal: i32,
    },
    /// Stop signal, then SIGKILL after the grace; answered at once.
    Stop {
        /// `None`: the container's own.
        grace_ms: Option<u64>,
    },
    /// Stop, then start again; answered at once.
    Restart {
        /// `None`: the container's own.
        grace_ms: Option<u64>,
    },
    /// One more process. With three descriptors these are its standard input, output and error;
    /// with none it gets a terminal, whose master comes with `Terminal`. The process is killed
    /// when the connection ends.
    Exec(Exec),
    /// Answered by `Input` with the write end of the container's standard input.
    Attach,
    /// Comes with descriptors, each where it is said so and in this order: replaces what was given before.
    Entrust {
        /// What masks output.
        filter: bool,
        /// Secrets of the container, for its running processes and those that follow.
        parcel: bool,
        /// What stands for contents in the parcel that can change as the program runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        contents: Option<String>,
    },
    /// The program knows these contents, which it was given, or is told so now.
    Reload {
        /// What stands for them.
        contents: String,
        /// For the container's first process; `None`: it was told already, or reads them each time.
        signal: Option<i32>,
    },
    /// Kill everything and end the shim.
    Shutdown,
}

/// A process for a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the container's environment.
    pub env: BTreeMap<String, String>,
    /// As in the container's spec; `None`: the container's.
    pub user: Option<String>,
    /// `None`: the container's.
    pub cwd: Option<String>,
    /// All capabilities, no seccomp.
    pub privileged: bool,
    /// First size of the terminal: rows, columns.
    pub size: Option<(u16, u16)>,
}

/// From the shim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Who this is.
    Hello {
        /// Of the protocol.
        version: u32,
        /// Of the container's `meta.json`.
        generation: u64,
        /// The shim's process id.
        shim_pid: u32,
    },
    /// The request was carried out or begun.
    Done,
    /// The request was refused.
    Error {
        /// Why, for a person.
        reason: String,
    },
    /// There is no process to do it with.
    NotRunning,
    /// The container as it is.
    State {
        /// All of it.
        observed: Box<Observed>,
    },
    /// The exec'd process runs.
    Started {
        /// Host process id.
        pid: u32,
    },
    /// Comes with the master of the exec'd process's terminal.
    Terminal,
    /// Comes with the write end of the container's standard input.
    Input,
    /// The exec'd process could not be started.
    Failed {
        /// What a shell would return: 126 or 127.
        exit_code: i32,
        /// Why, for a person.
        reason: String,
    },
    /// The exec'd process ended.
    Exited {
        /// Exit code; 128 + signal where a signal ended it.
        code: i32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_newer_version_are_ignored() {
        let text = r#"{"op":"stop","grace_ms":5,"reason":"scale down"}"#;
        assert_eq!(
            serde_json::from_str::<Request>(text).ok(),
            Some(Request::Stop { grace_ms: Some(5) })
        );
        let text = r#"{"op":"exec","argv":["true"],"nice":3}"#;
        let exec = Exec {
            argv: vec!["true".to_owned()],
            ..Exec::default()
        };
        assert_eq!(
            serde_json::from_str::<Request>(text).ok(),
            Some(Request::Exec(exec))
        );
    }
}
