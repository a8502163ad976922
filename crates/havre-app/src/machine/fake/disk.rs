//! What is on disk of an environment: what the fake machine compares every action with.

use std::collections::{BTreeMap, BTreeSet};

use havre_api::EnvironmentId;
use havre_model::{RestartPolicy, ServiceName, written_mounts};
use havre_release::{
    Begun, Desired, Intent, JobId, Release, ReplicaId, Role, RolloutPhase, Strategy,
};

use crate::environment::tables::Tables;
use crate::labels::ContainerLabels;

/// The environment as the next daemon would find it.
pub(super) struct Disk {
    /// `None`: nothing is known of it.
    pub(super) desired: Option<Desired>,
    pub(super) releases: BTreeMap<u64, Release>,
}

impl Disk {
    pub(super) fn read(tables: &Tables, id: &EnvironmentId) -> Self {
        let (project, environment) = (id.project.as_str(), id.environment.as_str());
        let releases = tables.releases(project, environment, 100).unwrap();
        Self {
            desired: desired(tables, id),
            releases: releases
                .into_iter()
                .map(|row| (row.number, serde_json::from_str(&row.content).unwrap()))
                .collect(),
        }
    }

    /// The volumes that are to go with the environment; `None` where that is to stay.
    pub(super) fn going(&self) -> Option<&BTreeSet<String>> {
        match &self.desired.as_ref()?.intent {
            Intent::Run => None,
            Intent::Down { remove_volumes } => Some(remove_volumes),
        }
    }

    /// Why no replica with these labels may start, by what is written down.
    pub(super) fn forbids(&self, labels: &ContainerLabels) -> Option<String> {
        let desired = match &self.desired {
            Some(desired) if desired.intent == Intent::Run => desired,
            Some(_) => return Some("the environment is to go".to_owned()),
            None => return Some("nothing is known of the environment".to_owned()),
        };
        let Some(release) = self.releases.get(&labels.release) else {
            return Some(format!("release {} is not stored", labels.release));
        };
        let rollout = desired.rollout.as_ref();
        let number = Some(labels.release);
        let is_wanted = match rollout.map(|rollout| (rollout, &rollout.phase)) {
            None => desired.current == number,
            Some((
                rollout,
                RolloutPhase::Preparing | RolloutPhase::Canary { .. } | RolloutPhase::Baking { .. },
            )) => number == Some(rollout.to) || number == rollout.from,
            Some((rollout, RolloutPhase::Finishing { .. })) => number == Some(rollout.to),
            Some((rollout, RolloutPhase::RollingBack { .. })) => number == rollout.from,
        };
        if !is_wanted {
            return Some(format!("release {} is not wanted", labels.release));
        }
        let wrong = match &labels.role {
            Role::Replica { digest, slot } => {
                let begun = Begun {
                    service: labels.service.clone(),
                    digest: digest.clone(),
                    slot: *slot,
                };
                let service = release.services.get(&labels.service);
                let is_of_it = service.is_some_and(|service| service.digest() == digest);
                match is_of_it {
                    false => Some("its configuration is another"),
                    true if desired.begun.contains(&begun) => Some("it has had its one start"),
                    true => None,
                }
            }
            Role::Job { job, .. } => {
                let done = rollout.is_some_and(|rollout| rollout.jobs_done.contains(job));
                match rollout.map(|rollout| &rollout.phase) {
                    Some(RolloutPhase::Preparing) if !done => None,
                    Some(_) | None => Some("it is not the time for jobs"),
                }
            }
        };
        wrong.map(str::to_owned)
    }

    /// Whether what is written down says that this replica is to stay. Where it may go for a reason
    /// that only the machine shows, the answer is no.
    pub(super) fn keeps(&self, id: &ReplicaId, labels: &ContainerLabels) -> bool {
        let Some(desired) = &self.desired else {
            return false;
        };
        let healed = desired.heals.values();
        if healed
            .into_iter()
            .any(|heal| heal.replica.as_ref() == Some(id))
        {
            return false;
        }
        let of = |number: Option<u64>| self.has_place(number, labels);
        match (&desired.intent, &desired.rollout) {
            (Intent::Down { .. }, _) => false,
            (Intent::Run, None) => of(desired.current),
            (Intent::Run, Some(rollout)) => {
                let beside = || {
                    let to = self.releases.get(&rollout.to);
                    let strategy = |to: &Release| to.strategy(&labels.service, &desired.databases);
                    let one_by_one = rollout.groups.contains_key(&labels.service);
                    to.is_some_and(|to| {
                        to.services.contains_key(&labels.service)
                            && strategy(to).0 == Strategy::StartFirst
                            && !one_by_one
                    })
                };
                match rollout.phase {
                    RolloutPhase::Preparing | RolloutPhase::Canary { .. } => {
                        of(Some(rollout.to)) || (of(rollout.from) && beside())
                    }
                    RolloutPhase::Baking { .. } => {
                        let from = rollout.from.and_then(|from| self.releases.get(&from));
                        let is_routed =
                            from.is_some_and(|from| !from.edge_ports(&labels.service).is_empty());
                        of(Some(rollout.to)) || (of(rollout.from) && is_routed && beside())
                    }
                    RolloutPhase::Finishing { .. } => of(Some(rollout.to)),
                    RolloutPhase::RollingBack { .. } => of(rollout.from),
                }
            }
        }
    }

    fn has_place(&self, number: Option<u64>, labels: &ContainerLabels) -> bool {
        let release = number.and_then(|number| self.releases.get(&number));
        let service = release.and_then(|release| release.services.get(&labels.service));
        let (Some(desired), Some(service)) = (&self.desired, service) else {
            return false;
        };
        match &labels.role {
            Role::Replica { digest, slot } => {
                let wanted = desired.replicas(&labels.service, service.service.replicas);
                service.digest() == digest && *slot < wanted
            }
            Role::Job { release, .. } => {
                let rollout = desired.rollout.as_ref();
                rollout.is_some_and(|rollout| rollout.to == *release)
            }
        }
    }

    /// How long requests of a replica that leaves may take.
    pub(super) fn drain_timeout(&self) -> std::time::Duration {
        let desired = self.desired.as_ref();
        let number = desired.and_then(|desired| {
            let to = desired.rollout.as_ref().map(|rollout| rollout.to);
            to.or(desired.current)
        });
        let release = number.and_then(|number| self.releases.get(&number));
        release.map_or_else(Default::default, |one| one.rollout.drain_timeout)
    }

    /// Whether only one at a time may write to the volumes of a service of this release.
    pub(super) fn is_exclusive(&self, number: u64, name: &ServiceName) -> bool {
        let (Some(desired), Some(release)) = (&self.desired, self.releases.get(&number)) else {
            return false;
        };
        let found = &desired.databases;
        let back = release.strategy_back(name, found);
        let writes = |service| written_mounts(service, found).next().is_some();
        release.strategy(name, found).0 == Strategy::StopFirst
            && back == Strategy::StopFirst
            && (release.services.get(name)).is_some_and(|one| writes(&one.service))
    }

    /// Whether this release is on its way in, and its jobs are part of that.
    pub(super) fn prepares(&self, number: u64) -> bool {
        let desired = self.desired.as_ref();
        let rollout = desired.and_then(|desired| desired.rollout.as_ref());
        rollout
            .is_some_and(|rollout| rollout.to == number && rollout.phase == RolloutPhase::Preparing)
    }

    /// Whether it is written down that a job of a release on its way in has succeeded.
    pub(super) fn is_done(&self, number: u64, job: &JobId) -> bool {
        let desired = self.desired.as_ref();
        let rollout = desired.and_then(|desired| desired.rollout.as_ref());
        rollout.is_some_and(|rollout| rollout.to == number && rollout.jobs_done.contains(job))
    }

    /// What a service or a job of a release waits for that has to be ready, and the jobs.
    pub(super) fn needs(&self, labels: &ContainerLabels) -> (Vec<ServiceName>, Vec<JobId>) {
        use havre_model::Condition;

        let Some(release) = self.releases.get(&labels.release) else {
            return Default::default();
        };
        let config = &release.services[&labels.service].service;
        let lasts = |name: &ServiceName| {
            release.services.get(name).is_some_and(|other| {
                let wanted = self
                    .desired
                    .as_ref()
                    .map_or(0, |desired| desired.replicas(name, other.service.replicas));
                other.service.restart != RestartPolicy::No && wanted > 0
            })
        };
        let on = |condition| {
            let edges = config.depends_on.iter();
            edges
                .filter(move |(_, edge)| edge.condition == condition)
                .map(|(name, _)| name)
        };
        let ready = on(Condition::ServiceHealthy).filter(|name| lasts(name));
        // Outside its rollout a release's jobs are behind it.
        let prepares = self.prepares(labels.release);
        let jobs = on(Condition::ServiceCompletedSuccessfully)
            .filter(|_| prepares)
            .map(|service| JobId {
                service: service.clone(),
                hook: None,
            });
        (ready.cloned().collect(), jobs.collect())
    }
}

/// What is desired of the environment; `None`: nothing is known of it.
pub(super) fn desired(tables: &Tables, id: &EnvironmentId) -> Option<Desired> {
    let rows = tables.environments().unwrap();
    let row = rows.into_iter().find(|row| {
        (row.project.as_str(), row.environment.as_str())
            == (id.project.as_str(), id.environment.as_str())
    });
    row.map(|row| serde_json::from_str(&row.desired).unwrap())
}
