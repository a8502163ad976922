//! Mirrors of repositories: what is mirrored, when it is tried next, whose webhooks are believed, and what GitHub is
//! told of commits.
//!
//! ```text
//! admin ─► Tables: where from, where to ◄─ when: tried, failed, next (pure)
//! webhook ─► Signed: HMAC over the bytes that come ─► now
//! runs ─► Word of a commit ─► Tables: told? ─► Api: POST /repos/O/R/statuses/SHA, until it is
//! ```
//!
//! Times are milliseconds since 1970. Who fetches and pushes is whoever uses this; nothing here runs git or keeps a
//! secret. Formats: [commit statuses](https://docs.github.com/rest/commits/statuses),
//! [signatures of webhooks](https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries).

mod api;
mod signed;
mod tables;
mod when;
mod words;

pub use api::{Api, ApiError};
pub use signed::Signed;
pub use tables::{Fate, Mirror, SCHEMA, State, Tables, Tries, Way, Word};
pub use when::{EVERY, LEAST_EVERY, MOST_EVERY, MOST_TRIES, after_failure};
pub use words::{MOST_CONTEXT, MOST_DESCRIPTION, short};
