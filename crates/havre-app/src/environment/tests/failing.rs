//! Releases that do not come up: the one before serves on.

use std::time::Duration;

use havre_release::FailureKind;

use super::world::{QUICK, World, release, seconds, shop, shop_services, web};
use crate::machine::fake::{Behaviour, Start};

/// A rollout to release 2, whose web service does this, comes back to release 1.
async fn goes_back(behaviour: Behaviour) -> World {
    let world = World::running(shop(1)).await;
    world.machine.must_answer("web");
    world.machine.set("web", 2, behaviour);
    world.up(shop(2)).await;
    world.settle().await;
    let status = world.status();
    assert_eq!(status.current, Some(1), "{}", world.machine.report());
    world.runs(&["db/1", "web/1", "web/1"]);
    world.serves(&["web/1", "web/1"]);
    assert_eq!(world.count("stop web/1"), 0);
    world
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_started_goes_back() {
    for (start, reason) in [
        (Start::Refused("no route".to_owned()), "no route"),
        (Start::Fails("no such file".to_owned()), "no such file"),
    ] {
        let world = goes_back(Behaviour::starts(start)).await;
        let failure = world.status().failure;
        assert!(
            matches!(&failure, Some(FailureKind::CannotStart { reason: told }) if told == reason),
            "{failure:?}"
        );
        assert_eq!(world.explained(), failure);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_never_ready_goes_back_after_its_time() {
    let world = goes_back(Behaviour::never_ready()).await;
    let after = Duration::from_secs(20);
    assert_eq!(
        world.status().failure,
        Some(FailureKind::NotReady { after })
    );
    assert_eq!(world.explained(), world.status().failure);
}

#[tokio::test(start_paused = true)]
async fn one_that_keeps_ending_goes_back() {
    let world = goes_back(Behaviour::ends(Duration::from_millis(300), 3)).await;
    let failure = world.status().failure;
    assert!(
        matches!(&failure, Some(FailureKind::Crashed { exit, .. }) if exit.code == 3),
        "{failure:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_whose_answers_are_errors_goes_back_while_it_is_watched() {
    let world = goes_back(Behaviour::errors(20)).await;
    let failure = world.status().failure;
    assert!(
        matches!(failure, Some(FailureKind::Errors { .. })),
        "{failure:?}"
    );
    world.happened(&["run migrate/2", "start web/2", "stop web/2"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_slowly_goes_back_when_it_has_been_watched() {
    let world = goes_back(Behaviour::answers_in(900)).await;
    let failure = world.status().failure;
    assert!(
        matches!(failure, Some(FailureKind::Slow { .. })),
        "{failure:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_whose_replica_crashes_while_it_is_watched_goes_back() {
    let world = World::running(shop(1)).await;
    world.machine.must_answer("web");
    world.up(shop(2)).await;
    world.until_phase("baking").await;
    let new = world.machine.of_release("web", 2).remove(0);
    let crash = Behaviour::ends(Duration::from_millis(100), 9);
    world.machine.change(&new, crash);
    world.settle().await;
    let failure = world.status().failure;
    assert!(
        matches!(failure, Some(FailureKind::Crashed { .. })),
        "{failure:?}"
    );
    world.runs(&["db/1", "web/1", "web/1"]);
}

#[tokio::test(start_paused = true)]
async fn the_replicas_before_answer_while_all_new_ones_start_again() {
    let world = World::running(shop(1)).await;
    world.up(shop(2)).await;
    world.until_phase("baking").await;
    for new in world.machine.of_release("web", 2) {
        world.machine.crash(&new, 9);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.serves(&["web/1", "web/1"]);
    world.settle().await;
    assert_eq!(world.status().current, Some(2), "anybody may crash once");
    world.serves(&["web/2", "web/2"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_could_watch_has_not_proven_itself() {
    let world = World::running(shop(1)).await;
    world.machine.set("web", 2, Behaviour::errors(20));
    world.machine.set_requests_come(false);
    world.up(shop(2)).await;
    world.until_phase("baking").await;
    seconds(1).await;
    world.machine.set_edge(false);
    world.machine.set_requests_come(true);
    seconds(60).await;
    assert_eq!(world.status().phase, "baking");
    world.machine.set_edge(true);
    world.settle().await;
    let status = world.status();
    assert_eq!(status.current, Some(1), "{}", world.machine.report());
    assert!(matches!(status.failure, Some(FailureKind::Errors { .. })));
    world.runs(&["db/1", "web/1", "web/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_gives_its_volume_back() {
    let services = |db| release(&shop_services(1, db), QUICK);
    let world = World::running(services(1)).await;
    world.machine.set("db", 2, Behaviour::never_ready());
    world.up(services(2)).await;
    world.settle().await;
    assert_eq!(world.status().current, Some(1));
    world.happened(&[
        "stop db/1",
        "remove db/1",
        "start db/2",
        "stop db/2",
        "remove db/2",
        "start db/1",
    ]);
    world.runs(&["db/1", "web/1", "web/1"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_to_stand_still_when_it_fails_waits_for_a_person() {
    let stay = "bake: 2s, ready_timeout: 5s, on_failure: pause";
    let world = World::running(web("command: v1", stay)).await;
    world.machine.set("web", 2, Behaviour::never_ready());
    world.up(web("command: v2", stay)).await;
    world.until(|status| status.is_paused).await;
    assert_eq!(world.explained(), world.status().failure);
    seconds(120).await;
    world.runs(&["web/1", "web/2"]);
    world.serves(&["web/1"]);
    let late = world.machine.of("web");
    for id in late {
        world.machine.change(&id, Behaviour::default());
    }
    world.command(havre_release::Change::Resume).await.unwrap();
    world.settle().await;
    assert_eq!(world.status().current, Some(2));
    assert_eq!(world.explained(), None);
    world.runs(&["web/2"]);
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_there_still_only_where_its_rollout_stands_still() {
    let pausing = "on_failure: pause, bake: 2s, drain_timeout: 5s, ready_timeout: 20s";
    // Behind the first release there is none to stand still beside.
    let world = World::new();
    world.machine.set("web", 1, Behaviour::never_ready());
    world.up(web("command: v1", pausing)).await;
    world.settle().await;
    assert!(world.explained().is_some());
    assert!(!world.failed_one_stays());
    let world = World::running(web("command: v1", pausing)).await;
    world.machine.set("web", 2, Behaviour::never_ready());
    world.up(web("command: v2", pausing)).await;
    world.until(|status| status.is_paused).await;
    assert!(world.failed_one_stays());
    world.runs(&["web/1", "web/2"]);
}
