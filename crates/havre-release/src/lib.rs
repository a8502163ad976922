//! Releases and how an environment moves from one to the next.
//!
//! ```text
//! Project + image digests ─► Release ─┐
//! Desired (persisted) ────────────────┼─► decide() ─► actions, next Desired
//! Observed (replicas, edge) ──────────┘   routing() ─► who answers for each service
//! ```
//!
//! Everything but the [`Target`] is a function of values: no clock, no I/O. The caller observes, calls
//! [`decide`], persists what changed, applies [`routing`], carries the actions out and starts
//! over; it may die between any two of these. A rollout is one transaction over all services: new
//! replicas come up beside the old ones, traffic moves when every service is ready, and the new
//! release is watched before the old one ends; until then any failure leads back to it.
//!
//! ```text
//! Preparing ─► Canary (shares) ─► Baking (watched) ─► Finishing (old ones drain) ─► serves
//!     └──────────────┴──────────────────┴─► RollingBack ─► the release before serves
//! ```
//!
//! What comes into an environment from another one is a [`Promotion`]: [`gates`] says what has to hold, [`step`]
//! what becomes of it.

mod analysis;
mod decide;
mod desired;
mod freeze;
mod gates;
mod hold;
mod ids;
mod observed;
mod order;
mod origin;
mod promotion;
mod provenance;
mod record;
mod release;
mod routing;
mod status;
mod target;
mod traffic;
mod writers;

pub use decide::{Action, Decision, decide};
pub use desired::{
    Begun, Desired, Failure, FailureKind, Group, Heal, Intent, JobId, Mark, Pause, Policy, Refusal,
    Rollout, RolloutPhase,
};
pub use freeze::{Frozen, frozen};
pub use gates::{
    Entry, Facts, Gate, GateName, GateState, NoVoice, approvers, deploys, entry, gates, may_approve,
};
pub use havre_model::{Strategy, StrategyReason};
pub use hold::hold;
pub use ids::job_id;
pub use observed::{
    Contents, EdgeView, ExitInfo, FailedProbe, FailedReload, Joined, Observed, Replica, ReplicaId,
    ReplicaState, Role,
};
pub use order::dependency_order;
pub use origin::{Approval, OfJob, Origin, Source, TestReport, is_workflow};
pub use promotion::{
    Comes, EXPIRES_AFTER, NotTaken, Promotion, PromotionEvent, PromotionState, RolloutEnd, step,
};
pub use provenance::{IN_TOTO, SLSA, provenance};
pub use record::{Cause, Outcome, Record, Step, told_by};
pub use release::{
    LiveContents, Release, ServiceDigest, ServiceRelease, StoreSecret, variable_key,
};
pub use routing::{Canary, Routing, ServiceRouting, routing};
pub use status::{
    Evidence, Exit, Health, Instance, InstanceState, TargetStatus, Verdict, release_of,
};
pub use target::{
    Analysis, Announce, Answer, Applied, ApplyError, BoxError, Change, Exec, ExecError, Jobs, Line,
    Move, Opened, Output, OutputQuery, Scale, Session, Stream, Target, Targets, Terminal, Usage,
};
pub use traffic::Traffic;
pub use writers::{Kept, WriteContext};
