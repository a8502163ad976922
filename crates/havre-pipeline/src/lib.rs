//! What a workflow does when something happens: whether it starts, and what becomes of its jobs.
//!
//! ```text
//! Triggers + Event   ─► trigger::judge ─► starts, or why not
//! Workflow + Known   ─► plan::plan     ─► jobs in their order, legs of matrices, what waits for what
//! Run + run::Event   ─► run::step      ─► Run, and what is due: start, enter a group, cancel
//! members of a group ─► group::decide  ─► who is let in, who ends, who gives way
//! ```
//!
//! A job that calls a workflow is one leg of its run; what is called is a run of its own, with what [`call`] gives it.
//!
//! Pure: no I/O, no clock. What nobody can know yet is an [`Answer::Waits`] with the names of what it waits for.
//!
//! Sources: GitHub's documentation of events, filter patterns, matrices and conditions.

pub mod call;
mod contexts;
mod event;
pub mod group;
pub mod inputs;
mod known;
pub mod matrix;
mod pattern;
pub mod plan;
mod reason;
pub mod run;
mod serial;
pub mod trigger;

pub use havre_expressions::{Object, Value};

pub use event::{Event, Reference};
pub use known::{Answer, Before, Known};
pub use plan::{Group, Leg, Legs, Plan, PlannedJob, Starts};
pub use reason::Reason;
pub use serial::Json;
pub use trigger::Verdict;
