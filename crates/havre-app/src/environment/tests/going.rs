//! An environment that is to go.

use std::time::Duration;

use super::world::{QUICK, World, roll_out, seconds, shop, web};
use crate::machine::fake::Behaviour;
use havre_release::{ApplyError, Change};

const DOWN: Change = Change::TakeDown { volumes: false };

fn is_forgotten(world: &World) -> bool {
    let rows = world.tables.environments().unwrap();
    let releases = world.tables.releases("shop", "production", 10).unwrap();
    rows.is_empty() && releases.is_empty()
}

#[tokio::test(start_paused = true)]
async fn it_ends_those_first_that_need_others_and_is_forgotten() {
    let mut world = World::running(shop(1)).await;
    world.command(DOWN).await.unwrap();
    world.gone().await;
    world.happened(&["stop web/1", "stop db/1", "dismantle", "release images"]);
    world.runs(&[]);
    assert!(is_forgotten(&world));
    assert_eq!(world.machine.volumes(), ["shop_data"]);
    let late = world.command(roll_out(shop(2))).await;
    assert!(matches!(late, Err(ApplyError::Ended)), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn its_volumes_go_where_that_is_asked_for() {
    let mut world = World::running(shop(1)).await;
    world
        .command(Change::TakeDown { volumes: true })
        .await
        .unwrap();
    world.gone().await;
    assert_eq!(world.machine.volumes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn it_may_go_in_the_middle_of_a_rollout() {
    for phase in ["preparing", "baking"] {
        let mut world = World::running(shop(1)).await;
        world.up(shop(2)).await;
        world.until_phase(phase).await;
        world.command(DOWN).await.unwrap();
        world.gone().await;
        world.runs(&[]);
        assert!(is_forgotten(&world));
    }
}

#[tokio::test(start_paused = true)]
async fn an_up_while_it_goes_brings_it_back() {
    let world = World::running(shop(1)).await;
    for id in world.machine.of("db") {
        world
            .machine
            .change(&id, Behaviour::stops_within(Some(Duration::from_secs(8))));
    }
    world.command(DOWN).await.unwrap();
    seconds(4).await;
    world.up(shop(2)).await;
    world.settle().await;
    assert_eq!(world.status().current, Some(2));
    world.runs(&["db/2", "web/2", "web/2"]);
}

#[tokio::test(start_paused = true)]
async fn it_goes_where_the_edge_cannot_be_reached() {
    let mut world = World::running(web("command: v1", QUICK)).await;
    world.machine.set_edge(false);
    world.command(DOWN).await.unwrap();
    world.gone().await;
    world.runs(&[]);
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_forgotten_is_there_until_it_can() {
    let mut world = World::running(shop(1)).await;
    world
        .command(Change::TakeDown { volumes: true })
        .await
        .unwrap();
    let full = world.fill_disk();
    seconds(60).await;
    assert!(!world.task_has_ended());
    assert_eq!(world.status().problems.len(), 1, "{:?}", world.status());
    assert_eq!(world.count("release images"), 0);
    full.heal();
    world.gone().await;
    assert!(is_forgotten(&world));
}

#[tokio::test(start_paused = true)]
async fn the_next_daemon_goes_on_with_it() {
    let mut world = World::running(shop(1)).await;
    for id in world.machine.of("db") {
        world
            .machine
            .change(&id, Behaviour::stops_within(Some(Duration::from_secs(8))));
    }
    world
        .command(Change::TakeDown { volumes: true })
        .await
        .unwrap();
    seconds(2).await;
    world.restart().await;
    world.gone().await;
    world.runs(&[]);
    assert!(is_forgotten(&world));
    assert_eq!(world.machine.volumes(), [""; 0]);
}
