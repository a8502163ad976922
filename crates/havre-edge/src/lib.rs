//! The reverse proxy: HTTPS, routing, balancing and draining in a process of its own.
//!
//! ```text
//!  daemon ──PUT /v1/state──► control thread ──snapshot──► worker threads (one runtime each)
//!                             │  edge.json                 accept ► TLS ► gate ► HTTP/1.1 or HTTP/2
//!                             │  listeners                   ► admit (headers, route)
//!                             └──status, close-streams       ► relay (balance, hold, retry) ► replica,
//!                                                                                         local server
//! ```
//!
//! No file imports from a layer above its own:
//!
//! | layer | files |
//! |---|---|
//! | process | `process`, `manager`, `control_server`, `handover` |
//! | what is accepted | `thread`, `connection`, `tcp`, `udp` |
//! | stages of a request | `forward`: `admit`, `relay`, `answer`, `upgrade`, with an `exchange` in common |
//! | what requests share | `worker` (one thread), `shared` (all), `client`, `phase`, `clients`, `upstream` |
//! | what is known | `snapshot`, `replica`, `state` |
//!
//! The process has a user of its own, two folders, and no privilege but that of low ports
//! (`confine.rs`): certificates, their keys and all else it needs come with the state.
//!
//! Requests look at an immutable snapshot of the state; a push replaces it for all threads at once.
//! Nothing on the request's path waits for the daemon, a lock held across I/O, or the disk.
//! [`entrypoint`] is the process, [`Control`] what the daemon steers it with.

mod access;
mod admit;
mod answer;
mod asides;
mod balance;
mod client;
mod clients;
mod complain;
mod confine;
mod connection;
mod control;
mod control_server;
mod counters;
mod datagram;
mod exchange;
mod flows;
mod forward;
mod frames;
mod gate;
mod grpc;
mod handover;
mod handshake;
mod headers;
mod hold;
mod http2;
mod interim;
mod io;
mod kept;
mod limits;
mod listen;
mod local;
mod lock;
mod manager;
mod options;
mod page;
mod patience;
mod phase;
mod problem;
mod process;
mod record;
mod relay;
mod replica;
mod reply;
mod request_id;
mod route;
mod shared;
mod snapshot;
mod stall;
mod state;
mod store;
mod stream;
mod target;
mod tcp;
mod thread;
mod tls;
mod trust;
mod tunnel;
mod udp;
mod upgrade;
mod upload;
mod upstream;
mod upstream_http2;
mod upstream_io;
mod upstream_stream;
mod visitor;
mod witness;
mod worker;

pub use control::{CloseStreams, Closing, Control, ControlError, SOCKET, Shutdown};
pub use kept::{KeepError, KeptSockets};
pub use local::{ListenForEdgeError, listen_for_edge};
pub use process::entrypoint;
pub use state::*;
pub use tls::CertificateError;
pub use trust::is_network;

/// The user, and group, that the edge runs as.
pub const USER: u32 = havre_confine::EDGE_USER;
