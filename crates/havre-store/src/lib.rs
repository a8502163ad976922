//! Havre's one database, and the thread that alone speaks to it.
//!
//! ```text
//! environments (app)  ─┐ Schema, statements
//! images (image)      ─┼──────────► Store ─► thread `store` ─► state.db
//! a further subsystem ─┘ ◄── answer ──┘      (SQLite, WAL, synchronous=FULL)
//! ```
//!
//! A subsystem owns its tables: it brings their [`Schema`], versioned by itself, and the statements
//! that read and write them. Nobody else names them. What is stored as JSON belongs to the crate that
//! writes it. Times are seconds since the Unix epoch ([`now`]).

mod database;
mod schema;
mod thread;

pub use database::{Store, StoreError, now};
pub use rusqlite;
pub use schema::Schema;
