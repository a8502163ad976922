//! The daemon itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use havre_model::Capabilities;
use serde::{Deserialize, Serialize};

use crate::{RefusedCalls, Timestamp};

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// Version of its binary.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// The root it was started with; `None`: the machine's own folders.
    pub root: Option<PathBuf>,
    /// Since when it runs.
    pub since: Timestamp,
    /// Addresses for plain HTTP.
    pub http: Vec<SocketAddr>,
    /// Addresses for HTTPS.
    pub https: Vec<SocketAddr>,
    /// What it was started with beside its root, by the environment variables that say the same; `None`
    /// from one that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<BTreeMap<String, String>>,
    /// The edge, when it runs.
    pub edge: Option<EdgeInfo>,
    /// Its long-lived tasks, by name.
    #[serde(default)]
    pub tasks: Vec<TaskReport>,
    /// Calls that were refused because of who asked; `None` from one that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedCalls>,
    /// What a person should look at (a port that is taken, …).
    pub problems: Vec<String>,
    /// What a person should do at some time: said where somebody looks, not by each command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<String>,
}

/// A long-lived task of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Which.
    pub name: String,
    /// Since when it runs.
    pub since: Timestamp,
    /// How often it ended before its time and was started again.
    pub restarts: u32,
    /// What came of its last round; `None` before one has ended, and of one that has no rounds.
    pub last: Option<TaskResult>,
}

/// What came of a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskResult {
    /// When it ended.
    pub at: Timestamp,
    /// Whether it came to nothing.
    pub failed: bool,
    /// In a sentence.
    pub text: String,
}

/// What environments run on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetInfo {
    /// Its name, and what it cannot do.
    pub capabilities: Capabilities,
    /// Whether somebody has put an authority of his own on the machine that builds.
    #[serde(default)]
    pub host_ca_detected: bool,
}

/// The proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeInfo {
    /// Its process id.
    pub pid: u32,
    /// Version of its binary.
    pub version: String,
}

/// End the daemon and the edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownRequest {
    /// Even while environments are up (`Conflict` otherwise). Their replicas go on running but
    /// nobody routes to them until a daemon starts again.
    pub force: bool,
}

/// The certificate of this machine's own CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaCertificate {
    /// In PEM.
    pub pem: String,
}
