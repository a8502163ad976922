//! This machine as an issuer of identity tokens for jobs of workflows.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Where its tokens are from, and by what keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityIssuer {
    /// Its address, as tokens name it (`iss`); none where no host of the API is configured.
    pub issuer: Option<String>,
    /// The keys that it publishes, the newest first; none before the first token.
    pub keys: Vec<IdentityKey>,
}

/// A public key of the issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityKey {
    /// What tokens call it (`kid`).
    pub id: String,
    /// When it was made.
    pub made: Timestamp,
    /// From when on it signs.
    pub signs_from: Timestamp,
}
