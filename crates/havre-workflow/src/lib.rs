//! Workflow files of GitHub Actions become one typed [`Workflow`] in which everything knows its place.
//!
//! ```text
//! .github/workflows/*.yml ─► havre-yaml ─► check (by the table in schema) ─► decode ─► Workflow
//!                                                                              └► calls (between files)
//! ```
//!
//! Every key is honoured, or refused or warned about with file, line and column, before a job starts;
//! so is what an expression may not use where it stands. Nothing here evaluates an expression, reads
//! a file or knows a clock. Times are minutes where GitHub's are.
//!
//! - [`read`] is the way in; [`repository::check`] takes all files of a repository, and [`calls::check`] looks
//!   at what one workflow asks of another.
//! - [`action::read`] reads what an action says of itself: `action.yml`.
//! - [`lock`] reads and writes the lock file of actions.
//! - [`schema`] says what becomes of every key; [`codes`] what the codes of findings mean.
//!
//! Sources: GitHub's published schema `workflow-v1.0.json` and its documentation of the syntax.

pub mod action;
pub mod calls;
mod check;
pub mod codes;
mod decode;
pub mod expression;
mod limits;
pub mod lock;
mod model;
mod read;
pub mod repository;
pub mod schema;
mod text;

pub use havre_yaml::{Diagnostic, LineColumn, Location, Severity, SourceId, Sources, Span};
pub use limits::Limits;
pub use model::*;
pub use read::{Failure, Read, read};
pub use text::format_number;
