//! An `up` that is asked for directly: whether it may come into an environment.

use std::collections::BTreeSet;
use std::time::SystemTime;

use havre_api::{
    ApiError, EnvironmentId, ErrorCode, Event, EventSink, Principal, PromotionId, Role, Scope,
};
use havre_base::in_place;
use havre_release::{
    Approval, Comes, Entry, Gate, GateName, GateState, Origin, PromotionState, Release, entry,
};

use super::jobs::origin_of_job;
use super::judge::{self, Judged, Sought, Wanted};
use super::{PromotionError, definitions, words};
use crate::daemon::Daemon;
use crate::platform::Platform;

/// What somebody has agreed to already, and when they were asked.
pub(super) struct Passed {
    pub(super) approvals: Vec<Approval>,
    pub(super) requested_at: SystemTime,
}

/// What people have agreed to in that a job was let in, for what it asks for itself.
pub(super) fn passed(
    platform: &Platform,
    by: &Principal,
    id: &EnvironmentId,
    entry: Option<PromotionId>,
) -> Result<Option<Passed>, ApiError> {
    let Some(entry) = entry else { return Ok(None) };
    let promotion = platform.promotions.get(entry.0)?.promotion;
    let is_theirs = promotion.environment == *id
        && promotion.by == by.to_string()
        && matches!(promotion.what, Comes::Job { .. });
    if !is_theirs {
        return Err(PromotionError::NotFound { id: entry.0 }.into());
    }
    let is_over = promotion.expires_at <= SystemTime::now();
    if promotion.state != PromotionState::Entered || is_over {
        let message = format!("job entry {entry} does not open {id}");
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    Ok(Some(Passed {
        approvals: promotion.approvals,
        requested_at: promotion.requested_at,
    }))
}

/// An `up` that is asked for directly.
pub(crate) struct Direct<'a> {
    pub(crate) by: &'a Principal,
    pub(crate) id: &'a EnvironmentId,
    pub(crate) origin: Option<&'a havre_api::Origin>,
    /// Why an administrator does not wait.
    pub(crate) overridden: Option<&'a str>,
    pub(crate) entry: Option<PromotionId>,
}

impl Direct<'_> {
    /// Before anything is built: what does not depend on what comes of it.
    pub(crate) fn check_early(&self, daemon: &Daemon, events: &EventSink) -> Result<(), ApiError> {
        let is_late = |name| matches!(name, GateName::Needs | GateName::E2e);
        let Judged { mut gates, .. } = self.judge(daemon, Sought::Commit(None))?;
        gates.retain(|gate| !is_late(gate.name));
        self.decide(&gates, Some(events))
    }

    /// Once it is known what it would run; what goes into its record.
    pub(crate) fn check(
        &self,
        daemon: &Daemon,
        release: &Release,
    ) -> Result<Option<Origin>, ApiError> {
        let judged = self.judge(daemon, Sought::Images(release))?;
        self.decide(&judged.gates, None)?;
        let mut origin = self.origin(daemon)?;
        origin.approvals = self.approvals(daemon)?;
        origin.overridden = self.overridden.map(str::to_owned);
        Ok((origin != Origin::default()).then_some(origin))
    }

    /// A job's is what the daemon knows of it, whatever it says.
    fn origin(&self, daemon: &Daemon) -> Result<Origin, ApiError> {
        let of_job = origin_of_job(&daemon.platform, self.by, self.id)?;
        let said = || self.origin.cloned().unwrap_or_default();
        Ok(of_job.unwrap_or_else(|| words::origin_of(said(), self.by)))
    }

    /// What `plan` says of it.
    pub(crate) fn finding(&self, daemon: &Daemon, release: &Release) -> Option<String> {
        self.check(daemon, release).err().map(|error| error.message)
    }

    fn approvals(&self, daemon: &Daemon) -> Result<Vec<Approval>, ApiError> {
        let passed = passed(&daemon.platform, self.by, self.id, self.entry)?;
        Ok(passed.map(|passed| passed.approvals).unwrap_or_default())
    }

    fn judge(&self, daemon: &Daemon, what: Sought<'_>) -> Result<Judged, ApiError> {
        let now = SystemTime::now();
        let passed = passed(&daemon.platform, self.by, self.id, self.entry)?;
        let mut authors = BTreeSet::from([self.by.to_string()]);
        let origin = self.origin(daemon)?;
        authors.extend(origin.actor.clone());
        let authors = judge::with_people(&daemon.platform, authors);
        let wanted = Wanted {
            environment: self.id,
            what,
            from: None,
            reference: origin.reference.as_deref(),
            requested_at: passed.as_ref().map_or(now, |passed| passed.requested_at),
            authors: &authors,
            approvals: passed.as_ref().map_or(&[][..], |passed| &passed.approvals),
        };
        judge::judge_any(&daemon.platform, &wanted, now)
    }

    fn decide(&self, gates: &[Gate], events: Option<&EventSink>) -> Result<(), ApiError> {
        let closed: Vec<String> = gates.iter().filter_map(closed).collect();
        let id = self.id;
        if entry(gates) == Entry::Open {
            return Ok(());
        }
        let Some(reason) = self.overridden else {
            let message = format!("{id} is not open to `up`: {}", closed.join("; "));
            let hint = format!(
                "a release that served elsewhere comes there by `havre promote latest --to {}`; an admin may say \
                 `havre up --override REASON`",
                id.environment
            );
            return Err(ApiError::new(ErrorCode::Conflict, message).with_hint(hint));
        };
        let scope = Scope::Environment(id.clone());
        if !self.by.grant.allows(Role::Admin, &scope) {
            let message =
                format!("to override what has to hold in {id} needs the role admin there");
            return Err(ApiError::new(ErrorCode::Forbidden, message));
        }
        if let Some(events) = events {
            events.emit(Event::Warning {
                message: format!("overridden ({reason}): {}", closed.join("; ")),
                hint: None,
            });
        }
        Ok(())
    }
}

/// Why a gate is not open, with its name.
fn closed(gate: &Gate) -> Option<String> {
    let name = gate.name.word();
    match &gate.state {
        GateState::Open => None,
        GateState::Refused { why } => Some(format!("{name}: {why}")),
        GateState::Waits { why, until } => Some(format!("{name}: {why}{}", words::until(*until))),
    }
}

/// As [`definitions::take_and_tell`], and whether the environment is open to what `up` brings.
pub(crate) fn before_up(
    daemon: &Daemon,
    direct: &Direct<'_>,
    project: &havre_model::Project,
    events: &EventSink,
) -> Result<(), ApiError> {
    definitions::take_and_tell(&daemon.platform, direct.by, project, events)?;
    in_place(|| direct.check_early(daemon, events))
}
