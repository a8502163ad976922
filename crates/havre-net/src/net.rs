//! What every operation on an instance's networks begins with: its configuration, the locks of
//! environments, and what the ledger gives them.

use crate::config::{NetConfig, check_instance};
use crate::error::NetError;
use crate::files::{self, Lock};
use crate::ledger::{Allocation, Ledger};

/// The networks of one instance.
#[derive(Debug)]
pub struct Net {
    pub(crate) config: NetConfig,
}

impl Net {
    /// Prepares the folders; touches nothing else.
    pub fn new(config: NetConfig) -> Result<Self, NetError> {
        check_instance(&config.instance)?;
        files::make_dir(&config.state_dir)?;
        files::make_dir(&config.locks())?;
        Ok(Self { config })
    }

    pub(crate) fn lock(&self, environment: &str) -> Result<Lock, NetError> {
        Lock::acquire(self.config.locks().join(environment))
    }

    /// The environment's allocation, if it has one.
    pub(crate) fn allocation(&self, environment: &str) -> Result<Allocation, NetError> {
        files::read::<Ledger>(&self.config.ledger())?
            .environments
            .remove(environment)
            .ok_or_else(|| NetError::NotSetUp {
                environment: environment.to_owned(),
            })
    }
}
