//! Logins by OpenID Connect: a signed token of an issuer that machine.yaml names is exchanged for a
//! short-lived token of this machine's.
//!
//! ```text
//! JWT ─► read ─► issuer ─► key (cached JWKS) ─► signature ─► aud, exp, nbf, iat
//!     ─► user, or rule ─► pinned numbers ─► taken once ─► Register
//! ```
//!
//! Nothing of a token is believed before its signature is verified, but the name of the issuer and of the key,
//! by which those are chosen among what is configured and what the issuer publishes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use havre_model::grant::Grant;
use havre_model::machine::OidcIssuer;
use havre_store::{Store, StoreError};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::records::{Holder, User};
use crate::register::{AccessError, Issued, NewToken, Register};

mod fetch;
mod jwt;
mod keys;
mod memory;
mod rules;

pub use fetch::FetchError;
pub use jwt::Unproven;
pub use keys::NoKey;

use fetch::Fetcher;
use jwt::Claimed;
use keys::Keys;
use memory::{Memory, Pinned};

/// Whether a token is signed by one of the keys of a JWK Set, and for this audience now.
#[cfg(test)]
pub(crate) fn verified_by(
    token: &str,
    keys: &Value,
    audience: &str,
    now: SystemTime,
) -> Result<(), Unproven> {
    let claimed = jwt::read(token)?;
    let all = keys["keys"].as_array().into_iter().flatten();
    let mut named = all.filter(|key| key["kid"] == claimed.key_id.as_str());
    let key = named.next().and_then(jwt::Key::read);
    claimed.verify(&key.ok_or(Unproven::Signature)?)?;
    claimed.holds(audience, None, now).map(drop)
}

/// How long the login of a program holds, and of a person.
const PROGRAM: Duration = Duration::from_secs(3600);
const PERSON: Duration = Duration::from_secs(12 * 3600);
/// An issuer's clock and ours may differ by this: for so long a token that has expired is remembered.
const REMEMBERED: Duration = Duration::from_secs(120);
/// The longest that an identity token may hold: it is remembered until it expires.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Longest name of whoever logs in.
const MAX_NAME_BYTES: usize = 100;

/// Why nobody was let in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No issuer of machine.yaml has made it.
    #[error("its issuer is none of machine.yaml's")]
    Issuer,
    /// It proves nothing.
    #[error(transparent)]
    Unproven(#[from] Unproven),
    /// The key is not known.
    #[error(transparent)]
    Key(#[from] NoKey),
    /// It was used before.
    #[error("it was exchanged before: each is taken once")]
    Replayed,
    /// No rule and no user fits.
    #[error("no rule of machine.yaml and no user fits {who}")]
    NoRule {
        /// What the issuer says of them.
        who: String,
    },
    /// A name belongs to another than at the first login.
    #[error("{claim} {name:?} had the number {expected} at its first login, and has {found} now")]
    Renamed {
        /// `repository` or `repository_owner`.
        claim: &'static str,
        /// The name.
        name: String,
        /// Before.
        expected: String,
        /// Now.
        found: String,
    },
    /// No token could be made.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The database.
    #[error("cannot write a login down")]
    Store(#[source] StoreError),
}

/// Exchanges tokens.
pub struct Exchange {
    issuers: Vec<Issuer>,
    register: Arc<Register>,
    memory: Memory,
}

struct Issuer {
    settings: OidcIssuer,
    keys: Keys,
}

impl Exchange {
    /// For these issuers. Reads files: blocks.
    pub fn new(
        issuers: &[OidcIssuer],
        register: Arc<Register>,
        store: Arc<Store>,
    ) -> Result<Self, FetchError> {
        let issuers = issuers.iter().map(|settings| {
            let fetcher = Fetcher::new(&settings.issuer, settings.ca_file.as_deref())?;
            Ok(Issuer {
                settings: settings.clone(),
                keys: Keys::new(fetcher),
            })
        });
        Ok(Self {
            issuers: issuers.collect::<Result<_, FetchError>>()?,
            register,
            memory: Memory::new(store),
        })
    }

    /// The issuers.
    pub fn issuers(&self) -> impl Iterator<Item = &OidcIssuer> {
        self.issuers.iter().map(|issuer| &issuer.settings)
    }

    /// Makes a token for whom this one proves.
    pub async fn login(&self, text: &str, now: SystemTime) -> Result<Issued, LoginError> {
        let claimed = jwt::read(text.trim())?;
        let by = claimed.text("iss").unwrap_or_default();
        let mut issuers = self.issuers.iter();
        let issuer = issuers.find(|issuer| issuer.settings.issuer == by);
        let issuer = issuer.ok_or(LoginError::Issuer)?;
        let key = issuer.keys.get(&claimed.key_id).await?;
        claimed.verify(&key)?;
        let expires = claimed.holds(
            &issuer.settings.audience,
            issuer.settings.client_id.as_deref(),
            now,
        )?;
        if expires > now + MAX_LIFETIME {
            return Err(Unproven::Malformed("it holds for more than a day").into());
        }
        let allowed = self.allowed(&issuer.settings, &claimed, now)?;
        let mark = mark(&claimed, by);
        let is_new = self.memory.take_once(mark, expires + REMEMBERED, now);
        if !is_new.map_err(LoginError::Store)? {
            return Err(LoginError::Replayed);
        }
        let name = allowed.name;
        let created_by = format!("{}:{name}", issuer.settings.name);
        let new = NewToken {
            name,
            holder: Holder::Login {
                issuer: issuer.settings.name.clone(),
                subject: allowed.subject,
            },
            grant: allowed.grant,
            created_by,
            lifetime: Some(allowed.lifetime),
        };
        Ok(match allowed.user {
            Some(user) => self.register.create_for(&user, new, now)?,
            None => self.register.create(new, now)?,
        })
    }

    /// What a user entry says of them, or else the first rule that fits.
    fn allowed(
        &self,
        issuer: &OidcIssuer,
        claimed: &Claimed<'_>,
        now: SystemTime,
    ) -> Result<Allowed, LoginError> {
        let subject = claimed.text("sub").filter(|sub| !sub.is_empty());
        let subject = subject.ok_or(Unproven::Malformed("it does not say for whom"))?;
        let subject: String = subject.chars().take(256).collect();
        if let Some(user) = self.register.user_of(&issuer.name, &subject) {
            return Ok(Allowed {
                name: user.name.clone(),
                subject,
                grant: user.grant.clone(),
                lifetime: PERSON,
                user: Some(user),
            });
        }
        let who = name(claimed, &subject);
        let Some(rule) = rules::find(&issuer.rules, &claimed.claims) else {
            return Err(LoginError::NoRule { who });
        };
        for (claim, name, number) in rules::pins(rule, &claimed.claims) {
            let pinned = self.memory.pin(&issuer.name, claim, name, &number, now);
            if let Pinned::Other(expected) = pinned.map_err(LoginError::Store)? {
                return Err(LoginError::Renamed {
                    claim,
                    name: name.to_owned(),
                    expected,
                    found: number,
                });
            }
        }
        Ok(Allowed {
            name: who,
            subject,
            grant: Grant {
                role: rule.role,
                environments: rule.environments.clone(),
            },
            lifetime: PROGRAM,
            user: None,
        })
    }
}

/// Who may do what, and for how long.
struct Allowed {
    name: String,
    subject: String,
    grant: Grant,
    lifetime: Duration,
    /// As they were entered.
    user: Option<User>,
}

/// By what a token is known again. Not its signature: of one text there may be several.
fn mark(claimed: &Claimed<'_>, issuer: &str) -> [u8; 32] {
    match claimed.text("jti") {
        Some(id) => Sha256::digest(format!("jti\n{issuer}\n{id}")).into(),
        None => Sha256::digest(format!("all\n{}", claimed.signed)).into(),
    }
}

/// What history shows: repository and branch of a workflow, the person's name at the issuer, or what else it
/// calls them.
fn name(claimed: &Claimed<'_>, subject: &str) -> String {
    let text = |name| claimed.claims.get(name).and_then(Value::as_str);
    let full = match (text("repository"), text("ref")) {
        (Some(repository), Some(branch)) => format!("{repository}@{branch}"),
        _ => text("preferred_username").unwrap_or(subject).to_owned(),
    };
    let plain = full.chars().filter(|c| !c.is_control());
    let mut name = String::new();
    for c in plain {
        if name.len() + c.len_utf8() > MAX_NAME_BYTES {
            break;
        }
        name.push(c);
    }
    name
}
