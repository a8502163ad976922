//! Who answers for an environment, and what the edge says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use havre_api::EnvironmentId;
use havre_edge::EdgeStatus;
use havre_model::ServiceName;
use havre_release::{EdgeView, Observed, ReplicaId, Routing, Traffic};

use super::problems::Concern;
use super::{Environment, serving_release};
use crate::edge::is_pool_of;
use crate::machine::{Answers, Machine};
use crate::observe::ObservedContainer;

/// WebSockets and event streams of a replica that leaves end within this time, so that their
/// clients do not all come back at once.
const CLOSE_STREAMS_OVER: Duration = Duration::from_secs(4);

impl<M: Machine> Environment<M> {
    /// Remembers since when replicas are named no more; one that waits in reserve counts as named.
    /// One that still has requests in flight though nobody here has named it was let go by the
    /// daemon before this one.
    pub(super) fn note_unrouted(
        &mut self,
        routing: &Routing,
        reserve: &BTreeSet<ReplicaId>,
        observed: &Observed,
        now: SystemTime,
    ) {
        let named: BTreeSet<ReplicaId> = routing
            .services
            .values()
            .flat_map(|service| {
                let canary = service.canary.iter().flat_map(|canary| &canary.replicas);
                service.named.iter().chain(canary).cloned()
            })
            .chain(reserve.iter().cloned())
            .collect();
        for id in self.named.difference(&named) {
            self.unrouted_since.entry(id.clone()).or_insert(now);
        }
        for (id, count) in observed.edge.iter().flat_map(|edge| &edge.in_flight) {
            if *count > 0 {
                self.unrouted_since.entry(id.clone()).or_insert(now);
            }
        }
        let known: BTreeSet<&ReplicaId> = observed.replicas.iter().map(|r| &r.id).collect();
        self.unrouted_since
            .retain(|id, _| !named.contains(id) && known.contains(id));
        self.named = named;
    }

    /// Tells the edge and the name server who answers; returns the edge's report after that.
    pub(super) async fn route(
        &mut self,
        routing: &Routing,
        reserve: &BTreeSet<ReplicaId>,
        seen: &[ObservedContainer],
    ) -> Option<Arc<EdgeStatus>> {
        let mut draining: BTreeMap<ServiceName, Vec<ReplicaId>> = BTreeMap::new();
        // One in reserve serves where nobody else does.
        let serves = |id: &ReplicaId| {
            routing
                .services
                .values()
                .any(|one| one.serving.contains(id))
        };
        let takes_none = |id: &ReplicaId| {
            !serves(id) && (self.unrouted_since.contains_key(id) || reserve.contains(id))
        };
        for one in seen.iter().filter(|one| takes_none(&one.id())) {
            let service = one.place.service.clone();
            draining.entry(service).or_default().push(one.id());
        }
        let (desired, releases) = (self.persisted.desired(), self.persisted.releases());
        let serving = serving_release(desired).and_then(|number| releases.get(&number));
        let answers = Answers {
            desired,
            releases,
            serving,
            routing,
            draining: &draining,
            seen,
        };
        let routed = self.machine.route(answers).await;
        for (concern, problem) in [
            (Concern::Network, routed.network),
            (Concern::Names, routed.names),
            (Concern::Certificate, routed.certificate),
        ] {
            self.problems.set(&self.id, concern, problem);
        }
        let findings = routed.findings;
        if !findings.is_empty() && findings != self.certificate_findings {
            tracing::warn!(environment = %self.id, ?findings, "certificate");
        }
        self.certificate_findings = findings;
        if routed.edge.is_none() {
            // It goes on with what it was told before: whoever got requests then still does.
            let now = self.clock.now();
            for since in self.unrouted_since.values_mut() {
                *since = now;
            }
        }
        routed.edge
    }

    /// Once the requests of a replica that leaves have ended, its streams are told to.
    pub(super) async fn close_streams(&mut self, status: &EdgeStatus) {
        self.closing
            .retain(|id| self.unrouted_since.contains_key(id));
        for id in self.unrouted_since.keys() {
            let open = status
                .replicas
                .get(&id.0)
                .is_some_and(|counters| counters.in_flight == 0 && counters.streams > 0);
            if open && self.closing.insert(id.clone()) {
                self.machine.close_streams(id, CLOSE_STREAMS_OVER).await;
            }
        }
    }
}

/// The edge's report in the planner's words. A replica serves if the state last pushed says so
/// and names it.
pub(super) fn edge_view(
    status: &EdgeStatus,
    id: &EnvironmentId,
    observed: &Observed,
    routing: &Routing,
) -> EdgeView {
    let known = || observed.replicas.iter().map(|replica| &replica.id);
    let counters = |id: &ReplicaId| Some((id.clone(), status.replicas.get(&id.0)?));
    EdgeView {
        serving: routing
            .services
            .values()
            .flat_map(|service| {
                let canary = service.canary.iter().flat_map(|canary| &canary.replicas);
                service.serving.iter().chain(canary).cloned()
            })
            .collect(),
        // What an edge that is being replaced has under way is in nobody's counters: as long as it is
        // there, every replica may have a request.
        in_flight: known()
            .filter_map(counters)
            .map(|(id, counters)| {
                let unseen = u64::from(status.predecessor.is_some());
                (id, counters.in_flight + counters.streams + unseen)
            })
            .collect(),
        traffic: known()
            .filter_map(counters)
            .map(|(id, counters)| {
                let traffic = Traffic {
                    requests: counters.requests,
                    server_errors: counters.server_errors,
                    failed: counters.failed,
                    latency: counters.latency_ms.clone(),
                };
                (id, traffic)
            })
            .collect(),
        total: total(status, id),
    }
}

/// What the edge has counted of an environment.
fn total(status: &EdgeStatus, id: &EnvironmentId) -> Traffic {
    let mut total = Traffic::default();
    for (_, pool) in status.pools.iter().filter(|(name, _)| is_pool_of(name, id)) {
        total.add(&Traffic {
            requests: pool.requests,
            server_errors: pool.server_errors,
            failed: pool.failed,
            ..Traffic::default()
        });
    }
    total
}
