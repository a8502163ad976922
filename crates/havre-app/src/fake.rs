//! STRICT FAKES of what operations go by: targets on which replicas are only said to run, and a builder
//! whose images hold nothing. With a [`Stage`] every operation is tested without root, on virtual time.
//!
//! ```text
//! test ─► Stage ─► operation ─► FakeTarget ─► rules, record of changes
//!                     │             └─► Persisted (state.db), decide(), simulated replicas by script
//!                     └─► FakeBuilder ─► image store
//! ```
//!
//! They allow less than a real target does: what an operation must never ask of one is a violation, and
//! a stage with violations fails its test. The rules know nothing of this machine ([`rules`]), so that
//! they hold for other kinds of targets as well.

mod builder;
mod replicas;
mod rules;
mod shared;
mod stage;
mod target;
mod targets;
mod task;
mod told;

pub(crate) use replicas::Fate;
pub(crate) use stage::{Stage, id, principal, shop};
pub(crate) use told::Told;
