//! One release: image digests and configuration of every service.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;

use havre_model::{
    Condition, FoundDatabases, Network, NetworkName, Port, Project, Protocol, RolloutSettings,
    Route, Service, ServiceName, Strategy, StrategyReason, Tls, UpdateOrder, Volume, VolumeName,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{JobId, dependency_order};

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
    /// Secrets of the machine's store that it has, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, StoreSecret>,
}

/// A secret of the machine's store, as a release has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSecret {
    /// Which of its versions.
    pub version: u32,
    /// The environment's own, and not the machine's for all.
    pub own: bool,
    /// The services that get it; none: builds alone do.
    pub services: BTreeSet<ServiceName>,
    /// The keys of the project's secrets that lead to it; none: a release of before, which did not say.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub keys: BTreeSet<String>,
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
    /// Services whose new replicas bring new ones of this, as they are in this release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    follows: BTreeMap<ServiceName, ServiceDigest>,
    /// Kept, not computed again: another version of Havre may compute another one, and its
    /// replicas must not be replaced for that.
    digest: ServiceDigest,
}

/// Digest of all that, when changed, takes new replicas: 16 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceDigest(pub String);

/// Stands for the contents of the secrets of a service that change while its replicas run: 16 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LiveContents(pub String);

impl fmt::Display for LiveContents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ServiceDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the digest of a variable's value stands among those of files.
pub fn variable_key(name: &str) -> String {
    format!("${name}")
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
        let mut release = Self {
            services,
            networks: project.networks.clone(),
            volumes: project.volumes.clone(),
            hosts: project.hosts.clone(),
            tls: project.tls.clone(),
            routes: project.routes.clone(),
            rollout: project.rollout.clone(),
            secrets: BTreeMap::new(),
        };
        release.follow();
        release
    }

    /// Takes over how often services of the release that serves were restarted by hand, which is no
    /// part of the files: without this, the next `up` would undo it by replacing the replicas once
    /// more.
    pub fn keep_restarts(&mut self, serving: Option<&Self>) {
        for (name, service) in &mut self.services {
            let before = serving.and_then(|serving| serving.services.get(name));
            service.set_restarts(before.map_or(0, ServiceRelease::restarts));
        }
        self.follow();
    }

    /// Gives services that are to be replaced with others (`depends_on.*.restart`) a digest that
    /// changes with theirs. Those that share a network (`network_mode: service:`) are replaced
    /// together, whichever changes: two in one network cannot listen on one port.
    pub fn follow(&mut self) {
        let order: Vec<ServiceName> = dependency_order(&self.services)
            .into_iter()
            .cloned()
            .collect();
        for name in order {
            let Some(service) = self.services.get(&name) else {
                continue;
            };
            let restarting = service.service.depends_on.iter();
            let mut follows: BTreeMap<ServiceName, ServiceDigest> = restarting
                .filter(|(_, edge)| edge.restart)
                .filter_map(|(other, _)| {
                    let followed = self.services.get(other)?;
                    Some((other.clone(), followed.digest.clone()))
                })
                .collect();
            // They follow this one in turn: what counts is what they are by themselves.
            let joined = self.services.iter();
            let joined = joined.filter(|(_, one)| one.service.network_of.as_ref() == Some(&name));
            follows.extend(joined.map(|(other, one)| (other.clone(), one.own_digest())));
            if let Some(service) = self.services.get_mut(&name)
                && service.follows != follows
            {
                service.follows = follows;
                service.renew_digest();
            }
        }
    }

    /// The digests of what services, or one of them, have of a secret of the store: equal for equal values, which
    /// numbers of versions alone are not after a secret was removed. None: a release of before, which did not say.
    pub fn secret_contents(&self, name: &str, of: Option<&ServiceName>) -> BTreeSet<&str> {
        let Some(secret) = self.secrets.get(name) else {
            return BTreeSet::new();
        };
        let services = secret.services.iter();
        let services = services.filter(|service| of.is_none_or(|of| of == *service));
        services
            .filter_map(|service| self.services.get(service))
            .flat_map(|config| {
                let targets = config.secret_targets();
                let targets = targets.filter(|(key, _)| secret.keys.contains(*key));
                targets.filter_map(|(_, target)| config.files.get(&target))
            })
            .map(String::as_str)
            .collect()
    }

    /// Has another version of a secret of the store, by its name. `contents`: the digests of the version before
    /// and of this one. Whether any service has another content now.
    pub fn replace_secret(&mut self, name: &str, version: u32, contents: (&str, &str)) -> bool {
        let Some(secret) = self.secrets.get_mut(name) else {
            return false;
        };
        secret.version = version;
        let (old, new) = contents;
        let keys = secret.keys.clone();
        let before = self.services.clone();
        for service in secret.services.clone() {
            let Some(config) = self.services.get_mut(&service) else {
                continue;
            };
            // What does not say which key leads to it is told by its content.
            let is_it = |key: &String, target: &String| match keys.is_empty() {
                false => keys.contains(key),
                true => config.files.get(target).is_some_and(|digest| digest == old),
            };
            let changed: Vec<(String, String)> = config
                .secret_targets()
                .filter(|(key, target)| is_it(key, target))
                .map(|(_, target)| (target, new.to_owned()))
                .collect();
            config.set_files(changed);
        }
        self.follow();
        self.services != before
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

    /// Whether a service needs one of these, itself or through others.
    pub(crate) fn needs_any(&self, name: &ServiceName, of: &BTreeSet<&ServiceName>) -> bool {
        let mut looked_at = BTreeSet::new();
        let mut open = vec![name];
        while let Some(service) = open.pop().and_then(|name| self.services.get(name)) {
            for needed in service.service.depends_on.keys() {
                if of.contains(needed) {
                    return true;
                }
                if looked_at.insert(needed) && self.services.contains_key(needed) {
                    open.push(needed);
                }
            }
        }
        false
    }

    /// Container ports that the edge leads to: by routes, and as they are. What is asked of a
    /// service may be answered by one that is in its network.
    pub fn edge_ports(&self, service: &ServiceName) -> BTreeSet<(Protocol, u16)> {
        let mut ports = self.own_edge_ports(service);
        let provider = self.services.get(service);
        if let Some(provider) = provider.and_then(|one| one.service.network_of.as_ref()) {
            ports.extend(self.own_edge_ports(provider));
        }
        ports
    }

    /// Ports by whose acceptance a replica of a service shows that it is ready. Where several share
    /// a network it cannot be told whose a port is.
    pub fn probe_ports(&self, service: &ServiceName) -> BTreeSet<(Protocol, u16)> {
        let network_of = |name| self.services.get(name)?.service.network_of.as_ref();
        let sharing = |provider| {
            let names = self.services.keys();
            names
                .filter(|name| network_of(*name) == Some(provider))
                .count()
        };
        match network_of(service) {
            None if sharing(service) == 0 => self.own_edge_ports(service),
            Some(provider) if sharing(provider) == 1 => self.edge_ports(service),
            None | Some(_) => BTreeSet::new(),
        }
    }

    fn own_edge_ports(&self, service: &ServiceName) -> BTreeSet<(Protocol, u16)> {
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
    /// `found`: what was found where services write.
    pub fn strategy(
        &self,
        name: &ServiceName,
        found: &FoundDatabases,
    ) -> (Strategy, StrategyReason) {
        let Some(service) = self.services.get(name) else {
            return (Strategy::StartFirst, StrategyReason::Default);
        };
        self.strategy_of(name, &service.service, found)
    }

    /// The same if the service were `service`.
    pub(crate) fn strategy_of(
        &self,
        name: &ServiceName,
        service: &Service,
        found: &FoundDatabases,
    ) -> (Strategy, StrategyReason) {
        let others = self.services.values().map(|other| &other.service);
        let own = havre_model::strategy(name, service, &self.routes, others, found);
        // Those in the network of one that ends first end with it.
        match (&service.network_of, &own) {
            (Some(provider), (Strategy::StartFirst, _)) if provider != name => {
                self.strategy_of_provider(provider, found).unwrap_or(own)
            }
            (Some(_), _) | (None, _) => own,
        }
    }

    /// Where it is one that ends before its successor starts.
    fn strategy_of_provider(
        &self,
        provider: &ServiceName,
        found: &FoundDatabases,
    ) -> Option<(Strategy, StrategyReason)> {
        let service = &self.services.get(provider)?.service;
        let others = self.services.values().map(|other| &other.service);
        let strategy = havre_model::strategy(provider, service, &self.routes, others, found);
        (strategy.0 == Strategy::StopFirst).then_some(strategy)
    }

    /// Whether nobody calls its replicas, however they are replaced.
    pub fn is_worker(&self, name: &ServiceName) -> bool {
        self.services.get(name).is_some_and(|service| {
            let others = self.services.values().map(|other| &other.service);
            havre_model::is_worker(name, &service.service, &self.routes, others)
        })
    }

    /// How they are replaced on the way back to this release.
    pub fn strategy_back(&self, name: &ServiceName, found: &FoundDatabases) -> Strategy {
        let service = self.services.get(name);
        match service.and_then(|service| service.service.update.rollback_order) {
            Some(UpdateOrder::StartFirst) => Strategy::StartFirst,
            Some(UpdateOrder::StopFirst) => Strategy::StopFirst,
            None => self.strategy(name, found).0,
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
    /// Keys of the project's secrets that it has, and where among its files each is.
    fn secret_targets(&self) -> impl Iterator<Item = (&String, String)> {
        let files = self.service.secrets.iter();
        let files = files.map(|grant| (&grant.source, grant.target.clone()));
        let variables = self.service.secret_environment.iter();
        files.chain(variables.map(|(variable, key)| (key, variable_key(variable))))
    }

    /// A service that runs `image` with these file contents.
    pub fn new(image: String, service: Service, files: BTreeMap<String, String>) -> Self {
        let mut new = Self {
            image,
            service,
            files,
            restart: 0,
            follows: BTreeMap::new(),
            digest: ServiceDigest(String::new()),
        };
        new.renew_digest();
        new
    }

    /// The digest that tells replicas of this configuration from others. What takes effect
    /// without new replicas (their number, order of updates, dependencies, routes) is not in it.
    pub fn digest(&self) -> &ServiceDigest {
        &self.digest
    }

    /// What stands for the contents of secrets that its replicas get as they run; `None`: it has none of
    /// that kind.
    pub fn live_contents(&self) -> Option<LiveContents> {
        let live = self.service.live_secrets();
        let live: BTreeMap<&str, Option<&String>> = live
            .map(|grant| (grant.target.as_str(), self.files.get(&grant.target)))
            .collect();
        (!live.is_empty()).then(|| LiveContents(short_digest(&live)))
    }

    /// Gives it other contents of secrets: digests by target, of those that it has.
    pub(crate) fn set_files(&mut self, changed: impl IntoIterator<Item = (String, String)>) {
        for (target, digest) in changed {
            if let Some(before) = self.files.get_mut(&target) {
                *before = digest;
            }
        }
        self.renew_digest();
    }

    /// How often replicas were replaced without another change.
    pub fn restarts(&self) -> u64 {
        self.restart
    }

    /// Sets how often that was.
    pub fn set_restarts(&mut self, restarts: u64) {
        self.restart = restarts;
        self.renew_digest();
    }

    /// Services whose new replicas bring new ones of this.
    pub fn follows(&self) -> &BTreeMap<ServiceName, ServiceDigest> {
        &self.follows
    }

    /// Manifest digests of all images it runs, its steps' included.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let steps = &self.service.pre_start;
        let of_steps = steps.iter().filter_map(|hook| hook.image.as_deref());
        std::iter::once(self.image.as_str()).chain(of_steps)
    }

    fn renew_digest(&mut self) {
        self.digest = self.digest_with(&self.follows);
    }

    /// What it would be if it followed nobody.
    fn own_digest(&self) -> ServiceDigest {
        self.digest_with(&BTreeMap::new())
    }

    fn digest_with(&self, follows: &BTreeMap<ServiceName, ServiceDigest>) -> ServiceDigest {
        let mut service = self.service.clone();
        service.replicas = 0;
        service.update = Default::default();
        service.depends_on.clear();
        service.build = None;
        service.image = None;
        service.allow.clear();
        service.reload = Default::default();
        // Those change in the replicas that there are.
        let live = self.service.live_secrets();
        let live: BTreeSet<&str> = live.map(|grant| grant.target.as_str()).collect();
        let files = self.files.iter();
        let files: BTreeMap<&String, &String> = files
            .filter(|(target, _)| !live.contains(target.as_str()))
            .collect();
        let own = (&self.image, &service, &files, self.restart);
        ServiceDigest(match follows.is_empty() {
            true => short_digest(&own),
            false => short_digest(&(own, follows)),
        })
    }
}

fn short_digest(of: &impl Serialize) -> String {
    // Serialising these types cannot fail: no map has a key that is not a string.
    let json = serde_json::to_vec(of).unwrap_or_default();
    let mut hex = String::with_capacity(16);
    for byte in &Sha256::digest(json)[..8] {
        // Writing to a String cannot fail.
        write!(hex, "{byte:02x}").ok();
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain `c → b → a`, of which only the first edge restarts, as JSON that the reader could
    /// have made.
    fn release() -> Release {
        let edge = |restart: bool| serde_json::json!({"condition": "service_started", "required": true, "restart": restart});
        let service = |depends_on: serde_json::Value| {
            let mut service = serde_json::json!({
                "image": "i", "pull_policy": "missing", "environment": {}, "expose": [],
                "ports": [], "mounts": [], "networks": {}, "depends_on": depends_on,
                "restart": {"policy": "no"}, "secrets": [], "configs": [], "replicas": 1,
                "resources": {}, "update": {}, "stop_grace_period": {"secs": 10, "nanos": 0},
                "init": false, "group_add": [], "cap_add": [], "cap_drop": [],
                "no_new_privileges": false, "seccomp_unconfined": false, "ulimits": {},
                "sysctls": {}, "read_only": false, "extra_hosts": {}, "tty": false,
                "stdin_open": false, "logging": {}, "labels": {}, "pre_start": [],
                "post_start": [], "pre_stop": [],
            });
            for key in [
                "build",
                "entrypoint",
                "command",
                "healthcheck",
                "stop_signal",
                "user",
                "working_dir",
                "hostname",
                "shm_size_bytes",
            ] {
                service[key] = serde_json::Value::Null;
            }
            let service: Service = serde_json::from_value(service).expect("a service");
            ServiceRelease::new("sha256:0".to_owned(), service, BTreeMap::new())
        };
        let services = [
            ("a", service(serde_json::json!({}))),
            ("b", service(serde_json::json!({"a": edge(true)}))),
            ("c", service(serde_json::json!({"b": edge(true)}))),
            ("d", service(serde_json::json!({"a": edge(false)}))),
        ];
        let named = |(name, service)| (ServiceName::new(name), service);
        let mut release = Release {
            services: services.into_iter().map(named).collect(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            hosts: Vec::new(),
            tls: Tls::LocalCa,
            routes: Vec::new(),
            rollout: RolloutSettings::default(),
            secrets: BTreeMap::new(),
        };
        release.follow();
        release
    }

    #[test]
    fn a_change_goes_on_to_those_that_follow() {
        let before = release();
        let mut after = before.clone();
        let restart = |release: &mut Release, name: &str| {
            let service = release.services.get_mut(&ServiceName::new(name));
            service.expect("it").set_restarts(7);
            release.follow();
        };
        let changed = |after: &Release| -> Vec<String> {
            let all = after.services.iter();
            all.filter(|(name, service)| before.services[*name].digest() != service.digest())
                .map(|(name, _)| name.to_string())
                .collect()
        };
        after.follow();
        assert_eq!(after, before, "twice is once");
        restart(&mut after, "b");
        assert_eq!(changed(&after), ["b", "c"]);
        restart(&mut after, "a");
        assert_eq!(changed(&after), ["a", "b", "c"]);
    }
}
