//! Certificates from authorities, ordered and renewed by themselves (ACME, RFC 8555).
//!
//! ```text
//! names of environments ─► Service ─► plan::next (pure) ─► look: renewal information (RFC 9773)
//!                            ▲                        └──► order: account, proof, certificate
//!                            │                                        │ shown by the edge, or a hook
//!                            └── record: certificate, attempts ◄──────┘ for DNS
//! ```
//!
//! Each name has a certificate of its own: the failure of one is no other's. What is known of a name is
//! its [`record`]; [`plan`] says from it, and from how authorities do, what is to be done and when. What an
//! authority says when it refuses is kept in its own words ([`problem`]), since only they tell a person
//! what to do. Times are seconds of the wall clock ([`Moment`]).
//!
//! It knows nothing of environments or the edge: [`Outlet`] serves, [`havre_base::Sealing`] seals keys.

mod account;
pub mod ari;
mod authority;
mod certificate;
mod directory;
mod hook;
mod http;
pub mod method;
mod moment;
mod name;
mod order;
pub mod plan;
pub mod problem;
mod proof;
pub mod record;
mod service;
mod settings;
#[cfg(feature = "simulation")]
pub mod simulation;
mod state;
mod tables;
mod view;

pub use certificate::{CertificateError, Facts, facts};
pub use http::HttpError;
pub use moment::Moment;
pub use name::Name;
pub use proof::{BoxFuture, Proof, Proofs};
pub use service::{Loaded, Outlet, Parts, Service, ServiceError};
pub use settings::{AuthoritySettings, ExternalAccount, Settings};
pub use state::Pair;
pub use tables::SCHEMA;
pub use view::{Condition, Shown, View};
