//! The crate from outside: files in, a project or errors out.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod bounds;
mod cases;
mod docs;
mod identify;
mod machine;
mod mutations;
mod peer;
mod rules;
mod schema;
mod settings;
mod target;
