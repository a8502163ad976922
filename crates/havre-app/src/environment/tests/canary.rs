//! A share of the visitors first.

use havre_release::FailureKind;

use super::world::{World, web};
use crate::machine::fake::Behaviour;

const SHARES: &str = "strategy: canary, steps: [10%, 50%], step: 20s, bake: 5s, drain_timeout: 5s";

#[tokio::test(start_paused = true)]
async fn shares_grow_until_the_new_release_has_all() {
    let world = World::running(web("command: v1", SHARES)).await;
    world.machine.must_answer("web");
    world.up(web("command: v2", SHARES)).await;
    for (phase, permille) in [("canary 0", 100), ("canary 1", 500)] {
        world.until_phase(phase).await;
        assert_eq!(world.machine.canary_permille(), Some(permille));
        world.serves(&["web/1", "web/2"]);
    }
    world.until_phase("baking").await;
    world.serves(&["web/2"]);
    assert_eq!(world.machine.canary_permille(), None);
    world.runs(&["web/1", "web/2"]);
    world.settle().await;
    world.runs(&["web/2"]);
}

#[tokio::test(start_paused = true)]
async fn errors_of_a_share_bring_all_back() {
    let world = World::running(web("command: v1", SHARES)).await;
    world.machine.must_answer("web");
    world.machine.set("web", 2, Behaviour::errors(50));
    world.up(web("command: v2", SHARES)).await;
    world.until_phase("rolling back").await;
    world.serves(&["web/1"]);
    world.settle().await;
    let status = world.status();
    assert_eq!(status.current, Some(1));
    assert!(
        matches!(status.failure, Some(FailureKind::Errors { .. })),
        "{status:?}"
    );
    world.runs(&["web/1"]);
}
