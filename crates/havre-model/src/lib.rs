//! Compose files and `havre.yaml` become one validated [`Project`].
//!
//! ```text
//! compose.yaml … ─► read (spans) ─► interpolate ─► merge ─► decode ─► validate ─► Project
//! havre.yaml   ─────────────────────────────────────────────┘
//! ```
//!
//! Nothing here touches the network or a container; the only input and output are the project's
//! own files. Every error carries the place in the user's file that caused it.

mod project;

pub use project::*;
