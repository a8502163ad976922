//! The daemon's interface: wire types, server routes and client.
//!
//! ```text
//! havre up ──► Client ──► POST /v1/up (JSON) ─── <run>/api.sock ───► serve ──► Routes
//!          ◄── Stream ◄── one JSON document per line ◄────────────── EventSink ◄──┘
//! ```
//!
//! Every call is `POST /v1/<name>` with a JSON body, over HTTP/1 on a Unix socket for root and the group
//! `havre`, or through the edge with a token ([`Server::remote`]); [`Call`] is the table of them. Short calls
//! answer with one document, long ones with a document per line ([`StreamItem`]), `exec` with an upgraded
//! connection of frames, which from elsewhere are inside a WebSocket. Each call says which role it needs, each
//! request what it is about ([`Concern`]), and the [`Guard`] is asked before a handler sees it.
//!
//! A new call is a line in `call.rs`, its two types with their [`Check`], and a handler in the
//! [`Routes`] of the subsystem that answers it. Who asks is a [`Principal`], which the server finds
//! out by itself and hands to every handler.
//!
//! A long operation belongs to the daemon, not to the connection: when the client goes away the
//! operation goes on. It ends early only when it is cancelled by its number ([`OperationId`]).
//!
//! The types here are the wire's own; of the domain only the validated [`havre_model::Project`], the names
//! in it and what a target cannot do of it ([`havre_model::Capabilities`]) travel, and of runs what is told of a leg
//! ([`havre_job::Told`]). Fields may be added (readers ignore what
//! they do not know), never renamed.
//!
//! Units: times are [`Timestamp`] (RFC 3339, UTC), durations milliseconds (`_ms`), sizes bytes
//! (`_bytes`).

mod access;
mod audit;
mod base64;
mod call;
mod certificate;
mod client;
mod concern;
mod daemon;
mod environment;
mod error;
mod exec;
mod failure;
mod guard;
mod history;
mod identity;
mod image;
mod log;
mod mirror;
mod network;
mod operation;
mod principal;
mod progress;
mod promotion;
mod run;
mod secret;
mod server;
mod sinks;
mod source;
mod time;
mod vars;
mod why;

pub use access::*;
pub use audit::*;
pub use call::*;
pub use certificate::*;
pub use client::*;
pub use concern::Concern;
pub use daemon::*;
pub use environment::*;
pub use error::*;
pub use exec::*;
pub use failure::*;
pub use guard::*;
pub use havre_model::EnvironmentId;
pub use havre_model::grant::{EnvironmentPattern, Grant, Role, Scope};
pub use history::*;
pub use identity::*;
pub use image::*;
pub use log::*;
pub use mirror::*;
pub use network::*;
pub use operation::*;
pub use principal::*;
pub use progress::*;
pub use promotion::*;
pub use run::*;
pub use secret::*;
pub use server::{Routes, Server, bind, credential};
pub use sinks::*;
pub use source::*;
pub use time::*;
pub use vars::*;
pub use why::*;
