//! Against the router on a port of the loopback: by a plain client, and by GitHub's own.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod artifacts;
mod caches;
mod client;
mod faults;
mod peer;
mod world;
