//! Replicas that run and are not well.

use std::collections::BTreeMap;

use havre_model::{ServiceName, written_mounts};

use super::once::starts_once;
use super::{Action, Pass, elapsed};
use crate::{Heal, Release, Replica, ReplicaState, Strategy};

impl Pass<'_> {
    /// Replaces replicas that fail their liveness probe, or without one their health check: one of a
    /// service at a time, with longer and longer pauses while that does not help. First it is written
    /// down which, then it is done.
    pub(super) fn heal(&mut self, release: &Release) -> BTreeMap<ServiceName, Heal> {
        let mut heals = self.desired.heals.clone();
        heals.retain(|name, heal| {
            release.services.contains_key(name)
                && elapsed(heal.last, self.now) < self.policy.heal_memory
        });
        let mended = release.lasting();
        for (name, service) in mended.filter(|(_, service)| !starts_once(service)) {
            let unhealthy = (0..self.desired.replicas(name, service.service.replicas))
                .filter_map(|slot| self.in_slot(name, service.digest(), slot))
                .filter(|replica| {
                    matches!(
                        &replica.state,
                        ReplicaState::Unhealthy { failed, .. } if failed.asks_for_another()
                    )
                });
            let unhealthy: Vec<&Replica> = unhealthy.collect();
            match heals.get_mut(name) {
                Some(heal) if heal.replica.is_some() => {
                    match unhealthy
                        .iter()
                        .find(|one| heal.replica.as_ref() == Some(&one.id))
                    {
                        Some(replica) => self.give_up(release, replica),
                        None => heal.replica = None,
                    }
                }
                known => {
                    let Some(first) = unhealthy.first() else {
                        continue;
                    };
                    let count = known.as_ref().map_or(0, |heal| heal.count);
                    let rested = known.is_none_or(|heal| {
                        elapsed(heal.last, self.now) >= self.policy.pause_after(heal.count)
                    });
                    if rested {
                        let heal = Heal {
                            count: count.saturating_add(1),
                            last: self.now,
                            replica: Some(first.id.clone()),
                        };
                        heals.insert(name.clone(), heal);
                    }
                }
            }
        }
        heals
    }

    /// Ends a replica that is not well as soon as no new requests go to it: those it has may hang
    /// for ever.
    fn give_up(&mut self, release: &Release, replica: &Replica) {
        let id = &replica.id;
        self.draining.insert(id.clone());
        if self.has_a_step(id) {
            return;
        }
        let unrouted = self.observed.unrouted_since.get(id);
        let out_long_enough =
            unrouted.is_none_or(|since| elapsed(*since, self.now) >= self.policy.min_drain);
        let edge = self.observed.edge.as_ref();
        if out_long_enough && edge.is_some_and(|edge| !edge.serving.contains(id)) {
            // What hangs does not end by itself. What keeps data gets all the time it asked for.
            let service = release.services.get(&replica.service);
            let found = &self.desired.databases;
            let keeps_data = service
                .is_some_and(|service| written_mounts(&service.service, found).next().is_some());
            let beside =
                !keeps_data && release.strategy(&replica.service, found).0 == Strategy::StartFirst;
            self.actions.push(Action::Stop {
                id: id.clone(),
                within: beside.then_some(self.policy.unhealthy_grace),
            });
        }
    }
}
