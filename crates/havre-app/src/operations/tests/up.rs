//! `up`: what it makes, refuses, waits for and tells.

use std::time::Duration;

use havre_api::{ErrorCode, ReleaseId};
use havre_model::{Capabilities, Lack};

use crate::fake::{Fate, Stage, shop};

const WEB: &str = "{web: {image: 'web:1'}}";
const WEB_2: &str = "{web: {image: 'web:2'}}";

#[tokio::test(start_paused = true)]
async fn the_first_up_makes_release_1_of_images_that_it_holds() {
    let stage = Stage::new();
    let up = stage.up(&shop(WEB)).await;
    for told in [
        "phase Images",
        "phase Prepare",
        "plan web Create",
        "web starting",
        "web ready 1/1",
    ] {
        assert!(up.says(told), "{told}: {:#?}", up.events);
    }
    let done = up.done();
    assert_eq!((done.release, done.previous), (ReleaseId(1), None));
    assert!(done.changed);
    assert_eq!(stage.images_made(), 1);
    assert_eq!(stage.leases(), ["environment:shop/production"]);
    assert_eq!(stage.changes(), ["shop/production: roll out 1"]);
}

#[tokio::test(start_paused = true)]
async fn an_up_that_changes_nothing_makes_no_release() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    let done = stage.up(&shop(WEB)).await.done();
    assert_eq!(
        (done.release, done.previous),
        (ReleaseId(1), Some(ReleaseId(1)))
    );
    assert!(!done.changed);
    assert_eq!(stage.changes().len(), 1);
    assert_eq!(stage.images_made(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_moves_to_the_next_release() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    let up = stage.up(&shop(WEB_2)).await;
    assert!(up.says("plan web Replace"), "{:#?}", up.events);
    assert!(up.says("web stopped"), "{:#?}", up.events);
    let done = up.done();
    assert_eq!(
        (done.release, done.previous),
        (ReleaseId(2), Some(ReleaseId(1)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_rollout_tells_why_and_the_release_before_serves_on() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    stage.fate("web", Fate::Crashes(3));
    stage.prints("web", &["no DATABASE_URL"]);
    let up = stage.up(&shop(WEB_2)).await;
    let message = "the rollout of shop/production failed at service `web`; release 1 still serves";
    up.refused(ErrorCode::RolledBack, message);
    assert!(up.says("failure of web: "), "{:#?}", up.events);
    assert!(up.says("; no DATABASE_URL"), "{:#?}", up.events);
    assert!(up.says("phase RollBack"), "{:#?}", up.events);
    let status = stage.status(&stage.id()).await;
    assert_eq!(status.desired.current, Some(1));
    assert!(status.settled);
}

#[tokio::test(start_paused = true)]
async fn a_first_release_that_fails_leaves_nothing_that_serves() {
    let stage = Stage::new();
    stage.fate("web", Fate::CannotStart("exec format error"));
    let up = stage.up(&shop(WEB)).await;
    up.refused(
        ErrorCode::RolledBack,
        "nothing serves: it was the first release",
    );
    assert!(
        up.says("failure of web: cannot be started: exec format error"),
        "{:#?}",
        up.events
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_that_has_run_is_told_when_its_release_goes_back() {
    let stage = Stage::new();
    let with_job = "{migrate: {image: 'm:1', command: [migrate]}, \
                    web: {image: 'web:1', depends_on: {migrate: {condition: service_completed_successfully}}}}";
    stage.fate("web", Fate::Unhealthy("503"));
    let up = stage.up(&shop(with_job)).await;
    up.refused(ErrorCode::RolledBack, "failed at service `web`");
    assert!(up.says("job migrate runs migrate"), "{:#?}", up.events);
    assert!(up.says("jobs of the release that failed have run and cannot be undone: migrate"));
    // One that fails itself has not.
    stage.fate("migrate", Fate::Crashes(1));
    let up = stage.up(&shop(with_job)).await;
    assert!(up.says("failure of job migrate"), "{:#?}", up.events);
    assert!(!up.says("cannot be undone"), "{:#?}", up.events);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_to_pause_stands_still_where_it_failed() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    stage.fate("web", Fate::Unhealthy("connection refused"));
    let text = shop(WEB_2) + "\n---\nrollout: {on_failure: pause}\n";
    let up = stage.up(&text).await;
    let error = up.refused(
        ErrorCode::RolledBack,
        "is paused, as `on_failure: pause` asks",
    );
    assert!(error.hint.as_deref().unwrap().contains("rollout abort"));
    // Both are there: the one that serves, and the one to look at.
    assert_eq!(stage.status(&stage.id()).await.instances.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_new_release_lead_back_to_the_one_before() {
    let stage = Stage::new();
    let routed = |tag: u32| shop(&format!("{{web: {{image: 'web:{tag}', ports: ['8080']}}}}"));
    stage.up(&routed(1)).await.done();
    stage.fate("web", Fate::Errs);
    let up = stage.up(&routed(2)).await;
    up.refused(ErrorCode::RolledBack, "failed at service `web`");
    assert!(
        up.says("requests failed; before it 0 of"),
        "{:#?}",
        up.events
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_ups_at_once_the_second_waits_and_is_told_for_whom() {
    let stage = Stage::new();
    let mut first = stage.begin_up("anna", &shop(WEB));
    first.until("web starting").await;
    let second = stage.begin_up("bert", &shop(WEB_2)).end().await;
    assert!(second.says("phase Queue"), "{:#?}", second.events);
    assert!(
        second.says("waiting for `up` of anna, under way for 0 s"),
        "{:#?}",
        second.events
    );
    assert_eq!(first.end().await.done().release, ReleaseId(1));
    assert_eq!(second.done().release, ReleaseId(2));
}

#[tokio::test(start_paused = true)]
async fn who_waits_may_give_up() {
    let stage = Stage::new();
    let mut first = stage.begin_up("anna", &shop(WEB));
    first.until("web starting").await;
    let mut second = stage.begin_up("bert", &shop(WEB_2));
    second.until("phase Queue").await;
    second.cancel();
    let told = second.end().await;
    told.refused(ErrorCode::Cancelled, "cancelled; nothing was changed");
    first.end().await.done();
    assert_eq!(stage.changes(), ["shop/production: roll out 1"]);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait() {
    let stage = Stage::new();
    let mut first = stage.begin_up("anna", &shop(WEB));
    first.until("web starting").await;
    let mut waiting = Vec::new();
    for _ in 0..16 {
        let mut one = stage.begin_up("bert", &shop(WEB_2));
        one.until("phase Queue").await;
        waiting.push(one);
    }
    let refused = stage.begin_up("carl", &shop(WEB_2)).end().await;
    refused.refused(
        ErrorCode::TooMany,
        "too many operations wait for shop/production",
    );
    // Whoever gives up makes room.
    let one = waiting.pop().unwrap();
    one.cancel();
    one.end().await;
    let mut again = stage.begin_up("carl", &shop(WEB_2));
    again.until("phase Queue").await;
    first.end().await.done();
    for one in waiting {
        one.end().await.done();
    }
    again.end().await.done();
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_while_images_are_built_has_changed_nothing() {
    let stage = Stage::new();
    stage.build_takes(Duration::from_secs(60));
    let mut up = stage.begin_up("anna", &shop(WEB));
    up.until("phase Images").await;
    up.cancel();
    up.end()
        .await
        .refused(ErrorCode::Cancelled, "cancelled; nothing was changed");
    assert_eq!(stage.changes(), [""; 0]);
    assert_eq!(stage.leases(), [""; 0]);
    // Nothing is left of the environment that it would have made.
    let error = stage.daemon.environment(&stage.id()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_loses_its_name_stays_until_the_release_has_it() {
    let stage = Stage::new();
    stage.build_takes(Duration::from_secs(60));
    let up = stage.begin_up(
        "anna",
        &shop("{web: {image: 'web:1'}, worker: {image: 'worker:1'}}"),
    );
    while stage.images_made() == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let images = &stage.daemon.platform.images;
    images.remove(&"web:1".parse().unwrap()).unwrap();
    assert_eq!(stage.images_made(), 1);
    up.end().await.done();
}

#[tokio::test(start_paused = true)]
async fn who_gives_a_rollout_up_aborts_it_and_is_told_what_serves() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    stage.fate("web", Fate::Hangs);
    let mut up = stage.begin_up("anna", &shop(WEB_2));
    up.until("web starting").await;
    up.cancel();
    let told = up.end().await;
    told.refused(ErrorCode::Cancelled, "cancelled; release 1 still serves");
    assert!(!told.says("failure"), "{:#?}", told.events);
    assert_eq!(stage.changes()[2..], ["shop/production: abort"]);
}

#[tokio::test(start_paused = true)]
async fn who_gives_the_first_release_up_is_told_that_nothing_serves() {
    let stage = Stage::new();
    stage.fate("web", Fate::Hangs);
    let mut up = stage.begin_up("anna", &shop(WEB));
    up.until("web starting").await;
    up.cancel();
    up.end().await.refused(
        ErrorCode::Cancelled,
        "nothing serves: it was the first release",
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_that_takes_long_is_not_waited_for() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    stage.fate("web", Fate::Hangs);
    stage.grace(Duration::from_secs(120));
    let mut up = stage.begin_up("anna", &shop(WEB_2));
    up.until("web starting").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    up.cancel();
    let told = up.end().await;
    told.refused(
        ErrorCode::Cancelled,
        "shop/production is still rolling back to release 1",
    );
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_too_late_is_told_that_it_goes_on() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    stage.grace(Duration::from_secs(120));
    let mut up = stage.begin_up("anna", &shop(WEB_2));
    up.until("phase CleanUp").await;
    up.cancel();
    let told = up.end().await;
    told.refused(ErrorCode::Cancelled, "had come too far and continues");
    assert_eq!(stage.changes()[2..], ["shop/production: abort refused"]);
}

#[tokio::test(start_paused = true)]
async fn numbers_set_by_hand_give_way_with_a_warning() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    stage.scale("web", 3).await.done();
    let up = stage.up(&shop(WEB)).await;
    assert!(up.says(
        "warning: the number of replicas of web set by `havre scale` is replaced by the file's"
    ));
    // The numbers of the release are what changes: it is one of its own.
    assert_eq!(up.done().release, ReleaseId(2));
    assert_eq!(stage.status(&stage.id()).await.instances.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_up_takes_over_from_a_down_that_still_drains() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    stage.grace(Duration::from_secs(60));
    let mut down = stage.begin_down(false);
    down.until("web stopping").await;
    let up = stage.up(&shop(WEB)).await;
    assert_eq!(up.done().release, ReleaseId(2));
    let told = down.end().await;
    let error = told.refused(
        ErrorCode::Conflict,
        "another operation changed shop/production",
    );
    assert_eq!(
        error.hint.as_deref(),
        Some("an `up` took it over: it runs on")
    );
}

#[tokio::test(start_paused = true)]
async fn an_up_whose_environment_goes_while_it_builds_makes_it_anew() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    stage.grace(Duration::from_secs(5));
    let mut down = stage.begin_down(false);
    down.until("web stopping").await;
    stage.build_takes(Duration::from_secs(60));
    let up = stage.up(&shop(WEB)).await;
    down.end().await.done();
    // Its history went with it.
    assert_eq!(up.done().release, ReleaseId(1));
}

#[tokio::test(start_paused = true)]
async fn a_down_that_comes_while_an_up_builds_is_the_later_command() {
    let stage = Stage::new();
    stage.up(&shop(WEB)).await.done();
    stage.build_takes(Duration::from_secs(60));
    let mut up = stage.begin_up("anna", &shop(WEB_2));
    up.until("phase Images").await;
    stage.down(false).await.done();
    let told = up.end().await;
    told.refused(
        ErrorCode::Conflict,
        "shop/production was taken down meanwhile",
    );
    assert_eq!(stage.stored(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_nobody_has_is_refused_and_nothing_is_held() {
    let stage = Stage::new();
    stage.lacks_image("web:1");
    let up = stage.up(&shop(WEB)).await;
    up.refused(ErrorCode::NotFound, "image web:1 not found");
    assert_eq!(stage.changes(), [""; 0]);
    assert_eq!(stage.leases(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_the_target_lacks_is_refused_before_anything_is_built() {
    let stage = Stage::new();
    let lack = Lack {
        key: "services.*.sysctls".to_owned(),
        values: Vec::new(),
        reason: "it has none".to_owned(),
        hint: "remove it".to_owned(),
    };
    stage.capabilities(Capabilities::new("Fleet", vec![lack]).unwrap());
    let text = shop("{web: {image: 'web:1', sysctls: {net.core.somaxconn: '1'}}}");
    let up = stage.up(&text).await;
    up.refused(
        ErrorCode::Invalid,
        "`sysctls` of service `web` is not possible on Fleet",
    );
    assert_eq!(stage.images_made(), 0);
    let planned = stage.plan(&text).await.unwrap_err();
    assert_eq!(Err(planned), up.answer);
}

#[tokio::test(start_paused = true)]
async fn who_asked_is_in_the_record_of_the_release() {
    let stage = Stage::new();
    stage.begin_up("bert", &shop(WEB)).end().await.done();
    stage.begin_restart(&[]).end().await.done();
    let releases = stage.releases().await;
    let told = releases
        .iter()
        .map(|one| (one.by.as_deref(), one.cause.as_str()));
    assert_eq!(
        Vec::from_iter(told),
        [(Some("anna"), "restart of web"), (Some("bert"), "up")]
    );
}
