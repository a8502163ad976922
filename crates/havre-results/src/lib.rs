//! Artifacts and caches of jobs, by the protocols of GitHub's clients.
//!
//! ```text
//! job ── token ──► POST /twirp/…ArtifactService|CacheService/<method> ─► names, sizes, digests ─► Store
//!  │     ◄── signed address ──┘
//!  ├──── PUT  /results/upload/<folder>    blocks in any order, then the block list ─► uploads/<folder>/
//!  └──── GET  /results/download/<folder>  ◄────────────────────────── blobs/<folder>/ ◄─ rename ─┘
//! ```
//!
//! A token sees the artifacts of its own run, and the caches of its repository on the refs that it names. What is
//! uploaded is seen once it is finished: its size agrees, and an artifact's SHA-256. Caches give way to others, the
//! least used first, and it is remembered which did and why; artifacts stay until they expire.
//!
//! Errors: a client gets JSON `{"code", "msg"}` of `/twirp`, and XML as Azure's of uploads; a status of 500 only where
//! this machine is at fault, since clients try again for 40 seconds then.
//! Units: bytes; times are milliseconds since 1970 (`_ms`), of tokens and addresses seconds.
//! Sources: what `@actions/artifact` 6.2 and `@actions/cache` 6.3 send; "Put Block", "Put Block List", "Put Blob" and
//! "Get Blob" of Azure's Blob service REST API.

mod artifacts;
mod blobs;
mod caches;
mod error;
mod failure;
mod http;
mod limits;
mod link;
mod names;
mod people;
mod room;
mod service;
mod shown;
mod tables;
mod token;

pub use blobs::Content;
pub use error::ResultsError;
pub use limits::Limits;
pub use service::Results;
pub use shown::{Artifact, Cache, Eviction, Usage, Why};
pub use tables::SCHEMA;
pub use token::{CacheMode, Grant, GrantError, MAX_LIFE};
