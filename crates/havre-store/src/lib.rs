//! Havre's one database: desired state, releases, image names, build cache, leases.
//!
//! ```text
//! image    ─► images, build_cache, leases ─┐
//! release  ─► environments, releases      ─┼─► state.db (SQLite, WAL, synchronous=FULL)
//! app      ─► settings, networks          ─┘
//! ```
//!
//! Callers are synchronous; asynchronous code calls from a blocking thread. What is stored as
//! JSON belongs to the crate that writes it: the store neither reads nor checks it. Times are
//! seconds since the Unix epoch.

mod database;
mod environments;
mod images;
mod networks;
mod settings;

pub use database::{Store, StoreError};
pub use environments::{EnvironmentRow, NewRelease, ReleaseRow};
pub use images::{CacheRow, ImageRow};
pub use networks::NetworkRow;
