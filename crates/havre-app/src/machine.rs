//! The seam between an environment's task and the machine it runs on: all that the task sees, and all
//! that it does.

#[cfg(test)]
pub(crate) mod fake;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use havre_edge::EdgeStatus;
use havre_model::{Hook, Protocol, ServiceName};
use havre_release::{Action, Desired, Evidence, Failure, Release, ReplicaId, Routing};

use crate::observe::ObservedContainer;

/// What one environment has of a machine.
pub(crate) trait Machine: Send + Sync + 'static {
    /// Ends when something may have changed that was not asked for. What it was does not matter: all is
    /// looked at again. May be dropped at any time.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;

    /// The environment's containers.
    fn observe(&self) -> impl Future<Output = Vec<ObservedContainer>> + Send;

    /// What the edge reports; `None` while it cannot be reached.
    fn edge(&self) -> impl Future<Output = Option<Arc<EdgeStatus>>> + Send;

    /// Whether every port accepts a connection, or does not refuse a datagram; true where there is none
    /// to try.
    fn accepts(
        &self,
        address: Option<Ipv4Addr>,
        ports: &BTreeSet<(Protocol, u16)>,
    ) -> impl Future<Output = bool> + Send;

    /// Whether the `post_start` hooks of a container have ended well.
    fn is_prepared(&self, id: &ReplicaId) -> bool;

    /// Starts, runs, stops or removes, and returns why not. Safe to repeat.
    fn carry_out(&self, work: Work) -> impl Future<Output = Result<(), String>> + Send + use<Self>;

    /// Has every container that runs mask the environment's secrets in its output, also where an earlier try
    /// failed.
    fn keep_masked(
        &self,
        releases: &Arc<BTreeMap<u64, Release>>,
    ) -> impl Future<Output = ()> + Send;

    /// Tells the edge and the name server who answers.
    fn route(&mut self, answers: Answers<'_>) -> impl Future<Output = Routed> + Send;

    /// Has the streams of a replica closed, spread over this time.
    fn close_streams(&self, id: &ReplicaId, over: Duration) -> impl Future<Output = ()> + Send;

    /// What shows a failure, as long as it is there.
    fn explain(
        &self,
        failure: &Failure,
        release: Option<&Release>,
        seen: &[ObservedContainer],
    ) -> impl Future<Output = Evidence> + Send;

    /// Writes down that a replica of a service that is not well is replaced, and how often that was done without a longer
    /// time of peace in between.
    fn record_heal(&self, service: &ServiceName, replica: &ReplicaId, times: u32);

    /// Removes what is left of the environment beside its containers, and those of these volumes that
    /// are its own. Returns what could not be removed.
    fn dismantle(&mut self, volumes: &BTreeSet<String>)
    -> impl Future<Output = Vec<String>> + Send;

    /// Lets go of the environment's images, which is known no more. Returns why not.
    fn release_images(&self) -> Option<String>;
}

/// An action and all it needs.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) action: Action,
    pub(crate) releases: Arc<BTreeMap<u64, Release>>,
    /// Of the replica that is to stop: its `pre_stop` hooks and all the time it has.
    pub(crate) pre_stop: Option<(Vec<Hook>, Duration)>,
}

/// Who answers for the environment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers<'a> {
    pub(crate) desired: &'a Desired,
    pub(crate) releases: &'a Arc<BTreeMap<u64, Release>>,
    /// The release whose routes are in force.
    pub(crate) serving: Option<&'a Release>,
    pub(crate) routing: &'a Routing,
    /// Replicas that get no new requests.
    pub(crate) draining: &'a BTreeMap<ServiceName, Vec<ReplicaId>>,
    pub(crate) seen: &'a [ObservedContainer],
}

/// What came of telling who answers.
#[derive(Debug, Default)]
pub(crate) struct Routed {
    /// The edge's report after that; `None` while it cannot be reached.
    pub(crate) edge: Option<Arc<EdgeStatus>>,
    /// Why the network is not as it should be.
    pub(crate) network: Option<String>,
    /// Why names do not lead where they should.
    pub(crate) names: Option<String>,
    /// Why the certificate that is wanted cannot be used.
    pub(crate) certificate: Option<String>,
    /// What a person should know of the certificate.
    pub(crate) findings: Vec<String>,
}
