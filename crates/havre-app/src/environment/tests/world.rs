//! An environment with a database on disk and a strict fake of a machine.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use havre_api::EnvironmentId;
use havre_model::{EnvironmentName, FoundDatabases, LoadOptions, ProjectName, ServiceName, load};
use havre_release::{
    Analysis, ApplyError, Change, Desired, FailureKind, Jobs, Move, Record, Release, RolloutPhase,
    Scale, TargetStatus,
};
use havre_store::Store;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::clock::Clock;
use crate::environment::tables::{SCHEMA, Tables};
use crate::environment::{Commands, Environment, Gone};
use crate::fault::Fault;
use crate::machine::fake::FakeMachine;

/// Whatever is waited for has come long before.
const LONGEST: Duration = Duration::from_secs(1200);

/// Some of what is published of an environment, in the tests' words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Status {
    pub(super) current: Option<u64>,
    pub(super) to: Option<u64>,
    /// `preparing`, `canary 0`, `baking`, `finishing`, `rolling back`; empty where nothing moves.
    pub(super) phase: String,
    pub(super) is_paused: bool,
    /// Why the newest rollout went back or goes back.
    pub(super) failure: Option<FailureKind>,
    pub(super) settled: bool,
    pub(super) problems: Vec<String>,
    pub(super) is_gone: bool,
}

fn status(snapshot: &TargetStatus) -> Status {
    let desired = &snapshot.desired;
    let rollout = desired.rollout.as_ref();
    let failure = rollout.and_then(|rollout| rollout.failure());
    Status {
        current: desired.current,
        to: rollout.map(|rollout| rollout.to),
        phase: match rollout.map(|rollout| &rollout.phase) {
            None => String::new(),
            Some(RolloutPhase::Preparing) => "preparing".to_owned(),
            Some(RolloutPhase::Canary { step, .. }) => format!("canary {step}"),
            Some(RolloutPhase::Baking { .. }) => "baking".to_owned(),
            Some(RolloutPhase::Finishing { .. }) => "finishing".to_owned(),
            Some(RolloutPhase::RollingBack { .. }) => "rolling back".to_owned(),
        },
        is_paused: rollout.is_some_and(|rollout| rollout.pause.is_some()),
        failure: failure
            .or(desired.last_failure.as_ref())
            .map(|failure| failure.kind.clone()),
        settled: snapshot.settled,
        problems: snapshot.problems.clone(),
        is_gone: snapshot.gone.is_some(),
    }
}

/// The environment, its machine and its daemon.
pub(super) struct World {
    pub(super) machine: FakeMachine,
    pub(super) tables: Tables,
    folder: tempfile::TempDir,
    clock: Clock,
    commands: Commands,
    task: JoinHandle<Option<Gone>>,
    /// Of the newest command.
    revision: Cell<u64>,
    /// What was on disk when a test began.
    start: RefCell<Option<String>>,
}

impl World {
    pub(super) fn new() -> Self {
        let folder = folder();
        let database = database(folder.path());
        let store = Store::open(&database, &[havre_image::SCHEMA, SCHEMA]).unwrap();
        let tables = Tables::new(Arc::new(store));
        let clock = Clock::start();
        let machine = FakeMachine::new(id(), clock, tables.clone(), database);
        let (commands, task) = daemon(&machine, &tables, clock);
        Self {
            machine,
            tables,
            folder,
            clock,
            commands,
            task,
            revision: Cell::new(0),
            start: RefCell::default(),
        }
    }

    /// Release 1 serves and nothing moves.
    pub(super) async fn running(release: Release) -> Self {
        let world = Self::new();
        world.up(release).await;
        world.settle().await;
        assert_eq!(
            world.status().current,
            Some(1),
            "{}",
            world.machine.report()
        );
        world
    }

    pub(super) fn status(&self) -> Status {
        status(&self.commands.status().borrow())
    }

    /// What is told of the newest rollout that failed.
    pub(super) fn explained(&self) -> Option<FailureKind> {
        let snapshot = self.commands.status().borrow().clone();
        Some(snapshot.failure.as_ref()?.failure.kind.clone())
    }

    /// Whether what failed is said to be there still.
    pub(super) fn failed_one_stays(&self) -> bool {
        let snapshot = self.commands.status().borrow().clone();
        snapshot
            .failure
            .as_ref()
            .is_some_and(|failure| failure.stays)
    }

    /// Asks for a move to a release; returns its number.
    pub(super) async fn up(&self, release: Release) -> u64 {
        let written = self.command(roll_out(release)).await;
        written.unwrap().unwrap()
    }

    /// Gives a command; the number of the release that it made.
    pub(super) async fn command(&self, command: Change) -> Result<Option<u64>, ApplyError> {
        let written = self.commands.apply(command).await?;
        self.revision.set(written.revision);
        Ok(written.release)
    }

    pub(super) async fn scale(&self, service: &str, replicas: u32) {
        let scale = [(ServiceName::new(service), replicas)];
        let written = self.command(Change::Scale(scale.into())).await;
        assert_eq!(written.unwrap(), None);
    }

    /// Waits until what is published is so; `false` where the daemon ends before.
    pub(super) async fn comes(&self, is_so: impl Fn(&Status) -> bool) -> bool {
        let mut watch = self.commands.status();
        let revision = self.revision.get();
        let wait =
            watch.wait_for(|snapshot| snapshot.revision >= revision && is_so(&status(snapshot)));
        let came = timeout(LONGEST, wait).await.map(|came| came.is_ok());
        came.unwrap_or_else(|_| panic!("it stays {:?}\n{}", self.status(), self.machine.report()))
    }

    /// Waits until what is published is so.
    pub(super) async fn until(&self, is_so: impl Fn(&Status) -> bool) {
        let came = self.comes(is_so).await;
        assert!(came, "the task has ended\n{}", self.machine.report());
    }

    pub(super) async fn until_phase(&self, phase: &str) {
        self.until(|status| status.phase == phase).await;
    }

    /// Waits until all is as it is wanted.
    pub(super) async fn settle(&self) {
        self.until(|status| status.settled && status.phase.is_empty())
            .await;
    }

    /// Waits until the environment is gone.
    pub(super) async fn gone(&mut self) {
        let gone = timeout(LONGEST, &mut self.task).await.unwrap();
        gone.unwrap().expect("it is gone").announce();
        assert!(self.status().is_gone);
        self.machine.set_edge(true);
    }

    pub(super) fn task_has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until all is as it is wanted, or the environment has gone.
    pub(super) async fn settle_or_go(&self) {
        let ended = async {
            while !self.task.is_finished() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = self.settle() => {}
            () = ended => {}
        }
    }

    /// Does this, unless the daemon is killed before it is done.
    pub(super) async fn or_death<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let death = async {
            loop {
                let died = self.machine.died.notified();
                if self.machine.is_dead() {
                    return;
                }
                died.await;
            }
        };
        tokio::select! {
            done = work => Some(done),
            () = death => None,
        }
    }

    /// The daemon is killed and another one begins.
    pub(super) async fn restart(&mut self) {
        self.task.abort();
        let ended = (&mut self.task).await;
        assert!(ended.is_err_and(|error| error.is_cancelled()));
        // What it has begun ends with it.
        sleep(Duration::from_millis(1)).await;
        self.machine.revive();
        (self.commands, self.task) = daemon(&self.machine, &self.tables, self.clock);
        self.revision.set(0);
    }

    /// From here on a test looks whether something is written.
    pub(super) fn note_start(&self) {
        self.start.replace(self.on_disk());
    }

    /// Whether what is wanted has changed on disk since then.
    pub(super) fn is_written_since_the_start(&self) -> bool {
        self.on_disk() != *self.start.borrow()
    }

    fn on_disk(&self) -> Option<String> {
        let row = self.tables.environments().unwrap().pop();
        row.map(|row| row.desired)
    }

    /// What the task says it wants is what the next daemon would want.
    #[track_caller]
    pub(super) fn is_as_on_disk(&self) {
        let stored = self.on_disk().expect("it is known");
        let stored: Desired = serde_json::from_str(&stored).unwrap();
        assert_eq!(self.commands.status().borrow().clone().desired, stored);
    }

    /// Nothing has happened that must not.
    #[track_caller]
    pub(super) fn check(&self) {
        let violations = self.machine.violations();
        assert!(violations.is_empty(), "{}", self.machine.report());
    }

    /// The database cannot be written.
    pub(super) fn fill_disk(&self) -> Fault {
        Fault::inject(&database(self.folder.path()))
    }

    /// Exactly these containers run: `service/release`, in order.
    #[track_caller]
    pub(super) fn runs(&self, expected: &[&str]) {
        let found = self.machine.containers();
        assert_eq!(found, expected, "{}", self.machine.report());
    }

    /// Exactly these get requests.
    #[track_caller]
    pub(super) fn serves(&self, expected: &[&str]) {
        let found = self.machine.serving();
        assert_eq!(found, expected, "{}", self.machine.report());
    }

    /// These lines are in the history, in this order; others may be between them.
    #[track_caller]
    pub(super) fn happened(&self, expected: &[&str]) {
        let mut history = self.machine.history().into_iter();
        for line in expected {
            let found = history.any(|found| found == *line);
            assert!(found, "no `{line}`\n{}", self.machine.report());
        }
    }

    /// How often a line is in the history.
    pub(super) fn count(&self, line: &str) -> usize {
        let history = self.machine.history();
        history.iter().filter(|found| *found == line).count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
        if !std::thread::panicking() {
            self.check();
        }
    }
}

pub(super) async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

pub(crate) fn id() -> EnvironmentId {
    EnvironmentId {
        project: ProjectName::new("shop"),
        environment: EnvironmentName::new("production"),
    }
}

pub(super) fn roll_out(release: Release) -> Change {
    Change::RollOut(Box::new(Move {
        release,
        record: Record::default(),
        scale: Scale::FromFile,
        jobs: Jobs::Run,
        analysis: Analysis::Enabled,
        databases: FoundDatabases::default(),
    }))
}

/// How releases of tests come in where they do not say.
pub(crate) const QUICK: &str = "bake: 2s, drain_timeout: 5s, ready_timeout: 20s";

/// A database with a volume, a migration that needs it, and two replicas of a web service that need
/// both. What differs between versions is the command of `migrate` and `web`.
pub(crate) fn shop(version: u32) -> Release {
    release(&shop_services(version, 1), QUICK)
}

pub(crate) fn shop_services(web: u32, db: u32) -> String {
    format!(
        "db: {{image: d, command: v{db}, volumes: [\"data:/data\"], healthcheck: {{test: [CMD, ok]}}}}\n  \
         migrate: {{image: w, command: migrate v{web}, depends_on: {{db: {{condition: service_healthy}}}}}}\n  \
         web: {{image: w, command: v{web}, deploy: {{replicas: 2}}, depends_on: {{db: {{condition: \
         service_healthy}}, migrate: {{condition: service_completed_successfully}}}}}}"
    )
}

/// One service that is routed, with these keys beside its image.
pub(super) fn web(keys: &str, rollout: &str) -> Release {
    release(&format!("web: {{image: w, {keys}}}"), rollout)
}

/// A release with these services, of which `web` is routed.
pub(crate) fn release(services: &str, rollout: &str) -> Release {
    let compose = format!("services:\n  {services}\nvolumes: {{data: }}\n");
    written(&compose, rollout, &BTreeMap::new())
}

/// A release whose service `web` reloads a secret of this content by a signal, and whose service `worker` is
/// replaced when that changes.
pub(super) fn reloading(content: &str, rollout: &str) -> Release {
    let compose = "services:\n  web: {image: w, secrets: [key]}\n  worker: {image: k, secrets: [key]}\n\
                   secrets: {key: {external: true}}\n";
    let rollout = format!("{rollout}}}\nservices: {{web: {{secrets: {{reload: SIGHUP}}}}");
    let files = || BTreeMap::from([("/run/secrets/key".to_owned(), content.to_owned())]);
    let files = ["web", "worker"].map(|name| (ServiceName::new(name), files()));
    written(compose, &rollout, &files.into())
}

fn written(
    compose: &str,
    rollout: &str,
    files: &BTreeMap<ServiceName, BTreeMap<String, String>>,
) -> Release {
    let folder = folder();
    let havre = format!(
        "domain: shop.localhost\nroutes: [{{path: /, service: web, port: 80}}]\n\
         rollout: {{{rollout}}}\n"
    );
    std::fs::write(
        folder.path().join("compose.yaml"),
        format!("name: shop\n{compose}"),
    )
    .unwrap();
    std::fs::write(folder.path().join("havre.yaml"), havre).unwrap();
    let options = LoadOptions {
        directory: folder.path().to_owned(),
        ..LoadOptions::default()
    };
    let project = load(&options).unwrap().project;
    Release::new(&project, &BTreeMap::new(), files)
}

/// In memory where there is a place for that: these tests write a lot.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).unwrap()
}

fn database(folder: &Path) -> PathBuf {
    folder.join("state.db")
}

fn daemon(
    machine: &FakeMachine,
    tables: &Tables,
    clock: Clock,
) -> (Commands, JoinHandle<Option<Gone>>) {
    let row = tables.environments().unwrap().pop();
    let desired = row.as_ref().map(|row| row.desired.as_str());
    let loaded = Environment::load(id(), machine.clone(), tables.clone(), desired);
    let (mut environment, commands) = loaded.unwrap();
    // One clock for all daemons and the machine, as there is one outside.
    environment.clock = clock;
    let task = tokio::spawn(environment.run(Box::pin(std::future::pending())));
    (commands, task)
}
