//! How the daemon is started.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use havre_model::machine::Settings;

use crate::cache_limits::CacheLimits;
use crate::root::Root;

/// How the daemon is started.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// Its folders.
    pub root: Root,
    /// Addresses for plain HTTP.
    pub http: Vec<SocketAddr>,
    /// Addresses for HTTPS.
    pub https: Vec<SocketAddr>,
    /// Addresses and blocks of proxies in front of the machine ([`crate::is_network`]).
    pub trusted_proxies: Vec<String>,
    /// Client connections that one other address may have; none: as the edge sees fit.
    pub connections_per_address: Option<u32>,
    /// What the build cache may take.
    pub build_cache: CacheLimits,
    /// What `machine.yaml` says.
    pub machine: Settings,
    /// What of this was given, by the environment variables that say the same: for who asks.
    pub given: BTreeMap<String, String>,
}
