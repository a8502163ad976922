//! `rollout pause`, `resume` and `abort`: what they do to the rollout under way, and when they are refused.

use std::time::Duration;

use havre_api::{ApiError, Course, ErrorCode, ReleaseId, SteerOutcome};

use crate::fake::{Fate, Stage, shop};

fn web(tag: u32) -> String {
    shop(&format!("{{web: {{image: 'web:{tag}'}}}}"))
}

#[track_caller]
fn refused(answer: Result<SteerOutcome, ApiError>, message: &str) {
    let error = answer.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (ErrorCode::Conflict, message)
    );
}

#[tokio::test(start_paused = true)]
async fn where_nothing_moves_nothing_can_be_steered() {
    let stage = Stage::new();
    let error = stage.steer(Course::Abort).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    stage.up(&web(1)).await.done();
    for course in [Course::Pause, Course::Resume, Course::Abort] {
        refused(
            stage.steer(course).await,
            "no rollout of shop/production is under way",
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_is_paused_and_goes_on() {
    let stage = Stage::new();
    stage.up(&web(1)).await.done();
    let mut up = stage.begin_up("anna", &web(2));
    up.until("phase Rollout").await;
    let steered = stage.steer(Course::Pause).await.unwrap();
    assert_eq!(
        (steered.release, steered.previous),
        (ReleaseId(2), Some(ReleaseId(1)))
    );
    refused(
        stage.steer(Course::Pause).await,
        "the rollout of shop/production is paused already",
    );
    up.until("phase Pause").await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(stage.status(&stage.id()).await.desired.current, Some(1));
    stage.steer(Course::Resume).await.unwrap();
    refused(
        stage.steer(Course::Resume).await,
        "the rollout of shop/production is not paused",
    );
    assert_eq!(up.end().await.done().release, ReleaseId(2));
}

#[tokio::test(start_paused = true)]
async fn a_rollout_is_aborted_by_somebody_else() {
    let stage = Stage::new();
    stage.up(&web(1)).await.done();
    stage.fate("web", Fate::Hangs);
    stage.grace(Duration::from_secs(20));
    let mut up = stage.begin_up("anna", &web(2));
    up.until("web starting").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.steer(Course::Abort).await.unwrap();
    let why = "the rollout of shop/production has come too far: it is decided which release serves";
    refused(stage.steer(Course::Abort).await, why);
    refused(stage.steer(Course::Pause).await, why);
    let told = up.end().await;
    told.refused(ErrorCode::Cancelled, "cancelled; release 1 still serves");
    let releases = stage.releases().await;
    assert_eq!(
        releases[0].reason.as_deref(),
        Some("web: the rollout was aborted")
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_there_to_stay_is_not_aborted() {
    let stage = Stage::new();
    stage.up(&web(1)).await.done();
    stage.grace(Duration::from_secs(20));
    let mut up = stage.begin_up("anna", &web(2));
    up.until("phase CleanUp").await;
    let why = "the rollout of shop/production has come too far: it is decided which release serves";
    refused(stage.steer(Course::Abort).await, why);
    assert_eq!(up.end().await.done().release, ReleaseId(2));
}

#[tokio::test(start_paused = true)]
async fn who_resumes_what_has_failed_goes_on_come_what_may() {
    let stage = Stage::new();
    stage.up(&web(1)).await.done();
    stage.fate("web", Fate::Unhealthy("503"));
    let text = web(2) + "\n---\nrollout: {on_failure: pause}\n";
    stage
        .up(&text)
        .await
        .refused(ErrorCode::RolledBack, "is paused");
    // It fails once more, and then somebody has had enough of it.
    stage.steer(Course::Resume).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.steer(Course::Abort).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let status = stage.status(&stage.id()).await;
    assert_eq!(
        (status.desired.current, status.instances.len()),
        (Some(1), 1)
    );
    // What stopped it says more than that somebody then gave it up.
    let releases = stage.releases().await;
    assert_eq!(
        releases[0].reason.as_deref(),
        Some("web: its health check fails")
    );
}
