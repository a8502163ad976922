//! What is shown of an environment on a FAKE target: all of it from one status.

use bytes::Bytes;
use havre_api::{
    EnvironmentState, ErrorCode, ExecOutput, ExecRequest, ExecSession, Grant, LogQuery, LogSink,
    ReplicaState, Role, ServiceState,
};
use havre_model::ServiceName;
use tokio::sync::mpsc;

use super::*;
use crate::fake::{Fate, Stage, id, principal, shop};

const SHOP: &str = "{web: {image: 'web:1', ports: ['8080']}, db: {image: 'db:1'}, \
                    migrate: {image: 'm:1'}, worker: {image: 'w:1', depends_on: {migrate: \
                    {condition: service_completed_successfully}}}}";

fn admin() -> Principal {
    principal("anna", Grant::everywhere(Role::Admin))
}

async fn running() -> Stage {
    let stage = Stage::new();
    stage.prints("web", &["listening on 8080", "GET /"]);
    stage.prints("migrate", &["2 migrations"]);
    stage.up(&shop(SHOP)).await.done();
    stage
}

async fn shown(stage: &Stage) -> EnvironmentStatus {
    let query = StatusQuery::default();
    let mut all = status_of(&stage.daemon, &admin(), query).await.unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

async fn listed(stage: &Stage, all: bool) -> Vec<ReplicaStatus> {
    let query = ReplicaQuery {
        all,
        ..ReplicaQuery::default()
    };
    replicas(&stage.daemon, &admin(), query).await.unwrap()
}

async fn explained(stage: &Stage, service: &str) -> Result<WhyReport, ApiError> {
    let query = WhyQuery {
        environment: stage.id(),
        service: ServiceName::new(service),
    };
    why(&stage.daemon, query).await
}

/// Lines of the output of these services, each with its service.
async fn printed(
    stage: &Stage,
    services: &[&str],
    tail: Option<u64>,
) -> Result<Vec<String>, ApiError> {
    let (sink, mut lines) = LogSink::new(100);
    let query = LogQuery {
        environment: stage.id(),
        services: services.iter().copied().map(ServiceName::new).collect(),
        tail,
        since: None,
        follow: false,
    };
    logs::send(&stage.daemon, query, sink).await?;
    let mut all = Vec::new();
    while let Some(line) = lines.recv().await {
        all.push(format!("{}: {}", line.service, line.text));
    }
    Ok(all)
}

/// Its exit code and what it printed.
async fn executed(stage: &Stage, service: &str, argv: &[&str]) -> Result<(i32, String), ApiError> {
    let (_input, from) = mpsc::channel(1);
    let (output, mut printed) = mpsc::channel(100);
    let session = ExecSession {
        input: from,
        output,
    };
    let request = ExecRequest {
        environment: stage.id(),
        service: ServiceName::new(service),
        replica: None,
        argv: argv.iter().map(ToString::to_string).collect(),
        env: Default::default(),
        user: None,
        working_dir: None,
        stdin: false,
        tty: None,
    };
    let code = exec::run(&stage.daemon, request, session).await?;
    let mut text = Vec::<u8>::new();
    while let Some(ExecOutput::Stdout(piece) | ExecOutput::Stderr(piece)) = printed.recv().await {
        text.extend(Bytes::as_ref(&piece));
    }
    Ok((code, String::from_utf8(text).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_shown_alike_by_all() {
    let stage = running().await;
    let status = shown(&stage).await;
    assert_eq!(status.state, EnvironmentState::Running);
    assert_eq!(status.release.map(|release| release.0), Some(1));
    let told = status
        .services
        .iter()
        .map(|one| (one.name.as_str(), one.state, one.ready));
    assert_eq!(
        Vec::from_iter(told),
        [
            ("db", ServiceState::Running, 1),
            ("migrate", ServiceState::Completed, 0),
            ("web", ServiceState::Running, 1),
            ("worker", ServiceState::Running, 1),
        ]
    );
    assert!(
        status.routes.iter().all(|route| route.serving),
        "{:?}",
        status.routes
    );
    for one in listed(&stage, false).await {
        assert_eq!(one.state, ReplicaState::Running, "{one:?}");
        assert_eq!(one.memory_bytes, Some(1 << 20));
        let why = explained(&stage, one.service.as_str()).await.unwrap();
        let of_status = status
            .services
            .iter()
            .find(|service| service.name == one.service);
        assert_eq!(Some(&why.service), of_status);
        assert_eq!(why.replicas.len(), 1);
        assert_eq!(
            (why.replicas[0].status.id.as_str(), why.replicas[0].ready),
            (one.id.as_str(), true)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_there_is_refused_by_all() {
    let stage = running().await;
    let message = "no service `wbe`";
    let error = explained(&stage, "wbe").await.unwrap_err();
    assert!(error.message.starts_with(message), "{error:?}");
    let error = printed(&stage, &["wbe"], None).await.unwrap_err();
    assert!(error.message.starts_with(message), "{error:?}");
    let error = executed(&stage, "wbe", &["true"]).await.unwrap_err();
    assert!(error.message.starts_with(message), "{error:?}");
    let query = ReplicaQuery {
        services: vec![ServiceName::new("wbe")],
        ..ReplicaQuery::default()
    };
    let error = replicas(&stage.daemon, &admin(), query).await.unwrap_err();
    assert!(error.message.starts_with(message), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_after_it_was_ready_is_explained_with_what_it_printed() {
    let stage = running().await;
    stage.fate("web", Fate::Crashes(3));
    stage.prints("web", &["out of cheese"]);
    stage.begin_scale("web", 2).until("web starting").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let why = explained(&stage, "web").await.unwrap();
    let worst = &why.replicas[0];
    assert!(!worst.ready);
    assert_eq!(worst.status.state, ReplicaState::BackOff);
    assert_eq!(
        worst.status.last_exit.as_ref().map(|exit| exit.code),
        Some(3)
    );
    assert_eq!(worst.log, ["out of cheese"]);
    let status = shown(&stage).await;
    let web = status
        .services
        .iter()
        .find(|one| one.name.as_str() == "web");
    // It goes on ending meanwhile.
    let told = |one: &havre_api::ServiceStatus| (one.state, one.wanted, one.ready);
    assert_eq!(web.map(told), Some(told(&why.service)));
    let crashed = |one: &ReplicaStatus| one.state == ReplicaState::BackOff;
    assert_eq!(
        listed(&stage, false)
            .await
            .iter()
            .filter(|one| crashed(one))
            .count(),
        0
    );
    assert_eq!(
        listed(&stage, true)
            .await
            .iter()
            .filter(|one| crashed(one))
            .count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_paused_by_its_failure_says_so_everywhere() {
    let stage = running().await;
    stage.fate("web", Fate::Unhealthy("connection refused"));
    let probed = "healthcheck: {test: [CMD, probe]}, image: 'web:2'";
    let text =
        shop(&SHOP.replace("image: 'web:1'", probed)) + "\n---\nrollout: {on_failure: pause}\n";
    let up = stage.up(&text).await;
    up.refused(ErrorCode::RolledBack, "is paused");
    let operation = shown(&stage).await.operation.unwrap();
    assert_eq!(operation.kind, "rollout to release 2");
    let phase = "paused, starting new replicas: web: its health check fails";
    assert_eq!(operation.phase, phase);
    let why = explained(&stage, "web").await.unwrap();
    let failure = why.failure.unwrap();
    let havre_api::FailureReport::Service(report) = failure else {
        panic!("{failure:?}");
    };
    assert_eq!(report.probe.unwrap().output, "connection refused");
    assert_eq!(report.log, ["listening on 8080", "GET /"]);
}

#[tokio::test(start_paused = true)]
async fn of_a_first_release_that_failed_is_shown_why() {
    let stage = Stage::new();
    stage.fate("web", Fate::CannotStart("no such file: /app"));
    stage.prints("web", &["last words"]);
    stage
        .up(&shop("{web: {image: 'web:1'}}"))
        .await
        .refused(ErrorCode::RolledBack, "web");
    let status = shown(&stage).await;
    assert_eq!(status.state, EnvironmentState::Down);
    assert_eq!(status.services[0].state, ServiceState::Failed);
    let reason = "cannot be started: no such file: /app";
    assert_eq!(status.services[0].reason.as_deref(), Some(reason));
    assert_eq!(
        explained(&stage, "web").await.unwrap().service,
        status.services[0]
    );
    assert_eq!(listed(&stage, true).await, []);
    assert_eq!(
        printed(&stage, &[], None).await.unwrap(),
        ["web: last words"]
    );
    let error = executed(&stage, "web", &["true"]).await.unwrap_err();
    assert_eq!(error.message, "service `web` has no running replica");
}

#[tokio::test(start_paused = true)]
async fn output_is_that_of_replicas_and_of_the_newest_run_of_each_job() {
    let stage = running().await;
    let all = printed(&stage, &[], None).await.unwrap();
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(
        sorted,
        [
            "migrate: 2 migrations",
            "web: GET /",
            "web: listening on 8080"
        ]
    );
    assert_eq!(
        printed(&stage, &["web"], Some(1)).await.unwrap(),
        ["web: GET /"]
    );
    stage.prints("migrate", &["none to do"]);
    stage
        .up(&shop(&SHOP.replace("web:1", "web:2")))
        .await
        .done();
    assert_eq!(
        printed(&stage, &["migrate"], None).await.unwrap(),
        ["migrate: none to do"]
    );
}

#[tokio::test(start_paused = true)]
async fn who_follows_output_sees_replicas_that_come() {
    let stage = running().await;
    let (sink, mut lines) = LogSink::new(100);
    let query = LogQuery {
        environment: stage.id(),
        services: vec![ServiceName::new("web")],
        tail: Some(0),
        since: None,
        follow: true,
    };
    let daemon = Arc::clone(&stage.daemon);
    let following = tokio::spawn(async move { logs::send(&daemon, query, sink).await });
    stage.prints("web", &["I am new"]);
    stage.scale("web", 2).await.done();
    assert_eq!(lines.recv().await.unwrap().text, "I am new");
    // It ends with the environment.
    stage.down(false).await.done();
    following.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_command_runs_in_a_replica_that_is_ready() {
    let stage = running().await;
    assert_eq!(
        executed(&stage, "web", &["ls", "/"]).await.unwrap(),
        (0, "ls /\n".to_owned())
    );
    assert_eq!(executed(&stage, "web", &["exit", "3"]).await.unwrap().0, 3);
    let missing = executed(&stage, "web", &["missing"]).await.unwrap();
    assert_eq!(missing, (127, "missing: no such program\n".to_owned()));
    let error = executed(&stage, "migrate", &["ls"]).await.unwrap_err();
    assert_eq!(error.message, "service `migrate` has no running replica");
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_is_named_and_not_there_is_not_found() {
    let stage = running().await;
    let other = id("other");
    let query = StatusQuery {
        project: Some(other.project),
        environment: Some(other.environment),
    };
    let error = status_of(&stage.daemon, &admin(), query).await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (ErrorCode::NotFound, "no environment other/production")
    );
}

#[tokio::test(start_paused = true)]
async fn who_may_see_a_part_is_shown_no_other() {
    let stage = running().await;
    let own = stage.id();
    let of = |pattern: String| {
        let environments = vec![pattern.parse().expect("sound")];
        let role = Role::Viewer;
        principal("anna", Grant { role, environments })
    };
    let seen = async |by: &Principal| {
        let query = StatusQuery::default();
        let environments = status_of(&stage.daemon, by, query).await.unwrap();
        let query = ReplicaQuery::default();
        let replicas = replicas(&stage.daemon, by, query).await.unwrap();
        (environments.len(), replicas.is_empty())
    };
    assert_eq!(seen(&of(own.to_string())).await, (1, false));
    assert_eq!(seen(&of("other/*".to_owned())).await, (0, true));
}
