//! What shows that a release will not do.

use std::time::Duration;

use crate::{
    Failure, FailureKind, Mark, Release, Replica, ReplicaState, Role, Rollout, ServiceRelease,
    dependency_order,
};

use super::{Pass, elapsed, has_completed};

impl Pass<'_> {
    /// While it is prepared.
    pub(super) fn first_failure(&self, rollout: &Rollout, release: &Release) -> Option<Failure> {
        let of_replicas = self.observed.replicas.iter().find_map(|replica| {
            let kind = match &replica.role {
                Role::Job { release, .. } if *release == rollout.to => job_failure(&replica.state)?,
                Role::Job { .. } => return None,
                Role::Replica { digest, .. } => {
                    let service = release.services.get(&replica.service)?;
                    let fresh = service.digest() == digest
                        && self.old_digest(&replica.service) != Some(digest);
                    if !fresh {
                        return None;
                    }
                    self.replica_failure(replica, service, release)?
                }
            };
            let (service, replica) = (replica.service.clone(), Some(replica.id.clone()));
            Some(Failure {
                service,
                replica,
                kind,
            })
        });
        of_replicas.or_else(|| {
            let services = release.services.values();
            let longest = services.map(|one| release.rollout.ready_within(&one.service));
            let after = longest.fold(self.policy.rollout_deadline, Duration::max);
            if elapsed(rollout.started_at, self.now) < after {
                return None;
            }
            let service = dependency_order(&release.services)
                .into_iter()
                .find(|name| !self.is_up(release, name) && !release.jobs().contains(name))?;
            let kind = FailureKind::NotReady { after };
            Some(Failure {
                service: service.clone(),
                replica: None,
                kind,
            })
        })
    }

    /// While it is watched: what new replicas do, not what is counted of them.
    pub(super) fn failure_of_watched(
        &self,
        rollout: &Rollout,
        release: &Release,
    ) -> Option<Failure> {
        self.observed.replicas.iter().find_map(|replica| {
            let Role::Replica { digest, .. } = &replica.role else {
                return None;
            };
            let service = release.services.get(&replica.service)?;
            let fresh =
                service.digest() == digest && self.old_digest(&replica.service) != Some(digest);
            // What it was before it knew other secrets is not their fault.
            let reloaded = service.digest() == digest
                && self.has_other_contents(rollout, release, &replica.service)
                && replica.contents.as_ref().is_some_and(|contents| {
                    contents.loaded && Some(&contents.given) == service.live_contents().as_ref()
                });
            if !fresh && !reloaded {
                return None;
            }
            let mark = rollout
                .marks
                .as_ref()
                .and_then(|marks| marks.get(&replica.id));
            let kind = self.watched_failure(replica, service, mark)?;
            let (service, replica) = (replica.service.clone(), Some(replica.id.clone()));
            Some(Failure {
                service,
                replica,
                kind,
            })
        })
    }

    fn watched_failure(
        &self,
        replica: &Replica,
        service: &ServiceRelease,
        mark: Option<&Mark>,
    ) -> Option<FailureKind> {
        let ends = replica.restarts - mark.map_or(0, |mark| mark.restarts).min(replica.restarts);
        match &replica.state {
            ReplicaState::Unhealthy { failed, probe } => Some(FailureKind::Unhealthy {
                failed: *failed,
                probe: probe.clone(),
            }),
            ReplicaState::CannotStart { reason, .. } => Some(FailureKind::CannotStart {
                reason: reason.clone(),
            }),
            ReplicaState::Ended { exit } => (!exit.requested && !has_completed(replica, service))
                .then(|| FailureKind::Crashed {
                    exit: exit.clone(),
                    restarts: replica.restarts,
                }),
            ReplicaState::Ready
            | ReplicaState::Starting { .. }
            | ReplicaState::Restarting { .. } => {
                let exit = replica.last_exit.as_ref()?;
                let failed = ends > self.policy.bake_crash_limit || (ends > 0 && exit.oom_killed);
                failed.then(|| FailureKind::Crashed {
                    exit: exit.clone(),
                    restarts: replica.restarts,
                })
            }
            ReplicaState::Creating
            | ReplicaState::Stopping
            | ReplicaState::Interrupted
            | ReplicaState::Lost => None,
        }
    }

    fn replica_failure(
        &self,
        replica: &Replica,
        service: &ServiceRelease,
        release: &Release,
    ) -> Option<FailureKind> {
        match &replica.state {
            ReplicaState::Creating
            | ReplicaState::Ready
            | ReplicaState::Stopping
            | ReplicaState::Interrupted
            | ReplicaState::Lost => None,
            ReplicaState::Starting { since } => {
                let after = release.rollout.ready_within(&service.service);
                (elapsed(*since, self.now) >= after).then_some(FailureKind::NotReady { after })
            }
            ReplicaState::Unhealthy { failed, probe } => Some(FailureKind::Unhealthy {
                failed: *failed,
                probe: probe.clone(),
            }),
            ReplicaState::Restarting { exit, restarts } => (*restarts >= self.policy.crash_limit)
                .then(|| FailureKind::Crashed {
                    exit: exit.clone(),
                    restarts: *restarts,
                }),
            ReplicaState::CannotStart { reason, .. } => Some(FailureKind::CannotStart {
                reason: reason.clone(),
            }),
            ReplicaState::Ended { exit } => (!exit.requested && !has_completed(replica, service))
                .then(|| FailureKind::Crashed {
                    exit: exit.clone(),
                    restarts: replica.restarts,
                }),
        }
    }
}

fn job_failure(state: &ReplicaState) -> Option<FailureKind> {
    match state {
        ReplicaState::Ended { exit } if exit.code != 0 => {
            Some(FailureKind::JobFailed { exit: exit.clone() })
        }
        ReplicaState::CannotStart { reason, .. } => Some(FailureKind::CannotStart {
            reason: reason.clone(),
        }),
        ReplicaState::Creating
        | ReplicaState::Ended { .. }
        | ReplicaState::Starting { .. }
        | ReplicaState::Ready
        | ReplicaState::Unhealthy { .. }
        | ReplicaState::Restarting { .. }
        | ReplicaState::Stopping
        | ReplicaState::Interrupted
        | ReplicaState::Lost => None,
    }
}
