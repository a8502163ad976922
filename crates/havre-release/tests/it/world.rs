//! A strict fake of a machine with an edge: replicas go through their states as a script says, and
//! what no real machine would allow is a panic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use havre_model::{
    Account, Condition, Dependency, EnvironmentName, FileGrant, Logging, Mount, Project,
    ProjectName, PullPolicy, Reload, Resources, RestartPolicy, RolloutSettings, Route,
    RouteProtocol, Service, ServiceName, Tls, UpdateConfig, UpdateOrder, VolumeName,
};
use havre_release::{
    Action, Contents, Decision, Desired, EdgeView, ExitInfo, FailedProbe, FailedReload, Intent,
    Joined, LiveContents, Observed, Policy, Release, Replica, ReplicaId, ReplicaState, Role,
    Routing, ServiceRelease, Traffic, decide, routing,
};

/// Environment of all tests.
pub const ENVIRONMENT: &str = "shop.production";

/// What a service of a test looks like.
#[derive(Clone, Debug)]
pub struct Shape {
    pub name: &'static str,
    pub image: u8,
    pub replicas: u32,
    pub needs: Vec<(&'static str, Condition)>,
    /// The volume it writes to.
    pub volume: Option<&'static str>,
    pub routed: bool,
    pub hooks: u32,
    pub at_a_time: Option<u32>,
    pub order: Option<UpdateOrder>,
    /// Restarts after which its policy gives up.
    pub tries: Option<u32>,
    /// It is started once.
    pub once: bool,
    /// What it runs, where that is not told by its name.
    pub program: Option<&'static str>,
    /// The service whose network it is in.
    pub network_of: Option<&'static str>,
    /// The content of a secret that it reloads as it runs.
    pub secret: Option<&'static str>,
}

impl Shape {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            image: 1,
            replicas: 1,
            needs: Vec::new(),
            volume: None,
            routed: false,
            hooks: 0,
            at_a_time: None,
            order: None,
            tries: None,
            once: false,
            program: None,
            network_of: None,
            secret: None,
        }
    }

    fn service(&self) -> Service {
        let volume = |name| Mount::Volume {
            name: VolumeName::new(name),
            target: "/data".into(),
            read_only: false,
            nocopy: false,
            subpath: None,
            backing: None,
        };
        let hook = havre_model::Hook {
            image: None,
            command: vec!["migrate".into()],
            user: None,
            working_dir: None,
            environment: BTreeMap::new(),
        };
        Service {
            image: Some(self.program.unwrap_or(self.name).into()),
            build: None,
            pull_policy: PullPolicy::Missing,
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            secret_environment: BTreeMap::new(),
            expose: Vec::new(),
            ports: Vec::new(),
            mounts: self.volume.map(volume).into_iter().collect(),
            networks: BTreeMap::new(),
            network_of: self.network_of.map(ServiceName::new),
            depends_on: self
                .needs
                .iter()
                .map(|(name, condition)| {
                    let edge = Dependency {
                        condition: *condition,
                        required: true,
                        restart: self.network_of == Some(*name),
                    };
                    (ServiceName::new(*name), edge)
                })
                .collect(),
            healthcheck: None,
            liveness: None,
            restart: match self.tries {
                None if self.once => RestartPolicy::No,
                None => RestartPolicy::Always,
                max_retries => RestartPolicy::OnFailure { max_retries },
            },
            secrets: self.secret.iter().map(|_| key()).collect(),
            reload: match self.secret {
                Some(_) => Reload::Signal("SIGHUP".to_owned()),
                None => Reload::Restart,
            },
            configs: Vec::new(),
            replicas: self.replicas,
            resources: Resources::default(),
            update: UpdateConfig {
                parallelism: self.at_a_time,
                order: self.order,
                ..UpdateConfig::default()
            },
            stop_signal: None,
            stop_grace_period: Duration::from_secs(10),
            init: false,
            user: None,
            group_add: Vec::new(),
            working_dir: None,
            hostname: None,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            no_new_privileges: false,
            seccomp_unconfined: false,
            allow: BTreeSet::new(),
            privileged: false,
            shares: Default::default(),
            devices: Vec::new(),
            device_rules: Vec::new(),
            ulimits: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            shm_size_bytes: None,
            read_only: false,
            extra_hosts: BTreeMap::new(),
            links: BTreeMap::new(),
            resolver: Default::default(),
            tty: false,
            stdin_open: false,
            logging: Logging::default(),
            labels: BTreeMap::new(),
            pre_start: vec![hook; self.hooks as usize],
            post_start: Vec::new(),
            pre_stop: Vec::new(),
        }
    }
}

/// The secret of those that have one.
fn key() -> FileGrant {
    FileGrant {
        source: "key".to_owned(),
        target: KEY.to_owned(),
        uid: Account::ROOT,
        gid: Account::ROOT,
        mode: 0o444,
    }
}

/// Where it is.
const KEY: &str = "/run/secrets/key";

/// A release of these services, watched for 3 s.
pub fn release(shapes: &[Shape]) -> Release {
    with_rollout(
        shapes,
        RolloutSettings {
            bake: Duration::from_secs(3),
            ready_timeout: Duration::from_secs(30),
            ..RolloutSettings::default()
        },
    )
}

/// A release of these services that comes in this way.
pub fn with_rollout(shapes: &[Shape], rollout: RolloutSettings) -> Release {
    let project = Project {
        sent: false,
        gates: Vec::new(),
        name: ProjectName::new("shop"),
        environment: EnvironmentName::new("production"),
        directory: "/shop".into(),
        services: shapes
            .iter()
            .map(|s| (ServiceName::new(s.name), s.service()))
            .collect(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        secrets: BTreeMap::new(),
        configs: BTreeMap::new(),
        rollout,
        hosts: vec!["shop.localhost".into()],
        tls: Tls::LocalCa,
        routes: shapes
            .iter()
            .filter(|shape| shape.routed)
            .map(|shape| Route {
                host: None,
                path: format!("/{}", shape.name),
                service: ServiceName::new(shape.name),
                port: 80,
                strip_prefix: false,
                protocol: RouteProtocol::Http,
                inferred: false,
            })
            .collect(),
    };
    let images: BTreeMap<ServiceName, String> = shapes
        .iter()
        .map(|s| {
            (
                ServiceName::new(s.name),
                format!("sha256:{}-{}", s.name, s.image),
            )
        })
        .collect();
    let files = shapes.iter().filter_map(|shape| {
        let files = [(KEY.to_owned(), shape.secret?.to_owned())].into();
        Some((ServiceName::new(shape.name), files))
    });
    Release::new(&project, &images, &files.collect())
}

/// What becomes of a new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Ready (or, for a job, done) after this many looks.
    Fine(u8),
    /// Its probe fails after this many looks.
    Unhealthy(u8),
    /// It keeps ending.
    CrashLoop,
    /// It cannot be started.
    CannotStart,
    /// Neither ready nor dead, for ever.
    Hangs,
}

/// How a replica answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// In 8 ms, without errors.
    Well,
    /// With a 5xx, every tenth time.
    Errors,
    /// In a second and a half.
    Slowly,
}

/// The machine.
pub struct World {
    pub desired: Desired,
    pub releases: BTreeMap<u64, Release>,
    pub replicas: BTreeMap<ReplicaId, Replica>,
    pub serving: BTreeSet<ReplicaId>,
    /// Shares of new replicas in a thousand, by service.
    pub canary: BTreeMap<String, u32>,
    /// Why a service is not served, by service.
    pub reasons: BTreeMap<String, String>,
    in_flight: BTreeMap<ReplicaId, u64>,
    traffic: BTreeMap<ReplicaId, Traffic>,
    /// How each replica of a release other than the first answers.
    pub manner_of_new: Manner,
    unrouted_since: BTreeMap<ReplicaId, SystemTime>,
    named: BTreeSet<ReplicaId>,
    looks: BTreeMap<ReplicaId, u8>,
    new_ones: BTreeSet<ReplicaId>,
    fates: BTreeMap<ReplicaId, Fate>,
    /// What becomes of replicas and jobs of a release other than the first.
    pub fate_of_new: Fate,
    pub now: SystemTime,
    /// Nothing is known of the edge, which goes on with what it has.
    pub edge_is_silent: bool,
    pub policy: Policy,
    /// Containers removed so far.
    starts: u64,
    pub history: Vec<String>,
    /// How often a reload fails before it does well.
    pub reloads_fail: u32,
    failed_reloads: BTreeMap<ReplicaId, FailedReload>,
}

impl World {
    /// An empty machine.
    pub fn new() -> Self {
        Self {
            desired: Desired::default(),
            releases: BTreeMap::new(),
            replicas: BTreeMap::new(),
            serving: BTreeSet::new(),
            canary: BTreeMap::new(),
            reasons: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            traffic: BTreeMap::new(),
            manner_of_new: Manner::Well,
            unrouted_since: BTreeMap::new(),
            named: BTreeSet::new(),
            looks: BTreeMap::new(),
            new_ones: BTreeSet::new(),
            fates: BTreeMap::new(),
            fate_of_new: Fate::Fine(1),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            edge_is_silent: false,
            policy: Policy {
                rollout_deadline: Duration::from_secs(90),
                ..Policy::default()
            },
            starts: 0,
            history: Vec::new(),
            reloads_fail: 0,
            failed_reloads: BTreeMap::new(),
        }
    }

    /// Asks for a move to `release`.
    pub fn roll_out(&mut self, number: u64, release: Release) {
        self.releases.insert(number, release);
        self.desired.begin(number, BTreeSet::new(), false, self.now);
    }

    /// Runs rounds until nothing moves; panics after `rounds`.
    pub fn settle(&mut self, rounds: usize, mut check: impl FnMut(&World)) {
        for _ in 0..rounds {
            let quiet = self.round();
            check(self);
            if quiet {
                return;
            }
        }
        panic!("nothing settled:\n{}", self.history.join("\n"));
    }

    /// One round of the real loop: decide, persist, route, act; then the machine lives on.
    /// Returns whether all is settled.
    pub fn round(&mut self) -> bool {
        let observed = self.observe();
        let mut decision = self.decide(&observed);
        if decision.desired != self.desired {
            self.history
                .push(format!("desired: {:?}", decision.desired.rollout));
            self.desired = decision.desired;
            decision = self.decide(&observed);
        }
        let routing = routing(&self.desired, &self.releases, &observed, &decision.draining);
        self.apply_routing(&routing, &decision.reserve);
        let observed = self.observe();
        let decision = self.decide(&observed);
        if decision.desired == self.desired {
            for action in &decision.actions {
                self.history.push(format!("{action:?}"));
                self.act(action);
            }
        }
        let settled = decision.settled && decision.desired == self.desired;
        self.live();
        settled
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let (desired, releases, policy) = (&self.desired, &self.releases, &self.policy);
        decide(ENVIRONMENT, desired, releases, observed, policy, self.now)
    }

    fn observe(&self) -> Observed {
        Observed {
            replicas: self.replicas.values().cloned().collect(),
            edge: (!self.edge_is_silent).then(|| EdgeView {
                serving: self.serving.clone(),
                in_flight: self.in_flight.clone(),
                traffic: self.traffic.clone(),
                total: Traffic::default(),
            }),
            unrouted_since: self.unrouted_since.clone(),
            failed_reloads: self.failed_reloads.clone(),
        }
    }

    fn apply_routing(&mut self, routing: &Routing, reserve: &BTreeSet<ReplicaId>) {
        let services = routing.services.iter();
        self.reasons = services
            .filter_map(|(name, service)| Some((name.to_string(), service.reason.clone()?)))
            .collect();
        self.canary = routing
            .services
            .iter()
            .filter_map(|(name, service)| {
                Some((name.to_string(), service.canary.as_ref()?.permille))
            })
            .collect();
        self.serving = routing
            .services
            .values()
            .flat_map(|s| {
                let canary = s.canary.iter().flat_map(|canary| &canary.replicas);
                s.serving.iter().chain(canary).cloned()
            })
            .collect();
        let named: BTreeSet<ReplicaId> = routing
            .services
            .values()
            .flat_map(|s| s.named.iter().cloned())
            .chain(reserve.iter().cloned())
            .collect();
        for id in self.named.difference(&named) {
            self.unrouted_since.entry(id.clone()).or_insert(self.now);
        }
        self.unrouted_since
            .retain(|id, _| !named.contains(id) && self.replicas.contains_key(id));
        for id in &self.serving {
            self.in_flight.insert(id.clone(), 3);
            let manner = match self.new_ones.contains(id) {
                true => self.manner_of_new,
                false => Manner::Well,
            };
            answer(self.traffic.entry(id.clone()).or_default(), manner);
        }
        self.named = named;
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Start {
                id,
                service,
                digest,
                slot,
                release,
                joins,
            } => {
                let role = Role::Replica {
                    digest: digest.clone(),
                    slot: *slot,
                };
                self.start(id, service, role, *release);
                self.join(id, joins.as_ref());
            }
            Action::RunJob {
                id,
                job,
                release,
                joins,
            } => {
                let role = Role::Job {
                    job: job.clone(),
                    release: *release,
                };
                self.start(id, &job.service, role, *release);
                self.join(id, joins.as_ref());
            }
            Action::Stop { id, .. } => {
                assert!(
                    !self.serving.contains(id),
                    "{id} is stopped while it serves"
                );
                let replica = self.replicas.get_mut(id).expect("what is stopped exists");
                assert!(
                    replica.state.can_be_stopped(),
                    "{id} is stopped but {:?}",
                    replica.state
                );
                replica.state = ReplicaState::Stopping;
            }
            Action::Renew {
                id,
                service,
                release,
                contents,
            } => self.renew(
                id,
                &self.releases[release].services[service].clone(),
                contents,
            ),
            Action::Remove { id } => {
                self.failed_reloads.remove(id);
                let replica = self.replicas.remove(id).expect("what is removed exists");
                assert!(!replica.state.is_live(), "{id} is removed alive");
                self.starts += 1;
                self.looks.remove(id);
                self.in_flight.remove(id);
            }
        }
    }

    /// A replica gets other contents, and its program may hear of it.
    fn renew(&mut self, id: &ReplicaId, of: &ServiceRelease, contents: &LiveContents) {
        assert_eq!(of.live_contents().as_ref(), Some(contents), "{id}");
        let now = self.now;
        let replica = self.replicas.get_mut(id).expect("what is renewed exists");
        assert!(
            replica.state.can_be_stopped(),
            "{id} gets contents but {:?}",
            replica.state
        );
        let has = replica.contents.as_mut().expect("it has some");
        assert!(has.given != *contents || !has.loaded, "{id} has them");
        has.given = contents.clone();
        has.loaded = self.reloads_fail == 0;
        if self.reloads_fail == 0 {
            self.failed_reloads.remove(id);
            return;
        }
        self.reloads_fail -= 1;
        let before = self.failed_reloads.get(id);
        let before = before.filter(|failed| failed.contents == *contents);
        if let Some(before) = before {
            let pause = self.policy.reload_pause_after(before.tries);
            let rested = now.duration_since(before.last).expect("time goes on");
            assert!(rested >= pause, "{id} is tried again after {rested:?}");
        }
        let tries = before.map_or(0, |failed| failed.tries) + 1;
        let failed = FailedReload {
            contents: contents.clone(),
            tries,
            last: now,
            reason: "it does not".to_owned(),
        };
        self.failed_reloads.insert(id.clone(), failed);
    }

    /// The contents that replicas of a service were started with or told of.
    pub fn known(&self, service: &str) -> BTreeSet<LiveContents> {
        let of = self
            .replicas
            .values()
            .filter(|one| one.service.as_str() == service);
        let has = of.filter_map(|one| one.contents.as_ref().filter(|has| has.loaded));
        has.map(|has| has.given.clone()).collect()
    }

    /// The start of a container takes a round: until then the engine does not show it.
    fn start(&mut self, id: &ReplicaId, service: &ServiceName, role: Role, release: u64) {
        assert!(!self.replicas.contains_key(id), "{id} is started twice");
        let known = match &role {
            Role::Replica { digest, .. } => self.releases.get(&1).is_some_and(|first| {
                let service = first.services.get(service);
                service.is_some_and(|service| service.digest() == digest)
            }),
            Role::Job { .. } => release == 1,
        };
        let fate = if known {
            Fate::Fine(1)
        } else {
            self.fate_of_new
        };
        self.fates.insert(id.clone(), fate);
        if !known {
            self.new_ones.insert(id.clone());
        }
        let contents = match &role {
            Role::Replica { .. } => self.releases[&release].services[service].live_contents(),
            Role::Job { .. } => None,
        };
        let contents = contents.map(|contents| Contents {
            given: contents,
            loaded: true,
        });
        let replica = Replica {
            id: id.clone(),
            service: service.clone(),
            role,
            state: ReplicaState::Creating,
            restarts: 0,
            last_exit: None,
            ready_after: None,
            start: self.starts.to_string(),
            joined: None,
            contents,
        };
        self.replicas.insert(id.clone(), replica);
    }

    /// Puts a replica that was just started into another's network.
    fn join(&mut self, id: &ReplicaId, provider: Option<&ReplicaId>) {
        let Some(provider) = provider else { return };
        let provider = self.replicas.get(provider).expect("whom one joins exists");
        let there = provider.state.is_live() && provider.state != ReplicaState::Creating;
        assert!(there, "{id} joins what is {:?}", provider.state);
        let joined = Joined {
            id: provider.id.clone(),
            start: provider.start.clone(),
        };
        let replica = self.replicas.get_mut(id).expect("it was just started");
        replica.joined = Some(joined);
    }

    /// Time passes, processes go on, requests end.
    fn live(&mut self) {
        self.now += Duration::from_millis(700);
        for (id, count) in &mut self.in_flight {
            if !self.serving.contains(id) {
                *count = count.saturating_sub(1);
            }
        }
        for replica in self.replicas.values_mut() {
            let looks = self.looks.entry(replica.id.clone()).or_default();
            *looks = looks.saturating_add(1);
            let fate = self
                .fates
                .get(&replica.id)
                .copied()
                .unwrap_or(Fate::Fine(1));
            replica.state = next_state(replica, fate, *looks, self.now);
        }
    }

    /// Volumes that a replica writes to.
    pub fn volumes_of(&self, replica: &Replica) -> Vec<&str> {
        let Role::Replica { digest, .. } = &replica.role else {
            return Vec::new();
        };
        let own = self.releases.values().find_map(|release| {
            let service = release.services.get(&replica.service)?;
            (service.digest() == digest).then_some(&service.service)
        });
        let mounts = own.into_iter().flat_map(|service| &service.mounts);
        mounts
            .filter_map(|mount| match mount {
                Mount::Volume { name, .. } => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Replicas of later releases than the first that get requests.
    pub fn new_ones_serving(&self) -> usize {
        self.serving.intersection(&self.new_ones).count()
    }

    /// One of the replicas vanishes with its supervisor.
    pub fn lose(&mut self, index: usize) {
        if let Some(replica) = self.one_that_runs(index) {
            replica.state = ReplicaState::Lost;
        }
    }

    /// One of the replicas becomes unhealthy.
    pub fn make_ill(&mut self, index: usize) {
        if let Some(replica) = self.one_that_runs(index) {
            replica.state = ReplicaState::Unhealthy {
                failed: FailedProbe::Health,
                probe: "no".into(),
            };
        }
    }

    fn one_that_runs(&mut self, index: usize) -> Option<&mut Replica> {
        let count = self.replicas.len().max(1);
        let replica = self.replicas.values_mut().nth(index % count)?;
        matches!(replica.state, ReplicaState::Ready).then_some(replica)
    }

    /// Whether an environment that runs `number` has exactly its replicas, all ready.
    pub fn runs_exactly(&self, number: u64) -> bool {
        let release = &self.releases[&number];
        let wanted: u32 = release
            .lasting()
            .map(|(_, service)| service.service.replicas)
            .sum();
        self.desired.current == Some(number)
            && self.desired.rollout.is_none()
            && self.desired.intent == Intent::Run
            && self.replicas.len() == wanted as usize
            && self.replicas.values().all(|replica| {
                matches!(&replica.role, Role::Replica { digest, .. }
                    if digest == release.services[&replica.service].digest())
                    && replica.state == ReplicaState::Ready
            })
    }
}

/// 30 requests more.
fn answer(traffic: &mut Traffic, manner: Manner) {
    const REQUESTS: u64 = 30;
    let (errors, bound_ms) = match manner {
        Manner::Well => (0, 8),
        Manner::Errors => (REQUESTS / 10, 8),
        Manner::Slowly => (0, 1500),
    };
    traffic.requests += REQUESTS;
    traffic.server_errors += errors;
    *traffic.latency.entry(bound_ms).or_default() += REQUESTS;
}

fn next_state(replica: &Replica, fate: Fate, looks: u8, now: SystemTime) -> ReplicaState {
    let failed = ExitInfo {
        code: 1,
        signal: None,
        oom_killed: false,
        requested: false,
    };
    let done = ExitInfo {
        code: 0,
        signal: None,
        oom_killed: false,
        requested: false,
    };
    let is_job = matches!(replica.role, Role::Job { .. });
    match (&replica.state, fate) {
        (ReplicaState::Creating, _) if looks <= 1 => ReplicaState::Creating,
        (ReplicaState::Creating, Fate::CannotStart) => ReplicaState::CannotStart {
            reason: "no such file".into(),
            since: Some(now),
        },
        (ReplicaState::Creating, _) => ReplicaState::Starting { since: now },
        (ReplicaState::Stopping, _) => ReplicaState::Ended {
            exit: ExitInfo {
                requested: true,
                ..failed
            },
        },
        (ReplicaState::Starting { .. }, Fate::Fine(after)) if looks > after => {
            if is_job {
                ReplicaState::Ended { exit: done }
            } else {
                ReplicaState::Ready
            }
        }
        (ReplicaState::Starting { .. }, Fate::Unhealthy(after)) if looks > after => {
            if is_job {
                ReplicaState::Ended { exit: failed }
            } else {
                ReplicaState::Unhealthy {
                    failed: FailedProbe::Health,
                    probe: "no".into(),
                }
            }
        }
        (ReplicaState::Starting { .. }, Fate::CrashLoop) if is_job => {
            ReplicaState::Ended { exit: failed }
        }
        (ReplicaState::Starting { .. } | ReplicaState::Restarting { .. }, Fate::CrashLoop) => {
            ReplicaState::Restarting {
                exit: failed,
                restarts: u32::from(looks),
            }
        }
        (state, _) => state.clone(),
    }
}
