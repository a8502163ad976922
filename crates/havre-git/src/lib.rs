//! Repositories of projects, served by the machine's git: cloned, fetched and pushed to over HTTP and over the
//! daemon's socket.
//!
//! ```text
//! git push ─► router ─► Door (who may) ─► git receive-pack, confined ─► pre-receive ──► Receiver::check
//!    ▲                                          │ refs move                  (objects in quarantine)
//!    │                                          └─► post-receive ─► Receiver::received, which goes on
//!    └──────────── lines, live ◄────────────────────────┘               whoever still listens
//! ```
//!
//! The git process runs as a user of its own ([`havre_confine::GIT_USER`]) and sees one repository. Its hooks are
//! this binary ([`entrypoint`]); they know a secret of their push and talk to the daemon over a socket. What a push
//! must lead to is written down before its references move, so that [`Git::resume`] finds it after a crash.
//!
//! Sizes are bytes. What cannot be done is an error that says what was attempted; what a pusher is told stands in
//! lines. The protocol is git's own (gitprotocol-http(5), gitprotocol-pack(5), githooks(5)).

mod bounds;
mod commit;
mod exchange;
mod folder;
mod head;
mod hook;
mod hooks;
mod http;
mod journal;
mod mirror;
mod name;
mod objects;
mod process;
mod pulls;
mod push;
mod pushes;
mod remote;
mod remotes;
mod repositories;
mod room;
mod server;
mod service;
mod settings;
mod size;
mod text;
mod view;

pub use bounds::{Bound, Bounds};
pub use commit::{Commit, Signature};
pub use hook::entrypoint;
pub use mirror::{MirrorError, Mirrored};
pub use name::{InvalidName, Name, Oid};
pub use objects::{Entry, EntryKind, ObjectError, Objects};
pub use process::GitError;
pub use pulls::Merged;
pub use push::{Asks, Door, Lines, Outcome, Phase, Push, Receiver, Refusal, Update, Visitor};
pub use remote::{InvalidRemote, Remote};
pub use remotes::{RemoteError, RemoteName, RemoteSettings, Remotes};
pub use repositories::{CreateError, Repositories};
pub use server::{Git, OpenError};
pub use service::Service;
pub use settings::Settings;
pub use text::plain;
