//! What a [`Project`] asks of its target, by the keys that may have asked for it. What is as it is where
//! nobody writes anything is not asked for; nor is what leaves no trace in a project, since the reader
//! has settled it.

mod service;

use std::borrow::Cow;
use std::path::Path;

use crate::project::{
    FileSource, Network, OnFailure, Project, RolloutSettings, RolloutStrategy, Route, Tls, Volume,
};

use crate::settings::{USUAL_STEP, USUAL_STEPS};

use super::Owner;

/// One thing that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked<'p> {
    pub owner: Owner<'p>,
    /// Any of them may have been written.
    pub keys: &'static [&'static str],
    /// Of a scalar, an item of a list, or a name in a mapping.
    pub value: Option<Cow<'p, str>>,
}

/// Collects what one owner asks for.
struct Asks<'a, 'p> {
    owner: Owner<'p>,
    all: &'a mut Vec<Asked<'p>>,
}

impl<'p> Asks<'_, 'p> {
    fn key(&mut self, keys: &'static [&'static str]) {
        self.add(keys, None);
    }

    fn key_if(&mut self, asked: bool, keys: &'static [&'static str]) {
        if asked {
            self.key(keys);
        }
    }

    fn value(&mut self, keys: &'static [&'static str], value: impl Into<Cow<'p, str>>) {
        self.add(keys, Some(value.into()));
    }

    fn truth_if(&mut self, asked: bool, keys: &'static [&'static str]) {
        if asked {
            self.value(keys, "true");
        }
    }

    fn each(
        &mut self,
        keys: &'static [&'static str],
        values: impl IntoIterator<Item = &'p String>,
    ) {
        for value in values {
            self.value(keys, value.as_str());
        }
    }

    fn path(&mut self, keys: &'static [&'static str], path: &'p Path) {
        self.value(keys, path.to_string_lossy());
    }

    fn add(&mut self, keys: &'static [&'static str], value: Option<Cow<'p, str>>) {
        let owner = self.owner;
        self.all.push(Asked { owner, keys, value });
    }
}

/// Everything that the project asks for.
pub(super) fn of(project: &Project) -> Vec<Asked<'_>> {
    // No `..`: a new field does not compile until it is decided here.
    let Project {
        name,
        environment: _,
        directory: _,
        sent: _,
        services,
        networks,
        volumes,
        secrets,
        configs,
        hosts,
        tls,
        routes,
        rollout,
        // The daemon's, whatever the target.
        gates: _,
    } = project;
    let mut all = Vec::new();
    for (name, service) in services {
        let owner = Owner::Service(name.as_str());
        service::asks(
            service,
            &mut Asks {
                owner,
                all: &mut all,
            },
        );
    }
    for (key, of) in networks {
        let owner = Owner::Network(key.as_str());
        network(
            of,
            &mut Asks {
                owner,
                all: &mut all,
            },
        );
    }
    for (key, of) in volumes {
        let owner = Owner::Volume(key.as_str());
        volume(
            of,
            &mut Asks {
                owner,
                all: &mut all,
            },
        );
    }
    for (key, source) in secrets {
        let owner = Owner::Secret(key);
        secret(
            source,
            &mut Asks {
                owner,
                all: &mut all,
            },
        );
    }
    for (key, source) in configs {
        let owner = Owner::Config(key);
        config(
            source,
            &mut Asks {
                owner,
                all: &mut all,
            },
        );
    }
    let owner = Owner::Project;
    let mut asks = Asks {
        owner,
        all: &mut all,
    };
    let usual = format!("{}.localhost", name.as_str().replace('_', "-"));
    for host in hosts {
        // Those of an environment come from the project's: `staging.shop.localhost`.
        if *host != usual && !host.ends_with(&format!(".{usual}")) {
            asks.value(&["havre.yaml: domain", "havre.yaml: domains", LABELS], host);
        }
    }
    match tls {
        Tls::Auto | Tls::Acme | Tls::LocalCa => {}
        Tls::Files { certificate, key } => {
            asks.path(&["havre.yaml: tls.certificate"], certificate);
            asks.path(&["havre.yaml: tls.key"], key);
        }
    }
    for one in routes {
        route(one, &mut asks);
    }
    rolls_out(rollout, &mut asks);
    all
}

/// Labels for Traefik are read as routes.
const LABELS: &str = "services.*.labels";

fn network<'p>(network: &'p Network, asks: &mut Asks<'_, 'p>) {
    let Network {
        internal,
        external,
        shared,
        labels,
    } = network;
    asks.truth_if(*internal, &["networks.*.internal"]);
    if let Some(name) = external {
        asks.truth_if(true, &["networks.*.external"]);
        asks.value(&["networks.*.name", "networks.*.external"], name);
    }
    if shared.is_some() {
        let keys = &["havre.yaml: networks.*.shared", "networks.*.external"];
        asks.truth_if(true, keys);
    }
    asks.each(&["networks.*.labels"], labels.keys());
}

fn volume<'p>(volume: &'p Volume, asks: &mut Asks<'_, 'p>) {
    let Volume {
        name,
        external,
        backing,
        labels,
    } = volume;
    if let Some(name) = name {
        asks.value(&["volumes.*.name", "volumes.*.external"], name);
    }
    asks.truth_if(*external, &["volumes.*.external"]);
    asks.key_if(backing.is_some(), &["volumes.*.driver_opts"]);
    asks.each(&["volumes.*.labels"], labels.keys());
}

fn secret<'p>(source: &'p FileSource, asks: &mut Asks<'_, 'p>) {
    match source {
        FileSource::File { path } | FileSource::Sent { path, content: _ } => {
            asks.path(&["secrets.*.file"], path);
        }
        FileSource::Environment { variable, value: _ } => {
            asks.value(&["secrets.*.environment"], variable);
        }
        // Only configs have it.
        FileSource::Store { name } => {
            asks.truth_if(true, &["secrets.*.external"]);
            asks.value(&["secrets.*.name", "secrets.*.external"], name);
        }
        FileSource::Content { content: _ } => {}
    }
}

fn config<'p>(source: &'p FileSource, asks: &mut Asks<'_, 'p>) {
    match source {
        FileSource::File { path } | FileSource::Sent { path, content: _ } => {
            asks.path(&["configs.*.file"], path);
        }
        FileSource::Environment { variable, value: _ } => {
            asks.value(&["configs.*.environment"], variable);
        }
        // Configs are never external.
        FileSource::Store { name: _ } => {}
        FileSource::Content { content: _ } => asks.key(&["configs.*.content"]),
    }
}

fn route<'p>(route: &'p Route, asks: &mut Asks<'_, 'p>) {
    let Route {
        host,
        path,
        service,
        // That of the service where nobody names one.
        port: _,
        strip_prefix,
        protocol,
        inferred,
    } = route;
    if *inferred {
        asks.key_if(host.is_some(), &[LABELS]);
        asks.key_if(*strip_prefix, &[LABELS]);
        let keys = &["services.*.ports[].app_protocol", LABELS];
        asks.key_if(!protocol.is_http(), keys);
        return;
    }
    asks.value(&["havre.yaml: routes[].service"], service.as_str());
    if let Some(host) = host {
        asks.value(&["havre.yaml: routes[].host"], host);
    }
    if path != "/" {
        asks.value(&["havre.yaml: routes[].path"], path);
    }
    asks.truth_if(*strip_prefix, &["havre.yaml: routes[].strip_prefix"]);
    if !protocol.is_http() {
        let keys = &[
            "havre.yaml: routes[].protocol",
            "services.*.ports[].app_protocol",
        ];
        asks.value(keys, "h2c");
    }
}

fn rolls_out<'p>(rollout: &'p RolloutSettings, asks: &mut Asks<'_, 'p>) {
    let usual = RolloutSettings::default();
    let RolloutSettings {
        strategy,
        bake,
        max_errors_permille,
        max_slowdown_percent,
        ready_timeout,
        drain_timeout,
        hold,
        on_failure,
    } = rollout;
    match strategy {
        RolloutStrategy::BlueGreen => {}
        RolloutStrategy::Canary { steps, step } => {
            asks.value(&["havre.yaml: rollout.strategy"], "canary");
            asks.key_if(*steps != USUAL_STEPS, &["havre.yaml: rollout.steps"]);
            asks.key_if(*step != USUAL_STEP, &["havre.yaml: rollout.step"]);
        }
    }
    asks.key_if(
        *bake != usual.bake,
        &[
            "havre.yaml: rollout.bake",
            "services.*.deploy.update_config.monitor",
        ],
    );
    asks.key_if(
        *max_errors_permille != usual.max_errors_permille,
        &["havre.yaml: rollout.max_errors"],
    );
    asks.key_if(
        *max_slowdown_percent != usual.max_slowdown_percent,
        &["havre.yaml: rollout.max_slowdown"],
    );
    asks.key_if(
        *ready_timeout != usual.ready_timeout,
        &["havre.yaml: rollout.ready_timeout"],
    );
    asks.key_if(
        *drain_timeout != usual.drain_timeout,
        &["havre.yaml: rollout.drain_timeout"],
    );
    asks.key_if(hold.is_some(), &["havre.yaml: rollout.hold"]);
    match on_failure {
        OnFailure::Rollback => {}
        OnFailure::Pause => asks.value(
            &[
                "havre.yaml: rollout.on_failure",
                "services.*.deploy.update_config.failure_action",
            ],
            "pause",
        ),
    }
}
