//! Reading Dockerfiles: text in, stages of typed instructions out.
//!
//! ```text
//! text ─ source ─► logical lines (directives, continuations, heredocs)
//!                     └─ reader ─► Dockerfile { stages: [Stage { steps: [Step] }] }
//!                                      └─ builder expands words with `expand` as it goes
//! ```
//!
//! Everything here is pure: no file is opened, no variable is looked up but through the caller.
//! Words keep their quotes and `$` until the builder expands them, because their meaning depends on
//! the ARG and ENV instructions before them. Every error names file, line and the line itself.
//! The rules are those of BuildKit's Dockerfile front end, observed from its documentation and
//! behaviour.

mod error;
mod expand;
mod glob;
mod ignore;
mod instruction;
mod reader;
mod similar;
mod source;
#[cfg(test)]
mod tests;
mod words;

pub use error::{DockerfileError, Problem, excerpt};
pub use expand::{ExpandError, Lookup, expand, expand_heredoc, expand_words};
pub use glob::{GlobError, has_wildcard, matches_name};
pub use ignore::{Ignore, IgnoreError, ParentMatches};
pub use instruction::{
    CommandLine, Copy, CopyFlags, Dockerfile, Health, HealthTimes, Heredoc, Instruction, MountKind,
    Run, RunMount, RunNetwork, Span, Stage, Step, Warning,
};
pub use reader::{parse, parse_trigger};
pub use similar::closest;
