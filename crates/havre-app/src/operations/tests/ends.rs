//! What becomes of each operation when its change cannot be written down, or the daemon ends.

use std::time::Duration;

use havre_api::{ApiError, Course, ErrorCode};

use crate::fake::{Fate, Stage, Told, shop};

fn web(tag: u32) -> String {
    shop(&format!("{{web: {{image: 'web:{tag}'}}}}"))
}

/// Releases 1 and 2 have served, and 2 does.
async fn two_releases() -> Stage {
    let stage = Stage::new();
    stage.up(&web(1)).await.done();
    stage.up(&web(2)).await.done();
    stage
}

/// The same, and release 3 is on its way for ever.
async fn moving() -> Stage {
    let stage = two_releases().await;
    stage.fate("web", Fate::Hangs);
    let mut up = stage.begin_up("anna", &web(3));
    up.until("web starting").await;
    stage
}

#[track_caller]
fn not_written<T: std::fmt::Debug>(answer: &Result<T, ApiError>) {
    let error = answer.as_ref().unwrap_err();
    assert_eq!(error.code, ErrorCode::Failed, "{error:?}");
    let message = "the state of shop/production cannot be written: nothing was changed";
    assert_eq!(error.message, message);
    assert!(
        error
            .causes
            .iter()
            .any(|cause| cause.contains("disk is full")),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_is_refused_and_nothing_has_changed() {
    let stage = two_releases().await;
    let (stored, changes) = (stage.stored(), stage.changes().len());
    let before = stage.status(&stage.id()).await;
    let full = stage.full_disk();
    not_written(&stage.up(&web(3)).await.answer);
    not_written(&stage.down(true).await.answer);
    not_written(&stage.begin_restart(&[]).end().await.answer);
    not_written(&stage.scale("web", 2).await.answer);
    not_written(&stage.rollback(None).await.answer);
    let asked = stage.changes()[changes..].to_vec();
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert!(
        asked.iter().all(|change| change.ends_with("refused")),
        "{asked:?}"
    );
    full.heal();
    assert_eq!(stage.stored(), stored);
    let after = stage.status(&stage.id()).await;
    assert_eq!(after.desired, before.desired);
    assert_eq!(after.instances, before.instances);
    assert_eq!(stage.up(&web(3)).await.done().release.0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_course_that_cannot_be_written_down_is_not_taken() {
    let stage = moving().await;
    let before = stage.status(&stage.id()).await;
    let full = stage.full_disk();
    not_written(&stage.steer(Course::Pause).await);
    not_written(&stage.steer(Course::Abort).await);
    full.heal();
    stage.steer(Course::Pause).await.unwrap();
    let full = stage.full_disk();
    not_written(&stage.steer(Course::Resume).await);
    full.heal();
    stage.steer(Course::Resume).await.unwrap();
    let after = stage.status(&stage.id()).await;
    assert_eq!(after.desired.current, before.desired.current);
}

#[track_caller]
fn goes_on<T: std::fmt::Debug>(told: &Told<T>) {
    let message = "the daemon ends; the next one goes on with shop/production";
    told.refused(ErrorCode::Unavailable, message);
}

#[tokio::test(start_paused = true)]
async fn an_up_under_way_when_the_daemon_ends_goes_on_with_the_next_one() {
    let stage = Stage::new();
    stage.fate("web", Fate::Hangs);
    let mut up = stage.begin_up("anna", &web(1));
    up.until("web starting").await;
    stage.end();
    goes_on(&up.end().await);
    assert_eq!(stage.stored().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_up_that_builds_when_the_daemon_ends_has_changed_nothing() {
    let stage = two_releases().await;
    stage.build_takes(Duration::from_secs(60));
    let mut up = stage.begin_up("anna", &web(3));
    up.until("phase Images").await;
    let stored = stage.stored();
    stage.end();
    goes_on(&up.end().await);
    assert_eq!(stage.stored(), stored);
}

#[tokio::test(start_paused = true)]
async fn a_down_under_way_when_the_daemon_ends_goes_on_with_the_next_one() {
    let stage = two_releases().await;
    stage.grace(Duration::from_secs(60));
    let mut down = stage.begin_down(false);
    down.until("web stopping").await;
    stage.end();
    goes_on(&down.end().await);
    assert!(
        stage.stored()[0].contains("\"down\""),
        "{:?}",
        stage.stored()
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_a_rollback_and_a_scale_end_with_the_daemon() {
    for what in ["restart", "rollback", "scale"] {
        let stage = two_releases().await;
        stage.fate("web", Fate::Hangs);
        match what {
            "restart" => {
                let mut restart = stage.begin_restart(&[]);
                restart.until("web starting").await;
                stage.end();
                goes_on(&restart.end().await);
            }
            "rollback" => {
                let mut rollback = stage.begin_rollback(None);
                rollback.until("web starting").await;
                stage.end();
                goes_on(&rollback.end().await);
            }
            _ => {
                let mut scale = stage.begin_scale("web", 2);
                scale.until("web starting").await;
                stage.end();
                goes_on(&scale.end().await);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_on_its_way_when_the_task_breaks_off_is_not_said_to_be_made() {
    let stage = two_releases().await;
    let stored = stage.stored();
    stage.delay(Duration::from_secs(2));
    let scale = stage.begin_scale("web", 2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.break_off(&stage.id());
    goes_on(&scale.end().await);
    assert_eq!(stage.stored(), stored);
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_of_a_daemon_that_has_ended_is_left_to_the_next_one() {
    let stage = two_releases().await;
    let changes = stage.changes().len();
    stage.end();
    tokio::time::sleep(Duration::from_secs(1)).await;
    goes_on(&stage.up(&web(3)).await);
    goes_on(&stage.down(false).await);
    goes_on(&stage.scale("web", 2).await);
    let error = stage.steer(Course::Pause).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    let asked = stage.changes()[changes..].to_vec();
    assert!(
        asked.iter().all(|change| change.ends_with("refused")),
        "{asked:?}"
    );
}
