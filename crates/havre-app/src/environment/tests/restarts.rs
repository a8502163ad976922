//! Daemons that are killed, at any point: the next one goes on, and it ends as if nothing had been.

use std::time::Duration;

use havre_release::Release;

use super::world::{QUICK, World, release, roll_out, shop, shop_services, web};
use crate::machine::fake::{Behaviour, Cut};
use havre_release::Change;

/// Gives a command again and again, each time with a daemon that is killed at a later call to the
/// machine, until one comes to the end alive. What is not done by then is the next daemon's.
pub(super) async fn killed_anywhere(
    stride: usize,
    running: impl AsyncFn() -> World,
    command: impl Fn() -> Change,
    ends: impl AsyncFn(&mut World),
) {
    const CUTS: [Cut; 2] = [Cut::GoesOn, Cut::Lost];
    let mut kills = 0;
    for (calls, cut) in (0..).step_by(stride).zip(CUTS.into_iter().cycle()) {
        let mut world = running().await;
        world.machine.die_after(calls, cut);
        let given = world.or_death(world.command(command())).await;
        if given.is_some() {
            world.or_death(world.settle_or_go()).await;
        }
        let is_dead = world.machine.is_dead();
        if is_dead {
            kills += 1;
            let is_written = world.is_written_since_the_start();
            world.restart().await;
            if !is_written {
                world.command(command()).await.unwrap();
            }
            world.settle_or_go().await;
        }
        ends(&mut world).await;
        world.check();
        if !is_dead {
            break;
        }
    }
    assert!(kills > 10, "{kills}");
}

pub(super) async fn from(first: Release) -> World {
    let world = World::running(first).await;
    world.note_start();
    world
}

#[tokio::test(start_paused = true)]
async fn a_rollout_comes_to_its_end() {
    let running = async || from(shop(1)).await;
    killed_anywhere(
        1,
        running,
        || roll_out(shop(2)),
        async |world| {
            assert_eq!(
                world.status().current,
                Some(2),
                "{}",
                world.machine.report()
            );
            world.runs(&["db/1", "web/2", "web/2"]);
            world.serves(&["web/2", "web/2"]);
            world.is_as_on_disk();
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_database_is_replaced() {
    let services = |db| release(&shop_services(1, db), QUICK);
    let running = async || from(services(1)).await;
    killed_anywhere(
        3,
        running,
        || roll_out(services(2)),
        async |world| {
            assert_eq!(
                world.status().current,
                Some(2),
                "{}",
                world.machine.report()
            );
            world.runs(&["db/2", "web/1", "web/1"]);
            world.is_as_on_disk();
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_goes_back() {
    let quick = "bake: 1s, drain_timeout: 5s, ready_timeout: 4s";
    let running = async || {
        let world = from(web("command: v1", quick)).await;
        world.machine.set("web", 2, Behaviour::never_ready());
        world
    };
    let command = || roll_out(web("command: v2", quick));
    killed_anywhere(2, running, command, async |world| {
        let status = world.status();
        assert_eq!(status.current, Some(1), "{}", world.machine.report());
        assert!(status.failure.is_some(), "{status:?}");
        world.runs(&["web/1"]);
        world.serves(&["web/1"]);
        world.is_as_on_disk();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn hooks_that_were_broken_off_make_another_replica() {
    let keys = |version| {
        format!(
            "command: v{version}, post_start: [{{command: [warm]}}], \
             pre_stop: [{{command: [leave]}}]"
        )
    };
    let running = async || from(web(&keys(1), QUICK)).await;
    killed_anywhere(
        2,
        running,
        || roll_out(web(&keys(2), QUICK)),
        async |world| {
            assert_eq!(
                world.status().current,
                Some(2),
                "{}",
                world.machine.report()
            );
            world.runs(&["web/2"]);
            world.serves(&["web/2"]);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_goes() {
    let running = async || {
        let world = from(shop(1)).await;
        for id in world.machine.of("db") {
            let slow = Behaviour::stops_within(Some(Duration::from_secs(1)));
            world.machine.change(&id, slow);
        }
        world
    };
    let command = || Change::TakeDown { volumes: true };
    killed_anywhere(1, running, command, async |world| {
        world.gone().await;
        world.runs(&[]);
        assert_eq!(world.machine.volumes(), [""; 0]);
        assert_eq!(world.tables.environments().unwrap(), []);
    })
    .await;
}
