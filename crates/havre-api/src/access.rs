//! Who has access: tokens, users, logins.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Grant, Timestamp};

/// Make a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCreateRequest {
    /// What it is called; no other token is called so.
    pub name: String,
    /// What it lets its holder do.
    pub grant: Grant,
    /// How long it holds; `None`: until it is revoked.
    pub lifetime_s: Option<u64>,
}

/// A token, without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Names it; no secret.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// Who vouched for its holder, of a login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What it lets its holder do.
    #[serde(flatten)]
    pub grant: Grant,
    /// When it was made.
    pub created: Timestamp,
    /// By whom.
    pub created_by: String,
    /// From then on it lets nobody in.
    pub expires: Option<Timestamp>,
    /// When it was last used, to the hour.
    pub last_used: Option<Timestamp>,
}

/// The text of a token. It is never printed by accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenText(String);

impl TokenText {
    /// As it was made.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// To be shown once, or kept where only its owner reads it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText")
    }
}

/// A token that was made, or a login that went well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedToken {
    /// What to send as a bearer; the daemon does not keep it.
    pub token: TokenText,
    /// What it keeps.
    pub info: TokenInfo,
}

impl IssuedToken {
    /// Whom it lets in, and to what.
    pub(crate) fn told(&self) -> String {
        let TokenInfo {
            issuer,
            name,
            grant,
            ..
        } = &self.info;
        match issuer {
            Some(issuer) => format!("{issuer}:{name}, {grant}"),
            None => format!("{name}, {grant}"),
        }
    }
}

/// Revoke tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRevokeRequest {
    /// Its number or its name.
    pub token: String,
}

/// How a person is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownBy {
    /// As the user of the machine that has the same name, who is in the group `havre`.
    Local,
    /// By an issuer of identities.
    Oidc {
        /// Its name in the machine's configuration.
        issuer: String,
        /// What it calls them (`sub`).
        subject: String,
    },
}

/// A person with rights of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// What they are called.
    pub name: String,
    /// How they are known.
    pub known_by: KnownBy,
    /// What they may do.
    #[serde(flatten)]
    pub grant: Grant,
    /// When they were entered, or changed last.
    pub created: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// Enter a person, or change what they may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserAddRequest {
    /// What they are called.
    pub name: String,
    /// How they are known.
    pub known_by: KnownBy,
    /// What they may do.
    pub grant: Grant,
}

/// Take a person's rights away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRemoveRequest {
    /// What they are called.
    pub name: String,
}

/// Who asks, as the daemon sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// As history and the audit trail name them.
    pub name: String,
    /// What they may do.
    #[serde(flatten)]
    pub grant: Grant,
}

/// Calls that came to nothing because of who asked, since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedCalls {
    /// Without a token that holds.
    pub unauthenticated: u64,
    /// Not looked at: their address had failed too often, or too much was asked at once.
    pub limited: u64,
    /// The last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_address: Option<std::net::IpAddr>,
}

/// Exchange an identity token for a short-lived one of this machine's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OidcLoginRequest {
    /// The signed token (JWT) of an issuer that machine.yaml names.
    pub token: String,
}

impl fmt::Debug for OidcLoginRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OidcLoginRequest")
    }
}

/// How people and programs can log in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginOffers {
    /// Issuers whose tokens are exchanged.
    pub oidc: Vec<OidcOffer>,
}

/// An issuer whose tokens are exchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OidcOffer {
    /// What it is called here.
    pub name: String,
    /// Its address.
    pub issuer: String,
    /// Whom a token must be meant for.
    pub audience: String,
    /// What the command line calls itself there; `None`: people cannot log in by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}
