//! The crate from outside, with real files, mounts and registries. Needs root.

mod layers;
mod store;
mod support;
mod unpack;
