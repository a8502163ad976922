//! The audit trail: who did what, when, from where, and what came of it. It never holds a value.
//!
//! ```text
//! Entry ─► Trail ─► record (canonical JSON) ─► hash = SHA-256(domain, hash before, record) ─► state.db
//!                                                 └► head: sequence, hash, MAC ─► state.db, audit.head
//! verify: rows in order ─► Verifier (pure) ◄─ head, cut, lines of audit.head
//! ```
//!
//! Each record's hash covers the one before it, so that none can be edited, removed or moved without
//! all that follow changing too. The newest one, the *head*, carries a MAC by a key that is sealed
//! ([`Key`]), and stands a second time in a file outside the database: who changes the database alone,
//! or puts an old copy of it back, is found out. Who has root on the running machine can open the key and
//! write all of it anew; only a head that was noted elsewhere ([`Head`]) tells then.
//!
//! What is in the trail grows within bounds ([`Retention`]): the oldest records are cut off, by a record that
//! says so and a signed checkpoint with which the chain goes on.
//!
//! The format is documented for others in `docs/audit.md`, with a program of twenty lines that checks an
//! export. Hash and MAC are SHA-256 and HMAC-SHA-256 (RFC 6234, RFC 2104), the canonical form is RFC 8785.

mod anchor;
mod chain;
mod flood;
mod head;
mod record;
mod retention;
mod tables;
mod trail;
mod verify;

pub use chain::{Hash, Key, link};
pub use head::Head;
pub use record::{Entry, Kind, Outcome, Principal, Record};
pub use retention::Retention;
pub use tables::{Query, SCHEMA, Shown};
pub use trail::{AppendError, Chained, Cut, ExportError, Trail, VerifyError};
pub use verify::{Fault, Verdict};
