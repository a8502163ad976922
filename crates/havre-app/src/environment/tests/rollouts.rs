//! From one release to the next.

use std::time::Duration;

use super::world::{QUICK, World, release, seconds, shop, shop_services, web};
use crate::machine::fake::Behaviour;

#[tokio::test(start_paused = true)]
async fn start_first_somebody_answers_throughout() {
    let world = World::running(shop(1)).await;
    world.machine.must_answer("web");
    world.up(shop(2)).await;
    world.until_phase("baking").await;
    world.serves(&["web/2", "web/2"]);
    world.runs(&["db/1", "web/1", "web/1", "web/2", "web/2"]);
    world.settle().await;
    assert_eq!(world.status().current, Some(2));
    world.runs(&["db/1", "web/2", "web/2"]);
    world.happened(&["run migrate/2", "start web/2", "stop web/1", "remove web/1"]);
    assert_eq!(world.count("stop db/1"), 0, "it is what it was");
}

#[tokio::test(start_paused = true)]
async fn what_a_database_writes_to_has_one_writer() {
    let services = |db| release(&shop_services(1, db), QUICK);
    let world = World::running(services(1)).await;
    let slow = Behaviour::stops_within(Some(Duration::from_secs(6)));
    let db = world.machine.of("db").remove(0);
    world.machine.change(&db, slow);
    world.up(services(2)).await;
    world.settle().await;
    world.happened(&["stop db/1", "remove db/1", "start db/2"]);
    world.runs(&["db/2", "web/1", "web/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_database_under_another_name_has_the_volume_alone() {
    let services =
        |db: &str| format!("{db}: {{image: d, volumes: [\"data:/data\"]}}\n  web: {{image: w}}");
    let world = World::running(release(&services("db"), QUICK)).await;
    world.up(release(&services("database"), QUICK)).await;
    world.settle().await;
    world.happened(&["stop db/1", "remove db/1", "start database/2"]);
    world.runs(&["database/2", "web/1"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_has_begun_ends_before_it_does() {
    let world = World::running(web("command: v1", QUICK)).await;
    world.machine.set_requests_take(Duration::from_secs(3));
    world.up(web("command: v2", QUICK)).await;
    world.settle().await;
    world.happened(&["start web/2", "stop web/1"]);
    world.runs(&["web/2"]);
}

#[tokio::test(start_paused = true)]
async fn requests_that_never_end_are_given_up_after_the_drain_timeout() {
    let quick = "bake: 1s, drain_timeout: 30s";
    let world = World::running(web("command: v1", quick)).await;
    world.machine.set_requests_take(Duration::from_secs(3600));
    world.up(web("command: v2", quick)).await;
    world.until_phase("finishing").await;
    seconds(25).await;
    world.runs(&["web/1", "web/2"]);
    world.settle().await;
    world.runs(&["web/2"]);
}

#[tokio::test(start_paused = true)]
async fn streams_are_closed_when_the_requests_have_ended() {
    let world = World::running(web("command: v1", "bake: 0s, drain_timeout: 1h")).await;
    world.machine.open_streams("web", 3);
    world
        .up(web("command: v2", "bake: 0s, drain_timeout: 1h"))
        .await;
    seconds(60).await;
    world.settle().await;
    world.runs(&["web/2"]);
}

#[tokio::test(start_paused = true)]
async fn an_edge_that_was_replaced_may_have_requests_of_everybody() {
    let world = World::running(web("command: v1", "bake: 0s, drain_timeout: 1h")).await;
    world.machine.set_predecessor(true);
    world
        .up(web("command: v2", "bake: 0s, drain_timeout: 1h"))
        .await;
    world.until_phase("finishing").await;
    seconds(120).await;
    world.runs(&["web/1", "web/2"]);
    world.machine.set_predecessor(false);
    world.settle().await;
    world.runs(&["web/2"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_serves_ends_while_the_edge_cannot_be_reached() {
    let world = World::running(web("command: v1", QUICK)).await;
    world.machine.must_answer("web");
    world.up(web("command: v2", QUICK)).await;
    world.until_phase("preparing").await;
    world.machine.set_edge(false);
    seconds(120).await;
    world.serves(&["web/1"]);
    assert_eq!(world.count("stop web/1"), 0);
    world.machine.set_edge(true);
    world.settle().await;
    world.runs(&["web/2"]);
    world.serves(&["web/2"]);
}

#[tokio::test(start_paused = true)]
async fn replicas_that_leave_have_their_time_from_when_the_edge_knows() {
    let world = World::running(web("deploy: {replicas: 3}", QUICK)).await;
    world.machine.set_edge(false);
    world.scale("web", 1).await;
    seconds(60).await;
    world.runs(&["web/1", "web/1", "web/1"]);
    world.machine.set_edge(true);
    world.settle().await;
    world.runs(&["web/1"]);
}

#[tokio::test(start_paused = true)]
async fn replicas_are_replaced_group_by_group_where_that_is_asked_for() {
    let keys = |version| {
        format!(
            "command: v{version}, deploy: {{replicas: 4, update_config: {{parallelism: 2, \
             order: start-first, delay: 5s}}}}"
        )
    };
    let world = World::running(web(&keys(1), QUICK)).await;
    world.machine.must_answer("web");
    world.up(web(&keys(2), QUICK)).await;
    world.until_phase("baking").await;
    assert_eq!(world.count("start web/2"), 4);
    world.happened(&["start web/2", "start web/2", "stop web/1", "start web/2"]);
    world.settle().await;
    world.runs(&["web/2"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_release_takes_over_from_one_that_is_under_way() {
    let world = World::running(shop(1)).await;
    world.machine.must_answer("web");
    world.machine.set("web", 2, Behaviour::never_ready());
    world.up(shop(2)).await;
    seconds(8).await;
    assert_eq!(world.up(shop(3)).await, 3);
    world.settle().await;
    assert_eq!(world.status().current, Some(3));
    world.runs(&["db/1", "web/3", "web/3"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_shows_no_container_yet_stands_in_the_way_of_the_next_release() {
    let services = |db| release(&shop_services(1, db), QUICK);
    let world = World::running(services(1)).await;
    let slow = Behaviour::created_within(Duration::from_secs(10));
    world.machine.set("db", 2, slow);
    world.up(services(2)).await;
    while world.count("start db/2") == 0 {
        seconds(1).await;
    }
    world.up(services(3)).await;
    world.settle().await;
    world.happened(&["start db/2", "stop db/2", "remove db/2", "start db/3"]);
    world.runs(&["db/3", "web/1", "web/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_listen_is_killed_after_its_grace_period() {
    let keys = |version| format!("command: v{version}, stop_grace_period: 20s");
    let world = World::running(web(&keys(1), QUICK)).await;
    let deaf = world.machine.of("web").remove(0);
    world.machine.change(&deaf, Behaviour::stops_within(None));
    world.up(web(&keys(2), QUICK)).await;
    world.until_phase("finishing").await;
    seconds(15).await;
    world.runs(&["web/1", "web/2"]);
    world.settle().await;
    world.runs(&["web/2"]);
}

#[tokio::test(start_paused = true)]
async fn pre_stop_hooks_run_before_a_replica_is_told_to_end() {
    let keys = |version| format!("command: v{version}, pre_stop: [{{command: [leave]}}]");
    let world = World::running(web(&keys(1), QUICK)).await;
    world.up(web(&keys(2), QUICK)).await;
    world.settle().await;
    world.happened(&["stop web/1", "pre_stop web/1", "remove web/1"]);
}
