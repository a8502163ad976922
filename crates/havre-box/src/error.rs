//! Why a box could not be made, or not be followed.

use std::io;

use havre_engine::{ControlError, CreateError};
use havre_net::NetError;

use crate::ground::GroundError;
use crate::runtime::RuntimeError;

/// A box could not be made or reached.
#[derive(Debug, thiserror::Error)]
pub enum BoxError {
    /// What was asked for cannot be.
    #[error("{0}")]
    Refused(String),
    /// It was cancelled, or removed, while it was being made.
    #[error("the box was cancelled before its job began")]
    Cancelled,
    /// Too little of the disk is free.
    #[error("{0}")]
    NoRoom(String),
    /// There is one of that id.
    #[error("box {0} is there already")]
    Exists(String),
    /// There is none.
    #[error("there is no box {0}")]
    NotFound(String),
    /// The machine's own files.
    #[error("cannot give the box this machine's programs")]
    Ground(#[from] GroundError),
    /// What the runner is made of.
    #[error("cannot give the box its runner")]
    Runtime(#[from] RuntimeError),
    /// Its network.
    #[error("cannot make the network of the box")]
    Net(#[from] NetError),
    /// A file or folder of the box.
    #[error("cannot {what}")]
    Files {
        /// What was attempted.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// Its container.
    #[error("cannot start the runner of the box")]
    Runner(#[source] CreateError),
    /// A container beside it.
    #[error("cannot start the container")]
    Beside(#[source] CreateError),
    /// A service did not start.
    #[error("service {name} did not start")]
    Service {
        /// Which.
        name: String,
        /// Why.
        source: CreateError,
    },
    /// A service is not fit to be used.
    #[error("service {name} {how}{}", last_words(lines))]
    Unhealthy {
        /// Which.
        name: String,
        /// `is unhealthy`, `ended with code 1`, …
        how: String,
        /// What it said last.
        lines: Vec<String>,
    },
    /// The box did not take what it was told.
    #[error("cannot reach the box")]
    Control(#[from] ControlError),
    /// What the runner tells.
    #[error("cannot read what the runner of the box tells")]
    Spool(#[source] io::Error),
    /// A thread of the daemon's own.
    #[error("a task of the box did not end")]
    Task(#[from] tokio::task::JoinError),
}

impl BoxError {
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }

    pub(crate) fn files(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Files { what, source }
    }
}

fn last_words(lines: &[String]) -> String {
    match lines {
        [] => ", and said nothing".to_owned(),
        _ => format!("; its last lines:\n{}", lines.join("\n")),
    }
}
