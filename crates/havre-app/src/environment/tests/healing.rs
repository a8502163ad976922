//! Replicas that do not stay well, outside a rollout.

use std::time::Duration;

use super::world::{QUICK, World, seconds, shop, web};
use crate::machine::fake::Behaviour;

const CHECKED: &str = "healthcheck: {test: [CMD, ok]}, deploy: {replicas: 2}";

#[tokio::test(start_paused = true)]
async fn an_unhealthy_replica_is_replaced_and_the_others_serve_on() {
    let world = World::running(web(CHECKED, QUICK)).await;
    world.machine.must_answer("web");
    let sick = world.machine.of("web").remove(0);
    world.machine.change(&sick, Behaviour::sickens_after(0));
    world.until(|status| !status.settled).await;
    world.settle().await;
    world.happened(&["stop web/1", "remove web/1", "start web/1"]);
    assert_eq!(world.count("stop web/1"), 1);
    assert_eq!(world.count("on record: web healed, 1"), 1);
    world.serves(&["web/1", "web/1"]);
}

#[tokio::test(start_paused = true)]
async fn with_all_unhealthy_one_is_replaced_at_a_time_and_the_rest_answer() {
    let world = World::running(web(CHECKED, QUICK)).await;
    for sick in world.machine.of("web") {
        world.machine.change(&sick, Behaviour::sickens_after(0));
    }
    world.until(|status| !status.settled).await;
    world.settle().await;
    assert_eq!(world.count("stop web/1"), 2);
    world.serves(&["web/1", "web/1"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_unhealthy_again_and_again_is_replaced_less_and_less_often() {
    let world = World::running(web("healthcheck: {test: [CMD, ok]}", QUICK)).await;
    world.machine.set("web", 1, Behaviour::sickens_after(2));
    let sick = world.machine.of("web").remove(0);
    world.machine.change(&sick, Behaviour::sickens_after(0));
    seconds(60).await;
    let first = world.count("stop web/1");
    seconds(60).await;
    let second = world.count("stop web/1") - first;
    seconds(480).await;
    assert!(
        (2..=4).contains(&first) && second < first,
        "{first}, {second}"
    );
    let all = world.count("stop web/1");
    assert!((3..=8).contains(&all), "{all}");
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_replica_stays_while_the_edge_cannot_be_reached() {
    let world = World::running(web(CHECKED, QUICK)).await;
    world.machine.set_edge(false);
    let sick = world.machine.of("web").remove(0);
    world.machine.change(&sick, Behaviour::sickens_after(0));
    seconds(120).await;
    assert_eq!(world.count("stop web/1"), 0);
    world.machine.set_edge(true);
    world.settle().await;
    assert_eq!(world.count("stop web/1"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_container_and_one_without_a_trace_are_started_again() {
    let world = World::running(shop(1)).await;
    world.machine.must_answer("web");
    let lost = world.machine.of("web").remove(0);
    world.machine.lose(&lost);
    world.until(|status| !status.settled).await;
    world.settle().await;
    world.happened(&["remove web/1", "start web/1"]);
    let gone = world.machine.of("web").remove(1);
    world.machine.vanish(&gone);
    world.until(|status| !status.settled).await;
    world.settle().await;
    world.runs(&["db/1", "web/1", "web/1"]);
    assert_eq!(world.count("start web/1"), 4);
    assert_eq!(world.count("remove web/1"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_gets_no_requests_until_the_next_one_is_ready() {
    let world = World::running(web("deploy: {replicas: 2}", QUICK)).await;
    let crashed = world.machine.of("web").remove(0);
    world.machine.change(&crashed, Behaviour::ready_after(10));
    world.machine.crash(&crashed, 1);
    world.until(|status| !status.settled).await;
    seconds(5).await;
    world.serves(&["web/1"]);
    world.settle().await;
    world.serves(&["web/1", "web/1"]);
    assert_eq!(
        world.count("start web/1"),
        2,
        "its shim has started it again"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_started_once_is_not_started_again() {
    let world = World::running(web("restart: 'no'", QUICK)).await;
    let once = world.machine.of("web").remove(0);
    world.machine.crash(&once, 1);
    seconds(600).await;
    assert_eq!(world.count("start web/1"), 1);
    world.machine.vanish(&once);
    seconds(600).await;
    assert_eq!(world.count("start web/1"), 1);
    world.runs(&[]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_started_outside_a_rollout_is_tried_again() {
    let world = World::running(web("command: v1", QUICK)).await;
    let refused = crate::machine::fake::Start::Refused("no room".to_owned());
    world.machine.set("web", 1, Behaviour::starts(refused));
    let gone = world.machine.of("web").remove(0);
    world.machine.vanish(&gone);
    world
        .until(|status| status.problems.iter().any(|one| one.ends_with("no room")))
        .await;
    seconds(60).await;
    let tries = world.count("start web/1");
    assert!((4..=8).contains(&tries), "{tries}");
    world.machine.set("web", 1, Behaviour::default());
    world.settle().await;
    assert_eq!(world.status().problems, [""; 0]);
    world.serves(&["web/1"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_settled_before_the_last_replica_is_ready() {
    let world = World::running(shop(1)).await;
    world.machine.set("web", 1, Behaviour::ready_after(30));
    let gone = world.machine.of("web").remove(0);
    world.machine.vanish(&gone);
    seconds(20).await;
    assert!(!world.status().settled);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(world.status().settled);
}
