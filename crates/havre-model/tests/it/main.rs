//! The crate from outside: files in, a project or errors out.

mod cases;
mod identify;
