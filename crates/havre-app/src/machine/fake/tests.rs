//! The fake is strict: each fault that an environment's task might have is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use havre_model::ServiceName;
use havre_release::{
    Action, Desired, Failure, FailureKind, Intent, JobId, Release, ReplicaId, Rollout,
    RolloutPhase, Routing, ServiceRouting, job_id,
};
use havre_store::Store;
use tokio::time::sleep;

use super::{Behaviour, FakeMachine};
use crate::clock::Clock;
use crate::environment::tables::{NewRelease, SCHEMA, Tables};
use crate::environment::tests::world::{QUICK, folder, id, release, shop, shop_services};
use crate::machine::{Answers, Machine, Work};

/// A machine, and what is on disk of its environment.
struct Bench {
    machine: FakeMachine,
    tables: Tables,
    desired: Desired,
    releases: Arc<BTreeMap<u64, Release>>,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// Release 1 runs and serves; release 2 is on its way, and is `second`.
    async fn new(second: Release) -> Self {
        let folder = folder();
        let database = folder.path().join("state.db");
        let store = Store::open(&database, &[havre_image::SCHEMA, SCHEMA]).unwrap();
        let tables = Tables::new(Arc::new(store));
        let machine = FakeMachine::new(id(), Clock::start(), tables.clone(), database);
        let releases = Arc::new(BTreeMap::from([(1, shop(1)), (2, second)]));
        let mut bench = Self {
            machine,
            tables,
            desired: Desired::default(),
            releases,
            _folder: folder,
        };
        for number in [1, 2] {
            bench
                .desired
                .begin(number, BTreeSet::new(), false, bench.now());
            bench.write(Some(number));
            if number == 1 {
                bench.run_first().await;
            }
        }
        assert_eq!(bench.machine.violations(), [""; 0]);
        bench
    }

    /// As the task would do it.
    async fn run_first(&mut self) {
        for action in [self.start("db", 1, 0), self.job(1)] {
            self.done(action).await;
            sleep(Duration::from_secs(2)).await;
        }
        if let Action::RunJob { job, .. } = self.job(1) {
            self.rollout().jobs_done.insert(job);
        }
        self.write(None);
        for slot in [0, 1] {
            self.done(self.start("web", 1, slot)).await;
        }
        sleep(Duration::from_secs(2)).await;
        self.desired.current = Some(1);
        self.desired.rollout = None;
        self.write(None);
        self.route(&self.of("web", 1)).await;
    }

    fn now(&self) -> std::time::SystemTime {
        self.machine.lock().clock.now()
    }

    fn write(&self, release: Option<u64>) {
        let release = release.map(|number| NewRelease {
            number,
            content: serde_json::to_string(&self.releases[&number]).unwrap(),
            record: "{}".to_owned(),
        });
        let desired = serde_json::to_string(&self.desired).unwrap();
        let put =
            (self.tables).environment_put("shop", "production", &desired, release.as_ref(), &[]);
        put.unwrap();
    }

    fn rollout(&mut self) -> &mut Rollout {
        self.desired.rollout.as_mut().unwrap()
    }

    fn start(&self, service: &str, release: u64, slot: u32) -> Action {
        let name = ServiceName::new(service);
        let services = self.releases[&release].ids("shop.production", release);
        let mut ids = services.into_iter().filter(|(of, _)| of == &name);
        let (_, id) = ids.nth(slot as usize).unwrap();
        Action::Start {
            id,
            digest: self.releases[&release].services[&name].digest().clone(),
            service: name,
            release,
            slot,
            joins: None,
        }
    }

    fn job(&self, release: u64) -> Action {
        let job = JobId {
            service: ServiceName::new("migrate"),
            hook: None,
        };
        Action::RunJob {
            id: job_id("shop.production", &job, release),
            job,
            release,
            joins: None,
        }
    }

    fn of(&self, service: &str, release: u64) -> Vec<ReplicaId> {
        self.machine.of_release(service, release)
    }

    fn stop(&self, service: &str, release: u64) -> Action {
        let id = self.of(service, release).remove(0);
        Action::Stop { id, within: None }
    }

    /// Begins an action, and does not wait for it.
    fn begin(&self, action: Action) -> impl Future<Output = Result<(), String>> + use<> {
        self.machine.carry_out(Work {
            action,
            releases: Arc::clone(&self.releases),
            pre_stop: None,
        })
    }

    async fn done(&self, action: Action) {
        // What comes of it the machine shows.
        drop(self.begin(action).await);
    }

    async fn route(&mut self, serving: &[ReplicaId]) {
        let web = ServiceRouting {
            serving: serving.to_vec(),
            named: serving.to_vec(),
            ..ServiceRouting::default()
        };
        let routing = Routing {
            services: [(ServiceName::new("web"), web)].into(),
        };
        let seen = self.machine.observe().await;
        let mut machine = self.machine.clone();
        let answers = Answers {
            desired: &self.desired,
            releases: &self.releases,
            serving: Some(&self.releases[&1]),
            routing: &routing,
            draining: &BTreeMap::new(),
            seen: &seen,
        };
        machine.route(answers).await;
    }

    /// The one thing that was wrong.
    #[track_caller]
    fn saw(&self, what: &str) {
        let violations = self.machine.violations();
        let all = violations.iter().all(|one| one.contains(what));
        assert!(!violations.is_empty() && all, "{what}: {violations:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn starts_that_must_not_be() {
    type Wrong = (&'static str, fn(&mut Bench) -> Action);
    let wrong: [Wrong; 8] = [
        ("is started and exists", |bench| bench.start("web", 1, 0)),
        ("before JobId", |bench| bench.start("web", 2, 0)),
        ("release 3 is not stored", |bench| {
            let mut releases = (*bench.releases).clone();
            releases.insert(3, shop(3));
            bench.releases = Arc::new(releases);
            bench.start("web", 3, 0)
        }),
        ("is not wanted", |bench| {
            bench.desired.rollout = None;
            bench.write(None);
            bench.start("db", 2, 0)
        }),
        ("is to go", |bench| {
            let remove_volumes = BTreeSet::new();
            bench.desired.intent = Intent::Down { remove_volumes };
            bench.write(None);
            bench.start("db", 2, 0)
        }),
        ("not the time for jobs", |bench| {
            let since = bench.now();
            bench.rollout().phase = RolloutPhase::Baking { since };
            bench.write(None);
            bench.job(2)
        }),
        ("writes to its volume", |bench| bench.start("db", 2, 0)),
        ("a release other than the stored one", |bench| {
            let mut releases = (*bench.releases).clone();
            releases.get_mut(&2).unwrap().routes.clear();
            bench.releases = Arc::new(releases);
            bench.job(2)
        }),
    ];
    for (what, action) in wrong {
        let mut bench = Bench::new(release(&shop_services(2, 2), QUICK)).await;
        let action = action(&mut bench);
        bench.done(action).await;
        bench.saw(what);
    }
}

#[tokio::test(start_paused = true)]
async fn two_actions_on_one_id_and_a_job_that_has_succeeded() {
    let bench = Bench::new(shop(2)).await;
    let first = bench.begin(bench.job(2));
    let second = bench.begin(bench.job(2));
    bench.saw("r2.job");
    drop((first, second));

    let bench = Bench::new(shop(2)).await;
    bench.done(bench.job(2)).await;
    sleep(Duration::from_secs(3)).await;
    let Action::RunJob { id, .. } = bench.job(2) else {
        unreachable!("it is one");
    };
    bench.done(Action::Remove { id }).await;
    bench.saw("is removed before its success is written down");
    bench.machine.lock().violations.clear();
    bench.done(bench.job(2)).await;
    bench.saw("runs again after it has succeeded");
}

#[tokio::test(start_paused = true)]
async fn ends_that_must_not_be() {
    let unknown = || ReplicaId("nobody".to_owned());
    let bench = Bench::new(shop(2)).await;
    let stop = Action::Stop {
        id: unknown(),
        within: None,
    };
    bench.done(stop).await;
    bench.saw("is stopped and unknown");

    let bench = Bench::new(shop(2)).await;
    bench.done(Action::Remove { id: unknown() }).await;
    bench.saw("is removed and unknown");

    let bench = Bench::new(shop(2)).await;
    let id = bench.of("web", 1).remove(0);
    bench.done(Action::Remove { id }).await;
    bench.saw("is removed while Running");

    // It serves, has requests under way, and is wanted.
    let bench = Bench::new(shop(2)).await;
    sleep(Duration::from_secs(1)).await;
    bench.done(bench.stop("web", 1)).await;
    let violations = bench.machine.violations();
    for what in ["gets requests", "requests under way", "keeps it"] {
        assert!(
            violations.iter().any(|one| one.contains(what)),
            "{violations:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_requests_have_ended() {
    let mut bench = Bench::new(shop(2)).await;
    sleep(Duration::from_secs(1)).await;
    let others = bench.of("web", 1).split_off(1);
    bench.route(&others).await;
    bench.desired.scale.insert(ServiceName::new("web"), 0);
    bench.write(None);
    bench.done(bench.stop("web", 1)).await;
    bench.saw("requests under way");
}

#[tokio::test(start_paused = true)]
async fn routes_that_lead_nowhere() {
    for (what, behaviour) in [
        ("is routed to", Behaviour::never_ready()),
        ("is routed to", Behaviour::sickens_after(0)),
    ] {
        let mut bench = Bench::new(shop(2)).await;
        let all = bench.of("web", 1);
        bench.machine.change(&all[0], behaviour);
        bench.route(&all).await;
        bench.saw(what);
    }
    let mut bench = Bench::new(shop(2)).await;
    bench.route(&[ReplicaId("nobody".to_owned())]).await;
    bench.saw("nobody is routed to");

    let mut bench = Bench::new(shop(2)).await;
    bench.machine.must_answer("web");
    bench.route(&[]).await;
    sleep(Duration::from_secs(1)).await;
    bench.saw("nobody answers for web");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_written_down() {
    let mut bench = Bench::new(shop(2)).await;
    bench.desired.current = Some(2);
    bench.route(&bench.of("web", 1)).await;
    bench.saw("is not what is on disk");

    let bench = Bench::new(shop(2)).await;
    let failure = Failure {
        service: ServiceName::new("web"),
        replica: Some(ReplicaId("nobody".to_owned())),
        kind: FailureKind::Aborted,
    };
    bench.machine.explain(&failure, None, &[]).await;
    let violations = bench.machine.violations();
    for what in ["was removed", "is not written down"] {
        assert!(
            violations.iter().any(|one| one.contains(what)),
            "{violations:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_comes_too_early_and_what_comes_after_it() {
    let bench = Bench::new(shop(2)).await;
    let mut machine = bench.machine.clone();
    machine.dismantle(&BTreeSet::new()).await;
    machine.release_images();
    let violations = machine.violations();
    for what in [
        "not written down that it is to go",
        "containers are there",
        "is known",
    ] {
        assert!(
            violations.iter().any(|one| one.contains(what)),
            "{violations:?}"
        );
    }

    let mut bench = Bench::new(shop(2)).await;
    bench.desired.intent = Intent::Down {
        remove_volumes: BTreeSet::new(),
    };
    bench.write(None);
    bench.machine.lock().containers.clear();
    let mut machine = bench.machine.clone();
    machine.dismantle(&["shop_data".to_owned()].into()).await;
    bench.saw("are written down");

    bench.machine.lock().violations.clear();
    bench
        .tables
        .environment_remove("shop", "production")
        .unwrap();
    machine.release_images();
    assert_eq!(machine.violations(), [""; 0]);
    bench.done(bench.start("web", 1, 0)).await;
    let violations = machine.violations();
    for what in ["after the end of the environment", "nothing is known"] {
        assert!(
            violations.iter().any(|one| one.contains(what)),
            "{violations:?}"
        );
    }
}
