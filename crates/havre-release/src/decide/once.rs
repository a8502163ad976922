//! Services with `restart: no`: one start, whatever becomes of it.

use std::collections::BTreeSet;

use havre_model::{RestartPolicy, ServiceName};

use super::Pass;
use crate::{Begun, ReplicaState, Role, ServiceDigest, ServiceRelease};

/// Whether its file says that it is never started again.
pub(super) fn starts_once(service: &ServiceRelease) -> bool {
    match service.service.restart {
        RestartPolicy::No => true,
        RestartPolicy::Unset
        | RestartPolicy::Always
        | RestartPolicy::UnlessStopped
        | RestartPolicy::OnFailure { .. } => false,
    }
}

impl Pass<'_> {
    /// Slots whose one start is behind them. What this program has ended itself may be started
    /// anew: it made place for a release that then went back.
    pub(super) fn begun(&self) -> BTreeSet<Begun> {
        let mut begun = self.desired.begun.clone();
        for replica in &self.observed.replicas {
            let Role::Replica { digest, slot } = &replica.role else {
                continue;
            };
            let once = self
                .made_by(replica)
                .and_then(|release| release.services.get(&replica.service))
                .is_some_and(starts_once);
            let one = Begun {
                service: replica.service.clone(),
                digest: digest.clone(),
                slot: *slot,
            };
            match &replica.state {
                _ if !once => {}
                ReplicaState::Stopping | ReplicaState::Interrupted => {
                    begun.remove(&one);
                }
                ReplicaState::Ended { exit } if exit.requested => {
                    begun.remove(&one);
                }
                ReplicaState::Starting { .. }
                | ReplicaState::Ready
                | ReplicaState::Unhealthy { .. }
                | ReplicaState::Restarting { .. }
                | ReplicaState::Ended { .. } => {
                    begun.insert(one);
                }
                // Two never ran; of the third nothing new is known.
                ReplicaState::Creating | ReplicaState::CannotStart { .. } | ReplicaState::Lost => {}
            }
        }
        begun.retain(|one| self.has_slot(one));
        begun
    }

    /// Whether a release in play has this slot.
    fn has_slot(&self, one: &Begun) -> bool {
        let rollout = self.desired.rollout.as_ref();
        let numbers = [
            self.desired.current,
            rollout.and_then(|rollout| rollout.from),
            rollout.map(|rollout| rollout.to),
        ];
        numbers.into_iter().any(|number| {
            self.release(number).is_some_and(|(_, release)| {
                let service = release.services.get(&one.service);
                service.is_some_and(|service| service.digest() == &one.digest)
                    && one.slot < self.wanted(release, &one.service)
            })
        })
    }

    /// Whether the one start of this slot is behind it.
    pub(super) fn has_begun(&self, name: &ServiceName, digest: &ServiceDigest, slot: u32) -> bool {
        let mut begun = self.desired.begun.iter();
        begun.any(|one| &one.service == name && &one.digest == digest && one.slot == slot)
    }
}
