//! A database that cannot be written, at any point: what is not on disk is not done.

use std::time::Duration;

use super::world::{QUICK, World, roll_out, seconds, shop, web};
use crate::machine::fake::Behaviour;
use havre_release::{ApplyError, Change};

#[tokio::test(start_paused = true)]
async fn a_rollout_waits_wherever_the_disk_is_full() {
    // Calls to the machine for which that lasts: longer than one round.
    const LASTS: u64 = 7;
    let mut faults = 0;
    for calls in (0..).step_by(2) {
        let world = World::running(shop(1)).await;
        world.machine.must_answer("web");
        let last = world.machine.fill_disk_after(calls, LASTS);
        loop {
            match world.command(roll_out(shop(2))).await {
                Ok(number) => break assert_eq!(number, Some(2)),
                Err(ApplyError::Persist(_)) => world.is_as_on_disk(),
                Err(other) => panic!("{other:?}"),
            }
            seconds(1).await;
        }
        world.settle().await;
        let is_over = world.machine.calls() < last;
        if is_over {
            world.machine.empty_disk();
        }
        assert_eq!(
            world.status().current,
            Some(2),
            "{}",
            world.machine.report()
        );
        world.runs(&["db/1", "web/2", "web/2"]);
        world.is_as_on_disk();
        world.check();
        if is_over {
            break;
        }
        faults += 1;
    }
    assert!(faults > 10, "{faults}");
}

#[tokio::test(start_paused = true)]
async fn commands_are_refused_and_nothing_comes_of_them() {
    let world = World::running(shop(1)).await;
    let before = world.machine.history();
    let full = world.fill_disk();
    for command in [
        roll_out(shop(2)),
        Change::Scale([(havre_model::ServiceName::new("web"), 5)].into()),
        Change::TakeDown { volumes: true },
    ] {
        let refused = world.command(command).await;
        assert!(
            matches!(refused, Err(ApplyError::Persist(_))),
            "{refused:?}"
        );
    }
    seconds(60).await;
    assert_eq!(world.machine.history(), before);
    full.heal();
    world.is_as_on_disk();
    seconds(60).await;
    assert_eq!(
        world.machine.history(),
        before,
        "it does not come back either"
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_that_cannot_be_written_is_told_and_taken_later() {
    let world = World::running(shop(1)).await;
    world.up(shop(2)).await;
    world.until_phase("baking").await;
    let full = world.fill_disk();
    world.until(|status| status.problems.len() == 1).await;
    seconds(30).await;
    assert_eq!(world.status().phase, "baking");
    world.runs(&["db/1", "web/1", "web/1", "web/2", "web/2"]);
    full.heal();
    world.settle().await;
    assert_eq!(world.status().problems, [""; 0]);
    world.runs(&["db/1", "web/2", "web/2"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_success_cannot_be_written_stays_and_nothing_follows_from_it() {
    let world = World::running(shop(1)).await;
    let slow = Behaviour::ends(Duration::from_secs(5), 0);
    world.machine.set("migrate", 2, slow);
    world.up(shop(2)).await;
    seconds(2).await;
    let full = world.fill_disk();
    seconds(30).await;
    world.runs(&["db/1", "migrate/2 Exited", "web/1", "web/1"]);
    full.heal();
    world.settle().await;
    world.runs(&["db/1", "web/2", "web/2"]);
    assert_eq!(world.count("run migrate/2"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_replica_stays_until_it_is_written_down_that_it_goes() {
    let checked = "healthcheck: {test: [CMD, ok]}, deploy: {replicas: 2}";
    let world = World::running(web(checked, QUICK)).await;
    world.machine.must_answer("web");
    let full = world.fill_disk();
    let sick = world.machine.of("web").remove(0);
    world.machine.change(&sick, Behaviour::sickens_after(0));
    seconds(30).await;
    assert_eq!(world.count("stop web/1"), 0);
    full.heal();
    world.settle().await;
    assert_eq!(world.count("stop web/1"), 1);
}
