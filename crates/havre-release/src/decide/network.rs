//! Replicas that are in the network namespace of another's (`network_mode: service:NAME`): they come
//! after it, end before it, and are replaced when it is, since nothing leads to the namespace of a
//! replica that is gone.

use havre_model::ServiceName;

use super::{Action, Pass};
use crate::{Joined, Release, Replica, ReplicaId, ServiceRelease};

impl Pass<'_> {
    /// Whose network a new replica of `name` joins, if another's: `None` where that one is not there
    /// yet, or is about to go.
    pub(super) fn joins(
        &mut self,
        release: &Release,
        name: &ServiceName,
        slot: u32,
    ) -> Option<Option<ReplicaId>> {
        let service = release.services.get(name)?;
        let Some(provider) = &service.service.network_of else {
            return Some(None);
        };
        let found = self
            .provider(release, provider, slot)
            .filter(|replica| self.takes_in(replica))
            .map(|replica| replica.id.clone());
        if found.is_none() {
            self.waiting.insert(name.clone(), provider.clone());
        }
        found.map(Some)
    }

    /// Whose network a replica in `slot` joins, where there are fewer in turn.
    fn provider(&self, release: &Release, name: &ServiceName, slot: u32) -> Option<&Replica> {
        let digest = release.services.get(name)?.digest();
        let count = self.wanted(release, name).max(1);
        self.in_slot(name, digest, slot % count)
    }

    /// Whether others may still join a replica's network.
    fn takes_in(&self, replica: &Replica) -> bool {
        replica.state.can_be_stopped() && !self.draining.contains(&replica.id)
    }

    /// Whether a replica lives in a network that leads nowhere any more, or is not its own to be in.
    pub(super) fn is_cut_off(
        &self,
        release: &Release,
        service: &ServiceRelease,
        replica: &Replica,
        slot: u32,
    ) -> bool {
        let Some(provider) = &service.service.network_of else {
            return false;
        };
        let provider = self.provider(release, provider, slot);
        let connected = provider.is_some_and(|provider| {
            provider.state.is_live() && replica.joined.as_ref() == Some(&joined(provider))
        });
        replica.state.is_live() && !connected
    }

    /// Ends it as soon as no new requests are sent to it: what it has begun is lost anyway.
    pub(super) fn end_unrouted(&mut self, replica: &Replica) {
        let id = &replica.id;
        self.is_retiring = true;
        self.draining.insert(id.clone());
        let edge = self.observed.edge.as_ref();
        let serves = edge.is_some_and(|edge| edge.serving.contains(id));
        if !serves && replica.state.can_be_stopped() {
            self.actions.push(Action::Stop {
                id: id.clone(),
                within: None,
            });
        }
    }

    /// Sees to it that those in a replica's network end before it; returns whether any is there.
    pub(super) fn retire_joined(&mut self, replica: &Replica) -> bool {
        let network = joined(replica);
        let observed = self.observed;
        let mut any = false;
        for other in &observed.replicas {
            if other.joined.as_ref() == Some(&network) && other.state.is_live() {
                any = true;
                self.draining.insert(other.id.clone());
                self.retire(other);
            }
        }
        any
    }
}

fn joined(provider: &Replica) -> Joined {
    Joined {
        id: provider.id.clone(),
        start: provider.start.clone(),
    }
}
