//! What keeps a FAKE environment going: the releases' own decisions, in rounds of virtual time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use havre_api::EnvironmentId;
use havre_model::Mount;
use havre_release::{
    Announce, Applied, ApplyError, BoxError, Change, Decision, Desired, Evidence, Failure, Intent,
    Observed, Policy, ReplicaId, Rollout, Routing, TargetStatus, decide, routing,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::replicas::Replicas;
use super::shared::Shared;
use crate::clock::Clock;
use crate::environment::Persisted;
use crate::labels::environment_key;
use crate::leases::lease_name;
use crate::volumes::owner::{self, Nobodys, Title, Uses};
use crate::volumes::volume_name;

/// The pause between two rounds while something moves, and while nothing does.
const ROUND: Duration = Duration::from_millis(100);
const REST: Duration = Duration::from_secs(1);
/// Lines that a failure's evidence shows.
const LINES: usize = 20;

/// A change, and where to tell what came of it.
pub(super) type Pending = (Change, oneshot::Sender<Result<Applied, ApplyError>>);

/// The task of one environment.
pub(super) struct Task {
    id: EnvironmentId,
    key: String,
    shared: Arc<Shared>,
    persisted: Persisted,
    replicas: Replicas,
    policy: Policy,
    clock: Clock,
    failure: Option<Arc<Evidence>>,
    changes: mpsc::Receiver<Pending>,
    status: watch::Sender<Arc<TargetStatus>>,
}

impl Task {
    pub(super) fn load(
        id: &EnvironmentId,
        shared: Arc<Shared>,
        desired: Option<&str>,
        changes: mpsc::Receiver<Pending>,
    ) -> Result<(Self, watch::Receiver<Arc<TargetStatus>>), BoxError> {
        let tables = shared.platform.tables.clone();
        let persisted = Persisted::load(id.clone(), tables, desired)?;
        let first = TargetStatus {
            desired: persisted.desired().clone(),
            releases: Arc::clone(persisted.releases()),
            ..TargetStatus::default()
        };
        let (sender, status) = watch::channel(Arc::new(first));
        let task = Self {
            id: id.clone(),
            key: environment_key(id),
            replicas: Replicas::new(shared.violations.clone()),
            shared,
            persisted,
            policy: Policy::default(),
            clock: Clock::start(),
            failure: None,
            changes,
            status: sender,
        };
        Ok((task, status))
    }

    /// Runs until the environment is gone, or nobody wants anything of it.
    pub(super) async fn run(mut self) -> Option<Announce> {
        loop {
            if let Some(errors) = self.round() {
                return Some(self.gone(errors));
            }
            let pause = match self.status.borrow().settled {
                true => REST,
                false => ROUND,
            };
            tokio::select! {
                change = self.changes.recv() => {
                    let (change, done) = change?;
                    // The one who asked may have gone away meanwhile.
                    drop(done.send(self.apply(change)));
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn apply(&mut self, change: Change) -> Result<Applied, ApplyError> {
        let goes_on = matches!(change, Change::RollOut(_) | Change::Resume);
        let (total, now) = (self.replicas.total(), self.clock.now());
        let written = self.persisted.apply(change, Some(total), now)?;
        if goes_on {
            self.failure = None;
        }
        Ok(written)
    }

    /// `Some` when the environment is gone, with what could not be removed.
    fn round(&mut self) -> Option<Vec<String>> {
        let now = self.clock.now();
        // Long enough for others to see it.
        let grace = self.shared.script().grace.max(2 * ROUND);
        self.replicas.live(now, grace);
        if let Err(error) = self.persisted.know(self.replicas.releases()) {
            self.shared.violations.add(format!("{error}"));
        }
        let observed = self.replicas.observe();
        let mut decision = self.decide(&observed, now);
        if decision.desired != *self.persisted.desired() {
            self.advance(std::mem::take(&mut decision.desired), now);
            decision = self.decide(&observed, now);
        }
        let (desired, releases) = (self.persisted.desired(), self.persisted.releases());
        let routing = routing(desired, releases, &observed, &decision.draining);
        self.replicas.route(&routing, &decision.reserve, now);
        let observed = self.replicas.observe();
        let decision = self.decide(&observed, now);
        if self.is_going() && decision.actions.is_empty() && self.replicas.is_empty() {
            let left = self.dismantle();
            if left.is_some() {
                return left;
            }
        }
        // What was decided beside a step that could not be written down is not done.
        if decision.desired.is_the_same_step(self.persisted.desired()) {
            self.act(&decision, now);
        }
        self.publish(&decision, observed, routing);
        None
    }

    fn decide(&self, observed: &Observed, now: SystemTime) -> Decision {
        let (desired, releases) = (self.persisted.desired(), self.persisted.releases());
        decide(&self.key, desired, releases, observed, &self.policy, now)
    }

    fn is_going(&self) -> bool {
        matches!(self.persisted.desired().intent, Intent::Down { .. })
    }

    fn advance(&mut self, next: Desired, now: SystemTime) {
        let before = self.persisted.desired().clone();
        let total = self.replicas.total();
        if self.persisted.advance(next, Some(total), now).is_err() {
            return;
        }
        let failure = |desired: &Desired| {
            let rollout = desired.rollout.as_ref();
            rollout.and_then(Rollout::failure).cloned()
        };
        if let (None, Some(failure)) = (failure(&before), failure(self.persisted.desired())) {
            self.failure = Some(Arc::new(self.evidence(failure)));
        }
    }

    /// What shows a failure, as long as it is there.
    fn evidence(&self, failure: Failure) -> Evidence {
        let rollout = self.persisted.desired().rollout.as_ref();
        let release = rollout.and_then(|rollout| self.persisted.releases().get(&rollout.to));
        let service = release.and_then(|release| release.services.get(&failure.service));
        let instances = self.replicas.instances();
        let of = failure.replica.clone();
        let mut log = of
            .as_ref()
            .and_then(|id| self.shared.output().get(id).cloned())
            .unwrap_or_default();
        log.drain(..log.len().saturating_sub(LINES));
        Evidence {
            instance: instances
                .into_iter()
                .find(|one| Some(&one.id) == of.as_ref()),
            service: service.cloned(),
            stays: rollout.is_some_and(|rollout| rollout.pause.is_some()),
            log,
            inherited_probe: None,
            hint: None,
            failure,
        }
    }

    fn act(&mut self, decision: &Decision, now: SystemTime) {
        for action in &decision.actions {
            let script = self.shared.script();
            let fate = |service: &havre_model::ServiceName| {
                script
                    .fates
                    .get(service.as_str())
                    .copied()
                    .unwrap_or_default()
            };
            let releases = self.persisted.releases();
            let started = self.replicas.act(action, now, releases, fate);
            drop(script);
            if let Some(id) = started {
                self.begin_output(&id);
            }
        }
    }

    /// A replica that starts prints something, and has the volumes that it mounts.
    fn begin_output(&self, id: &ReplicaId) {
        self.shared.had.lock().unwrap().insert(id.clone());
        let instances = self.replicas.instances();
        let Some(one) = instances.iter().find(|one| &one.id == id) else {
            return;
        };
        let script = self.shared.script();
        let lines = script.prints.get(one.service.as_str()).cloned();
        drop(script);
        let mut output = self.shared.output();
        output
            .entry(id.clone())
            .or_default()
            .extend(lines.unwrap_or_default());
        drop(output);
        let release = self.persisted.releases().get(&one.release);
        let Some((release, service)) =
            release.and_then(|release| Some((release, release.services.get(&one.service)?)))
        else {
            return;
        };
        for mount in &service.service.mounts {
            let Mount::Volume {
                name,
                backing: None,
                ..
            } = mount
            else {
                continue;
            };
            let volume = release.volumes.get(name).cloned().unwrap_or_default();
            if !volume.external {
                self.make_volume(&volume_name(&self.id, name, &volume));
            }
        }
    }

    /// As a machine does it at the first mount.
    fn make_volume(&self, name: &str) {
        let platform = &self.shared.platform;
        let folder = platform.volumes_dir().join(name);
        std::fs::create_dir_all(folder.join("data")).unwrap();
        let title = match owner::title(&folder, &self.id).unwrap() {
            Title::Unclaimed => {
                let tables = &platform.tables;
                owner::settle(&folder, name, &self.id, tables, Nobodys::Take).unwrap()
            }
            title => title,
        };
        if !matches!(title, Title::Own | Title::Lent(_)) {
            let violation = format!("{} mounts volume {name}, which is {title:?}", self.id);
            self.shared.violations.add(violation);
        }
    }

    /// Removes what is left of the environment; `None` while what is stored of it cannot be.
    fn dismantle(&self) -> Option<Vec<String>> {
        let Intent::Down { remove_volumes } = &self.persisted.desired().intent else {
            return None;
        };
        let platform = &self.shared.platform;
        let mut errors = self.shared.script().stays.clone();
        let uses = || Uses::read(&platform.tables);
        for name in remove_volumes {
            let removed = owner::remove(&platform.volumes_dir(), name, &self.id, uses);
            errors.extend(removed.err().map(|error| error.to_string()));
        }
        self.persisted.forget().ok()?;
        let own = format!("{}.", self.key);
        self.shared.output().retain(|id, _| !id.0.starts_with(&own));
        let released = platform.images.release(&lease_name(&self.id));
        errors.extend(released.err().map(|error| error.to_string()));
        Some(errors)
    }

    fn publish(&self, decision: &Decision, observed: Observed, routing: Routing) {
        self.status.send_replace(Arc::new(TargetStatus {
            looked_at: true,
            revision: self.persisted.revision(),
            desired: self.persisted.desired().clone(),
            releases: Arc::clone(self.persisted.releases()),
            instances: self.replicas.instances(),
            observed,
            waiting: decision.waiting.clone(),
            routing,
            problems: Vec::new(),
            settled: decision.settled,
            failure: self.failure.clone(),
            gone: None,
        }));
    }

    fn gone(self, errors: Vec<String>) -> Announce {
        let last = TargetStatus {
            looked_at: true,
            revision: self.persisted.revision(),
            desired: self.persisted.desired().clone(),
            releases: Arc::clone(self.persisted.releases()),
            gone: Some(Arc::new(errors)),
            ..TargetStatus::default()
        };
        let status = self.status;
        Box::new(move || drop(status.send_replace(Arc::new(last))))
    }
}
