//! What must never happen on a real machine.

use std::collections::BTreeSet;

use havre_release::{Action, Desired, Failure, Intent, Release, ReplicaId, Role};

use super::{Machinery, disk};
use crate::labels::ContainerLabels;
use crate::machine::Answers;

impl Machinery {
    pub(super) fn check_action(&mut self, action: &Action) {
        let id = action.id();
        if let Some(other) = self.acting.get(id) {
            self.violate(format!("{action:?} while {other:?}"));
        }
        self.check_is_known(&format!("{action:?}"));
        match action {
            Action::Start { .. } | Action::RunJob { .. } => {
                if self.containers.contains_key(id) {
                    self.violate(format!("{id} is started and exists"));
                }
            }
            Action::Stop { .. } => self.check_stop(id),
            Action::Renew {
                service,
                release,
                contents,
                ..
            } => {
                let stored = self.disk();
                let stored = stored.releases.get(release);
                let stored = stored.and_then(|release| release.services.get(service));
                if stored.and_then(|one| one.live_contents()).as_ref() != Some(contents) {
                    self.violate(format!("{id} is given contents that no stored release has"));
                }
                match self.containers.get(id) {
                    None => self.violate(format!("{id} is renewed and unknown")),
                    Some(one) if !one.is_live() || one.given.is_none() => {
                        let process = one.process.clone();
                        self.violate(format!("{id} is renewed while {process:?}"));
                    }
                    Some(_) => {}
                }
            }
            Action::Remove { .. } => match self.containers.get(id) {
                None => self.violate(format!("{id} is removed and unknown")),
                Some(one) if one.is_live() => {
                    let process = one.process.clone();
                    self.violate(format!("{id} is removed while {process:?}"));
                }
                Some(_) => self.check_job_is_noted(id),
            },
        }
    }

    /// What shows that a job has succeeded stays until that is written down: it would run again.
    fn check_job_is_noted(&mut self, id: &ReplicaId) {
        let labels = self.containers.get(id).map(|one| &one.labels);
        let Some(Role::Job { job, release }) = labels.map(|one| one.role.clone()) else {
            return;
        };
        let disk = self.disk();
        let prepares = disk.prepares(release);
        if prepares && self.succeeded.contains(id) && !disk.is_done(release, &job) {
            self.violate(format!(
                "{id} is removed before its success is written down"
            ));
        }
    }

    /// Nothing is done for an environment that is gone.
    fn check_is_known(&mut self, what: &str) {
        if self.is_dismantled && disk::desired(&self.tables, &self.id).is_none() {
            self.violate(format!("{what} after the end of the environment"));
        }
    }

    /// What is written down wants it, what it needs is there, and nobody is in its way.
    pub(super) fn check_start(
        &mut self,
        id: &ReplicaId,
        labels: &ContainerLabels,
        release: &Release,
    ) {
        let disk = self.disk();
        if let Some(reason) = disk.forbids(labels) {
            return self.violate(format!("{id} is started, but {reason}"));
        }
        if disk.releases.get(&labels.release) != Some(release) {
            self.violate(format!(
                "{id} is started by a release other than the stored one"
            ));
        }
        if self.succeeded.contains(id) {
            self.violate(format!("job {id} runs again after it has succeeded"));
        }
        let (services, jobs) = disk.needs(labels);
        let now = self.clock.now();
        for needed in services {
            let mut ready = self.containers.values().filter(|one| one.is_ready(now));
            if !ready.any(|one| one.labels.service == needed) {
                self.violate(format!("{id} is started before {needed} is ready"));
            }
        }
        for needed in jobs {
            if !disk.is_done(labels.release, &needed) {
                self.violate(format!("{id} is started before {needed:?} is done"));
            }
        }
        if matches!(labels.role, Role::Job { .. })
            || !disk.is_exclusive(labels.release, &labels.service)
        {
            return;
        }
        let own = super::written_by(&self.id, release, &labels.service);
        let digest = release.services[&labels.service].digest();
        let others = self.containers.iter().filter(|(_, other)| {
            let same = other.labels.service == labels.service;
            let is_rival = match same {
                true => other.digest.as_ref() != Some(digest),
                false => !release.services.contains_key(&other.labels.service),
            };
            is_rival && other.is_live() && !other.volumes.is_disjoint(&own)
        });
        let others: Vec<String> = others.map(|(other, _)| other.0.clone()).collect();
        if !others.is_empty() {
            let others = others.join(" ");
            self.violate(format!(
                "{id} is started while {others} writes to its volume"
            ));
        }
    }

    fn check_stop(&mut self, id: &ReplicaId) {
        let Some(one) = self.containers.get(id).cloned() else {
            return self.violate(format!("{id} is stopped and unknown"));
        };
        if !one.is_live() {
            self.violate(format!("{id} is stopped while {:?}", one.process));
        }
        let disk = self.disk();
        let now = self.clock.now();
        let is_going = disk.going().is_some();
        // An environment that is to go does not wait for an edge that cannot be reached.
        if self.edge.serving().contains(id) && (self.edge.is_reachable || !is_going) {
            self.violate(format!("{id} is stopped while it gets requests"));
        }
        let number = self.edge.under_way(id);
        let drained = number == 0
            || (self.edge.out_for(id, now)).is_some_and(|out| out >= disk.drain_timeout());
        if !drained && !is_going && !one.is_sick(now) {
            self.violate(format!("{id} is stopped with {number} requests under way"));
        }
        // Its hooks were broken off, or the network that it is in is gone.
        let release = disk.releases.get(&one.labels.release);
        let config = release.and_then(|release| release.services.get(&one.labels.service));
        let unprepared =
            !one.is_prepared && config.is_some_and(|one| !one.service.post_start.is_empty());
        let joined = one.labels.joined.is_some();
        if !unprepared && !joined && disk.keeps(id, &one.labels) {
            self.violate(format!(
                "{id} is stopped, but what is written down keeps it"
            ));
        }
    }

    /// Those who answer run, and are fit to.
    pub(super) fn check_route(&mut self, answers: &Answers<'_>) {
        let stored = disk::desired(&self.tables, &self.id);
        if stored.unwrap_or_default() != *answers.desired {
            self.violate("what is desired in memory is not what is on disk".to_owned());
        }
        if answers.serving.is_some() {
            self.check_is_known("routing");
        }
        if answers.desired.intent != Intent::Run && answers.serving.is_some() {
            self.violate("an environment that is to go is routed".to_owned());
        }
        let now = self.clock.now();
        for service in answers.routing.services.values() {
            let canary = service.canary.iter().flat_map(|canary| &canary.replicas);
            let serving: BTreeSet<&ReplicaId> = service.serving.iter().chain(canary).collect();
            let ready = |id: &&ReplicaId| {
                let one = self.containers.get(*id);
                one.is_some_and(|one| one.is_ready(now))
            };
            // With nobody who is well, one who is not is a better answer than none.
            let all_sick = !serving.iter().any(ready);
            let unfit = serving.iter().filter(|id| {
                let one = self.containers.get(**id);
                let stands_in = one.is_some_and(|one| all_sick && one.is_sick(now));
                !ready(id) && !stands_in
            });
            let unfit: Vec<String> = unfit.map(|id| id.0.clone()).collect();
            for id in unfit {
                let process = self.containers.get(&ReplicaId(id.clone()));
                let process = process.map(|one| one.process.clone());
                self.violate(format!("{id} is routed to, and is {process:?}"));
            }
        }
        self.check_draining(answers);
    }

    fn check_draining(&mut self, answers: &Answers<'_>) {
        let serving = answers.routing.services.values();
        let serving: BTreeSet<&ReplicaId> = serving.flat_map(|one| &one.serving).collect();
        let draining = answers.draining.values().flatten();
        let both: Vec<String> = draining
            .filter(|id| serving.contains(id))
            .map(|id| id.0.clone())
            .collect();
        for id in both {
            self.violate(format!("{id} is to serve and to drain"));
        }
    }

    /// What a person is to be told of is there to be looked at, and the failure is written down.
    pub(super) fn check_evidence(&mut self, failure: &Failure) {
        let id = failure.replica.as_ref();
        if let Some(id) = id.filter(|id| !self.containers.contains_key(id))
            && !self.refused.contains(id)
        {
            self.violate(format!("{id} is to blame and was removed"));
        }
        let known = |desired: &Desired| {
            let rollout = desired.rollout.as_ref();
            rollout.and_then(|rollout| rollout.failure()) == Some(failure)
        };
        if !self.disk().desired.as_ref().is_some_and(known) {
            self.violate("a failure is explained that is not written down".to_owned());
        }
    }

    pub(super) fn check_dismantle(&mut self, volumes: &BTreeSet<String>) {
        let disk = self.disk();
        match disk.going() {
            None => self.violate("dismantled, but not written down that it is to go".to_owned()),
            Some(named) if named != volumes => {
                self.violate(format!(
                    "volumes {volumes:?} go, {named:?} are written down"
                ));
            }
            Some(_) => {}
        }
        if !self.containers.is_empty() || !self.acting.is_empty() {
            self.violate("dismantled while containers are there".to_owned());
        }
    }
}
