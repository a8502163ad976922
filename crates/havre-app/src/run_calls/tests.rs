//! Against real runs, whose boxes, gates and commits are FAKES that answer what a test says.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use havre_api::{
    ApiError, Grant, ItemSink, LocalPeer, Principal, RunDispatchRequest, RunJob, RunLogItem,
    RunLogMark, RunLogQuery, RunLogSaid, RunPhase, RunReport, Who,
};
use havre_job::{Annotation, JobResult, Level, LineKind, StepResult, Told};
use havre_pipeline::Reference;
use havre_release::Answer;
use havre_runs::{
    Asked, Elsewhere, Files, Followed, Gate, LegKey, LegStart, Legs, Opened, Ports, Settings,
    Source, SourcesError, StartError, SystemClock,
};
use havre_store::Store;
use havre_workflow::Remote;
use tokio_util::sync::CancellationToken;

use super::*;

const COMMIT: &str = "0123456789012345678901234567890123456789";
const WAIT: Duration = Duration::from_secs(30);
const CI: &str = "\
name: CI
on:
  workflow_dispatch:
    inputs:
      level: { type: choice, options: [low, high] }
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: { matrix: { n: [1, 2] } }
    steps: [{ run: make test }]
  lint:
    runs-on: ubuntu-latest
    steps: [{ run: lint }]
  deploy:
    needs: test
    runs-on: ubuntu-latest
    environment: production
    steps: [{ run: deploy }]
";

/// Boxes of legs: what each tells follows from its name, and what holds goes on until it is let go.
#[derive(Clone, Default)]
struct World {
    told: Arc<Mutex<HashMap<LegKey, Vec<Told>>>>,
    held: Arc<Mutex<Vec<String>>>,
    is_open: Arc<Mutex<bool>>,
}

impl World {
    fn let_go(&self) {
        self.held.lock().unwrap().clear();
    }
}

fn line(text: String) -> Told {
    Told::Line {
        step: Some(0),
        kind: LineKind::Plain,
        text,
    }
}

fn told(name: &str) -> Vec<Told> {
    let fails = name == "lint";
    let outcome = match fails {
        true => StepResult::Failure,
        false => StepResult::Success,
    };
    let mut told = vec![
        Told::Began {
            at_ms: 1000,
            steps: vec!["Run".to_owned()],
        },
        Told::StepBegan {
            step: 0,
            name: "Run".to_owned(),
            at_ms: 1000,
        },
    ];
    told.extend((0..3).map(|n| line(format!("{name}: line {n}"))));
    if fails {
        told.push(Told::Annotation {
            step: Some(0),
            annotation: Annotation {
                level: Level::Error,
                message: "too long".to_owned(),
                title: None,
                file: Some("a.py".to_owned()),
                line: Some(3),
                end_line: None,
                column: None,
                end_column: None,
            },
        });
    }
    told.push(Told::Summary {
        step: 0,
        text: format!("# {name}"),
    });
    told.push(Told::StepEnded {
        step: 0,
        outcome,
        conclusion: outcome,
        exit_code: Some(i32::from(fails)),
        why: fails.then(|| "it ended with code 1".to_owned()),
        at_ms: 3500,
    });
    told.push(Told::Ended {
        result: match fails {
            true => JobResult::Failure,
            false => JobResult::Success,
        },
        outputs: Vec::new(),
        environment_url: None,
        images: Vec::new(),
        at_ms: 4000,
    });
    told
}

impl Legs for World {
    fn start(&self, start: LegStart) -> BoxFuture<'_, Result<(), StartError>> {
        let told = told(&start.name);
        self.told.lock().unwrap().insert(start.key, told);
        Box::pin(async { Ok(()) })
    }

    fn follow(&self, key: &LegKey) -> BoxStream<'static, Followed> {
        let (world, key) = (self.clone(), key.clone());
        stream::unfold(0, move |at| {
            let (world, key) = (world.clone(), key.clone());
            async move {
                let all = world.told.lock().unwrap().get(&key).cloned();
                let told = all?.get(at).cloned()?;
                // A held leg has told one line.
                while at > 2 && world.held.lock().unwrap().contains(&key.leg.job) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Some((Followed::Told(told), at + 1))
            }
        })
        .boxed()
    }

    fn cancel<'a>(&'a self, key: &'a LegKey, _: bool) -> BoxFuture<'a, ()> {
        panic!("FAKE: {key} is not cancelled by any test")
    }

    fn remove<'a>(&'a self, _: &'a LegKey) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn there(&self) -> BoxFuture<'_, Vec<LegKey>> {
        Box::pin(async { Vec::new() })
    }
}

impl Gate for World {
    fn ask<'a>(&'a self, asked: &'a Asked) -> BoxFuture<'a, havre_runs::Answer> {
        let is_open = asked.environment.is_none() || *self.is_open.lock().unwrap();
        let answer = match is_open {
            true => havre_runs::Answer::Open(Opened::default()),
            false => havre_runs::Answer::Waits {
                why: "approval of production".to_owned(),
                until: None,
            },
        };
        Box::pin(async move { answer })
    }

    fn vars<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<BTreeMap<String, String>, String>> {
        Box::pin(async { Ok(BTreeMap::new()) })
    }
}

impl Sources for World {
    fn workflows<'a>(
        &'a self,
        _: &'a str,
        commit: &'a str,
    ) -> BoxFuture<'a, Result<Files, SourcesError>> {
        assert_eq!(commit, COMMIT, "FAKE: there is one commit");
        let path = ".github/workflows/ci.yml".to_owned();
        Box::pin(async { Ok(vec![(path, CI.as_bytes().to_vec())]) })
    }

    fn file<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, SourcesError>> {
        panic!("FAKE: nobody asks for {path}")
    }

    fn elsewhere<'a>(
        &'a self,
        remote: &'a Remote,
        _: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Elsewhere, SourcesError>> {
        panic!("FAKE: nobody asks for {remote}")
    }

    fn newest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Source>, SourcesError>> {
        Box::pin(async { Ok(None) })
    }
}

impl Commits for World {
    fn find<'a>(
        &'a self,
        _: &'a ProjectName,
        reference: Option<&'a str>,
    ) -> Answer<'a, Result<(Reference, Source), ApiError>> {
        let source = Source {
            repository: "shop/shop".to_owned(),
            default_branch: "main".to_owned(),
            commit: COMMIT.to_owned(),
            message: "change".to_owned(),
            author: ("a".to_owned(), "a@example.org".to_owned()),
            at: String::new(),
        };
        let branch = reference.unwrap_or("main").to_owned();
        Box::pin(async { Ok((Reference::Branch(branch), source)) })
    }
}

struct Bench {
    calls: RunCalls,
    world: World,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let schemas = [havre_runs::SCHEMA, havre_results::SCHEMA];
        let store = Arc::new(Store::open(&folder.path().join("state.db"), &schemas).unwrap());
        let world = World::default();
        let ports = Ports {
            legs: Arc::new(world.clone()),
            gate: Arc::new(world.clone()),
            sources: Arc::new(world.clone()),
            clock: Arc::new(SystemClock),
        };
        let logs = folder.path().join("logs");
        let runs = Runs::open(Arc::clone(&store), logs, ports, Settings::default()).unwrap();
        let kept = folder.path().join("results");
        let results = Results::open(store, kept, &[7; 32], Default::default()).unwrap();
        let stop = CancellationToken::new();
        let (driven, until) = (runs.clone(), stop.clone());
        tokio::spawn(async move { driven.run(until).await.expect("the driver ends well") });
        let calls = RunCalls {
            runs,
            results,
            tools: None,
            commits: Arc::new(world.clone()),
        };
        Self {
            calls,
            world,
            stop,
            _folder: folder,
        }
    }

    async fn start(&self, workflow: &str, level: &str) -> Result<u64, ApiError> {
        let request = RunDispatchRequest {
            project: shop(),
            workflow: workflow.to_owned(),
            reference: None,
            inputs: [("level".to_owned(), level.to_owned())].into(),
        };
        let by = principal(Role::Deployer, "shop/*");
        let begun = dispatch::start(&self.calls.runs, &*self.calls.commits, &by, request).await?;
        assert_eq!((begun.workflow.as_str(), &*begun.commit), ("CI", COMMIT));
        Ok(begun.number)
    }

    fn report(&self, number: u64) -> RunReport {
        let run = self.calls.find(&shop(), number).unwrap();
        report::report(&self.calls.runs, run).unwrap()
    }

    /// Waits until a report is as wanted.
    async fn until(&self, number: u64, is: impl Fn(&RunReport) -> bool) -> RunReport {
        let looks = async {
            loop {
                let report = self.report(number);
                if is(&report) {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(WAIT, looks).await.expect("in time")
    }

    async fn log(&self, query: RunLogQuery) -> Vec<RunLogItem> {
        let run = self.calls.find(&shop(), query.number).unwrap();
        let (sink, mut items) = ItemSink::new(1);
        let sending = tokio::spawn(log::send(self.calls.runs.clone(), run, query, sink));
        let mut all = Vec::new();
        while let Some(item) = items.recv().await {
            all.push(item);
        }
        sending.await.unwrap().unwrap();
        all
    }
}

fn shop() -> ProjectName {
    ProjectName::new("shop")
}

fn principal(role: Role, place: &str) -> Principal {
    Principal {
        who: Who::Local(LocalPeer {
            uid: 1000,
            gid: 1000,
            name: Some("mira".to_owned()),
        }),
        grant: Grant {
            role,
            environments: vec![place.parse().expect("a place")],
        },
    }
}

fn query(number: u64) -> RunLogQuery {
    RunLogQuery {
        project: shop(),
        number,
        job: None,
        index: None,
        attempt: None,
        follow: false,
        from: Vec::new(),
    }
}

/// A line per leg, or per job that has none.
fn outline(jobs: &[RunJob]) -> String {
    let mut lines = Vec::new();
    for job in jobs {
        lines.push(format!("{} {:?}", job.id, job.state));
        for leg in &job.legs {
            let waits = leg.waits.as_ref().map(|wait| &wait.why);
            let steps: Vec<_> = leg.steps.iter().map(|step| step.conclusion).collect();
            lines.push(format!(
                "  {} {:?} {waits:?} {steps:?}",
                leg.name, leg.state
            ));
        }
    }
    lines.join("\n")
}

/// What legs said, in its order.
fn said(items: &[RunLogItem]) -> Vec<String> {
    let mut all = Vec::new();
    for item in items {
        match &item.said {
            RunLogSaid::Told { told, .. } => all.extend(told.iter().filter_map(|told| {
                let Told::Line { text, .. } = told else {
                    return None;
                };
                Some(text.clone())
            })),
            RunLogSaid::Waits { why } => all.push(format!("{} waits: {why}", item.name)),
            RunLogSaid::Ended { why } => all.push(format!("{} ended: {why}", item.name)),
        }
    }
    all
}

fn waits(report: &RunReport) -> bool {
    let mut legs = report.jobs.iter().flat_map(|job| &job.legs);
    let lint = report.jobs.iter().find(|job| job.id == "lint").unwrap();
    legs.any(|leg| leg.waits.is_some()) && lint.state.is_end()
}

#[tokio::test]
async fn a_run_is_shown_with_what_it_waits_for_and_what_its_steps_found() {
    let bench = Bench::new();
    let number = bench.start("ci.yml", "low").await.unwrap();
    let report = bench.until(number, waits).await;
    assert_eq!(report.run.state, RunPhase::Running);
    assert_eq!(report.run.actor, "mira");
    assert_eq!(
        outline(&report.jobs),
        "test Success\n  test (1) Success None [Some(Success)]\n  test (2) Success None [Some(Success)]\n\
         lint Failure\n  lint Failure None [Some(Failure)]\n\
         deploy Starting\n  deploy Starting Some(\"approval of production\") []"
    );
    let lint = &report.jobs[1].legs[0];
    assert_eq!(lint.annotations[0].annotation.message, "too long");
    assert_eq!(lint.summaries[0].text, "# lint");
    assert_eq!(lint.steps[0].why.as_deref(), Some("it ended with code 1"));

    *bench.world.is_open.lock().unwrap() = true;
    bench.calls.runs.gates_changed();
    let report = bench
        .until(number, |report| report.run.state.is_end())
        .await;
    assert_eq!(report.run.state, RunPhase::Failure);
    assert_eq!(report.jobs[2].legs[0].waits, None);
}

#[tokio::test]
async fn who_goes_on_from_anywhere_reads_each_line_once() {
    let bench = Bench::new();
    *bench.world.is_open.lock().unwrap() = true;
    let number = bench.start("ci.yml", "low").await.unwrap();
    bench
        .until(number, |report| report.run.state.is_end())
        .await;
    let all = bench.log(query(number)).await;
    let whole = said(&all);
    assert_eq!(whole.len(), 12, "{whole:?}");
    assert!(whole[0].starts_with("test (1): line 0"), "{whole:?}");
    for read in 0..=all.len() {
        let marks = all[..read].iter().filter_map(|item| match &item.said {
            RunLogSaid::Told { next, .. } => Some(RunLogMark {
                leg: item.leg.clone(),
                next: *next,
            }),
            _ => None,
        });
        for follow in [false, true] {
            let rest = bench
                .log(RunLogQuery {
                    from: marks.clone().collect(),
                    follow,
                    ..query(number)
                })
                .await;
            let mut together = [said(&all[..read]), said(&rest)].concat();
            let mut whole = whole.clone();
            together.sort();
            whole.sort();
            assert_eq!(together, whole, "from {read}, {follow}");
        }
    }
    let one = RunLogQuery {
        job: Some("test".to_owned()),
        index: Some(1),
        ..query(number)
    };
    let one = said(&bench.log(one).await);
    assert_eq!(one.len(), 3, "{one:?}");
    assert!(
        one.iter().all(|line| line.starts_with("test (2)")),
        "{one:?}"
    );
}

#[tokio::test]
async fn what_is_followed_ends_with_its_run() {
    let bench = Bench::new();
    bench.world.held.lock().unwrap().push("test".to_owned());
    let number = bench.start("ci.yml", "low").await.unwrap();
    let following = bench.log(RunLogQuery {
        follow: true,
        ..query(number)
    });
    let goes_on = async {
        bench
            .until(number, |report| report.jobs[1].state.is_end())
            .await;
        bench.world.let_go();
        bench.until(number, waits).await;
        *bench.world.is_open.lock().unwrap() = true;
        bench.calls.runs.gates_changed();
    };
    let both = async { tokio::join!(following, goes_on) };
    let (items, ()) = tokio::time::timeout(WAIT, both).await.expect("in time");
    let said = said(&items);
    assert_eq!(
        said.iter().filter(|line| line.contains(": line ")).count(),
        12
    );
    let waited = "deploy waits: approval of production".to_owned();
    assert!(said.contains(&waited), "{said:?}");
}

#[tokio::test]
async fn what_failed_is_run_again_as_another_attempt() {
    let bench = Bench::new();
    *bench.world.is_open.lock().unwrap() = true;
    let number = bench.start("ci.yml", "high").await.unwrap();
    bench
        .until(number, |report| report.run.state.is_end())
        .await;
    let request = |what| RunRerunRequest {
        project: shop(),
        number,
        what,
    };
    let unknown = bench.calls.rerun(request(RerunWhat::Job("x".to_owned())));
    assert_eq!(unknown.unwrap_err().code, ErrorCode::Conflict);
    let again = bench.calls.rerun(request(RerunWhat::Failed)).unwrap();
    assert_eq!(again.attempt, 2);
    let report = bench
        .until(number, |report| {
            report.attempt == 2 && report.run.state.is_end()
        })
        .await;
    let lint = &report.jobs[1];
    assert_eq!((lint.legs[0].id.attempt, lint.earlier.len()), (2, 1));
    assert_eq!(lint.earlier[0].state, RunPhase::Failure);
    let first = RunLogQuery {
        attempt: Some(1),
        job: Some("lint".to_owned()),
        ..query(number)
    };
    let first = bench.log(first).await;
    assert!(first.iter().all(|item| item.leg.attempt == 1));
    assert_eq!(said(&first).len(), 3);
    // A run that has ended is not cancelled.
    let cancel = RunCancelRequest {
        project: shop(),
        number,
        force: false,
    };
    assert!(!bench.calls.cancel(&cancel).unwrap().changed);
    let run = bench.calls.find(&shop(), number).unwrap();
    bench.calls.runs.remove_logs(run).unwrap();
    assert_eq!(bench.log(query(number)).await, Vec::new());
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let bench = Bench::new();
    for (workflow, level, expected) in [
        ("ci.yml", "middle", "level"),
        (
            "other.yml",
            "low",
            "there is no workflow .github/workflows/other.yml",
        ),
    ] {
        let error = bench.start(workflow, level).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Invalid);
        assert!(error.message.contains(expected), "{error}");
    }
    let query = |before| havre_api::RunsQuery {
        project: shop(),
        workflow: Some("ci.yml".to_owned()),
        reference: Some("main".to_owned()),
        live: false,
        before,
        most: 10,
    };
    assert_eq!(bench.calls.list(&query(None)).unwrap(), Vec::new());
    let first = bench.start("ci.yml", "low").await.unwrap();
    let second = bench
        .start(".github/workflows/ci.yml", "low")
        .await
        .unwrap();
    let numbers = |before| -> Vec<u64> {
        let listed = bench.calls.list(&query(before)).unwrap();
        listed.iter().map(|run| run.number).collect()
    };
    assert_eq!(numbers(None), [second, first]);
    assert_eq!(numbers(Some(second)), [first]);
    let error = bench.calls.list(&query(Some(99))).unwrap_err();
    assert_eq!(error.message, "shop has no run 99");
}

#[tokio::test]
async fn a_project_without_artifacts_says_so() {
    let bench = Bench::new();
    let results = &bench.calls.results;
    let report = results::caches(&bench.calls, &shop()).unwrap();
    assert_eq!((report.caches.len(), report.usage.artifacts), (0, 0));
    let request = havre_api::CacheRemoveRequest {
        project: shop(),
        id: 3,
    };
    let error = results::remove_cache(&bench.calls, &request).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    let (sink, _items) = ItemSink::new(1);
    let error = results::send(results, RunId(1), "dist", &sink).unwrap_err();
    assert_eq!(error.message, "the run has no artifact \"dist\"");
}

#[test]
fn to_change_a_run_needs_all_of_the_project() {
    let may = |role, place: &str, needed| {
        let by = principal(role, place);
        let state = Err("git is not here".to_owned());
        match allowed(state, &by, &shop(), needed, "seeing the runs") {
            Ok(_) => panic!("nothing answers"),
            // It was let in, and is told the next thing.
            Err(error) => error.code == ErrorCode::Failed,
        }
    };
    for (role, place, expected) in [
        (Role::Viewer, "shop/staging", [true, false, false]),
        (Role::Viewer, "blog/*", [false, false, false]),
        (Role::Deployer, "shop/staging", [true, false, false]),
        (Role::Deployer, "shop/*", [true, true, false]),
        (Role::Admin, "shop/*", [true, true, true]),
        (Role::Admin, "*", [true, true, true]),
    ] {
        let found =
            [Role::Viewer, Role::Deployer, Role::Admin].map(|needed| may(role, place, needed));
        assert_eq!(found, expected, "{role} {place}");
    }
}
