//! The resolver of an environment: `havre dns`, one small process in the router's namespace.
//!
//! ```text
//!   container ──question──► gateway:53 ──► known here? ──► answer (A, PTR, or nothing of the kind)
//!                                          *.localhost?  ─► 127.0.0.1
//!                                          single label? ─► NXDOMAIN
//!                                          internal only? ─► NXDOMAIN
//!                                          else ──► the container's own resolvers, or the host's,
//!                                                   from the host's namespace
//! ```
//!
//! A name is known to a container when it is recorded on a network the container is on; the
//! containers are told apart by address. Of a shared network, names of other environments are known
//! where the environment has no such name itself. Answers live for [`message::TTL_SECONDS`].
//!
//! To a container that is only on internal networks, names from outside do not exist: NXDOMAIN.
//! Nothing they stand for could be reached, and on any other code C libraries wait and retry.
//!
//! It reads what containers send, so it is confined before it answers: a user without a name, port 53,
//! its folder to read. A helper of the same user opens what is needed of the host (`helper.rs`).
//!
//! The process has one thread and keeps no state: killed, it is started again and reads
//! `networks.json`, `leases.json`, `names.json` and `foreign.json` of its folder; it reads them again whenever
//! one is replaced, before it answers the next question. It ends when its folder goes.

mod changes;
mod complaint;
mod confine;
mod helper;
mod known;
mod listeners;
pub mod message;
mod outside;
mod poll;
pub mod process;
mod server;
mod tcp;
mod udp;
mod upstream;
pub mod view;
