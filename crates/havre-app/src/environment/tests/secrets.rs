//! Other contents of secrets for replicas that stay.

use std::time::Duration;

use havre_model::ServiceName;
use havre_release::{FailureKind, Release};

use super::restarts::{from, killed_anywhere};
use super::world::{QUICK, World, reloading, roll_out};
use crate::machine::fake::Behaviour;

/// What `web` has where its program knows the contents of a release.
fn told_of(release: &Release) -> Option<(String, bool)> {
    let web = &release.services[&ServiceName::new("web")];
    Some((web.live_contents()?.0, true))
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_reloads_stays_and_the_other_gives_way() {
    let world = World::running(reloading("a", QUICK)).await;
    world.machine.must_answer("web");
    let before = world.machine.of("web");
    world.up(reloading("b", QUICK)).await;
    world.settle().await;
    assert_eq!(world.status().current, Some(2));
    assert_eq!(world.machine.of("web"), before);
    assert_eq!(world.machine.known("web"), told_of(&reloading("b", QUICK)));
    world.happened(&["start worker/2", "given web/1", "reloaded web/1"]);
    world.runs(&["web/1", "worker/2"]);
    assert_eq!(world.count("reloaded web/1"), 1);
    // A program that starts again has read what lies there.
    world.machine.crash(&before[0], 1);
    world.settle().await;
    assert_eq!(world.count("reloaded web/1"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_fails_brings_the_release_before_back_and_says_why() {
    let world = World::running(reloading("a", QUICK)).await;
    let id = world.machine.of("web").remove(0);
    let deaf = Behaviour::reloads(Err("no handler".to_owned()));
    world.machine.change(&id, deaf);
    world.up(reloading("b", QUICK)).await;
    world.until_phase("rolling back").await;
    let reason = "no handler".to_owned();
    let failure = world.status().failure;
    assert_eq!(failure, Some(FailureKind::NotReloaded { reason }));
    // It does not hear of the way back either: it is told again and again, and everybody else.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let status = world.status();
    assert_eq!((status.current, status.phase.as_str()), (Some(1), ""));
    assert!(!status.settled);
    let told = status.problems.join(" ");
    assert!(
        told.contains("does not reload its secrets") && told.contains("no handler"),
        "{told}"
    );
    world.machine.change(&id, Behaviour::default());
    world.settle().await;
    assert_eq!(world.machine.known("web"), told_of(&reloading("a", QUICK)));
    assert_eq!(world.status().problems, Vec::<String>::new());
    world.runs(&["web/1", "worker/1"]);
}

#[tokio::test(start_paused = true)]
async fn daemons_that_are_killed_anywhere_leave_nobody_with_other_contents() {
    let running = async || from(reloading("a", QUICK)).await;
    killed_anywhere(
        1,
        running,
        || roll_out(reloading("b", QUICK)),
        async |world| {
            let report = world.machine.report();
            assert_eq!(world.status().current, Some(2), "{report}");
            assert_eq!(
                world.machine.known("web"),
                told_of(&reloading("b", QUICK)),
                "{report}"
            );
            world.is_as_on_disk();
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn daemons_that_are_killed_on_the_way_back_take_the_contents_back() {
    let quick = "bake: 2s, drain_timeout: 5s";
    let running = async || {
        let world = from(reloading("a", quick)).await;
        world.machine.set("worker", 2, Behaviour::sickens_after(1));
        world
    };
    killed_anywhere(
        2,
        running,
        || roll_out(reloading("b", quick)),
        async |world| {
            let report = world.machine.report();
            assert_eq!(
                world.machine.known("web").map(|known| known.1),
                Some(true),
                "{report}"
            );
            let current = world.status().current;
            let content = if current == Some(1) { "a" } else { "b" };
            assert_eq!(
                world.machine.known("web"),
                told_of(&reloading(content, quick)),
                "{report}"
            );
        },
    )
    .await;
}
