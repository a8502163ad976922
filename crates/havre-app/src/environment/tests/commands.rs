//! What people ask for while something moves, or nothing does.

use havre_release::{FailureKind, Refusal};

use super::world::{QUICK, World, seconds, shop, web};
use crate::machine::fake::Behaviour;
use havre_release::{ApplyError, Change};

const SHARES: &str = "strategy: canary, steps: [10%], step: 20s, bake: 20s, drain_timeout: 5s";
const OPEN: [&str; 3] = ["preparing", "canary 0", "baking"];

/// On its way to release 2, in this phase.
async fn moving(phase: &str) -> World {
    let world = World::running(web("command: v1", SHARES)).await;
    world.machine.must_answer("web");
    world.machine.set("web", 2, Behaviour::ready_after(10));
    world.up(web("command: v2", SHARES)).await;
    world.until_phase(phase).await;
    world
}

fn refusal<T: std::fmt::Debug>(result: Result<T, ApplyError>) -> Refusal {
    match result {
        Err(ApplyError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_given_up_goes_back_from_each_phase() {
    for phase in OPEN {
        let world = moving(phase).await;
        world.command(Change::Abort).await.unwrap();
        world.settle().await;
        let status = world.status();
        assert_eq!(
            (status.current, status.failure),
            (Some(1), Some(FailureKind::Aborted))
        );
        world.runs(&["web/1"]);
        world.serves(&["web/1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_paused_stands_still_in_each_phase() {
    for phase in OPEN {
        let world = moving(phase).await;
        world.command(Change::Pause).await.unwrap();
        assert_eq!(
            refusal(world.command(Change::Pause).await),
            Refusal::PausedAlready
        );
        seconds(90).await;
        let status = world.status();
        assert!(status.is_paused && status.phase == phase, "{status:?}");
        assert_eq!(world.count("stop web/1"), 0, "{phase}");
        world.command(Change::Resume).await.unwrap();
        world.settle().await;
        assert_eq!(world.status().current, Some(2), "{phase}");
        world.runs(&["web/2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_rollout_can_be_given_up() {
    let world = moving("baking").await;
    world.command(Change::Pause).await.unwrap();
    world.command(Change::Abort).await.unwrap();
    world.settle().await;
    assert_eq!(world.status().current, Some(1));
    world.runs(&["web/1"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_state_does_not_allow_is_refused() {
    let world = World::running(web("command: v1", QUICK)).await;
    for command in [Change::Abort, Change::Pause, Change::Resume] {
        assert_eq!(refusal(world.command(command).await), Refusal::NothingMoves);
    }
    world.up(web("command: v2", QUICK)).await;
    assert_eq!(
        refusal(world.command(Change::Resume).await),
        Refusal::NotPaused
    );
    world.until_phase("finishing").await;
    for command in [Change::Abort, Change::Pause] {
        assert_eq!(refusal(world.command(command).await), Refusal::TooLate);
    }
    world.settle().await;
    world.runs(&["web/2"]);
}

#[tokio::test(start_paused = true)]
async fn numbers_of_replicas_change_without_a_release() {
    let world = World::running(shop(1)).await;
    world.machine.must_answer("web");
    world.scale("web", 4).await;
    world.settle().await;
    world.runs(&["db/1", "web/1", "web/1", "web/1", "web/1"]);
    world.scale("web", 1).await;
    world.settle().await;
    world.runs(&["db/1", "web/1"]);
    world.serves(&["web/1"]);
    world.up(shop(1)).await;
    world.settle().await;
    world.runs(&["db/1", "web/1", "web/2"]);
}

#[tokio::test(start_paused = true)]
async fn commands_wait_for_each_other_and_all_are_answered() {
    let world = World::running(web("command: v1", QUICK)).await;
    let releases = [2, 3, 4].map(|version| world.up(web(&format!("command: v{version}"), QUICK)));
    let [two, three, four] = releases;
    assert_eq!(tokio::join!(two, three, four), (2, 3, 4));
    world.settle().await;
    assert_eq!(world.status().current, Some(4));
    world.runs(&["web/4"]);
}

#[tokio::test(start_paused = true)]
async fn a_problem_is_told_until_it_is_settled() {
    let world = World::running(web("command: v1", QUICK)).await;
    world.machine.set_network_problem(Some("no name server"));
    world
        .until(|status| status.problems == ["no name server"])
        .await;
    world.machine.set_network_problem(None);
    world.until(|status| status.problems.is_empty()).await;
}
