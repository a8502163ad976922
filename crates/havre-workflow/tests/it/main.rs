//! Tests of the crate as others use it.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod cases;
mod given;
mod hostile;
mod schema;
