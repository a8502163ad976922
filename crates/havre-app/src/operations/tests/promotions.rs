//! Promotions: what is asked, refused, agreed to and rolled out, and what the next daemon makes of it.

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
    };
    let running = stage.begin("", async move |daemon: Arc<Daemon>, _, events| {
        operations::up(&daemon, &by, request, &events).await
    });
    running.end().await
}

async fn staging(stage: &Stage, tag: u32, havre: &str) -> u64 {
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

#[tokio::test(start_paused = true)]
async fn a_promotion_moves_the_same_digests_once_somebody_else_agreed() {
    let stage = Stage::new();
    let origin = Origin {
        commit: Some("c0ffee".to_owned()),
        actor: Some("carl".to_owned()),
        ..Origin::default()
    };
    let asked = Asked {
        origin: Some(origin.clone()),
        ..Asked::default()
    };
    up(&stage, deployer("ben"), "staging", &files(1, GATES), asked)
        .await
        .done();
    let made = stage.images_made();
    let anna = deployer("anna");
    let promotion = promote(&stage, &anna, &files(1, GATES), None)
        .await
        .unwrap();
    let id = promotion.promotion.unwrap();
    assert_eq!(promotion.state, PromotionState::Waiting);
    assert_eq!(promotion.origin, Some(origin));
    let images = &promotion.images;
    assert_eq!((images.len(), images[0].before.as_deref()), (1, None));
    assert_eq!(
        stage.holders("web:1"),
        ["environment:shop/staging", "promotion:1"]
    );
    // Whoever asked for it, pushed it or brought it to staging does not count.
    for by in ["anna", "ben", "carl"] {
        let told = approve(&stage, &deployer(by), id).await;
        refused(told, ErrorCode::Forbidden, "somebody else has to agree");
    }
    let agreed = approve(&stage, &deployer("dora"), id).await.unwrap();
    assert_eq!(agreed.state, PromotionState::Approved);
    let done = carried_out(&stage, id).await;
    assert_eq!(
        (done.state, done.result),
        (PromotionState::RolledOut, Some(ReleaseId(1)))
    );
    let production = image_of(&*stage.status(&stage.id()).await);
    assert_eq!(
        production,
        image_of(&*stage.status(&there("staging")).await)
    );
    assert_eq!(stage.images_made(), made, "nothing is built");
    assert_eq!(
        stage.holders("web:1"),
        ["environment:shop/production", "environment:shop/staging"]
    );
    let query = ReleasesQuery {
        environment: stage.id(),
        most: 1,
    };
    let told = releases::list(&stage.daemon, &query).await.unwrap();
    let origin = told[0].origin.clone().unwrap();
    assert_eq!(told[0].cause, "promoted from staging 1");
    assert_eq!(told[0].by.as_deref(), Some("anna"));
    assert_eq!(origin.origin.commit.as_deref(), Some("c0ffee"));
    assert_eq!(origin.approvals[0].by, "dora");
    assert_eq!(origin.approvals[0].comment.as_deref(), Some("looks good"));
    let query = ProvenanceQuery {
        environment: stage.id(),
        release: ReleaseId(1),
    };
    let said = environments::provenance(&stage.daemon, &query)
        .await
        .unwrap();
    let digest = production.strip_prefix("sha256:").unwrap();
    assert_eq!(said["subject"][0]["digest"]["sha256"], digest);
    // It is what runs: another one would change nothing.
    let again = promote(&stage, &anna, &files(1, GATES), None).await;
    refused(again, ErrorCode::Conflict, "nothing to promote");
    refused(
        approve(&stage, &deployer("dora"), id).await,
        ErrorCode::Conflict,
        "it was rolled out as release 1",
    );
}

#[tokio::test(start_paused = true)]
async fn what_never_served_there_is_not_promoted() {
    let stage = Stage::new();
    let anna = deployer("anna");
    let nothing = promote(&stage, &anna, &files(1, GATES), None).await;
    refused(nothing, ErrorCode::NotFound, "no environment shop/staging");
    staging(&stage, 1, GATES).await;
    stage.fate("web", Fate::Crashes(1));
    let failed = up(
        &stage,
        deployer("ben"),
        "staging",
        &files(2, GATES),
        Asked::default(),
    )
    .await;
    failed.refused(ErrorCode::RolledBack, "web");
    stage.fate("web", Fate::Serves);
    let failed = promote(&stage, &anna, &files(2, GATES), Some(2)).await;
    refused(failed, ErrorCode::NotFound, "no release 2 that has served");
    let more = "name: shop\nservices: {web: {image: 'web:1'}, db: {image: 'db:1'}}\n\n---\n";
    let more = promote(&stage, &anna, &format!("{more}{GATES}\n"), None).await;
    refused(
        more,
        ErrorCode::Invalid,
        "an image of service `db` has not served in staging",
    );
    stage.lose_image("web:1");
    let gone = promote(&stage, &anna, &files(1, GATES), None).await;
    refused(gone, ErrorCode::Failed, "of release 1 of staging is gone");
    assert!(
        stage
            .daemon
            .platform
            .promotions
            .pending()
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn a_direct_up_is_refused_where_gates_do_not_allow_it() {
    let stage = Stage::new();
    staging(&stage, 1, GATES).await;
    let (ben, made) = (deployer("ben"), stage.images_made());
    let direct = up(
        &stage,
        ben.clone(),
        "production",
        &files(1, GATES),
        Asked::default(),
    )
    .await;
    direct.refused(
        ErrorCode::Conflict,
        "shop/production is not open to `up`: approval: 0 of 1 approval by deployers",
    );
    assert_eq!(stage.images_made(), made, "nothing was built");
    // Files that say nothing change nothing of what is in force.
    let direct = up(
        &stage,
        ben.clone(),
        "production",
        &files(1, ""),
        Asked::default(),
    )
    .await;
    direct.refused(ErrorCode::Conflict, "is not open");
    let asked = Asked {
        overridden: Some("the house burns"),
        ..Asked::default()
    };
    let not_his = up(&stage, ben, "production", &files(1, GATES), asked.clone()).await;
    not_his.refused(ErrorCode::Forbidden, "needs the role admin");
    let told = up(&stage, admin("root"), "production", &files(1, GATES), asked).await;
    assert!(
        told.says("warning: overridden (the house burns): approval"),
        "{:#?}",
        told.events
    );
    told.done();
    let query = ReleasesQuery {
        environment: stage.id(),
        most: 1,
    };
    let told = releases::list(&stage.daemon, &query).await.unwrap();
    let origin = told[0].origin.clone().unwrap();
    assert_eq!(origin.overridden.as_deref(), Some("the house burns"));
    // Where the same has served is all that this one asks for.
    let needs = "environments: {staging: , production: {needs: staging}}";
    let gates = stage.project(&files(1, needs)).gates;
    let request = GatesRequest {
        project: ProjectName::new("shop"),
        gates,
    };
    let platform = &stage.daemon.platform;
    let not_his = definitions::apply(platform, &deployer("ben"), &request);
    refused(not_his, ErrorCode::Forbidden, "needs the role admin");
    definitions::apply(platform, &admin("root"), &request).unwrap();
    let other = up(
        &stage,
        deployer("ben"),
        "production",
        &files(3, needs),
        Asked::default(),
    )
    .await;
    other.refused(ErrorCode::Conflict, "needs: it has not served in staging");
    staging(&stage, 3, needs).await;
    let told = up(
        &stage,
        deployer("ben"),
        "production",
        &files(3, needs),
        Asked::default(),
    )
    .await;
    told.done();
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_into_a_frozen_environment() {
    let stage = Stage::new();
    let plain = "environments: {staging: , production: {needs: staging}}";
    staging(&stage, 1, plain).await;
    let anna = deployer("anna");
    let freeze = async |order: Option<FreezeOrder>| {
        let request = FreezeRequest {
            environment: stage.id(),
            freeze: order,
        };
        environments::freeze(&stage.daemon, &anna, request).await
    };
    let order = FreezeOrder {
        until: None,
        reason: Some("audit".to_owned()),
    };
    let slip = FreezeRequest {
        environment: there("prodution"),
        freeze: Some(order.clone()),
    };
    let slip = environments::freeze(&stage.daemon, &anna, slip).await;
    refused(slip, ErrorCode::NotFound, "no environment shop/prodution");
    let told = freeze(Some(order.clone())).await.unwrap();
    assert_eq!(told.frozen.unwrap().by.as_deref(), Some("anna"));
    let frozen = promote(&stage, &anna, &files(1, plain), None).await;
    refused(
        frozen,
        ErrorCode::Conflict,
        "shop/production is frozen: audit (anna)",
    );
    let direct = up(
        &stage,
        deployer("ben"),
        "production",
        &files(1, plain),
        Asked::default(),
    )
    .await;
    direct.refused(ErrorCode::Conflict, "freeze: audit (anna)");
    assert!(freeze(None).await.unwrap().frozen.is_none());
    // One that waits when it begins waits until its end.
    let waits = "environments: {staging: , production: {needs: staging, approval: true}}";
    staging(&stage, 1, waits).await;
    let gates = stage.project(&files(1, waits)).gates;
    let request = GatesRequest {
        project: ProjectName::new("shop"),
        gates,
    };
    definitions::apply(&stage.daemon.platform, &admin("root"), &request).unwrap();
    let promotion = promote(&stage, &anna, &files(1, waits), None)
        .await
        .unwrap();
    freeze(Some(order)).await.unwrap();
    let id = promotion.promotion.unwrap();
    let agreed = approve(&stage, &anna, id).await.unwrap();
    assert_eq!(agreed.state, PromotionState::Waiting, "{agreed:#?}");
    freeze(None).await.unwrap();
    assert_eq!(
        carried_out(&stage, id).await.state,
        PromotionState::RolledOut
    );
}

#[tokio::test(start_paused = true)]
async fn a_later_promotion_or_release_takes_the_place_of_one_that_waits() {
    let stage = Stage::new();
    staging(&stage, 1, GATES).await;
    let anna = deployer("anna");
    let first = promote(&stage, &anna, &files(1, GATES), None)
        .await
        .unwrap();
    staging(&stage, 2, GATES).await;
    let second = promote(&stage, &anna, &files(2, GATES), None)
        .await
        .unwrap();
    let (first, second) = (first.promotion.unwrap(), second.promotion.unwrap());
    let late = approve(&stage, &deployer("dora"), first).await;
    refused(late, ErrorCode::Conflict, "promotion 2 came after it");
    // Somebody brings up something else meanwhile.
    let asked = Asked {
        overridden: Some("urgent"),
        ..Asked::default()
    };
    up(&stage, admin("root"), "production", &files(3, GATES), asked)
        .await
        .done();
    let late = approve(&stage, &deployer("dora"), second).await;
    refused(
        late,
        ErrorCode::Conflict,
        "which did not when it was asked for",
    );
    assert_eq!(
        stage
            .leases()
            .iter()
            .filter(|one| one.starts_with("promotion"))
            .count(),
        0
    );
    // New replicas of the same are nothing else.
    staging(&stage, 4, GATES).await;
    let third = promote(&stage, &anna, &files(4, GATES), None)
        .await
        .unwrap();
    stage.begin_restart(&["web"]).end().await.done();
    let third = third.promotion.unwrap();
    approve(&stage, &deployer("dora"), third).await.unwrap();
    assert_eq!(
        carried_out(&stage, third).await.state,
        PromotionState::RolledOut
    );
}

#[tokio::test(start_paused = true)]
async fn only_those_who_are_named_have_a_say_and_each_once() {
    let stage = Stage::new();
    let two = "environments: {staging: , production: {needs: staging, approval: {by: [dora, emil, admins], count: 2}}}";
    staging(&stage, 1, two).await;
    let promotion = promote(&stage, &deployer("anna"), &files(1, two), None)
        .await
        .unwrap();
    let id = promotion.promotion.unwrap();
    let stranger = approve(&stage, &deployer("ben"), id).await;
    refused(stranger, ErrorCode::Forbidden, "ben has no say");
    for _ in 0..2 {
        let told = approve(&stage, &deployer("dora"), id).await.unwrap();
        assert_eq!(
            (told.state, told.approvals.len()),
            (PromotionState::Waiting, 1)
        );
    }
    let elsewhere = PromotionAnswer {
        environment: there("staging"),
        promotion: id,
        comment: None,
    };
    let elsewhere = answers::approve(&stage.daemon, &admin("root"), elsewhere).await;
    refused(elsewhere, ErrorCode::NotFound, "there is no promotion 1");
    let told = approve(&stage, &admin("root"), id).await.unwrap();
    assert_eq!(told.state, PromotionState::Approved);
    let rejected = PromotionAnswer {
        environment: stage.id(),
        promotion: id,
        comment: Some("not today".to_owned()),
    };
    let told = answers::reject(&stage.daemon, &deployer("emil"), rejected)
        .await
        .unwrap();
    assert_eq!(told.state, PromotionState::Rejected);
    assert_eq!(told.reason.as_deref(), Some("emil: not today"));
    assert!(!stage.leases().contains(&"promotion:1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_test_opens_and_closes_its_gate_for_the_images_it_saw() {
    let stage = Stage::new();
    let e2e = "environments: {staging: , production: {needs: staging, e2e: e2e.yml}}";
    staging(&stage, 1, e2e).await;
    let anna = deployer("anna");
    let promotion = promote(&stage, &anna, &files(1, e2e), None).await.unwrap();
    assert_eq!(promotion.state, PromotionState::Waiting);
    let report = async |passed: bool, release: Option<u64>| {
        let request = TestReportRequest {
            environment: there("staging"),
            release: release.map(ReleaseId),
            test: "e2e.yml".to_owned(),
            passed,
            run: Some("41".to_owned()),
        };
        environments::report(&stage.daemon, &anna, request).await
    };
    refused(
        report(true, Some(9)).await,
        ErrorCode::NotFound,
        "no release 9",
    );
    report(true, None).await.unwrap();
    let id = promotion.promotion.unwrap();
    assert_eq!(
        carried_out(&stage, id).await.state,
        PromotionState::RolledOut
    );
    staging(&stage, 2, e2e).await;
    report(false, None).await.unwrap();
    let failed = promote(&stage, &anna, &files(2, e2e), None).await;
    refused(failed, ErrorCode::Conflict, "`e2e.yml` failed (41)");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_fails_ends_its_promotion() {
    let stage = Stage::new();
    staging(&stage, 1, GATES).await;
    let promotion = promote(&stage, &deployer("anna"), &files(1, GATES), None)
        .await
        .unwrap();
    let id = promotion.promotion.unwrap();
    stage.fate("web", Fate::Crashes(3));
    approve(&stage, &deployer("dora"), id).await.unwrap();
    let done = carried_out(&stage, id).await;
    assert_eq!(done.state, PromotionState::Failed);
    let reason = done.reason.unwrap();
    assert!(
        reason.contains("release 1 went back: web: ended with exit code 3"),
        "{reason}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_clock_opens_what_only_waits() {
    let stage = Stage::new();
    let wait = "environments: {staging: , production: {needs: staging, wait: 1s}}";
    staging(&stage, 1, wait).await;
    let promotion = promote(&stage, &deployer("anna"), &files(1, wait), None)
        .await
        .unwrap();
    let until = promotion
        .gates
        .iter()
        .find(|gate| gate.gate == "wait")
        .unwrap()
        .until;
    let next = keeper::round(&stage.daemon).await.unwrap();
    assert_eq!(next.map(Into::into), until, "it looks again when it opens");
    // The gate goes by the wall clock, which no test pauses.
    std::thread::sleep(Duration::from_millis(1100));
    let done = carried_out(&stage, promotion.promotion.unwrap()).await;
    assert_eq!(done.state, PromotionState::RolledOut);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_let_in_once_somebody_agreed_and_so_is_what_it_brings() {
    let stage = Stage::new();
    staging(&stage, 1, GATES).await;
    let pipeline = deployer("pipeline");
    let enter = async |run: &str| -> Result<EntryStatus, ApiError> {
        let request = EnterRequest {
            environment: stage.id(),
            run: run.to_owned(),
            job: "deploy".to_owned(),
            origin: Origin::default(),
        };
        entry::enter(&stage.daemon, &pipeline, request).await
    };
    // Nobody knows of which commit it is: that does not say that it served.
    let unknown = enter("1").await.unwrap();
    assert_eq!(unknown.state, EntryState::Refused);
    assert!(
        unknown
            .reason
            .unwrap()
            .contains("has not served in staging")
    );
    let only = "environments: {staging: , production: {approval: true}}";
    let request = GatesRequest {
        project: ProjectName::new("shop"),
        gates: stage.project(&files(1, only)).gates,
    };
    definitions::apply(&stage.daemon.platform, &admin("root"), &request).unwrap();
    let waits = enter("2").await.unwrap();
    assert_eq!(
        (waits.state, waits.secrets.clone()),
        (EntryState::Waits, None)
    );
    assert_eq!(
        enter("2").await.unwrap().promotion,
        waits.promotion,
        "it is written once"
    );
    let asked = Asked {
        entry: Some(waits.promotion),
        ..Asked::default()
    };
    let early = up(
        &stage,
        pipeline.clone(),
        "production",
        &files(1, only),
        asked.clone(),
    )
    .await;
    early.refused(ErrorCode::Conflict, "does not open shop/production");
    approve(&stage, &deployer("dora"), waits.promotion)
        .await
        .unwrap();
    for _ in 0..2 {
        let entered = enter("2").await.unwrap();
        assert_eq!(entered.state, EntryState::Entered);
        assert_eq!(entered.secrets, Some(stage.id()));
    }
    // Another's entry opens nothing.
    let other = up(
        &stage,
        deployer("ben"),
        "production",
        &files(1, only),
        asked.clone(),
    )
    .await;
    other.refused(ErrorCode::NotFound, "there is no promotion");
    up(&stage, pipeline, "production", &files(1, only), asked)
        .await
        .done();
}

#[tokio::test(start_paused = true)]
async fn environments_are_shown_in_their_order_with_what_waits() {
    let stage = Stage::new();
    let order = "environments: {zeta: , staging: {needs: zeta}, production: {needs: staging, approval: true}}";
    up(
        &stage,
        admin("root"),
        "zeta",
        &files(1, order),
        Asked::default(),
    )
    .await
    .done();
    up(
        &stage,
        admin("root"),
        "staging",
        &files(1, order),
        Asked::default(),
    )
    .await
    .done();
    promote(&stage, &deployer("anna"), &files(1, order), None)
        .await
        .unwrap();
    let shown = async |by: &Principal| {
        let told = environments::environments(&stage.daemon, by, &StatusQuery::default()).await;
        let told = told.unwrap().into_iter();
        let told = told.map(|one| format!("{} {}", one.id.environment, one.waiting.len()));
        told.collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&admin("root")).await,
        ["zeta 0", "staging 0", "production 1"]
    );
    let grant = Grant {
        role: Role::Viewer,
        environments: vec!["shop/staging".parse().unwrap()],
    };
    let viewer = principal("vera", grant);
    assert_eq!(shown(&viewer).await, ["staging 0"]);
    let query = havre_api::PromotionsQuery {
        promotion: Some(PromotionId(1)),
        ..Default::default()
    };
    let unseen = show::list(&stage.daemon, &viewer, &query).await;
    refused(unseen, ErrorCode::NotFound, "there is no promotion 1");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_the_daemon_before_had_begun_is_begun_again_or_ends() {
    let stage = Stage::new();
    staging(&stage, 1, GATES).await;
    let promotion = promote(&stage, &deployer("anna"), &files(1, GATES), None)
        .await
        .unwrap();
    let id = promotion.promotion.unwrap();
    approve(&stage, &deployer("dora"), id).await.unwrap();
    // It died between the two: nothing of it is in history.
    let promotions = &stage.daemon.platform.promotions;
    promotions.step(id.0, PromotionEvent::Begun).unwrap();
    let done = carried_out(&stage, id).await;
    assert_eq!(
        (done.state, done.result),
        (PromotionState::RolledOut, Some(ReleaseId(1)))
    );
    // What it had brought up was taken down since: it does not come back.
    staging(&stage, 2, GATES).await;
    let again = promote(&stage, &deployer("anna"), &files(2, GATES), None)
        .await
        .unwrap();
    let again = again.promotion.unwrap();
    approve(&stage, &deployer("dora"), again).await.unwrap();
    promotions.step(again.0, PromotionEvent::Begun).unwrap();
    stage.down(false).await.done();
    let done = carried_out(&stage, again).await;
    assert_eq!(done.state, PromotionState::Failed);
    assert!(done.reason.unwrap().contains("was taken down meanwhile"));
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_have_room() {
    let stage = Stage::new();
    staging(
        &stage,
        1,
        "environments: {staging: , production: {approval: true}}",
    )
    .await;
    let enter = async |run: u32| {
        let request = EnterRequest {
            environment: stage.id(),
            run: run.to_string(),
            job: "deploy".to_owned(),
            origin: Origin::default(),
        };
        entry::enter(&stage.daemon, &deployer("pipeline"), request).await
    };
    for run in 0..100 {
        enter(run).await.unwrap();
    }
    refused(
        enter(100).await,
        ErrorCode::TooMany,
        "wait for shop/production already",
    );
}
