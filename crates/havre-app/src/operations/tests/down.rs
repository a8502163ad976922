//! `down`: what goes, what stays, and who comes in between.

use std::time::Duration;

use havre_api::ErrorCode;

use crate::fake::{Fate, Stage, shop};

/// A service with a volume.
fn database(tag: u32) -> String {
    let services = format!("{{db: {{image: 'db:{tag}', volumes: ['data:/data']}}}}");
    shop(&services) + "volumes: {data: }\n"
}

#[tokio::test(start_paused = true)]
async fn a_down_keeps_volumes_and_lets_go_of_all_else() {
    let stage = Stage::new();
    stage.up(&database(1)).await.done();
    let down = stage.down(false).await;
    assert!(down.says("phase Stop"), "{:#?}", down.events);
    assert!(down.says("db stopping"), "{:#?}", down.events);
    let done = down.done();
    assert_eq!(done.replicas, 1);
    assert_eq!((done.removed_volumes, done.errors), (vec![], vec![]));
    assert_eq!(done.kept_volumes, ["shop_data"]);
    assert_eq!(stage.stored(), [""; 0]);
    assert_eq!(stage.leases(), [""; 0]);
    let again = stage.down(false).await;
    again.refused(ErrorCode::NotFound, "no environment shop/production");
}

#[tokio::test(start_paused = true)]
async fn a_down_with_volumes_removes_them() {
    let stage = Stage::new();
    stage.up(&database(1)).await.done();
    let done = stage.down(true).await.done();
    assert_eq!(done.removed_volumes, ["shop_data"]);
    assert_eq!(done.kept_volumes, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_others_use_stays_and_is_told() {
    let stage = Stage::new();
    stage.up(&database(1)).await.done();
    let reader = "name: reports\nservices: {read: {image: 'read:1', volumes: ['data:/data']}}\n\
                  volumes: {data: {external: true, name: shop_data}}\n";
    stage.up(reader).await.done();
    let down = stage.down(true).await;
    let why = "warning: volume `shop_data` stays: reports/production uses it, as `external`";
    assert!(down.says(why), "{:#?}", down.events);
    let done = down.done();
    assert_eq!((done.removed_volumes, done.kept_volumes), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_is_told_and_the_rest_is_gone() {
    let stage = Stage::new();
    stage.up(&database(1)).await.done();
    stage.stays("cannot remove /var/lib/havre/logs/shop.production");
    let done = stage.down(false).await.done();
    assert_eq!(
        done.errors,
        ["cannot remove /var/lib/havre/logs/shop.production"]
    );
    assert_eq!(stage.stored(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_down_ends_an_up_that_hangs() {
    let stage = Stage::new();
    stage.fate("db", Fate::Hangs);
    let mut up = stage.begin_up("anna", &database(1));
    up.until("db starting").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let done = stage.down(false).await.done();
    assert_eq!(done.replicas, 1);
    up.end().await.refused(
        ErrorCode::Conflict,
        "another operation changed shop/production",
    );
}

#[tokio::test(start_paused = true)]
async fn a_down_goes_on_when_nobody_waits_for_it() {
    let stage = Stage::new();
    stage.up(&database(1)).await.done();
    stage.grace(Duration::from_secs(60));
    let mut down = stage.begin_down(false);
    down.until("db stopping").await;
    down.cancel();
    let told = down.end().await;
    told.refused(
        ErrorCode::Cancelled,
        "cancelled; shop/production is still being taken down; `havre up` brings it back",
    );
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(stage.stored(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn of_two_downs_the_last_one_says_what_becomes_of_volumes() {
    let stage = Stage::new();
    stage.up(&database(1)).await.done();
    stage.grace(Duration::from_secs(10));
    let mut first = stage.begin_down(true);
    first.until("db stopping").await;
    let last = stage.down(false).await.done();
    assert_eq!(last.kept_volumes, ["shop_data"]);
    let first = first.end().await.done();
    assert_eq!(
        (first.removed_volumes, first.kept_volumes),
        (vec![], last.kept_volumes)
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_first_release_that_failed_has_left_goes_too() {
    let stage = Stage::new();
    stage.fate("db", Fate::Crashes(1));
    stage
        .up(&database(1))
        .await
        .refused(ErrorCode::RolledBack, "nothing serves");
    let done = stage.down(true).await.done();
    assert_eq!(done.removed_volumes, ["shop_data"]);
    assert_eq!(stage.leases(), [""; 0]);
}
