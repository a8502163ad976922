//! This machine, as one environment has it: the engine's containers, the network with its name server,
//! and the edge.

mod target;
mod targets;

pub(crate) use targets::ThisMachine;

use target::spool;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use havre_api::EnvironmentId;
use havre_audit::{Entry, Outcome, Principal};
use havre_base::{in_place, one_line};
use havre_edge::EdgeStatus;
use havre_engine::Observed as Container;
use havre_model::{Protocol, ServiceName};
use havre_release::{Evidence, Failure, Release, ReplicaId};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinError;

use crate::action::Job;
use crate::certificates::{Pair, Reading};
use crate::edge::environment_edge;
use crate::host::Host;
use crate::labels::environment_key;
use crate::machine::{Answers, Machine, Routed, Work};
use crate::network::NetworkKeeper;
use crate::observe::ObservedContainer;
use crate::{audit, execute, hooks, leases, names, report};

const CONNECT_DEADLINE: Duration = Duration::from_millis(200);
/// A port for datagrams where nobody listens says so sooner.
const REFUSAL_DEADLINE: Duration = Duration::from_millis(50);

/// What an environment has of this machine.
pub(crate) struct Local {
    id: EnvironmentId,
    key: String,
    host: Arc<Host>,
    network: NetworkKeeper,
    containers: watch::Receiver<Arc<Vec<Container>>>,
}

impl Local {
    pub(crate) fn new(id: EnvironmentId, host: Arc<Host>) -> Self {
        let key = environment_key(&id);
        Self {
            containers: host.engine.watch_containers(&key),
            key,
            network: NetworkKeeper::default(),
            id,
            host,
        }
    }

    /// Tells the name server who answers.
    async fn name(
        &self,
        answers: &Answers<'_>,
    ) -> Result<Result<(), havre_net::NetError>, JoinError> {
        let releases = Arc::clone(answers.releases);
        let backends = names::backends(&releases, answers.routing, answers.seen);
        let (net, key) = (Arc::clone(&self.host.net), self.key.clone());
        let (id, seen) = (self.id.clone(), answers.seen.to_vec());
        tokio::task::spawn_blocking(move || {
            let addresses = net.set_services(&key, &backends)?;
            let records = names::records(&id, &releases, &backends, &addresses, &seen);
            net.set_names(&key, &records)
        })
        .await
    }

    /// While the certificate that is wanted cannot be used: the one that is served, or one of this
    /// machine's own.
    async fn stand_in(&self, release: &Release) -> Option<Pair> {
        let now = SystemTime::now();
        let served = self.host.platform.hub.certificate(&self.id).await;
        match served.filter(|pair| pair.is_usable(now)) {
            Some(pair) => Some(pair),
            None => {
                let own = self.host.platform.own_certificate(release, now);
                own.inspect_err(|error| {
                    let error: &dyn std::error::Error = error;
                    tracing::error!(environment = %self.id, error, "no certificate at all");
                })
                .ok()?
                .pair
            }
        }
    }
}

impl Machine for Local {
    async fn changed(&mut self) {
        let own = async {
            if self.containers.changed().await.is_err() {
                // There is no engine any more: the daemon ends.
                std::future::pending().await
            }
        };
        tokio::select! {
            () = own => {}
            () = self.network.wait() => {}
        }
    }

    async fn observe(&self) -> Vec<ObservedContainer> {
        let containers = Arc::clone(&self.containers.borrow());
        let containers = containers.iter().cloned();
        containers.filter_map(ObservedContainer::new).collect()
    }

    async fn edge(&self) -> Option<Arc<EdgeStatus>> {
        self.host.platform.hub.status().await
    }

    async fn accepts(&self, address: Option<Ipv4Addr>, ports: &BTreeSet<(Protocol, u16)>) -> bool {
        let Some(address) = address else { return true };
        for (protocol, port) in ports {
            let target = SocketAddr::from((address, *port));
            let open = match protocol {
                Protocol::Tcp => {
                    let attempt = TcpStream::connect(target);
                    let attempt = tokio::time::timeout(CONNECT_DEADLINE, attempt);
                    matches!(attempt.await, Ok(Ok(_)))
                }
                Protocol::Udp => !refuses_datagrams(target).await,
            };
            if !open {
                return false;
            }
        }
        true
    }

    fn is_prepared(&self, id: &ReplicaId) -> bool {
        hooks::are_done(&self.host.platform.container_dir(id))
    }

    fn carry_out(&self, work: Work) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let job = Job {
            host: Arc::clone(&self.host),
            id: self.id.clone(),
            work,
        };
        async move {
            let done = execute::carry_out(&job).await;
            done.map_err(|error| one_line(&error))
        }
    }

    async fn keep_masked(&self, releases: &Arc<BTreeMap<u64, Release>>) {
        if !self.containers.borrow().is_empty() {
            execute::keep_masked(&self.host, &self.id, releases).await;
        }
    }

    async fn route(&mut self, answers: Answers<'_>) -> Routed {
        let mut routed = Routed::default();
        let addresses: BTreeMap<ReplicaId, IpAddr> = answers
            .seen
            .iter()
            .filter_map(|one| Some((one.id(), IpAddr::V4(one.place.address()?))))
            .collect();
        // Before the first container there is no network to have names in.
        if addresses.is_empty() {
            self.network.rest();
        } else {
            let kept = self.network.keep(&self.host, &self.key, answers.releases);
            routed.network = kept.await;
            // The thread broke off: the daemon ends.
            let named = self.name(&answers).await.unwrap_or(Ok(()));
            routed.names = named.err().map(|error| one_line(&error));
        }
        let hub = &self.host.platform.hub;
        let Some(release) = answers.serving else {
            routed.edge = hub.set(&self.id, None).await;
            return routed;
        };
        // What is valid when is the wall clock's.
        let certificate = self.host.platform.certificate(release, SystemTime::now());
        let Reading { mut pair, findings } = certificate.unwrap_or_else(|error| {
            routed.certificate = Some(one_line(&error));
            Reading::default()
        });
        if pair.is_none() {
            pair = self.stand_in(release).await;
        }
        routed.findings = findings;
        let Answers {
            desired, releases, ..
        } = answers;
        let hold = |name: &ServiceName| havre_release::hold(&self.key, desired, releases, name);
        let address = |id: &ReplicaId| addresses.get(id).copied();
        let (routing, draining) = (answers.routing, answers.draining);
        let part = environment_edge(&self.id, release, pair, routing, draining, hold, address);
        routed.edge = hub.set(&self.id, Some(part)).await;
        routed
    }

    async fn close_streams(&self, id: &ReplicaId, over: Duration) {
        self.host.platform.hub.close_streams(id, over).await;
    }

    fn record_heal(&self, service: &ServiceName, replica: &ReplicaId, times: u32) {
        let entry = Entry {
            project: Some(self.id.project.to_string()),
            environment: Some(self.id.environment.to_string()),
            subject: Some(format!("{service}: {}", replica.0)),
            detail: Some(format!("not well, and replaced; {times} in a row")),
            ..Entry::new(Principal::havre(), "heal", Outcome::Ok)
        };
        audit::note(&self.host.platform.trail, entry);
    }

    async fn explain(
        &self,
        failure: &Failure,
        release: Option<&Release>,
        seen: &[ObservedContainer],
    ) -> Evidence {
        let platform = &self.host.platform;
        let logs = platform.log_dir(&self.key);
        let log = match &failure.replica {
            Some(id) => {
                let newest = report::newest_lines();
                let lines = spool(&logs.join(&id.0), &newest, &self.host.engine);
                report::lines_of(lines).await
            }
            None => Vec::new(),
        };
        let instances: Vec<_> = seen.iter().map(ObservedContainer::instance).collect();
        report::evidence(failure, release, &instances, log, &platform.images)
    }

    async fn dismantle(&mut self, volumes: &BTreeSet<String>) -> Vec<String> {
        self.host.platform.hub.set(&self.id, None).await;
        execute::dismantle(&self.host, &self.id, volumes).await
    }

    fn release_images(&self) -> Option<String> {
        let lease = leases::lease_name(&self.id);
        let released = in_place(|| self.host.platform.images.release(&lease));
        released.err().map(|error| one_line(&error))
    }
}

/// Whether an empty datagram is answered by the kernel: nobody listens there.
async fn refuses_datagrams(target: SocketAddr) -> bool {
    let attempt = async {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(target).await?;
        socket.send(&[]).await?;
        socket.recv(&mut [0]).await
    };
    let attempt = tokio::time::timeout(REFUSAL_DEADLINE, attempt);
    matches!(attempt.await, Ok(Err(_)))
}
