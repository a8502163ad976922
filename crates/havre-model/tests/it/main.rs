//! The crate from outside: files in, a project or errors out.

mod bounds;
mod cases;
mod docs;
mod identify;
mod mutations;
mod peer;
mod rules;
mod schema;
mod settings;
