//! Output of replicas.

use havre_model::ServiceName;
use serde::{Deserialize, Serialize};

use crate::{EnvironmentId, Timestamp};

/// Which output to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    /// Of which environment.
    pub environment: EnvironmentId,
    /// Empty: all services.
    pub services: Vec<ServiceName>,
    /// Only the last that many lines of each replica; `None`: all that is kept.
    pub tail: Option<u64>,
    /// Only lines at or after that time.
    pub since: Option<Timestamp>,
    /// Go on with what comes, of replicas to come too, until the reader goes away.
    pub follow: bool,
}

/// A line that a replica printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// By which service.
    pub service: ServiceName,
    /// By which of its replicas.
    pub replica: String,
    /// Where it printed.
    pub stream: LogStream,
    /// Without its line end; what is not UTF-8 is replaced.
    pub text: String,
    /// The line goes on in the next one of the same replica and stream: it was too long (256 KiB),
    /// or not finished when it was read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Where a process printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
