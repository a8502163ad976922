//! A daemon on FAKES, in a folder of its own, and the words by which tests ask it for something.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use havre_access::{Exchange, Register};
use havre_api::{
    ApiError, ChangeOutcome, Course, DownOptions, DownOutcome, DownRequest, EnvironmentId,
    EventSink, Grant, LocalPeer, PlanOutcome, PlanRequest, Principal, ReleaseId, ReleaseStatus,
    ReleasesQuery, RestartRequest, Role, RollbackRequest, ScaleRequest, SteerOutcome, SteerRequest,
    UpOptions, UpOutcome, UpRequest, Who,
};
use havre_edge::{Control, EdgeState};
use havre_image::Images;
use havre_model::machine::Settings;
use havre_model::{
    Capabilities, EnvironmentName, LoadOptions, Project, ProjectName, ServiceName, load,
};
use havre_release::TargetStatus;
use havre_store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::builder::FakeBuilder;
use super::replicas::Fate;
use super::targets::FakeTargets;
use super::told::{Running, Told};
use crate::app::schemas;
use crate::audit;
use crate::authority;
use crate::cache_limits::CacheLimits;
use crate::certificates::Certificates;
use crate::contents::Contents;
use crate::daemon::Daemon;
use crate::edge::{EdgeHub, Launch};
use crate::environment::tables::Tables;
use crate::fault::Fault;
use crate::guard::Doorkeeper;
use crate::identity::Identities;
use crate::options::DaemonOptions;
use crate::platform::Platform;
use crate::root::Root;
use crate::tls::LocalCa;
use crate::{operations, plans, releases, shared_networks};

/// A daemon on fakes. Violations fail the test when it goes.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) store: Arc<Store>,
    targets: Arc<FakeTargets>,
    builder: Arc<FakeBuilder>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let violations = self.violations();
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "{violations:#?}");
        }
    }
}

/// A compose file of project `shop` with these services.
pub(crate) fn shop(services: &str) -> String {
    format!("name: shop\nservices: {services}\n")
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    /// With the state that lies in that folder.
    pub(crate) fn of(folder: tempfile::TempDir) -> Self {
        let root = Root::new(Some(folder.path().to_owned()));
        let state = root.state_dir().to_owned();
        std::fs::create_dir_all(&state).unwrap();
        let store = Arc::new(Store::open(&state.join("state.db"), &schemas()).unwrap());
        let images = Images::open(&state.join("images"), Arc::clone(&store)).unwrap();
        // None of this is ever run.
        let exe = PathBuf::from("/nonexistent/havre");
        let launch = Launch {
            exe: exe.clone(),
            root: root.clone(),
        };
        let control = Control::new(&root.edge_run_dir());
        let register = Arc::new(Register::open(Arc::clone(&store)).unwrap());
        let (seal, secrets) = crate::secrets::open(&root, &store).unwrap();
        let hub = Arc::new(EdgeHub::new(control, launch, EdgeState::default(), []));
        // Nobody is asked for certificates.
        let nobody = havre_acme::Settings::default();
        let authorities = authority::open(nobody, &store, seal.clone(), &hub).unwrap();
        let options = DaemonOptions {
            root: root.clone(),
            http: Vec::new(),
            https: Vec::new(),
            trusted_proxies: Vec::new(),
            connections_per_address: None,
            build_cache: CacheLimits::default(),
            machine: Settings::default(),
            given: BTreeMap::new(),
        };
        let platform = Arc::new(Platform {
            exchange: Exchange::new(&[], Arc::clone(&register), Arc::clone(&store)).unwrap(),
            door: Arc::new(Doorkeeper::new(register)),
            tables: Tables::new(Arc::clone(&store)),
            networks: shared_networks::tables::Tables::new(Arc::clone(&store)),
            vars: crate::vars::Vars::new(Arc::clone(&store)),
            identities: Identities::new(&store, seal.clone(), &options),
            promotions: Arc::new(crate::promotions::Promotions::new(Arc::clone(&store))),
            previews: crate::previews::tables::Tables::new(Arc::clone(&store)),
            contents: Contents::new(state.join("contents"), seal.clone(), secrets.clone()),
            seal,
            secrets,
            masks: Default::default(),
            sources: havre_sources::Store::new(folder.path().join("sources")),
            ca: LocalCa::new(state.join("tls")),
            certificates: Certificates::default(),
            trail: audit::trail(&root, &store),
            hub,
            authorities,
            built: Notify::new(),
            images: images.clone(),
            root: root.clone(),
            exe,
        });
        let targets = Arc::new(FakeTargets::new(Arc::clone(&platform)));
        let builder = Arc::new(FakeBuilder::new(images));
        let (kinds, makes) = (Arc::clone(&targets), Arc::clone(&builder));
        let daemon = Daemon::new(platform, kinds, makes, options);
        targets.0.watch(&daemon);
        Self {
            folder,
            daemon,
            store,
            targets,
            builder,
        }
    }

    // What a test sets.

    /// Processes of a service that start from now on come to this.
    pub(crate) fn fate(&self, service: &str, fate: Fate) {
        self.targets
            .0
            .script()
            .fates
            .insert(service.to_owned(), fate);
    }

    /// Processes of a service print this when they start.
    pub(crate) fn prints(&self, service: &str, lines: &[&str]) {
        let lines = lines.iter().map(ToString::to_string).collect();
        self.targets
            .0
            .script()
            .prints
            .insert(service.to_owned(), lines);
    }

    /// Processes take so long to end.
    pub(crate) fn grace(&self, grace: Duration) {
        self.targets.0.script().grace = grace;
    }

    /// Changes are under way for so long.
    pub(crate) fn delay(&self, delay: Duration) {
        self.targets.0.script().delay = delay;
    }

    /// This cannot be removed when an environment goes.
    pub(crate) fn stays(&self, what: &str) {
        self.targets.0.script().stays.push(what.to_owned());
    }

    /// The target lacks something.
    pub(crate) fn capabilities(&self, capabilities: Capabilities) {
        self.targets.0.script().capabilities = capabilities;
    }

    /// An environment that only the network itself knows.
    pub(crate) fn stray(&self, network: &str, environment: &str) {
        let mut script = self.targets.0.script();
        let strays = script.strays.entry(network.to_owned()).or_default();
        strays.push(environment.to_owned());
    }

    /// Ends the task of an environment.
    pub(crate) fn break_off(&self, id: &EnvironmentId) {
        self.targets.break_off(id);
    }

    /// The daemon ends.
    pub(crate) fn end(&self) {
        self.daemon.end.cancel();
    }

    /// No desired state can be written as long as this is there.
    pub(crate) fn full_disk(&self) -> Fault {
        let database = self.daemon.platform.root.state_dir().join("state.db");
        Fault::inject_in(&database, &["environments", "releases"])
    }

    /// No registry has this image.
    pub(crate) fn lacks_image(&self, name: &str) {
        self.builder.script().missing.insert(name.to_owned());
    }

    /// Each image takes so long.
    pub(crate) fn build_takes(&self, delay: Duration) {
        self.builder.script().delay = delay;
    }

    /// Images that were made.
    pub(crate) fn images_made(&self) -> u32 {
        self.builder.script().made
    }

    /// Somebody has removed what no environment needs, and this image whoever needs it.
    pub(crate) fn lose_image(&self, name: &str) {
        let images = &self.daemon.platform.images;
        let image = images.resolve(&name.parse().unwrap()).unwrap().unwrap();
        std::fs::remove_file(images.blob_path(&image.manifest_digest)).unwrap();
    }

    // What a test looks at.

    /// Changes that were asked of targets, in order.
    pub(crate) fn changes(&self) -> Vec<String> {
        self.targets.0.changes().clone()
    }

    /// What was done that must not be, which is forgotten by that.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.targets.0.violations.take()
    }

    /// Who holds images.
    pub(crate) fn leases(&self) -> Vec<String> {
        let holders = self.daemon.platform.images.all_holders();
        Vec::from_iter(holders.unwrap())
    }

    /// Who holds an image.
    pub(crate) fn holders(&self, name: &str) -> Vec<String> {
        let images = &self.daemon.platform.images;
        let image = images.resolve(&name.parse().unwrap()).unwrap().unwrap();
        images.holders(&image.manifest_digest).unwrap()
    }

    /// What is stored of environments.
    pub(crate) fn stored(&self) -> Vec<String> {
        let rows = self.daemon.platform.tables.environments().unwrap();
        rows.into_iter().map(|row| row.desired).collect()
    }

    /// How an environment is.
    pub(crate) async fn status(&self, id: &EnvironmentId) -> Arc<TargetStatus> {
        self.daemon.environment(id).await.unwrap().status()
    }

    /// The environment of the project `shop`.
    pub(crate) fn id(&self) -> EnvironmentId {
        id("shop")
    }

    /// A folder for what is to be mounted.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    // What a test asks for.

    /// The project of a compose file, with `havre.yaml` behind a line `---`.
    pub(crate) fn project(&self, text: &str) -> Project {
        self.project_in("production", text)
    }

    /// The same for another environment.
    pub(crate) fn project_in(&self, environment: &str, text: &str) -> Project {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let (compose, havre) = text.split_once("\n---\n").unwrap_or((text, ""));
        std::fs::write(folder.path().join("compose.yaml"), compose).unwrap();
        std::fs::write(folder.path().join("havre.yaml"), havre).unwrap();
        let options = LoadOptions {
            directory: folder.path().to_owned(),
            environment: Some(EnvironmentName::new(environment)),
            ..LoadOptions::default()
        };
        match load(&options) {
            Ok(loaded) => loaded.project,
            Err(failure) => panic!("{failure:#?}"),
        }
    }

    /// Begins an operation of `who`.
    pub(crate) fn begin<T, F>(
        &self,
        who: &str,
        operation: impl FnOnce(Arc<Daemon>, Principal, EventSink) -> F,
    ) -> Running<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ApiError>> + Send + 'static,
    {
        let by = principal(who, Grant::everywhere(Role::Admin));
        let cancel = CancellationToken::new();
        let (events, source) = EventSink::new(cancel.clone());
        let task = tokio::spawn(operation(Arc::clone(&self.daemon), by, events));
        Running {
            task,
            cancel,
            source,
            told: Vec::new(),
        }
    }

    pub(crate) fn begin_up(&self, who: &str, text: &str) -> Running<UpOutcome> {
        let request = UpRequest {
            project: self.project(text),
            options: UpOptions::default(),
            origin: None,
            overridden: None,
            entry: None,
            elsewhere: Vec::new(),
        };
        self.begin(who, async |daemon: Arc<Daemon>, by, events| {
            operations::up(&daemon, &by, request, &events).await
        })
    }

    pub(crate) async fn up(&self, text: &str) -> Told<UpOutcome> {
        self.begin_up("anna", text).end().await
    }

    pub(crate) async fn plan(&self, text: &str) -> Result<PlanOutcome, ApiError> {
        let project = self.project(text);
        let by = principal("anna", Grant::everywhere(Role::Admin));
        plans::dry_run(&self.daemon, &by, PlanRequest { project }).await
    }

    pub(crate) fn begin_down(&self, volumes: bool) -> Running<DownOutcome> {
        let request = DownRequest {
            environment: self.id(),
            options: DownOptions { volumes },
        };
        self.begin("anna", async |daemon: Arc<Daemon>, _, events| {
            operations::down(&daemon, request, &events).await
        })
    }

    pub(crate) async fn down(&self, volumes: bool) -> Told<DownOutcome> {
        self.begin_down(volumes).end().await
    }

    pub(crate) fn begin_restart(&self, services: &[&str]) -> Running<ChangeOutcome> {
        let request = RestartRequest {
            environment: self.id(),
            services: services.iter().copied().map(ServiceName::new).collect(),
        };
        self.begin("anna", async |daemon: Arc<Daemon>, by, events| {
            operations::restart(&daemon, &by, request, &events).await
        })
    }

    pub(crate) fn begin_scale(&self, service: &str, count: u32) -> Running<ChangeOutcome> {
        let request = ScaleRequest {
            environment: self.id(),
            replicas: BTreeMap::from([(ServiceName::new(service), count)]),
        };
        self.begin("anna", async |daemon: Arc<Daemon>, by, events| {
            operations::scale(&daemon, &by, request, &events).await
        })
    }

    pub(crate) async fn scale(&self, service: &str, count: u32) -> Told<ChangeOutcome> {
        self.begin_scale(service, count).end().await
    }

    pub(crate) fn begin_rollback(&self, release: Option<u64>) -> Running<UpOutcome> {
        let request = RollbackRequest {
            environment: self.id(),
            release: release.map(ReleaseId),
        };
        self.begin("anna", async |daemon: Arc<Daemon>, by, events| {
            releases::rollback(&daemon, &by, request, &events).await
        })
    }

    pub(crate) async fn rollback(&self, release: Option<u64>) -> Told<UpOutcome> {
        self.begin_rollback(release).end().await
    }

    pub(crate) async fn steer(&self, course: Course) -> Result<SteerOutcome, ApiError> {
        let request = SteerRequest {
            environment: self.id(),
            course,
        };
        operations::steer(&self.daemon, &request).await
    }

    /// All releases, the newest first.
    pub(crate) async fn releases(&self) -> Vec<ReleaseStatus> {
        let query = ReleasesQuery {
            environment: self.id(),
            most: 100,
        };
        releases::list(&self.daemon, &query).await.unwrap()
    }
}

/// The production environment of a project.
pub(crate) fn id(project: &str) -> EnvironmentId {
    EnvironmentId {
        project: ProjectName::new(project),
        environment: EnvironmentName::new("production"),
    }
}

/// Somebody of this machine.
pub(crate) fn principal(name: &str, grant: Grant) -> Principal {
    Principal {
        who: Who::Local(LocalPeer {
            uid: 1000,
            gid: 1000,
            name: Some(name.to_owned()),
        }),
        grant,
    }
}
