//! YAML with places: a file's text becomes a tree in which every node knows where it stands, and
//! findings about it are collected with file, line and column.
//!
//! ```text
//! text ─► Sources ─► tree::parse (by a Dialect) ─► Node … what reads it ─► Report ─► Diagnostics
//! ```
//!
//! What a key means is the business of the readers above ([`Dialect`] is all they tell): compose
//! files and `havre.yaml`, and workflow files. Lines and columns count from 1, columns in
//! characters. Nothing here does I/O.

pub mod diagnostic;
pub mod report;
pub mod source;
pub mod suggest;
mod support;
pub mod tree;

pub use diagnostic::{Diagnostic, Location, Severity};
pub use report::Report;
pub use source::{Follow, LineColumn, SourceId, Sources, Span};
pub use support::Support;
pub use tree::{Dialect, Entry, Map, Node, Scalar, Value};
