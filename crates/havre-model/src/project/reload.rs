//! How a replica learns that the contents of its secrets are others.

use serde::{Deserialize, Serialize};

/// `services.*.secrets.reload` of havre.yaml.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reload {
    /// Another replica takes its place.
    #[default]
    Restart,
    /// The program reads the files each time.
    None,
    /// Its first process gets a signal, `SIGHUP`.
    Signal(String),
    /// This is run in it.
    Command(Vec<String>),
}

impl Reload {
    /// Whether replicas go on with other contents.
    pub fn is_in_place(&self) -> bool {
        match self {
            Self::Restart => false,
            Self::None | Self::Signal(_) | Self::Command(_) => true,
        }
    }

    pub(super) fn is_restart(&self) -> bool {
        !self.is_in_place()
    }
}
