//! This machine as a place where environments run and images are built: containers and their networks.

use std::sync::Arc;

use havre_engine::Engine;
use havre_net::Net;

use crate::platform::Platform;

/// The parts that need root.
pub(crate) struct Host {
    pub(crate) platform: Arc<Platform>,
    pub(crate) engine: Engine,
    pub(crate) net: Arc<Net>,
}
