//! How long requests wait where one replica has to end before the next one starts.

use std::collections::BTreeMap;
use std::time::Duration;

use havre_model::{RolloutSettings, ServiceName};

use crate::{Desired, Release, Strategy, WriteContext};

/// How long requests wait now for a service without a replica. While one may have to end first, the
/// time that its file grants it counts: how long it took last time says little of the work it has
/// this time.
pub fn hold(
    environment: &str,
    desired: &Desired,
    releases: &BTreeMap<u64, Release>,
    name: &ServiceName,
) -> Duration {
    let rollout = desired.rollout.as_ref();
    let release = |number: Option<u64>| releases.get(&number?);
    let newest = release(rollout.map(|rollout| rollout.to).or(desired.current));
    let before = match rollout {
        Some(rollout) => release(rollout.from),
        None => newest.filter(|_| desired.heals.contains_key(name)),
    };
    let ground = WriteContext {
        environment,
        databases: &desired.databases,
    };
    // Either may be the one that ends: a rollout can go back.
    let grace = newest.zip(before).and_then(|(newest, before)| {
        let on = newest.longest_end(ground, before, name);
        on.max(before.longest_end(ground, newest, name))
    });
    let start = desired.starts.get(name).copied();
    let settings = newest.map_or_else(RolloutSettings::default, |newest| newest.rollout.clone());
    let end = grace.map(|grace| grace.saturating_add(settings.drain_timeout));
    settings.hold_for(start, end.unwrap_or_default())
}

impl Release {
    /// How long after their requests have ended replicas of `old` may live which end before one of
    /// `name` starts; `None`: it starts beside them.
    pub fn longest_end(
        &self,
        ground: WriteContext<'_>,
        old: &Self,
        name: &ServiceName,
    ) -> Option<Duration> {
        let (strategy, _) = self.strategy(name, ground.databases);
        if strategy == Strategy::StartFirst {
            return None;
        }
        let others = self.taken_over(ground, old);
        let others = others.filter_map(|(of, before, _)| (of == name).then_some(before));
        others
            .chain([name])
            .filter_map(|name| old.grace(name))
            .max()
    }

    /// How long the end of a service's replica may take, and before it that of those in its network.
    fn grace(&self, name: &ServiceName) -> Option<Duration> {
        let service = &self.services.get(name)?.service;
        let provider = service.network_of.as_ref();
        let first = provider.unwrap_or(name);
        let joined = self.services.values().map(|other| &other.service);
        let joined = joined.filter(|other| other.network_of.as_ref() == Some(first));
        let joined = joined.map(|other| other.stop_grace_period).max();
        let own = self.services.get(first)?.service.stop_grace_period;
        Some(own.saturating_add(joined.unwrap_or_default()))
    }
}
