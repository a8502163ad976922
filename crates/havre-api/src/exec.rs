//! Commands inside a replica.

use std::collections::BTreeMap;

use bytes::Bytes;
use havre_model::ServiceName;
use serde::{Deserialize, Serialize};

use crate::{ApiError, EnvironmentId};

mod frame;
pub(crate) mod websocket;

pub use frame::{FrameError, read_frame, write_frame};
pub(crate) use frame::{MAX_REQUEST_BYTES, read_request_length, write_request};

/// Run a command in a running replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Where.
    pub environment: EnvironmentId,
    /// In which service.
    pub service: ServiceName,
    /// In which replica; `None`: one that is ready.
    pub replica: Option<String>,
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Added to the replica's environment.
    pub env: BTreeMap<String, String>,
    /// `user[:group]`; `None`: the replica's.
    pub user: Option<String>,
    /// `None`: the replica's.
    pub working_dir: Option<String>,
    /// The command reads what the client sends; otherwise its input is empty.
    pub stdin: bool,
    /// Give it a terminal of that size.
    pub tty: Option<TerminalSize>,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// From the client to the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecInput {
    /// Bytes for its standard input, at most [`EXEC_CHUNK_BYTES`].
    Stdin(Bytes),
    /// Its standard input has ended.
    StdinClosed,
    /// The terminal has another size.
    Resize(TerminalSize),
}

/// From the command to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    /// It printed to standard output (or its terminal), at most [`EXEC_CHUNK_BYTES`].
    Stdout(Bytes),
    /// It printed to standard error.
    Stderr(Bytes),
}

/// Most bytes of one piece of input or output.
pub const EXEC_CHUNK_BYTES: usize = 32 * 1024;

/// The protocol named in the `Upgrade` header.
pub const EXEC_PROTOCOL: &str = "havre-exec/1";

/// What travels on an upgraded connection. Both ends use one enum, so that there is one codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecFrame {
    /// Client → server.
    Input(ExecInput),
    /// Server → client.
    Output(ExecOutput),
    /// Server → client, last: the command's exit code, 128 + signal where a signal ended it.
    Exit(i32),
    /// Server → client, last: it could not be run.
    Error(ApiError),
}
