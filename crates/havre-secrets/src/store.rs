//! The store of secrets: its tables, and what is done with them.

mod tables;

pub use tables::{SCHEMA, is_anything_sealed, note_seal};
