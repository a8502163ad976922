//! The crate from outside, with real files, mounts and registries. Needs root.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod builder;
mod fake;
mod layers;
mod pull;
mod push;
mod registry;
mod store;
mod support;
mod transfer;
mod unpack;
