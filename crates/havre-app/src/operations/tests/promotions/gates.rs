//! What has to hold before anything comes in, and who has a say.

use super::jobs::enter;
use super::*;

async fn report(
    stage: &Stage,
    by: &Principal,
    test: &str,
    passed: bool,
    release: Option<u64>,
) -> Result<(), ApiError> {
    let request = TestReportRequest {
        environment: there("staging"),
        release: release.map(ReleaseId),
        test: test.to_owned(),
        passed,
        run: Some("41".to_owned()),
    };
    environments::report(&stage.daemon, by, request).await
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
    let job = enter(&stage, 7, "staging", "aaa").await;
    let report = async |passed: bool, release: Option<u64>| {
        report(&stage, &job, "e2e.yml", passed, release).await
    };
    refused(
        report(true, Some(9)).await,
        ErrorCode::NotFound,
        "no release 9",
    );
    // A person's word is not a test's, and neither is that of a job of another workflow.
    let of_anna = self::report(&stage, &anna, "e2e.yml", true, None).await;
    refused(of_anna, ErrorCode::Forbidden, "only its own jobs say");
    let other = self::report(&stage, &job, "other.yml", true, None).await;
    refused(
        other,
        ErrorCode::Forbidden,
        "this one is of .github/workflows/e2e.yml",
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
async fn only_an_admin_puts_gates_in_force_by_his_files() {
    let stage = Stage::new();
    let platform = &stage.daemon.platform;
    let said = files(1, GATES);
    // Whoever may deploy could bring files that say who has to agree: nothing of them counts.
    let direct = up(
        &stage,
        deployer("ben"),
        "production",
        &said,
        Asked::default(),
    )
    .await;
    direct.refused(ErrorCode::Conflict, "nothing of it is in force");
    let project = ProjectName::new("shop");
    assert!(
        definitions::in_force(platform, &project)
            .unwrap()
            .is_empty()
    );
    up(&stage, admin("root"), "staging", &said, Asked::default())
        .await
        .done();
    let in_force = definitions::in_force(platform, &project).unwrap();
    assert_eq!(in_force, stage.project(&said).gates);
    let other =
        "environments: {staging: , production: {approval: {by: [ben]}}, eu: {wait: 1h}, us: }";
    let other = stage.project(&files(1, other)).gates;
    let differing = definitions::differing(&in_force, &other);
    assert_eq!(differing, ["production", "eu"]);
}

#[tokio::test(start_paused = true)]
async fn a_person_has_one_voice_whatever_they_are_called() {
    let stage = Stage::new();
    let two = "environments: {staging: , production: {needs: staging, approval: {count: 2, not_author: true}}}";
    staging(&stage, 1, two).await;
    let token = |name: &str| {
        let name = name.to_owned();
        Principal {
            who: havre_api::Who::Token {
                id: name.clone(),
                name,
            },
            grant: Grant::everywhere(Role::Deployer),
        }
    };
    let (anna, text) = (deployer("anna"), files(1, two));
    let promotion = promote(&stage, &anna, &text, None).await.unwrap();
    let id = promotion.promotion.unwrap();
    // ben brought it to staging, and anna asked.
    for name in ["anna", "ben"] {
        let told = approve(&stage, &token(name), id).await;
        refused(told, ErrorCode::Forbidden, "somebody else has to agree");
    }
    approve(&stage, &deployer("dora"), id).await.unwrap();
    let told = approve(&stage, &token("dora"), id).await.unwrap();
    assert_eq!(told.state, PromotionState::Waiting);
    let told = approve(&stage, &token("emil"), id).await.unwrap();
    assert_eq!(told.state, PromotionState::Approved);
}
