//! One release: image digests and configuration of every service.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;

use havre_model::{
    Condition, Network, NetworkName, Port, Project, Protocol, RolloutSettings, Route, Service,
    ServiceName, Strategy, StrategyReason, Tls, UpdateOrder, Volume, VolumeName,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::JobId;

/// Everything an environment needs, resolved. Two releases with equal content are the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// Services by name.
    pub services: BTreeMap<ServiceName, ServiceRelease>,
    /// Networks in use.
    pub networks: BTreeMap<NetworkName, Network>,
    /// Named volumes in use.
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// Hosts the environment answers to.
    pub hosts: Vec<String>,
    /// Where the certificate comes from.
    pub tls: Tls,
    /// Host and path → service.
    pub routes: Vec<Route>,
    /// How an environment moves to it.
    #[serde(default)]
    pub rollout: RolloutSettings,
}

/// A service in a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceRelease {
    /// Manifest digest of the image that runs.
    pub image: String,
    /// Configuration.
    pub service: Service,
    /// Content digests of the secrets and configs it is granted, by target.
    pub files: BTreeMap<String, String>,
    /// Raised to replace all replicas without another change.
    restart: u64,
    /// Kept, not computed again: another version of Havre may compute another one, and its
    /// replicas must not be replaced for that.
    digest: ServiceDigest,
}

/// Digest of all that, when changed, takes new replicas: 16 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceDigest(pub String);

impl fmt::Display for ServiceDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Release {
    /// The release that runs `project` with these images (manifest digest by service) and file
    /// contents (digest by service and target).
    pub fn new(
        project: &Project,
        images: &BTreeMap<ServiceName, String>,
        files: &BTreeMap<ServiceName, BTreeMap<String, String>>,
    ) -> Self {
        let services = project
            .services
            .iter()
            .map(|(name, service)| {
                let image = images.get(name).cloned().unwrap_or_default();
                let files = files.get(name).cloned().unwrap_or_default();
                (
                    name.clone(),
                    ServiceRelease::new(image, service.clone(), files),
                )
            })
            .collect();
        Self {
            services,
            networks: project.networks.clone(),
            volumes: project.volumes.clone(),
            hosts: project.hosts.clone(),
            tls: project.tls.clone(),
            routes: project.routes.clone(),
            rollout: project.rollout.clone(),
        }
    }

    /// Services that run to completion once per release: another one waits for their success.
    pub fn jobs(&self) -> BTreeSet<&ServiceName> {
        self.services
            .values()
            .flat_map(|service| &service.service.depends_on)
            .filter(|(_, edge)| edge.condition == Condition::ServiceCompletedSuccessfully)
            .filter_map(|(name, _)| self.services.get_key_value(name).map(|(name, _)| name))
            .collect()
    }

    /// Everything that runs once per release: hooks before a service starts, and services that
    /// run to completion.
    pub fn all_jobs(&self) -> BTreeSet<JobId> {
        let services = self.jobs().into_iter().map(|service| JobId {
            service: service.clone(),
            hook: None,
        });
        let hooks = self.services.iter().flat_map(|(name, service)| {
            let count = u32::try_from(service.service.pre_start.len()).unwrap_or(u32::MAX);
            (0..count).map(|hook| JobId {
                service: name.clone(),
                hook: Some(hook),
            })
        });
        services.chain(hooks).collect()
    }

    /// Services that stay: all but the jobs.
    pub fn lasting(&self) -> impl Iterator<Item = (&ServiceName, &ServiceRelease)> {
        let jobs = self.jobs();
        self.services
            .iter()
            .filter(move |(name, _)| !jobs.contains(name))
    }

    /// Container ports that the edge leads to: by routes, and as they are.
    pub fn edge_ports(&self, service: &ServiceName) -> BTreeSet<(Protocol, u16)> {
        let routed = self
            .routes
            .iter()
            .filter(|route| &route.service == service)
            .map(|route| (Protocol::Tcp, route.port));
        let forwarded = self.forwards().filter(|(name, _)| *name == service);
        routed
            .chain(forwarded.map(|(_, port)| (port.protocol, port.target)))
            .collect()
    }

    /// How replicas of a service are replaced, and the rule that says so.
    pub fn strategy(&self, name: &ServiceName) -> (Strategy, StrategyReason) {
        let Some(service) = self.services.get(name) else {
            return (Strategy::StartFirst, StrategyReason::Default);
        };
        let others = self.services.values().map(|other| &other.service);
        havre_model::strategy(name, &service.service, &self.routes, others)
    }

    /// How they are replaced on the way back to this release.
    pub fn strategy_back(&self, name: &ServiceName) -> Strategy {
        let service = self.services.get(name);
        match service.and_then(|service| service.service.update.rollback_order) {
            Some(UpdateOrder::StartFirst) => Strategy::StartFirst,
            Some(UpdateOrder::StopFirst) => Strategy::StopFirst,
            None => self.strategy(name).0,
        }
    }

    /// Ports of the machine whose connections or datagrams are passed on.
    pub fn forwards(&self) -> impl Iterator<Item = (&ServiceName, &Port)> {
        self.services.iter().flat_map(|(name, service)| {
            service
                .service
                .forwarded_ports(name, &self.routes)
                .filter(|port| port.published.is_some())
                .map(move |port| (name, port))
        })
    }
}

impl ServiceRelease {
    /// A service that runs `image` with these file contents.
    pub fn new(image: String, service: Service, files: BTreeMap<String, String>) -> Self {
        let digest = digest(&image, &service, &files, 0);
        Self {
            image,
            service,
            files,
            restart: 0,
            digest,
        }
    }

    /// The digest that tells replicas of this configuration from others. What takes effect
    /// without new replicas (their number, order of updates, dependencies, routes) is not in it.
    pub fn digest(&self) -> &ServiceDigest {
        &self.digest
    }

    /// How often replicas were replaced without another change.
    pub fn restarts(&self) -> u64 {
        self.restart
    }

    /// Sets how often that was.
    pub fn set_restarts(&mut self, restarts: u64) {
        self.restart = restarts;
        self.digest = digest(&self.image, &self.service, &self.files, restarts);
    }
}

fn digest(
    image: &str,
    service: &Service,
    files: &BTreeMap<String, String>,
    restart: u64,
) -> ServiceDigest {
    let mut service = service.clone();
    service.replicas = 0;
    service.update = Default::default();
    service.depends_on.clear();
    service.build = None;
    service.image = None;
    // Serialising these types cannot fail: no map has a key that is not a string.
    let json = serde_json::to_vec(&(image, &service, files, restart)).unwrap_or_default();
    let mut hex = String::with_capacity(16);
    for byte in &Sha256::digest(&json)[..8] {
        // Writing to a String cannot fail.
        write!(hex, "{byte:02x}").ok();
    }
    ServiceDigest(hex)
}
