//! How requests of the world reach services.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ServiceName;

/// Requests for `host` whose path starts with `path` go to `service:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `None`: every host of the project.
    pub host: Option<String>,
    /// Prefix of whole segments, starts with `/`.
    pub path: String,
    /// The service that answers.
    pub service: ServiceName,
    /// Its container port.
    pub port: u16,
    /// Whether `path` is removed before the request is passed on.
    pub strip_prefix: bool,
    /// What the service speaks there.
    #[serde(default, skip_serializing_if = "RouteProtocol::is_http")]
    pub protocol: RouteProtocol,
    /// Whether a person wrote it or it was inferred from the compose file.
    pub inferred: bool,
}

/// What a service speaks behind a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteProtocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2 without TLS, as gRPC servers do.
    H2c,
}

impl RouteProtocol {
    /// The usual one.
    pub fn is_http(&self) -> bool {
        *self == Self::Http
    }
}

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Tls {
    /// From an authority for names that such ones sign for, from this machine's own CA for others.
    Auto,
    /// From an authority, for every name but those of this machine alone.
    Acme,
    /// Signed by this machine's own CA.
    LocalCa,
    /// Given files.
    Files {
        /// PEM chain, leaf first.
        certificate: PathBuf,
        /// PEM key.
        key: PathBuf,
    },
}
