//! What sets up languages: a fitting version is looked for in the tool cache, then on the machine, then fetched.

mod dependencies;
mod files;
mod go;
mod install;
mod java;
mod matchers;
mod node;
mod pnpm;
mod program;
mod python;
mod version;

pub(crate) use dependencies::post;
pub(crate) use go::main as go;
pub(crate) use java::main as java;
pub(crate) use node::main as node;
pub(crate) use pnpm::main as pnpm;
pub(crate) use python::main as python;
