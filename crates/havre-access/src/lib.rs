//! Who may do what: tokens, users, logins by OpenID Connect, this machine's own identity
//! tokens, and how often somebody may be wrong.
//!
//! ```text
//! token text ─► SHA-256 ─► Register (memory, over state.db) ─► Known { holder, grant, lost }
//! JWT of an issuer ─► Exchange ─► short-lived token
//! claims of a job ─► Issuer ─► JWT of this machine
//! uid, group havre ──────► Register ───────────────────────► Grant
//! ```
//!
//! A token's text is shown once and kept nowhere; the database has its hash. All tokens are in memory as
//! well, so that finding out who asks waits for nothing. A change is written down before it counts.
//!
//! Times are [`std::time::SystemTime`]; in the database milliseconds since 1970.

mod attempts;
mod group;
mod issuer;
mod oidc;
mod records;
mod register;
mod tables;
mod token;

pub use attempts::{Attempts, Failures, TooMany};
pub use group::{Group, GroupError, HAVRE_GROUP, is_member, names_of_member};
pub use issuer::{IDENTITY_LIFE, Issuer, IssuerError, IssuerKey, discovery};
pub use oidc::{Exchange, FetchError, LoginError, NoKey, Unproven};
pub use records::{Holder, TokenRecord, User, UserKind};
pub use register::{AccessError, Issued, Known, NewToken, Refused, Register};
pub use tables::SCHEMA;
