//! The service with a real authority (pebble) and a fake of the edge, on loopback.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod edge;
mod failures;
mod issue;
mod world;
