//! One environment: a task that observes, decides, persists and acts, over and over.
//!
//! ```text
//! engine, edge ─► observe ─► decide (pure) ─► persist ─► route ─► act ─► publish ─┐
//!      ▲                                                                          │
//!      └──────────────────── an event, a command or a tick ◄──────────────────────┘
//! ```

mod commands;
mod persisted;
mod problems;
mod requests;
pub(crate) mod tables;
mod unobserved;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use havre_api::EnvironmentId;
use havre_edge::EdgeStatus;
use havre_engine::State;
use havre_model::Hook;
use havre_release::{
    Action, Answer, Applied, ApplyError, Change, Decision, Desired, Evidence, FailedReload, Intent,
    LiveContents, Observed, Policy, ReplicaId, ReplicaState, Role, Rollout, RolloutPhase, Routing,
    ServiceRelease, TargetStatus, decide, release_of, routing,
};
use havre_store::StoreError;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::labels::{ContainerLabels, environment_key};
use crate::machine::{Machine, Work};
use crate::observe::{ObservedContainer, probe_ports, tick};
use crate::readiness::ReadinessTracker;

pub(crate) use commands::Commands;

use commands::PendingCommand;
pub(crate) use persisted::Persisted;
use problems::{Concern, Problems};
use requests::edge_view;
use tables::Tables;

/// Commands that may wait for the task.
const COMMANDS: usize = 16;

/// Why an environment's state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvironmentError {
    #[error("cannot access the state of {id}")]
    Store {
        id: EnvironmentId,
        source: StoreError,
    },
    #[error("the stored state of {id} is not readable by this version")]
    Format {
        id: EnvironmentId,
        source: serde_json::Error,
    },
}

impl From<EnvironmentError> for ApplyError {
    fn from(error: EnvironmentError) -> Self {
        Self::Persist(Box::new(error))
    }
}

/// An action and what came of it.
type Acted = (Action, Result<(), String>);

/// The task of one environment.
pub(crate) struct Environment<M> {
    id: EnvironmentId,
    key: String,
    machine: M,
    policy: Policy,
    persisted: Persisted,
    clock: Clock,
    readiness: ReadinessTracker,
    /// Replicas that were named at the last pass, and when others ceased to be.
    named: BTreeSet<ReplicaId>,
    unrouted_since: BTreeMap<ReplicaId, SystemTime>,
    /// Replicas whose streams the edge was told to close.
    closing: BTreeSet<ReplicaId>,
    /// Starts that failed before there was a container.
    failed_starts: BTreeMap<ReplicaId, (ContainerLabels, String, SystemTime)>,
    /// Replicas that could not be brought to reload their secrets.
    failed_reloads: BTreeMap<ReplicaId, FailedReload>,
    acting: JoinSet<Acted>,
    acting_on: BTreeMap<Id, Action>,
    busy_since: Option<Instant>,
    failure: Option<Arc<Evidence>>,
    problems: Problems,
    /// What a person should know of its certificate, since the last look.
    certificate_findings: Vec<String>,
    commands: mpsc::Receiver<PendingCommand>,
    status: watch::Sender<Arc<TargetStatus>>,
}

impl<M: Machine> Environment<M> {
    /// The task for `id` on this machine, with its desired state as stored (or none yet).
    pub(crate) fn load(
        id: EnvironmentId,
        machine: M,
        tables: Tables,
        desired: Option<&str>,
    ) -> Result<(Self, Commands), EnvironmentError> {
        let persisted = Persisted::load(id.clone(), tables, desired)?;
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let first = TargetStatus {
            desired: persisted.desired().clone(),
            releases: Arc::clone(persisted.releases()),
            ..TargetStatus::default()
        };
        let (sender, status) = watch::channel(Arc::new(first));
        let task = Self {
            key: environment_key(&id),
            id,
            machine,
            policy: Policy::default(),
            persisted,
            clock: Clock::start(),
            readiness: ReadinessTracker::default(),
            named: BTreeSet::new(),
            unrouted_since: BTreeMap::new(),
            closing: BTreeSet::new(),
            failed_starts: BTreeMap::new(),
            failed_reloads: BTreeMap::new(),
            acting: JoinSet::new(),
            acting_on: BTreeMap::new(),
            busy_since: None,
            failure: None,
            problems: Problems::default(),
            certificate_findings: Vec::new(),
            commands: receiver,
            status: sender,
        };
        let commands = Commands { commands, status };
        Ok((task, commands))
    }

    /// Runs until the environment is gone (`Some`), nobody wants anything of it, or the daemon ends.
    /// Actions under way when the daemon ends are abandoned: the next daemon sees what came of them.
    pub(crate) async fn run(mut self, mut end: Answer<'static, ()>) -> Option<Gone> {
        loop {
            if let Some(errors) = self.pass().await {
                return Some(self.gone(errors));
            }
            let settled = self.status.borrow().settled;
            let pause = tick(settled && self.acting.is_empty(), self.busy_since);
            tokio::select! {
                () = &mut end => return None,
                command = self.commands.recv() => match command {
                    // The one who asked may have gone away meanwhile.
                    Some((change, done)) => drop(done.send(self.apply(change))),
                    None => return None,
                },
                Some(result) = self.acting.join_next_with_id() => self.note_result(result),
                () = self.machine.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One round. `Some` when the environment is gone, with what could not be removed.
    async fn pass(&mut self) -> Option<Vec<String>> {
        let now = self.clock.now();
        let seen = self.machine.observe().await;
        let known = self.persisted.know(releases_of(&seen));
        self.problems.note(&self.id, Concern::History, &known);
        self.machine.keep_masked(self.persisted.releases()).await;
        let edge = self.machine.edge().await;
        let mut observed = self.observe(&seen, edge.as_deref(), now).await;
        let mut decision = self.decide(&observed, now);
        if decision.desired != *self.persisted.desired() {
            let next = std::mem::take(&mut decision.desired);
            self.advance(next, &observed, &seen, now).await;
            // Who makes place and who waits follows from what is desired now.
            decision = self.decide(&observed, now);
        } else {
            self.problems.settle(Concern::State);
        }
        let (desired, releases) = (self.persisted.desired(), self.persisted.releases());
        let routing = routing(desired, releases, &observed, &decision.draining);
        self.note_unrouted(&routing, &decision.reserve, &observed, now);
        let edge = self.route(&routing, &decision.reserve, &seen).await;
        if let Some(status) = edge.as_deref() {
            self.close_streams(status).await;
        }
        // What the edge holds now decides whether an old replica may end: look at it once more
        // before acting.
        observed.edge = edge
            .as_deref()
            .map(|status| edge_view(status, &self.id, &observed, &routing));
        observed.unrouted_since = self.unrouted_since.clone();
        let decision = self.decide(&observed, now);
        if self.is_gone(&decision, &observed) {
            let left = self.dismantle().await;
            if left.is_some() {
                return left;
            }
        }
        // What was decided beside a step that could not be written down is not done, nor is what was
        // decided without knowing what replicas write to, unless all of them are to end.
        let going = matches!(self.persisted.desired().intent, Intent::Down { .. });
        let is_written = decision.desired.is_the_same_step(self.persisted.desired());
        if is_written && (known.is_ok() || going) {
            self.act(&decision.actions, &seen);
        }
        self.publish(&decision, seen, observed, routing);
        None
    }

    /// Takes a step that was decided, once it is on disk; until then all is as it was.
    async fn advance(
        &mut self,
        next: Desired,
        observed: &Observed,
        seen: &[ObservedContainer],
        now: SystemTime,
    ) {
        let before = self.persisted.desired().clone();
        let counted = observed.edge.as_ref().map(|edge| &edge.total);
        let written = self.persisted.advance(next, counted, now);
        self.problems.note(&self.id, Concern::State, &written);
        if written.is_ok() {
            self.capture_failure(&before, seen).await;
            self.note_heals(&before);
        }
    }

    fn decide(&self, observed: &Observed, now: SystemTime) -> Decision {
        decide(
            &self.key,
            self.persisted.desired(),
            self.persisted.releases(),
            observed,
            &self.policy,
            now,
        )
    }

    async fn observe(
        &mut self,
        seen: &[ObservedContainer],
        edge: Option<&EdgeStatus>,
        now: SystemTime,
    ) -> Observed {
        self.readiness.begin_round(seen);
        self.failed_reloads
            .retain(|id, _| seen.iter().any(|one| &one.id() == id));
        let mut observed = Observed {
            unrouted_since: self.unrouted_since.clone(),
            failed_reloads: self.failed_reloads.clone(),
            ..Observed::default()
        };
        for one in seen {
            let ports = probe_ports(&one.place, self.persisted.releases());
            let mut replica = self.readiness.assess(one, &ports, &self.machine, now).await;
            if replica.state != ReplicaState::Stopping {
                replica.state = self.hooks_pending(one).unwrap_or(replica.state);
            }
            observed.replicas.push(replica);
        }
        let creating = unobserved::creating(&self.id, self.acting_on.values(), seen);
        observed.replicas.extend(creating);
        for (id, (place, reason, since)) in &self.failed_starts {
            if !observed.replicas.iter().any(|replica| &replica.id == id) {
                let state = ReplicaState::CannotStart {
                    reason: reason.clone(),
                    since: Some(*since),
                };
                observed
                    .replicas
                    .push(unobserved::replica(id, place, state));
            }
        }
        observed.edge =
            edge.map(|status| edge_view(status, &self.id, &observed, &Routing::default()));
        observed
    }

    /// Starts what was decided and is not yet under way.
    fn act(&mut self, actions: &[Action], seen: &[ObservedContainer]) {
        for action in actions {
            if self
                .acting_on
                .values()
                .any(|running| running.id() == action.id())
            {
                continue;
            }
            match action {
                Action::Remove { id } => {
                    let failed = self.failed_starts.remove(id).is_some();
                    if failed && !seen.iter().any(|one| &one.id() == id) {
                        continue;
                    }
                }
                Action::Stop { id, .. } => self.readiness.note_stop(id),
                Action::Start { .. } | Action::RunJob { .. } | Action::Renew { .. } => {}
            }
            let done = self.machine.carry_out(Work {
                action: action.clone(),
                releases: Arc::clone(self.persisted.releases()),
                pre_stop: self.pre_stop(action, seen),
            });
            let handle = self.acting.spawn({
                let action = action.clone();
                async move { (action, done.await) }
            });
            self.acting_on.insert(handle.id(), action.clone());
        }
        self.busy_since = match (self.acting.is_empty(), self.busy_since) {
            (true, _) => None,
            (false, since) => since.or(Some(Instant::now())),
        };
    }

    /// What a replica that is to stop does first.
    fn pre_stop(
        &self,
        action: &Action,
        seen: &[ObservedContainer],
    ) -> Option<(Vec<Hook>, Duration)> {
        let Action::Stop { id, within } = action else {
            return None;
        };
        let service = &self
            .config_of(seen.iter().find(|one| &one.id() == id)?)?
            .service;
        // Those are of one that was made ready.
        let was_ready = service.post_start.is_empty() || self.machine.is_prepared(id);
        let has_hooks = was_ready && !service.pre_stop.is_empty();
        has_hooks.then(|| {
            let grace = within.unwrap_or(service.stop_grace_period);
            (service.pre_stop.clone(), grace)
        })
    }

    /// The configuration a container was made with.
    fn config_of(&self, one: &ObservedContainer) -> Option<&ServiceRelease> {
        let place = &one.place;
        release_of(
            &place.service,
            &place.role,
            place.release,
            self.persisted.releases(),
        )?
        .services
        .get(&place.service)
    }

    /// A replica whose `post_start` hooks have not ended well: under way, or broken off by the end
    /// of the daemon. The latter cannot go on, since nobody knows how far they came.
    fn hooks_pending(&self, one: &ObservedContainer) -> Option<ReplicaState> {
        let replica = matches!(one.place.role, Role::Replica { .. });
        if !matches!(one.container.state, State::Running { .. }) {
            return None;
        }
        let has_hooks = !self.config_of(one)?.service.post_start.is_empty();
        let id = one.id();
        if !replica || !has_hooks || self.machine.is_prepared(&id) {
            return None;
        }
        let under_way = self
            .acting_on
            .values()
            .any(|action| action.id() == &id && matches!(action, Action::Start { .. }));
        Some(match under_way {
            true => ReplicaState::Starting {
                since: self.readiness.runs_since(&id)?,
            },
            false => ReplicaState::Interrupted,
        })
    }

    fn note_result(&mut self, result: Result<(Id, Acted), JoinError>) {
        let (task, error) = match result {
            Ok((task, (_, Ok(())))) => (task, None),
            Ok((task, (_, Err(reason)))) => (task, Some(reason)),
            Err(error) => (error.id(), Some(error.to_string())),
        };
        let Some(action) = self.acting_on.remove(&task) else {
            return;
        };
        if let Action::Renew { id, contents, .. } = &action {
            return self.note_reload(id, contents, error);
        }
        let Some(reason) = error else {
            self.problems.settle(Concern::Action);
            return;
        };
        tracing::warn!(environment = %self.id, ?action, reason, "action failed");
        match ContainerLabels::of(&self.id, &action) {
            Some(place) => {
                let entry = (place, reason, self.clock.now());
                self.failed_starts.insert(action.id().clone(), entry);
            }
            None => self.problems.report(&self.id, Concern::Action, reason),
        }
    }

    /// What came of giving a replica other contents of its secrets.
    fn note_reload(&mut self, id: &ReplicaId, contents: &LiveContents, error: Option<String>) {
        let before = self.failed_reloads.remove(id);
        let Some(reason) = error else { return };
        let before = before.filter(|failed| &failed.contents == contents);
        let tries = before.map_or(0, |failed| failed.tries).saturating_add(1);
        tracing::warn!(environment = %self.id, replica = %id, tries, reason, "secrets are not reloaded");
        let failed = FailedReload {
            contents: contents.clone(),
            tries,
            last: self.clock.now(),
            reason,
        };
        self.failed_reloads.insert(id.clone(), failed);
    }

    /// Does what a command says, once that is on disk. Where the database is locked that takes
    /// seconds, in which others are served.
    fn apply(&mut self, change: Change) -> Result<Applied, ApplyError> {
        let moves = matches!(change, Change::RollOut(_));
        let goes_on = moves || matches!(change, Change::Resume);
        let status = self.status.borrow().clone();
        let counted = status.observed.edge.as_ref().map(|edge| &edge.total);
        let now = self.clock.now();
        let written = self.persisted.apply(change, counted, now)?;
        if goes_on {
            self.failure = None;
        }
        if moves {
            self.failed_starts.clear();
        }
        Ok(written)
    }

    /// When a rollout goes back or stops: keeps what a person needs to know, before the evidence is
    /// removed.
    async fn capture_failure(&mut self, before: &Desired, seen: &[ObservedContainer]) {
        let rollout = self.persisted.desired().rollout.as_ref();
        let Some((failure, to)) = rollout.and_then(|r| Some((r.failure()?, &r.to))) else {
            return;
        };
        let known = before.rollout.as_ref().and_then(Rollout::failure);
        if known.is_some() {
            return;
        }
        let release = self.persisted.releases().get(to);
        let stays = rollout.is_some_and(|rollout| rollout.pause.is_some());
        let explained = self.machine.explain(failure, release, seen).await;
        self.failure = Some(Arc::new(Evidence { stays, ..explained }));
    }

    fn note_heals(&self, before: &Desired) {
        for (service, heal) in &self.persisted.desired().heals {
            if let (Some(replica), true) = (&heal.replica, before.heals.get(service) != Some(heal))
            {
                let (environment, times) = (&self.id, heal.count);
                tracing::warn!(%environment, %replica, times, "unhealthy: it is replaced");
                self.machine.record_heal(service, replica, times);
            }
        }
    }

    fn is_gone(&self, decision: &Decision, observed: &Observed) -> bool {
        matches!(self.persisted.desired().intent, Intent::Down { .. })
            && decision.actions.is_empty()
            && observed.replicas.is_empty()
            && self.acting.is_empty()
    }

    /// Removes what is left of the environment beside its replicas, last what is stored of it;
    /// returns what could not be removed. `None` while the latter cannot be: whatever else comes
    /// back then belongs to something, and the next round does all of it again.
    async fn dismantle(&mut self) -> Option<Vec<String>> {
        let Intent::Down { remove_volumes } = &self.persisted.desired().intent else {
            return None;
        };
        let mut errors = self.machine.dismantle(remove_volumes).await;
        let forgotten = self.persisted.forget();
        self.problems.note(&self.id, Concern::State, &forgotten);
        forgotten.ok()?;
        // Not before: while it is known, its images are what an `up` comes back to. What stays of
        // this lease the next daemon lets go of.
        errors.extend(self.machine.release_images());
        Some(errors)
    }

    fn publish(
        &self,
        decision: &Decision,
        seen: Vec<ObservedContainer>,
        observed: Observed,
        routing: Routing,
    ) {
        let problems = self
            .problems
            .all()
            .chain(self.certificate_findings.iter().cloned())
            .chain(
                self.failed_starts
                    .iter()
                    .map(|(id, (_, reason, _))| format!("{id}: {reason}")),
            )
            .chain(self.failed_reloads.iter().map(|(id, failed)| {
                let (reason, tries) = (&failed.reason, failed.tries);
                format!("{id} does not reload its secrets, tried {tries} times: {reason}")
            }))
            .collect();
        self.status.send_replace(Arc::new(TargetStatus {
            looked_at: true,
            revision: self.persisted.revision(),
            desired: self.persisted.desired().clone(),
            releases: Arc::clone(self.persisted.releases()),
            instances: seen.iter().map(ObservedContainer::instance).collect(),
            observed,
            waiting: decision.waiting.clone(),
            routing,
            problems,
            settled: decision.settled && self.acting.is_empty(),
            failure: self.failure.clone(),
            gone: None,
        }));
    }

    fn gone(self, errors: Vec<String>) -> Gone {
        let last = TargetStatus {
            looked_at: true,
            revision: self.persisted.revision(),
            desired: self.persisted.desired().clone(),
            releases: Arc::clone(self.persisted.releases()),
            gone: Some(Arc::new(errors)),
            ..TargetStatus::default()
        };
        Gone {
            status: self.status,
            last,
        }
    }
}

/// An environment that is no more.
pub(crate) struct Gone {
    status: watch::Sender<Arc<TargetStatus>>,
    last: TargetStatus,
}

impl Gone {
    /// Tells those who wait for it. To be called when nobody finds it any more.
    pub(crate) fn announce(self) {
        self.status.send_replace(Arc::new(self.last));
    }
}

/// The releases that replicas belong to.
fn releases_of(seen: &[ObservedContainer]) -> BTreeSet<u64> {
    seen.iter()
        .filter(|one| matches!(one.place.role, Role::Replica { .. }))
        .map(|one| one.place.release)
        .collect()
}

/// The release whose routes are in force.
pub(crate) fn serving_release(desired: &Desired) -> Option<u64> {
    match (&desired.intent, &desired.rollout) {
        (Intent::Down { .. }, _) => None,
        (Intent::Run, None) => desired.current,
        (Intent::Run, Some(rollout)) => match rollout.phase {
            // A first release is routed as soon as it has something to show: there is nothing to
            // keep apart from it.
            RolloutPhase::Preparing
            | RolloutPhase::Canary { .. }
            | RolloutPhase::RollingBack { .. } => rollout.from.or(Some(rollout.to)),
            RolloutPhase::Baking { .. } | RolloutPhase::Finishing { .. } => Some(rollout.to),
        },
    }
}

#[cfg(test)]
pub(crate) mod tests;
