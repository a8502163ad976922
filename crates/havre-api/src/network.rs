//! Networks of the machine, which environments share.

use havre_model::ServiceName;
use serde::{Deserialize, Serialize};

use crate::{EnvironmentId, Timestamp};

/// A network that environments share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedNetwork {
    /// Its name.
    pub name: String,
    /// Without a way out of the machine.
    pub internal: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Environments that are on it.
    pub members: Vec<NetworkMember>,
}

/// An environment on a shared network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkMember {
    /// Which.
    pub environment: EnvironmentId,
    /// Its services on the network.
    pub services: Vec<NetworkService>,
}

/// A service on a shared network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkService {
    /// Which.
    pub service: ServiceName,
    /// The name that is nobody else's.
    pub full_name: String,
    /// Names that other environments know it by as well, where they have none such themselves.
    pub names: Vec<String>,
}

/// Make a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCreateRequest {
    /// Its name.
    pub name: String,
    /// Without a way out of the machine.
    #[serde(default)]
    pub internal: bool,
}

/// Remove a network that no environment is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRemoveRequest {
    /// Its name.
    pub name: String,
}
