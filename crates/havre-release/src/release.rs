//! One release: image digests and configuration of every service.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;

use havre_model::{
    Condition, Mount, Network, NetworkName, Port, Project, Protocol, Route, Service, ServiceName,
    Tls, UpdateOrder, Volume, VolumeName,
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

/// How old replicas make place for new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// New replicas start beside the old ones.
    StartFirst,
    /// The old replicas end before the new ones start.
    StopFirst,
}

/// Which rule chose the strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum StrategyReason {
    /// `deploy.update_config.order` says so.
    Asked,
    /// It writes to this volume, which two releases must not do at once.
    ExclusiveVolume {
        /// The volume.
        volume: VolumeName,
    },
    /// Nothing stands in the way.
    Default,
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

    /// How replicas of this service are replaced, and the rule that says so.
    pub fn strategy(&self) -> (Strategy, StrategyReason) {
        match self.service.update.order {
            Some(UpdateOrder::StartFirst) => return (Strategy::StartFirst, StrategyReason::Asked),
            Some(UpdateOrder::StopFirst) => return (Strategy::StopFirst, StrategyReason::Asked),
            None => {}
        }
        let written = self.service.mounts.iter().find_map(|mount| match mount {
            Mount::Volume {
                name,
                read_only: false,
                ..
            } => Some(name.clone()),
            Mount::Volume { .. }
            | Mount::Anonymous { .. }
            | Mount::Bind { .. }
            | Mount::Tmpfs { .. } => None,
        });
        match written {
            Some(volume) if self.service.replicas <= 1 => (
                Strategy::StopFirst,
                StrategyReason::ExclusiveVolume { volume },
            ),
            // Several replicas already share the volume: one more does no harm.
            Some(_) | None => (Strategy::StartFirst, StrategyReason::Default),
        }
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
