//! Other contents of secrets for replicas that stay as they run: they get those of the release that has
//! the requests, one replica of a service at a time.
//!
//! ```text
//! Preparing, Canary ─► those of the release before      Baking, Finishing ─► those of the new one
//! RollingBack ───────► those of the release before
//! ```
//! While a release is watched, a reload that keeps failing is its failure. At any other time there is
//! nothing to go back to: it is tried again, with longer and longer pauses.

use std::time::Duration;

use havre_model::ServiceName;

use super::{Action, Pass, elapsed};
use crate::{
    Contents, Desired, Failure, FailureKind, Intent, LiveContents, Release, Replica, ReplicaState,
    Role, Rollout, RolloutPhase, ServiceDigest,
};

impl Desired {
    /// The release whose contents of secrets replicas have that stay as they run.
    fn contents_of(&self) -> Option<u64> {
        match (&self.intent, &self.rollout) {
            (Intent::Down { .. }, _) => None,
            (Intent::Run, None) => self.current,
            (Intent::Run, Some(rollout)) => match rollout.phase {
                RolloutPhase::Preparing
                | RolloutPhase::Canary { .. }
                | RolloutPhase::RollingBack { .. } => rollout.from.or(Some(rollout.to)),
                RolloutPhase::Baking { .. } | RolloutPhase::Finishing { .. } => Some(rollout.to),
            },
        }
    }

    /// The release whose contents of secrets a replica of this configuration is to have: the one that has the
    /// requests, else the one on its way in or out.
    pub fn contents_for<'a>(
        &self,
        releases: &'a std::collections::BTreeMap<u64, Release>,
        service: &ServiceName,
        digest: &ServiceDigest,
    ) -> Option<(u64, &'a Release)> {
        let rollout = self.rollout.as_ref();
        let others = [
            rollout.map(|rollout| rollout.to),
            rollout.and_then(|rollout| rollout.from),
        ];
        let mut numbers = std::iter::once(self.contents_of()?).chain(others.into_iter().flatten());
        numbers.find_map(|number| {
            let release = releases.get(&number)?;
            let is_it = release.services.get(service)?.digest() == digest;
            is_it.then_some((number, release))
        })
    }
}

impl<'a> Pass<'a> {
    /// Gives replicas the contents that they are to have.
    pub(super) fn renew(&mut self) {
        let mut begun: Option<&ServiceName> = None;
        let mut due: Vec<(&'a Replica, u64, LiveContents)> = self
            .observed
            .replicas
            .iter()
            .filter_map(|replica| {
                let (release, wanted) = self.outdated(replica)?;
                Some((replica, release, wanted))
            })
            .collect();
        self.is_renewing = !due.is_empty();
        // One that has failed goes first: while it does, others are left alone during a rollout.
        due.sort_by_key(|(replica, _, wanted)| {
            (&replica.service, !self.has_failed(replica, wanted))
        });
        for (replica, release, contents) in due {
            if begun == Some(&replica.service) || self.has_a_step(&replica.id) {
                continue;
            }
            let waits = self.rests(replica, &contents);
            if !waits || self.desired.rollout.is_some() {
                begun = Some(&replica.service);
            }
            if !waits {
                self.actions.push(Action::Renew {
                    id: replica.id.clone(),
                    service: replica.service.clone(),
                    release,
                    contents,
                });
            }
        }
    }

    /// The contents that a replica is to have, and their release, where its program knows others.
    fn outdated(&self, replica: &Replica) -> Option<(u64, LiveContents)> {
        let Role::Replica { digest, .. } = &replica.role else {
            return None;
        };
        let runs = match replica.state {
            ReplicaState::Starting { .. }
            | ReplicaState::Ready
            | ReplicaState::Unhealthy { .. }
            | ReplicaState::Restarting { .. } => true,
            // It ends, or is made with those of now.
            ReplicaState::Creating
            | ReplicaState::CannotStart { .. }
            | ReplicaState::Stopping
            | ReplicaState::Ended { .. }
            | ReplicaState::Interrupted
            | ReplicaState::Lost => false,
        };
        let Contents { given, loaded } = replica.contents.as_ref().filter(|_| runs)?;
        let (number, release) =
            self.desired
                .contents_for(self.releases, &replica.service, digest)?;
        let wanted = release.services.get(&replica.service)?.live_contents()?;
        (*given != wanted || !loaded).then_some((number, wanted))
    }

    fn has_failed(&self, replica: &Replica, wanted: &LiveContents) -> bool {
        let failed = self.observed.failed_reloads.get(&replica.id);
        failed.is_some_and(|failed| failed.contents == *wanted)
    }

    /// Whether the time after its last try is not over yet.
    fn rests(&self, replica: &Replica, wanted: &LiveContents) -> bool {
        let failed = self.observed.failed_reloads.get(&replica.id);
        failed
            .filter(|failed| failed.contents == *wanted)
            .is_some_and(|failed| {
                elapsed(failed.last, self.now) < self.policy.reload_pause_after(failed.tries)
            })
    }

    /// Whether any replica of a release has contents yet to come that were not tried in vain.
    pub(super) fn expects_contents(&self, release: &Release) -> bool {
        self.observed.replicas.iter().any(|replica| {
            self.has_place(release, replica)
                && self
                    .outdated(replica)
                    .is_some_and(|(_, wanted)| !self.has_failed(replica, &wanted))
        })
    }

    /// Whether all replicas of a release know the contents that they are to have.
    pub(super) fn knows_contents(&self, release: &Release) -> bool {
        !self
            .observed
            .replicas
            .iter()
            .any(|replica| self.has_place(release, replica) && self.outdated(replica).is_some())
    }

    /// Whether replicas that stay get other contents by this rollout: then it is watched, since there has
    /// to be a way back.
    pub(super) fn moves_contents(&self, rollout: &Rollout, release: &Release) -> bool {
        release
            .lasting()
            .any(|(name, _)| self.has_other_contents(rollout, release, name))
    }

    /// The same of one service.
    pub(super) fn has_other_contents(
        &self,
        rollout: &Rollout,
        release: &Release,
        name: &ServiceName,
    ) -> bool {
        let old = self.release(rollout.from);
        let old = old.and_then(|(_, old)| old.services.get(name));
        let Some((old, new)) = old.zip(release.services.get(name)) else {
            return false;
        };
        old.digest() == new.digest() && old.live_contents() != new.live_contents()
    }

    /// A replica that was told of the release's contents, and was so in vain as often as is borne.
    pub(super) fn failed_reload(&self, release: &Release) -> Option<Failure> {
        self.observed.replicas.iter().find_map(|replica| {
            let failed = self.observed.failed_reloads.get(&replica.id)?;
            let (_, wanted) = self.outdated(replica)?;
            let is_it = self.has_place(release, replica)
                && failed.contents == wanted
                && failed.tries >= self.policy.reload_tries;
            is_it.then(|| Failure {
                service: replica.service.clone(),
                replica: Some(replica.id.clone()),
                kind: FailureKind::NotReloaded {
                    reason: failed.reason.clone(),
                },
            })
        })
    }
}

impl crate::Policy {
    /// How long a replica rests after so many reloads that failed.
    pub fn reload_pause_after(&self, tries: u32) -> Duration {
        let doublings = tries.saturating_sub(1).min(16);
        self.reload_pause
            .saturating_mul(1 << doublings)
            .min(self.longest_heal_pause)
    }
}
