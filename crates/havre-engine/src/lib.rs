//! Containers on this machine: a shim per container, namespaces, cgroups, exec, health, output.

mod spec;

pub use spec::*;
