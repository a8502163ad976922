//! The first release of an environment.

use std::time::Duration;

use havre_release::FailureKind;

use super::world::{QUICK, World, release, seconds, shop, web};
use crate::machine::fake::{Behaviour, Start};

#[tokio::test(start_paused = true)]
async fn it_comes_up_in_the_order_of_its_dependencies() {
    let world = World::running(shop(1)).await;
    world.runs(&["db/1", "web/1", "web/1"]);
    world.serves(&["web/1", "web/1"]);
    world.happened(&["start db/1", "run migrate/1", "start web/1", "start web/1"]);
    assert_eq!(world.count("run migrate/1"), 1);
    assert_eq!(world.machine.volumes(), ["shop_data"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_waits_for_the_health_of_what_it_needs() {
    let world = World::new();
    world.machine.set("db", 1, Behaviour::ready_after(15));
    world.up(shop(1)).await;
    seconds(14).await;
    world.runs(&["db/1"]);
    world.settle().await;
    world.runs(&["db/1", "web/1", "web/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_ends_it_before_anything_needs_it() {
    let world = World::new();
    let failed = Behaviour::ends(Duration::from_secs(3), 4);
    world.machine.set("migrate", 1, failed);
    world.up(shop(1)).await;
    world.settle().await;
    let status = world.status();
    assert_eq!(status.current, None);
    assert!(
        matches!(&status.failure, Some(FailureKind::JobFailed { exit }) if exit.code == 4),
        "{status:?}"
    );
    assert_eq!(world.explained(), status.failure);
    assert_eq!(world.count("start web/1"), 0);
    world.runs(&[]);
}

#[tokio::test(start_paused = true)]
async fn the_next_attempt_begins_with_a_clean_slate() {
    let world = World::new();
    let reason = "no such file".to_owned();
    world
        .machine
        .set("web", 1, Behaviour::starts(Start::Refused(reason)));
    world.up(web("command: v1", QUICK)).await;
    world.settle().await;
    assert_eq!(world.status().current, None);
    assert_eq!(world.up(web("command: v1", QUICK)).await, 2);
    world.settle().await;
    assert_eq!(world.status().current, Some(2));
    assert_eq!(world.explained(), None);
    assert_eq!(world.status().problems, [""; 0]);
    world.runs(&["web/2"]);
}

#[tokio::test(start_paused = true)]
async fn post_start_hooks_have_ended_before_a_replica_serves() {
    let world = World::new();
    let slow = Behaviour::post_start(Ok(Duration::from_secs(8)));
    world.machine.set("web", 1, slow);
    world
        .up(web("post_start: [{command: [warm]}]", QUICK))
        .await;
    seconds(7).await;
    world.serves(&[]);
    world.settle().await;
    world.happened(&["start web/1", "post_start web/1"]);
    world.serves(&["web/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_post_start_hook_that_fails_fails_the_release() {
    let world = World::new();
    world.machine.set(
        "web",
        1,
        Behaviour::post_start(Err("warm ended with 1".to_owned())),
    );
    world
        .up(web("post_start: [{command: [warm]}]", QUICK))
        .await;
    world.settle().await;
    let failure = world.status().failure;
    assert!(
        matches!(&failure, Some(FailureKind::CannotStart { reason }) if reason.contains("warm")),
        "{failure:?}"
    );
    world.runs(&[]);
}

#[tokio::test(start_paused = true)]
async fn a_service_in_anothers_network_starts_after_it() {
    let world = World::new();
    let services = "vpn: {image: v, command: v1}\n  \
                    web: {image: w}\n  side: {image: s, network_mode: 'service:vpn'}";
    world.up(release(services, QUICK)).await;
    world.settle().await;
    world.happened(&["start vpn/1", "start side/1"]);
    world.runs(&["side/1", "vpn/1", "web/1"]);
    let services = services.replace("v1", "v2");
    world.up(release(&services, QUICK)).await;
    world.settle().await;
    world.runs(&["side/2", "vpn/2", "web/1"]);
}
