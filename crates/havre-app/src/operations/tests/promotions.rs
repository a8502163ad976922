//! Promotions: what is asked, refused, agreed to and rolled out, and what the next daemon makes of it.

mod gates;
mod jobs;
mod moves;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use havre_api::{
    ApiError, EnterRequest, EntryState, EntryStatus, EnvironmentId, ErrorCode, FreezeOrder,
    FreezeRequest, GatesRequest, Grant, Origin, Principal, PromoteRequest, PromotionAnswer,
    PromotionId, PromotionState, PromotionStatus, ProvenanceQuery, ReleaseId, ReleasesQuery, Role,
    StatusQuery, TestReportRequest, UpOptions, UpOutcome, UpRequest,
};
use havre_model::{EnvironmentName, ProjectName};
use havre_release::{PromotionEvent, TargetStatus};

use crate::daemon::Daemon;
use crate::fake::{Fate, Stage, Told, principal};
use crate::operations;
use crate::promotions::{answers, definitions, entry, environments, keeper, request, show};
use crate::releases;

const GATES: &str =
    "environments: {staging: , production: {needs: staging, approval: {not_author: true}}}";

fn files(tag: u32, havre: &str) -> String {
    format!("name: shop\nservices: {{web: {{image: 'web:{tag}'}}}}\n\n---\n{havre}\n")
}

fn there(environment: &str) -> EnvironmentId {
    EnvironmentId {
        project: ProjectName::new("shop"),
        environment: EnvironmentName::new(environment),
    }
}

fn admin(name: &str) -> Principal {
    principal(name, Grant::everywhere(Role::Admin))
}

fn deployer(name: &str) -> Principal {
    principal(name, Grant::everywhere(Role::Deployer))
}

/// `havre up` in an environment, with what it comes of.
#[derive(Clone, Default)]
struct Asked {
    origin: Option<Origin>,
    overridden: Option<&'static str>,
    entry: Option<PromotionId>,
    /// The files as production has them.
    production: Option<String>,
}

async fn up(
    stage: &Stage,
    by: Principal,
    environment: &str,
    text: &str,
    asked: Asked,
) -> Told<UpOutcome> {
    let request = UpRequest {
        project: stage.project_in(environment, text),
        options: UpOptions::default(),
        origin: asked.origin,
        overridden: asked.overridden.map(str::to_owned),
        entry: asked.entry,
        elsewhere: Vec::from_iter(asked.production.iter().map(|text| stage.project(text))),
    };
    let running = stage.begin("", async move |daemon: Arc<Daemon>, _, events| {
        operations::up(&daemon, &by, request, &events).await
    });
    running.end().await
}

/// Puts what havre.yaml says in force where nothing was, as an admin has it.
fn in_force(stage: &Stage, text: &str) {
    let project = stage.project_in("staging", text);
    definitions::take(&stage.daemon.platform, &admin("root"), &project).unwrap();
}

/// What havre.yaml says is in force, and somebody brings it up in staging.
async fn staging(stage: &Stage, tag: u32, havre: &str) -> u64 {
    in_force(stage, &files(tag, havre));
    let told = up(
        stage,
        deployer("ben"),
        "staging",
        &files(tag, havre),
        Asked::default(),
    )
    .await;
    told.done().release.0
}

async fn promote(
    stage: &Stage,
    by: &Principal,
    text: &str,
    release: Option<u64>,
) -> Result<PromotionStatus, ApiError> {
    let request = PromoteRequest {
        project: stage.project(text),
        from: EnvironmentName::new("staging"),
        release: release.map(ReleaseId),
        origin: None,
        entry: None,
        dry_run: false,
    };
    request::promote(&stage.daemon, by, request).await
}

async fn approve(
    stage: &Stage,
    by: &Principal,
    id: PromotionId,
) -> Result<PromotionStatus, ApiError> {
    let answer = PromotionAnswer {
        environment: stage.id(),
        promotion: id,
        comment: Some("looks good".to_owned()),
    };
    answers::approve(&stage.daemon, by, answer).await
}

/// What the daemon's task does, until it is over.
async fn carried_out(stage: &Stage, id: PromotionId) -> PromotionStatus {
    let promotions = &stage.daemon.platform.promotions;
    let mut changes = promotions.changes();
    loop {
        changes.mark_unchanged();
        keeper::round(&stage.daemon).await.unwrap();
        let kept = promotions.get(id.0).unwrap();
        if kept.promotion.state.is_over() {
            return show::status(&stage.daemon, &kept, SystemTime::now())
                .await
                .unwrap();
        }
        changes.changed().await.unwrap();
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(told: Result<T, ApiError>, code: ErrorCode, message: &str) {
    let error = told.expect_err("refused");
    assert_eq!(error.code, code, "{error:?}");
    assert!(error.message.contains(message), "{error:?}");
}

fn image_of(status: &TargetStatus) -> String {
    let (_, release) = status.serving().expect("it serves");
    release
        .services
        .values()
        .next()
        .expect("a service")
        .image
        .clone()
}
