//! The daemon itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

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
    /// What a person should look at (a port that is taken, …).
    pub problems: Vec<String>,
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
