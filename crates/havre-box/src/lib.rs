//! The box of a leg: a container, its network and its services.
//!
//! ```text
//! driver ── BoxRequest ──► Boxes ──► network of its own: router, resolver
//!    │                       ├─────► services, awaited until they are healthy
//!    │                       └─────► container: `havre job-runner` is its first process
//!    └◄── Told, from the spool on disk ───────────┘
//! ```
//! A box runs in a user namespace: its root is nobody on the host. Its files are those of an image, or of the machine
//! itself: [`Ground::Host`], see [`Grounds`] for what of it is seen. What is changed stays in the box.
//!
//! All that a box has is found again by its id, also by another daemon: its containers by their labels, its network
//! by its name, its files below one folder. So [`Boxes::remove`] is safe to repeat, and nothing of a box outlives it.
//! A box that takes more of the disk than it may is ended, and so is one that grows where little is free: see
//! [`DiskBounds`].
//!
//! Sizes are bytes.

mod beside;
mod boxes;
mod container;
mod disk;
mod error;
mod follow;
mod ground;
mod guard;
mod inner;
mod layout;
mod network;
mod options;
mod request;
mod runtime;
mod services;
mod spare;
mod starting;
mod tools;

pub use boxes::{Boxes, Started};
pub use disk::{DiskBounds, disk_of};
pub use error::BoxError;
pub use follow::{Ending, Follow, Heard};
pub use ground::{GroundError, Grounds};
pub use inner::BoxConfig;
pub use options::{CreateOptions, OptionError, Probe};
pub use request::{Action, Beside, BoxRequest, Caps, Ground, Image, Port, Service, Workspace};
pub use runtime::{Runtime, RuntimeError};
pub use tools::Tools;

/// Users and groups of boxes on the host, where nobody has chosen others: 2130706432 to 2130837503, which systemd's list
/// of ranges (UIDS-GIDS.md) leaves to nobody.
pub const IDS: havre_engine::IdRange = havre_engine::IdRange { first: 0x7f00_0000 };
