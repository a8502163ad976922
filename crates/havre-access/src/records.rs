//! What is kept of tokens and users.

use std::time::SystemTime;

use havre_model::grant::Grant;

/// For whom a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Whoever holds it: somebody made it by hand.
    Token,
    /// A login: who vouched for whom.
    Login {
        /// The issuer's name in the machine's configuration.
        issuer: String,
        /// Whom it vouched for.
        subject: String,
    },
}

/// A token, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Names it; no secret.
    pub id: String,
    /// What it was called when it was made.
    pub name: String,
    /// For whom it is.
    pub holder: Holder,
    /// What it lets its holder do.
    pub grant: Grant,
    /// When it was made.
    pub created_at: SystemTime,
    /// By whom.
    pub created_by: String,
    /// From then on it lets nobody in.
    pub expires_at: Option<SystemTime>,
    /// When it was last used, to the hour.
    pub last_used_at: Option<SystemTime>,
}

/// A person with rights of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What they are called; of a user of this machine, their user name.
    pub name: String,
    /// How they are known.
    pub kind: UserKind,
    /// What they may do.
    pub grant: Grant,
    /// When they were entered, or changed last.
    pub created_at: SystemTime,
    /// By whom.
    pub created_by: String,
}

/// How a person is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserKind {
    /// As a user of this machine, in the group `havre`.
    Local,
    /// By an issuer of identities.
    Oidc {
        /// Its name in the machine's configuration.
        issuer: String,
        /// What it calls them (`sub`).
        subject: String,
    },
}

impl UserKind {
    /// Whether that issuer calls them so.
    pub(crate) fn is(&self, by: &str, whom: &str) -> bool {
        match self {
            Self::Local => false,
            Self::Oidc { issuer, subject } => issuer == by && subject == whom,
        }
    }
}
