//! `havre ci` of the runs that a daemon has, against a fake one.

use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use havre_api::{Artifacts, Caches, RunLog, Runs, *};
use havre_job::{Annotation, JobResult, Level, LineKind, StepResult, Told};
use havre_testing::api::Script;
use sha2::{Digest as _, Sha256};

use crate::fixtures::*;
use crate::program::World;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Points in time of a run that began three hours ago.
struct Clock(SystemTime);

impl Clock {
    fn new() -> Self {
        Self(SystemTime::now() - Duration::from_secs(3 * 3600 + 60))
    }

    fn at(&self, ms: u64) -> Timestamp {
        (self.0 + Duration::from_millis(ms)).into()
    }
}

fn summary(number: u64, state: RunPhase, clock: &Clock) -> RunSummary {
    RunSummary {
        number,
        workflow: "CI".into(),
        path: ".github/workflows/ci.yml".into(),
        title: "Change the price".into(),
        event: "push".into(),
        reference: "refs/heads/main".into(),
        commit: COMMIT.into(),
        actor: "mira".into(),
        state,
        queued: clock.at(0),
        ended: state.is_end().then(|| clock.at(42_000)),
    }
}

fn step(name: &str, conclusion: StepResult, clock: &Clock) -> RunStep {
    let failed = conclusion == StepResult::Failure;
    RunStep {
        name: name.into(),
        began: Some(clock.at(1000)),
        ended: Some(clock.at(3500)),
        outcome: Some(conclusion),
        conclusion: Some(conclusion),
        exit_code: Some(i32::from(failed)),
        why: failed.then(|| "it ended with code 1".into()),
    }
}

fn leg_id(job: &str, index: u32) -> RunLegId {
    RunLegId {
        run: 31,
        job: job.into(),
        index,
        attempt: 1,
    }
}

fn leg(name: &str, state: RunPhase, clock: &Clock) -> RunLeg {
    RunLeg {
        id: leg_id(name, 0),
        name: name.into(),
        state,
        may_fail: false,
        environment: None,
        environment_url: None,
        waits: None,
        why: None,
        began: Some(clock.at(500)),
        ended: state.is_end().then(|| clock.at(5000)),
        steps: Vec::new(),
        annotations: Vec::new(),
        more_annotations: 0,
        summaries: Vec::new(),
        images: Vec::new(),
        called: None,
    }
}

fn job(id: &str, state: RunPhase, legs: Vec<RunLeg>) -> RunJob {
    RunJob {
        id: id.into(),
        state,
        why: None,
        legs,
        earlier: Vec::new(),
    }
}

/// A job that failed, one of two legs, one that called a workflow, one that waits and one that could not begin.
fn report(state: RunPhase) -> RunReport {
    let clock = Clock::new();
    let annotation = Annotation {
        level: Level::Error,
        message: "line too long".into(),
        title: None,
        file: Some("shop/app.py".into()),
        line: Some(12),
        end_line: None,
        column: Some(4),
        end_column: None,
    };
    let lint = RunLeg {
        steps: vec![
            step("Run actions/checkout@v5", StepResult::Success, &clock),
            step("Run black", StepResult::Failure, &clock),
            step("Upload", StepResult::Skipped, &clock),
        ],
        annotations: vec![RunAnnotation {
            step: Some(1),
            annotation,
        }],
        more_annotations: 3,
        summaries: vec![RunStepSummary {
            step: 1,
            text: "## Black\nwould reformat *one* file".into(),
        }],
        ..leg("lint", RunPhase::Failure, &clock)
    };
    let called = RunCalled {
        path: ".github/workflows/build.yml".into(),
        state: RunPhase::Success,
        why: None,
        jobs: vec![job(
            "image",
            RunPhase::Success,
            vec![leg("image", RunPhase::Success, &clock)],
        )],
    };
    let deploy = RunLeg {
        environment: Some("production".into()),
        waits: Some(RunWait {
            why: "approval of production: `havre approve 7`".into(),
            until: None,
        }),
        began: None,
        ..leg("deploy", RunPhase::Starting, &clock)
    };
    RunReport {
        run: summary(7, state, &clock),
        attempt: 2,
        cancelled: false,
        waits_for: None,
        why: None,
        jobs: vec![
            job(
                "test",
                RunPhase::Success,
                vec![
                    leg("test (3.12)", RunPhase::Success, &clock),
                    leg("test (3.13)", RunPhase::Success, &clock),
                ],
            ),
            job("lint", RunPhase::Failure, vec![lint]),
            job(
                "build",
                RunPhase::Success,
                vec![RunLeg {
                    called: Some(called),
                    ..leg("build", RunPhase::Success, &clock)
                }],
            ),
            job("deploy", RunPhase::Starting, vec![deploy]),
            RunJob {
                why: Some("its matrix is empty".into()),
                ..job("odd", RunPhase::Failure, Vec::new())
            },
        ],
        left_out: 0,
    }
}

fn artifact(bytes: &[u8]) -> ArtifactInfo {
    let clock = Clock::new();
    ArtifactInfo {
        name: "dist".into(),
        mime: "application/zip".into(),
        size_bytes: bytes.len() as u64,
        digest: format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(bytes))),
        created: clock.at(0),
        expires: (SystemTime::now() + Duration::from_secs(90 * 86_400 - 60)).into(),
    }
}

fn shown(state: RunPhase) -> World {
    World::new(
        backend(1)
            .call::<RunShow, _>(async move |query| {
                assert_eq!((query.project.as_str(), query.number), ("shop", 7));
                Ok(report(state))
            })
            .call::<Artifacts, _>(async |_| Ok(vec![artifact(b"some bytes")])),
    )
}

#[test]
fn runs_are_listed() {
    let world = World::new(backend(1).call::<Runs, _>(async |query| {
        assert_eq!(query.workflow.as_deref(), Some("ci.yml"));
        assert_eq!((query.live, query.most, query.before), (true, 2, Some(9)));
        let clock = Clock::new();
        Ok(vec![
            summary(8, RunPhase::Running, &clock),
            summary(7, RunPhase::Failure, &clock),
        ])
    }));
    let ran = world.run(&[
        "ci",
        "ls",
        "--workflow",
        "ci.yml",
        "--live",
        "--last",
        "2",
        "--before",
        "9",
    ]);
    insta::assert_snapshot!("ci-ls", ran.out);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (0, "older ones: --before 7\n")
    );
}

#[test]
fn a_run_is_shown_on_one_screen() {
    let ran = shown(RunPhase::Failure).run(&["ci", "show", "7"]);
    insta::assert_snapshot!("ci-show", ran.out);
    let next = "`havre ci logs 7 --job lint` shows what it printed\n\
                `havre ci rerun 7 --failed` runs what failed again\n";
    assert_eq!((ran.code, ran.err.as_str()), (0, next));
    let ran = shown(RunPhase::Running).run(&["ci", "show", "7", "--steps", "--summaries"]);
    assert!(
        ran.out.contains("## Black\nwould reformat *one* file\n"),
        "{}",
        ran.out
    );
    assert_eq!(ran.err, "`havre ci logs 7 -f` follows it\n");
}

#[test]
fn a_script_learns_what_a_run_came_to() {
    for (state, code) in [
        (RunPhase::Success, 0),
        (RunPhase::Failure, 1),
        (RunPhase::Cancelled, 130),
        (RunPhase::Running, 7),
    ] {
        let ran = shown(state).run(&["ci", "show", "7", "--exit-code", "--json"]);
        assert_eq!(ran.code, code, "{state:?}");
        assert_eq!(ran.json()["jobs"][1]["legs"][0]["name"], "lint");
        assert_eq!(ran.json()["artifacts"][0]["name"], "dist");
    }
}

fn said(text: &str) -> Told {
    Told::Line {
        step: Some(0),
        kind: LineKind::Plain,
        text: text.into(),
    }
}

fn part(job: &str, told: Vec<Told>, next: u64) -> RunLogItem {
    RunLogItem {
        leg: leg_id(job, 0),
        name: job.into(),
        said: RunLogSaid::Told { told, next },
    }
}

fn waits() -> RunLogItem {
    RunLogItem {
        leg: leg_id("deploy", 0),
        name: "deploy".into(),
        said: RunLogSaid::Waits {
            why: "approval of production".into(),
        },
    }
}

fn began() -> Told {
    Told::StepBegan {
        step: 0,
        name: "Run make".into(),
        at_ms: 1000,
    }
}

fn ended() -> Vec<Told> {
    vec![
        Told::StepEnded {
            step: 0,
            outcome: StepResult::Success,
            conclusion: StepResult::Success,
            exit_code: Some(0),
            why: None,
            at_ms: 3500,
        },
        Told::Ended {
            result: JobResult::Success,
            outputs: Vec::new(),
            environment_url: None,
            images: Vec::new(),
            at_ms: 4000,
        },
    ]
}

/// A daemon that shuts down in the midst of a log, and its successor.
fn restarting() -> Script {
    let going = || ApiError::new(ErrorCode::Unavailable, "the daemon is shutting down");
    backend(1)
        .feed::<RunLog, _>(async move |query, items| {
            assert_eq!((query.follow, query.from.len()), (true, 0));
            items.send(waits()).await.unwrap();
            let told = vec![began(), said("one"), said("two")];
            items.send(part("test", told, 120)).await.unwrap();
            Err(going())
        })
        .feed::<RunLog, _>(async move |_, _| Err(going()))
        .feed::<RunLog, _>(async |query, items| {
            let mark = RunLogMark {
                leg: leg_id("test", 0),
                next: 120,
            };
            assert_eq!(query.from, [mark]);
            items.send(waits()).await.unwrap();
            items
                .send(part("test", vec![said("three")], 160))
                .await
                .unwrap();
            items.send(part("test", ended(), 200)).await.unwrap();
            Ok(())
        })
}

#[test]
fn a_log_is_followed_over_a_restart_of_the_daemon() {
    let ran = World::new(restarting()).run(&["ci", "logs", "7", "-f"]);
    insta::assert_snapshot!("ci-logs", ran.out);
    let told = "lost the daemon; going on once it is back\n";
    assert_eq!((ran.code, ran.err.as_str()), (0, told));
    let ran = World::new(restarting()).run(&["ci", "logs", "7", "-f", "--json"]);
    let texts = ran.out.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["told"]["text"].as_str().map(str::to_owned)
    });
    let texts: Vec<String> = texts.collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

#[test]
fn what_the_daemon_refuses_is_not_asked_again() {
    let world = World::new(backend(1).feed::<RunLog, _>(async |query, _| {
        assert_eq!(query.job.as_deref(), Some("lint"));
        assert_eq!((query.index, query.attempt), (Some(1), Some(2)));
        Err(ApiError::new(ErrorCode::NotFound, "shop has no run 7")
            .with_hint("`havre ci ls` lists them"))
    }));
    let ran = world.run(&[
        "ci",
        "logs",
        "7",
        "--job",
        "lint",
        "--leg",
        "1",
        "--attempt",
        "2",
    ]);
    assert_eq!(ran.code, 6);
    assert_eq!(
        ran.err,
        "error: shop has no run 7\n  hint: `havre ci ls` lists them\n"
    );
}

#[test]
fn logs_are_removed() {
    let world = World::new(backend(1).call::<RunLogsRemove, _>(async |query| {
        assert_eq!((query.project.as_str(), query.number), ("blog", 7));
        Ok(Empty {})
    }));
    let ran = world.run(&["ci", "logs", "rm", "7", "-p", "blog"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (0, "the logs of run 7 are removed\n")
    );
    let ran = world.run(&["ci", "logs"]);
    assert_eq!(ran.code, 2, "{ran:?}");
}

#[test]
fn a_run_is_cancelled() {
    for (args, force, changed, told) in [
        (
            &["ci", "cancel", "7"][..],
            false,
            true,
            "run 7 is cancelled: steps that clean up go on; --force ends them too\n",
        ),
        (
            &["ci", "cancel", "7", "--force"],
            true,
            true,
            "run 7 ends at once\n",
        ),
        (
            &["ci", "cancel", "7"],
            false,
            false,
            "nothing to cancel: run 7 has ended, or ends\n",
        ),
    ] {
        let world = World::new(backend(1).call::<RunCancel, _>(async move |request| {
            assert_eq!((request.number, request.force), (7, force));
            Ok(RunCancelOutcome { changed })
        }));
        let ran = world.run(args);
        assert_eq!((ran.code, ran.err.as_str()), (0, told));
    }
}

#[test]
fn jobs_run_again() {
    for (args, what) in [
        (&["ci", "rerun", "7"][..], RerunWhat::All),
        (&["ci", "rerun", "7", "--failed"], RerunWhat::Failed),
        (
            &["ci", "rerun", "7", "--job", "lint"],
            RerunWhat::Job("lint".into()),
        ),
    ] {
        let world = World::new(backend(1).call::<RunRerun, _>(async move |request| {
            assert_eq!(request.what, what);
            Ok(RunRerunOutcome { attempt: 2 })
        }));
        let ran = world.run(args);
        let told = "attempt 2 of run 7 began: `havre ci logs 7 -f` follows it\n";
        assert_eq!((ran.code, ran.err.as_str()), (0, told));
    }
}

#[test]
fn a_workflow_is_started() {
    let world = World::new(backend(1).call::<RunDispatch, _>(async |request| {
        assert_eq!(request.workflow, "deploy.yml");
        assert_eq!(request.reference.as_deref(), Some("v1"));
        assert_eq!(request.inputs["level"], "a=b");
        Ok(RunBegun {
            number: 9,
            workflow: "Deploy".into(),
            reference: "refs/tags/v1".into(),
            commit: COMMIT.into(),
        })
    }));
    let ran = world.run(&[
        "ci",
        "start",
        "deploy.yml",
        "--ref",
        "v1",
        "--input",
        "level=a=b",
    ]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "9\n"));
    let told = "Deploy runs on v1 (0123456): `havre ci logs 9 -f` follows it\n";
    assert_eq!(ran.err, told);
}

#[test]
fn caches_are_listed_and_removed() {
    let world = World::new(
        backend(2)
            .call::<Caches, _>(async |_| {
                let clock = Clock::new();
                Ok(CachesReport {
                    caches: vec![CacheInfo {
                        id: 12,
                        key: "node-modules-4f2a".into(),
                        scope: "refs/heads/main".into(),
                        version: "v".into(),
                        size_bytes: 123_400_000,
                        created: clock.at(0),
                        used: clock.at(1000),
                    }],
                    evictions: vec![CacheEviction {
                        at: clock.at(0),
                        key: "node-modules-0000".into(),
                        scope: "refs/heads/main".into(),
                        size_bytes: 120_000_000,
                        why: "its repository's caches were full".into(),
                    }],
                    usage: ResultsUsage {
                        artifacts: 1,
                        artifact_bytes: 10,
                        caches: 2,
                        cache_bytes: 223_400_000,
                        pending_bytes: 0,
                        most_bytes: 100_000_000_000,
                    },
                })
            })
            .call::<CacheRemove, _>(async |request| {
                assert_eq!((request.project.as_str(), request.id), ("shop", 12));
                Ok(Empty {})
            }),
    );
    let ran = world.run(&["ci", "cache", "ls"]);
    insta::assert_snapshot!("ci-cache-ls", format!("{}{}", ran.out, ran.err));
    let ran = world.run(&["ci", "cache", "rm", "12"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, "cache 12 is removed\n"));
}

/// Sends these bytes for an artifact that is said to be of others.
fn sends(sent: &'static [u8], said: &'static [u8]) -> World {
    World::new(
        backend(1).feed::<ArtifactGet, _>(async move |query, items| {
            assert_eq!((query.number, query.name.as_str()), (7, "dist"));
            items
                .send(ArtifactPart::Begins(artifact(said)))
                .await
                .unwrap();
            for part in sent.chunks(4) {
                items
                    .send(ArtifactPart::Bytes(part.to_vec()))
                    .await
                    .unwrap();
            }
            Ok(())
        }),
    )
}

#[test]
fn an_artifact_is_fetched_whole_or_not_at_all() {
    let world =
        World::new(backend(1).call::<Artifacts, _>(async |_| Ok(vec![artifact(b"some bytes")])));
    insta::assert_snapshot!("ci-artifacts", world.run(&["ci", "artifacts", "7"]).out);
    let world = sends(b"some bytes", b"some bytes");
    let ran = world.run(&["ci", "artifacts", "7", "dist"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "dist.zip\n"), "{ran:?}");
    let file = world.folder.path().join("dist.zip");
    assert_eq!(std::fs::read(file).unwrap(), b"some bytes");
    for (sent, said) in [
        (&b"some bytes"[..], &b"some bytez"[..]),
        (b"some", b"some bytes"),
    ] {
        let world = sends(sent, said);
        let ran = world.run(&["ci", "artifacts", "7", "dist", "--output", "out.zip"]);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("is not what the job made"), "{}", ran.err);
        let names = std::fs::read_dir(world.folder.path()).unwrap();
        let names: Vec<_> = names.map(|one| one.unwrap().file_name()).collect();
        assert_eq!(names, ["compose.yaml"]);
    }
    let world = sends(b"x", b"x");
    std::fs::write(world.folder.path().join("dist.zip"), "mine").unwrap();
    let ran = world.run(&["ci", "artifacts", "7", "dist"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let file = world.folder.path().join("dist.zip");
    assert_eq!(std::fs::read(file).unwrap(), b"mine");
}
