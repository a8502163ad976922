//! The edge of the fake machine: who gets requests, and what is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use havre_edge::{EdgeStatus, PoolStatus, ReplicaStatus};
use havre_model::ServiceName;
use havre_release::ReplicaId;

use super::container::Container;
use crate::edge::EnvironmentEdge;

/// The edge.
#[derive(Clone, Debug)]
pub(super) struct FakeEdge {
    /// It goes on with what it has where it cannot be reached.
    pub(super) is_reachable: bool,
    /// One that it took over from is still there.
    pub(super) predecessor: Option<u32>,
    /// Requests a second and pool.
    pub(super) rate: u64,
    /// How long those take that a replica has when it gets no more.
    pub(super) takes: Duration,
    /// Services that somebody has to answer for from now on.
    pub(super) must_answer: BTreeSet<ServiceName>,
    pub(super) part: EnvironmentEdge,
    pub(super) counters: BTreeMap<ReplicaId, ReplicaStatus>,
    pools: BTreeMap<String, PoolStatus>,
    /// Since when replicas get no new requests that did.
    out_since: BTreeMap<ReplicaId, SystemTime>,
    /// Replicas whose streams are to be closed, and by when.
    closing: BTreeMap<ReplicaId, SystemTime>,
    /// Thousandths of requests to come, by pool.
    owed: BTreeMap<String, u64>,
    last: SystemTime,
}

impl FakeEdge {
    pub(super) fn new(now: SystemTime) -> Self {
        Self {
            is_reachable: true,
            predecessor: None,
            rate: 100,
            takes: Duration::from_millis(700),
            must_answer: BTreeSet::new(),
            part: EnvironmentEdge::default(),
            counters: BTreeMap::new(),
            pools: BTreeMap::new(),
            out_since: BTreeMap::new(),
            closing: BTreeMap::new(),
            owed: BTreeMap::new(),
            last: now,
        }
    }

    /// Replicas that get new requests.
    pub(super) fn serving(&self) -> BTreeSet<ReplicaId> {
        let pools = self.part.pools.values();
        let all = pools.flat_map(|pool| {
            let canary = pool.canary.iter().flat_map(|canary| &canary.replicas);
            pool.replicas.iter().chain(canary)
        });
        all.filter(|one| !one.draining)
            .map(|one| ReplicaId(one.id.clone()))
            .collect()
    }

    /// Takes a new state over.
    pub(super) fn set(&mut self, part: EnvironmentEdge, now: SystemTime) {
        let before = self.serving();
        self.part = part;
        let serving = self.serving();
        for id in before.difference(&serving) {
            self.out_since.insert(id.clone(), now);
        }
        for id in &serving {
            self.out_since.remove(id);
            self.closing.remove(id);
            self.counters.entry(id.clone()).or_default();
        }
    }

    pub(super) fn close_streams(&mut self, id: &ReplicaId, by: SystemTime) {
        self.closing.insert(id.clone(), by);
    }

    /// Requests and streams that a replica has.
    pub(super) fn under_way(&self, id: &ReplicaId) -> u64 {
        self.counters
            .get(id)
            .map_or(0, |one| one.in_flight + one.streams)
    }

    /// How long a replica has got no new requests that did.
    pub(super) fn out_for(&self, id: &ReplicaId, now: SystemTime) -> Option<Duration> {
        now.duration_since(*self.out_since.get(id)?).ok()
    }

    /// Lets requests come and end until `now`; returns the services that nobody answered for.
    pub(super) fn live(
        &mut self,
        containers: &BTreeMap<ReplicaId, Container>,
        now: SystemTime,
    ) -> BTreeSet<ServiceName> {
        let passed = now.duration_since(self.last).unwrap_or_default();
        self.last = now;
        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let mut unanswered = BTreeSet::new();
        let pools = self.part.pools.clone();
        for (name, pool) in pools.iter().filter(|_| passed_ms > 0) {
            let owed = self.owed.entry(name.clone()).or_default();
            *owed += self.rate * passed_ms;
            let requests = *owed / 1000;
            *owed %= 1000;
            let share = pool
                .canary
                .as_ref()
                .map_or(0, |one| u64::from(one.permille));
            let canary = pool.canary.iter().flat_map(|one| &one.replicas);
            let to_canary: Vec<_> = canary.map(|one| ReplicaId(one.id.clone())).collect();
            let others = pool.replicas.iter().filter(|one| !one.draining);
            let others: Vec<_> = others.map(|one| ReplicaId(one.id.clone())).collect();
            let many = requests * share / 1000;
            let well = self.ask(name, &to_canary, many, containers, now)
                & self.ask(name, &others, requests - many, containers, now);
            if !well && let Some(service) = service_of(name) {
                unanswered.insert(service);
            }
        }
        self.end_requests(containers, now);
        unanswered.retain(|service| self.must_answer.contains(service));
        unanswered
    }

    /// Sends requests to those of the replicas that answer; returns whether there is one, where there
    /// is a request.
    fn ask(
        &mut self,
        pool: &str,
        replicas: &[ReplicaId],
        requests: u64,
        containers: &BTreeMap<ReplicaId, Container>,
        now: SystemTime,
    ) -> bool {
        let status = self.pools.entry(pool.to_owned()).or_default();
        let answering = replicas
            .iter()
            .filter_map(|id| Some((id, containers.get(id)?)));
        let answering: Vec<_> = answering.filter(|(_, one)| one.is_ready(now)).collect();
        let count = u64::try_from(answering.len()).unwrap_or(u64::MAX);
        if requests == 0 {
            return true;
        }
        if count == 0 {
            status.failed += requests;
            return false;
        }
        for (index, (id, one)) in (0u64..).zip(answering) {
            let own = requests / count + u64::from(index < requests % count);
            let counters = self.counters.entry(id.clone()).or_default();
            // As many errors as there would be in a hundred, at any moment.
            let errors = |all: u64| all * one.behaviour.errors_percent / 100;
            let failed = errors(counters.requests + own) - errors(counters.requests);
            counters.requests += own;
            counters.server_errors += failed;
            *counters
                .latency_ms
                .entry(one.behaviour.latency_ms)
                .or_default() += own;
            counters.in_flight = 2;
            status.requests += own;
            status.server_errors += failed;
        }
        true
    }

    fn end_requests(&mut self, containers: &BTreeMap<ReplicaId, Container>, now: SystemTime) {
        for (id, counters) in &mut self.counters {
            let ended = containers.get(id).is_none_or(|one| !one.is_running());
            let out = self.out_since.get(id);
            if ended || out.is_some_and(|since| *since + self.takes <= now) {
                counters.in_flight = 0;
            }
            if ended || self.closing.get(id).is_some_and(|by| *by <= now) {
                counters.streams = 0;
            }
        }
        self.counters
            .retain(|id, one| containers.contains_key(id) || one.in_flight + one.streams > 0);
        self.out_since.retain(|id, _| containers.contains_key(id));
    }

    /// What it reports; `None` where it cannot be reached.
    pub(super) fn status(&self) -> Option<EdgeStatus> {
        let counters = self.counters.iter();
        self.is_reachable.then(|| EdgeStatus {
            pid: 1,
            replicas: counters
                .map(|(id, one)| (id.0.clone(), one.clone()))
                .collect(),
            pools: self.pools.clone(),
            predecessor: self.predecessor,
            ..EdgeStatus::default()
        })
    }
}

/// The service of a pool's name, `project/environment/service:port`.
fn service_of(pool: &str) -> Option<ServiceName> {
    let (service, _) = pool.rsplit('/').next()?.rsplit_once(':')?;
    Some(ServiceName::new(service))
}
