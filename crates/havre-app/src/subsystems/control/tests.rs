//! When a daemon may be told to end.

use havre_api::ErrorCode;

use super::*;
use crate::fake::{Fate, Stage, shop};

const WEB: &str = "{web: {image: 'web:1'}}";

/// Why it does not end; what is up must be asked for by force.
async fn refused(stage: &Stage) -> ApiError {
    let request = ShutdownRequest { force: false };
    let error = shutdown(&stage.daemon, request).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(!stage.daemon.end.is_cancelled());
    error
}

#[tokio::test(start_paused = true)]
async fn a_daemon_does_not_end_while_something_is_up() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    let error = refused(&stage).await;
    assert_eq!(error.message, "environments are up: shop/production");
    stage.down(false).await.done();
    shutdown(&stage.daemon, ShutdownRequest { force: false })
        .await
        .unwrap();
    assert!(stage.daemon.end.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_daemon_does_not_end_while_an_operation_begins() {
    let stage = Stage::new();
    stage.build_takes(std::time::Duration::from_secs(60));
    let mut up = stage.begin_up("anna", &shop(WEB));
    up.until("phase Images").await;
    let error = refused(&stage).await;
    assert_eq!(
        error.message,
        "an operation is under way for shop/production"
    );
    up.cancel();
    up.end()
        .await
        .refused(ErrorCode::Cancelled, "nothing was changed");
    shutdown(&stage.daemon, ShutdownRequest { force: false })
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_first_release_that_failed_holds_nobody_up_and_force_nothing() {
    let stage = Stage::new();
    stage.fate("web", Fate::Crashes(1));
    stage
        .up(&shop(WEB))
        .await
        .refused(ErrorCode::RolledBack, "web");
    shutdown(&stage.daemon, ShutdownRequest { force: false })
        .await
        .unwrap();
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    shutdown(&stage.daemon, ShutdownRequest { force: true })
        .await
        .unwrap();
    assert!(stage.daemon.shutdown_requested.load(Ordering::Relaxed));
}
