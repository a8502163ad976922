//! Runs of workflows: kept, driven, told.
//!
//! ```text
//! Trigger ─► begin: workflows of the commit, judged ─► runs (SQLite) ─► driver ─► Gate: may it? secrets
//!                                                          ▲              ├─────► Legs: start, follow, cancel, remove
//!            cancel, rerun ────────────────────────────────┤              └─────► called runs, groups, what follows
//!            Told ─► record, log files ────────────────────┘
//! ```
//!
//! What is due follows from what is kept alone ([`havre_pipeline::run`] decides it): each change is kept before it is
//! carried out, and a driver that is killed anywhere leaves what another takes up. Boxes outlive their driver; what they
//! tell is read again from its beginning. Secrets come from the [`Gate`] when a leg starts, go to its box, and are never
//! kept.
//!
//! What is not done: workflows of other repositories are not called; of a called workflow all jobs are run again.
//!
//! Units: milliseconds since 1970 (`_ms`), bytes.

mod begin;
mod book;
mod clean;
mod contexts;
pub mod cron;
mod defined;
mod driver;
mod error;
mod follow;
mod locks;
mod logs;
mod ports;
mod record;
mod row;
mod runs;
mod settings;
mod start;
mod tables;
mod trigger;

pub use havre_pipeline::run::{Again, Conclusion, LegId};

pub use begin::{Begun, NotStarted, Outcome};
pub use book::{Changed, Wait};
pub use error::RunsError;
pub use follow::Listener;
pub use locks::lock_of;
pub use logs::Part;
pub use ports::{
    Answer, Asked, BoxEnd, ContainerStart, Elsewhere, Files, Followed, Gate, LegKey, LegStart,
    Legs, Opened, Origin, Permissions, RunId, Sources, SourcesError, StartError,
};
pub use record::{Record, Step};
pub use runs::{Dispatch, LegShown, Log, Runs, Shown};
pub use settings::{Clock, Ports, Settings, SystemClock};
pub use tables::{Filter, Listed, SCHEMA};
pub use trigger::{MAX_PAYLOAD, Source, Trigger};
