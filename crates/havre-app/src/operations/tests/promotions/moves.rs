//! What moves, what takes its place, and how rollouts end.

use super::*;
use crate::promotions::tables::Written;

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
    in_force(&stage, &files(1, GATES));
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
    let told = promotion.origin.clone().unwrap();
    assert_eq!(
        (told.origin, told.said_by.as_deref()),
        (origin, Some("ben"))
    );
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
async fn a_promotion_goes_by_the_files_of_its_release() {
    let stage = Stage::new();
    let with = |variable: &str| {
        let service = format!("{{image: 'web:1', environment: {{FROM: {variable}}}}}");
        format!("name: shop\nservices: {{web: {service}}}\n\n---\n{GATES}\n")
    };
    let from = |release: &havre_release::Release| {
        let service = &release.services.values().next().unwrap().service;
        service.environment.get("FROM").cloned()
    };
    in_force(&stage, &with("the commit"));
    let asked = Asked {
        production: Some(with("the commit")),
        ..Asked::default()
    };
    let ben = deployer("ben");
    up(&stage, ben.clone(), "staging", &with("the commit"), asked)
        .await
        .done();
    let anna = deployer("anna");
    // Whatever whoever asks has at hand.
    let promotion = promote(&stage, &anna, &with("anna"), None).await.unwrap();
    let said = promotion.configuration.unwrap();
    assert_eq!(said, "as the files of release 1 of staging have it");
    let id = promotion.promotion.unwrap();
    approve(&stage, &deployer("dora"), id).await.unwrap();
    let done = carried_out(&stage, id).await;
    assert_eq!(done.state, PromotionState::RolledOut);
    let status = stage.status(&stage.id()).await;
    let (_, release) = status.serving().unwrap();
    assert_eq!(from(release).as_deref(), Some("the commit"));
    // One that kept none, as those of before: whoever is to agree is told.
    up(&stage, ben, "staging", &files(2, GATES), Asked::default())
        .await
        .done();
    let promotion = promote(&stage, &anna, &files(2, GATES), None)
        .await
        .unwrap();
    let said = promotion.configuration.unwrap();
    assert!(
        said.contains("release 2 of staging keeps none for production"),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_other_environments_asks_for_no_more_than_its_author_may() {
    let stage = Stage::new();
    in_force(&stage, &files(1, GATES));
    let shared = "name: shop\nservices: {web: {image: 'web:1', volumes: ['data:/d']}}\nvolumes: {data: {external: true}}\n\n---\n";
    let asked = Asked {
        production: Some(shared.to_owned()),
        ..Asked::default()
    };
    let told = up(&stage, deployer("ben"), "staging", &files(1, GATES), asked).await;
    assert!(
        told.says("warning: how production would be configured is not kept"),
        "{:#?}",
        told.events
    );
    told.done();
    let promotion = promote(&stage, &admin("root"), &files(1, GATES), None).await;
    let said = promotion.unwrap().configuration.unwrap();
    assert!(said.contains("keeps none for production"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn whatever_a_promotion_was_when_the_daemon_died_the_next_goes_on_with_it() {
    let stage = Stage::new();
    staging(&stage, 1, GATES).await;
    let (anna, dora) = (deployer("anna"), deployer("dora"));
    let promotion = promote(&stage, &anna, &files(1, GATES), None).await;
    let id = promotion.unwrap().promotion.unwrap();
    let promotions = &stage.daemon.platform.promotions;
    let state = || promotions.get(id.0).unwrap().promotion.state;
    // It waited: it waits on, and its images are held.
    keeper::round(&stage.daemon).await.unwrap();
    assert_eq!(state(), havre_release::PromotionState::Waiting);
    assert!(stage.leases().contains(&"promotion:1".to_owned()));
    // Somebody had agreed, and nothing had come of it yet.
    approve(&stage, &dora, id).await.unwrap();
    assert_eq!(state(), havre_release::PromotionState::Approved);
    let done = carried_out(&stage, id).await;
    assert_eq!(done.result, Some(ReleaseId(1)));
    // It had served, and that was not written down: it is not rolled out once more.
    let promotion = havre_release::Promotion {
        state: havre_release::PromotionState::RollingOut,
        ..promotions.get(id.0).unwrap().promotion
    };
    let written = Written {
        over: false,
        promotion: serde_json::to_string(&promotion).unwrap(),
    };
    promotions.tables.promotion_put(id.0, written).unwrap();
    let done = carried_out(&stage, id).await;
    assert_eq!(
        (done.state, done.result),
        (PromotionState::RolledOut, Some(ReleaseId(1)))
    );
    let query = ReleasesQuery {
        environment: stage.id(),
        most: 10,
    };
    let told = releases::list(&stage.daemon, &query).await.unwrap();
    assert_eq!(told.len(), 1);
    // Agreement comes too late, and says so.
    let late = approve(&stage, &deployer("emil"), id).await;
    refused(late, ErrorCode::Conflict, "it was rolled out as release 1");
}
