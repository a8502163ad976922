//! `rollback` and the history that it goes by.

use std::time::Duration;

use havre_api::{ErrorCode, ReleaseId, ReleaseState};

use crate::fake::{Fate, Stage, shop};

fn web(tag: u32) -> String {
    shop(&format!("{{web: {{image: 'web:{tag}'}}}}"))
}

/// Releases 1 to 3 have served, and 3 does.
async fn three_releases() -> Stage {
    let stage = Stage::new();
    for tag in 1..=3 {
        stage.up(&web(tag)).await.done();
    }
    stage
}

#[tokio::test(start_paused = true)]
async fn a_rollback_goes_to_the_release_before_and_then_further_back() {
    let stage = three_releases().await;
    let made = stage.images_made();
    let done = stage.rollback(None).await.done();
    assert_eq!(
        (done.release, done.previous),
        (ReleaseId(4), Some(ReleaseId(3)))
    );
    stage.rollback(None).await.done();
    assert_eq!(stage.images_made(), made);
    let told = stage.releases().await;
    let told = told.iter().map(|one| (one.release.0, one.cause.as_str()));
    assert_eq!(
        Vec::from_iter(told),
        [
            (5, "rollback to 1"),
            (4, "rollback to 2"),
            (3, "up"),
            (2, "up"),
            (1, "up")
        ]
    );
    let none = "shop/production has no release that served before 5";
    stage
        .rollback(None)
        .await
        .refused(ErrorCode::NotFound, none);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_goes_where_it_is_told() {
    let stage = three_releases().await;
    stage.rollback(Some(1)).await.done();
    let status = stage.status(&stage.id()).await;
    let (number, release) = status.serving().unwrap();
    assert_eq!(number, 4);
    let web = release.services.values().next().unwrap();
    assert_eq!(web.service.image.as_deref(), Some("web:1"));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_to_what_serves_or_never_was_is_refused() {
    let stage = three_releases().await;
    let serves = "release 3 of shop/production serves already";
    stage
        .rollback(Some(3))
        .await
        .refused(ErrorCode::Invalid, serves);
    let none = "shop/production has no release 9";
    stage
        .rollback(Some(9))
        .await
        .refused(ErrorCode::NotFound, none);
    assert_eq!(stage.changes().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_to_a_release_that_failed_is_refused_and_one_passes_it_over() {
    let stage = Stage::new();
    stage.up(&web(1)).await.done();
    stage.fate("web", Fate::Crashes(1));
    stage
        .up(&web(2))
        .await
        .refused(ErrorCode::RolledBack, "web");
    stage.fate("web", Fate::Serves);
    stage.up(&web(3)).await.done();
    let failed = "release 2 of shop/production failed and was rolled back, and would be again";
    stage
        .rollback(Some(2))
        .await
        .refused(ErrorCode::Invalid, failed);
    stage.rollback(None).await.done();
    let releases = stage.releases().await;
    assert_eq!(releases[0].cause, "rollback to 1");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_without_its_image_is_refused() {
    let stage = three_releases().await;
    stage.lose_image("web:2");
    let told = stage.rollback(None).await;
    told.refused(
        ErrorCode::Failed,
        "release 2 cannot come back: the image of `web` are gone",
    );
    assert_eq!(stage.changes().len(), 3);
    // What is gone is in nobody's way.
    stage.rollback(Some(1)).await.done();
}

#[tokio::test(start_paused = true)]
async fn a_rollback_keeps_numbers_and_warns_of_what_jobs_have_done() {
    let stage = Stage::new();
    let with_job = |tag: u32| {
        shop(&format!(
            "{{migrate: {{image: 'm:{tag}'}}, web: {{image: 'web:{tag}', depends_on: {{migrate: \
             {{condition: service_completed_successfully}}}}}}}}"
        ))
    };
    stage.up(&with_job(1)).await.done();
    stage.up(&with_job(2)).await.done();
    stage.scale("web", 2).await.done();
    let told = stage.rollback(None).await;
    assert!(
        told.says("warning: what jobs (such as migrations) of later releases have changed stays")
    );
    assert!(!told.says("job migrate"), "{:#?}", told.events);
    told.done();
    let status = stage.status(&stage.id()).await;
    let of_web = status
        .instances
        .iter()
        .filter(|one| one.service.as_str() == "web");
    assert_eq!(of_web.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_history_tells_what_became_of_each_release() {
    let stage = Stage::new();
    stage.up(&web(1)).await.done();
    stage.fate("web", Fate::Crashes(7));
    stage
        .up(&web(2))
        .await
        .refused(ErrorCode::RolledBack, "web");
    stage.fate("web", Fate::Hangs);
    let mut hanging = stage.begin_up("anna", &web(3));
    hanging.until("web starting").await;
    let states = |releases: &[havre_api::ReleaseStatus]| {
        Vec::from_iter(releases.iter().map(|one| one.state))
    };
    use ReleaseState::{Served, Serving, UnderWay, WentBack};
    assert_eq!(
        states(&stage.releases().await),
        [UnderWay, WentBack, Serving]
    );
    hanging.cancel();
    hanging
        .end()
        .await
        .refused(ErrorCode::Cancelled, "release 1 still serves");
    stage.fate("web", Fate::Serves);
    stage.up(&web(4)).await.done();
    let releases = stage.releases().await;
    assert_eq!(states(&releases), [Serving, WentBack, WentBack, Served]);
    let reasons = Vec::from_iter(releases.iter().map(|one| one.reason.as_deref()));
    assert_eq!(reasons[1], Some("web: the rollout was aborted"));
    assert!(
        reasons[2]
            .unwrap()
            .starts_with("web: ended with exit code 7"),
        "{reasons:?}"
    );
    assert!(releases[3].kept);
}

#[tokio::test(start_paused = true)]
async fn images_of_steps_before_a_start_are_kept_with_their_release() {
    let stage = Stage::new();
    let with_step = |tag: u32| {
        shop(&format!(
            "{{web: {{image: 'web:{tag}', pre_start: [{{image: 'tool:{tag}', command: [migrate]}}]}}}}"
        ))
    };
    for tag in 1..=3 {
        stage.up(&with_step(tag)).await.done();
        // Nothing of the release before is in play any more.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    for tag in 1..=3 {
        let held = stage.holders(&format!("tool:{tag}"));
        assert_eq!(held, ["environment:shop/production"], "{tag}");
    }
    stage.rollback(Some(1)).await.done();
    stage.lose_image("tool:2");
    let told = stage.rollback(Some(2)).await;
    told.refused(
        ErrorCode::Failed,
        "release 2 cannot come back: the image of `web` are gone",
    );
}
