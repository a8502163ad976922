//! `restart` and `scale`: new replicas of the same, and other numbers of them.

use std::time::Duration;

use havre_api::ErrorCode;

use crate::fake::{Fate, Stage, shop};

const SHOP: &str = "{web: {image: 'web:1'}, db: {image: 'postgres:17', volumes: ['data:/var/lib/postgresql/data']}, \
                    migrate: {image: 'm:1'}, worker: {image: 'w:1', depends_on: {migrate: {condition: \
                    service_completed_successfully}}}}";

async fn running() -> Stage {
    let stage = Stage::new();
    let text = shop(SHOP) + "volumes: {data: }\n";
    stage.up(&text).await.done();
    stage
}

#[tokio::test(start_paused = true)]
async fn a_restart_replaces_replicas_and_runs_no_job() {
    let stage = running().await;
    let ids = |instances: &[havre_release::Instance]| {
        let of_web = instances.iter().filter(|one| one.service.as_str() == "web");
        Vec::from_iter(of_web.map(|one| one.id.clone()))
    };
    let before = ids(&stage.status(&stage.id()).await.instances);
    let restart = stage.begin_restart(&["web"]).end().await;
    assert!(!restart.says("job"), "{:#?}", restart.events);
    let done = restart.done();
    assert_eq!(
        done.services
            .iter()
            .map(|one| one.as_str())
            .collect::<Vec<_>>(),
        ["web"]
    );
    let after = ids(&stage.status(&stage.id()).await.instances);
    assert_eq!((before.len(), after.len()), (1, 1));
    assert_ne!(before, after);
    // What was restarted is no change of the files.
    let text = shop(SHOP) + "volumes: {data: }\n";
    assert!(!stage.up(&text).await.done().changed);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_all_spares_the_jobs() {
    let stage = running().await;
    let done = stage.begin_restart(&[]).end().await.done();
    let names: Vec<&str> = done.services.iter().map(|one| one.as_str()).collect();
    assert_eq!(names, ["db", "web", "worker"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_what_is_not_there_is_refused() {
    let stage = running().await;
    let told = stage.begin_restart(&["wbe"]).end().await;
    told.refused(ErrorCode::NotFound, "no service `wbe`");
    let changes = stage.changes().len();
    assert_eq!(changes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_goes_back() {
    let stage = running().await;
    stage.fate("web", Fate::Crashes(1));
    let told = stage.begin_restart(&["web"]).end().await;
    told.refused(
        ErrorCode::RolledBack,
        "failed at service `web`; release 1 still serves",
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_numbers_set_by_hand() {
    let stage = running().await;
    stage.scale("web", 2).await.done();
    stage.begin_restart(&["web"]).end().await.done();
    let status = stage.status(&stage.id()).await;
    let of_web = status
        .instances
        .iter()
        .filter(|one| one.service.as_str() == "web");
    assert_eq!(of_web.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn other_numbers_come_without_a_release() {
    let stage = running().await;
    let up = stage.scale("web", 3).await;
    assert!(up.says("web ready 3/3"), "{:#?}", up.events);
    up.done();
    let down = stage.scale("web", 0).await;
    assert!(down.says("web stopped"), "{:#?}", down.events);
    down.done();
    assert_eq!(
        stage.changes()[1..],
        [
            "shop/production: scale web=3",
            "shop/production: scale web=0"
        ]
    );
    assert_eq!(stage.releases().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_scaled_is_refused_before_it_is_asked_for() {
    let stage = running().await;
    let two = "service `db` would have 2 replicas that write to volume data";
    stage.scale("db", 2).await.refused(ErrorCode::Invalid, two);
    let job = "service `migrate` is a job: it runs once per release";
    stage
        .scale("migrate", 2)
        .await
        .refused(ErrorCode::Invalid, job);
    stage
        .scale("wbe", 2)
        .await
        .refused(ErrorCode::NotFound, "no service `wbe`");
    assert_eq!(stage.changes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn there_is_nothing_to_scale_or_restart_before_something_has_served() {
    let stage = Stage::new();
    stage
        .scale("web", 2)
        .await
        .refused(ErrorCode::NotFound, "no environment shop/production");
    stage.fate("web", Fate::Crashes(1));
    stage
        .up(&shop("{web: {image: 'web:1'}}"))
        .await
        .refused(ErrorCode::RolledBack, "web");
    let why = "shop/production has no release yet";
    stage
        .scale("web", 2)
        .await
        .refused(ErrorCode::NotFound, why);
    stage
        .begin_restart(&[])
        .end()
        .await
        .refused(ErrorCode::NotFound, why);
    stage.rollback(None).await.refused(ErrorCode::NotFound, why);
}

#[tokio::test(start_paused = true)]
async fn a_scale_that_is_given_up_stays() {
    let stage = running().await;
    stage.fate("web", Fate::Hangs);
    let mut scale = stage.begin_scale("web", 2);
    scale.until("web starting").await;
    scale.cancel();
    let told = scale.end().await;
    told.refused(ErrorCode::Cancelled, "cancelled; the new numbers stay");
    assert_eq!(stage.status(&stage.id()).await.desired.scale.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_down_comes_before_a_scale_under_way() {
    let stage = running().await;
    stage.fate("web", Fate::Hangs);
    let mut scale = stage.begin_scale("web", 2);
    scale.until("web starting").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.down(false).await.done();
    let told = scale.end().await;
    told.refused(
        ErrorCode::Conflict,
        "shop/production was taken down meanwhile",
    );
}
