//! Contents of secrets that change while replicas run.

use std::collections::BTreeSet;
use std::time::Duration;

use havre_model::{OnFailure, RolloutSettings, ServiceName};
use havre_release::{FailureKind, LiveContents, Release, ReplicaId, RolloutPhase};

use crate::application::{ROUNDS, always_served, running};
use crate::world::{Manner, Shape, World, release, with_rollout};

/// A proxy that reloads this secret, beside a service of this image.
fn shapes(secret: &'static str, image: u8) -> [Shape; 2] {
    [
        Shape {
            replicas: 3,
            routed: true,
            secret: Some(secret),
            ..Shape::new("proxy")
        },
        Shape {
            image,
            routed: true,
            ..Shape::new("web")
        },
    ]
}

fn of(release: &Release) -> LiveContents {
    let proxy = &release.services[&ServiceName::new("proxy")];
    proxy.live_contents().expect("it has a secret")
}

fn proxies(world: &World) -> BTreeSet<ReplicaId> {
    let all = world.replicas.values();
    let own = all.filter(|one| one.service.as_str() == "proxy");
    own.map(|one| one.id.clone()).collect()
}

/// Rolls a release out, and asserts that the proxy's replicas stay.
fn roll_out(world: &mut World, number: u64, release: Release) {
    let before = proxies(world);
    world.roll_out(number, release);
    world.settle(ROUNDS, |world| {
        always_served(world);
        assert_eq!(proxies(world), before, "{}", world.history.join("\n"));
    });
}

fn renewals(world: &World) -> usize {
    let all = world.history.iter();
    all.filter(|line| line.starts_with("Renew")).count()
}

#[test]
fn replicas_stay_and_learn_of_another_secret_when_the_others_are_ready() {
    let mut world = running(&shapes("a", 1));
    let new = release(&shapes("b", 2));
    let old = of(&world.releases[&1]);
    assert_ne!(of(&new), old);
    let before = proxies(&world);
    world.roll_out(2, new.clone());
    world.settle(ROUNDS, |world| {
        always_served(world);
        assert_eq!(proxies(world), before);
        let rollout = world.desired.rollout.as_ref();
        if rollout.is_some_and(|one| one.phase == RolloutPhase::Preparing) {
            assert_eq!(world.known("proxy"), BTreeSet::from([old.clone()]));
        }
    });
    assert_eq!(world.desired.current, Some(2));
    assert_eq!(world.known("proxy"), BTreeSet::from([of(&new)]));
    assert_eq!(renewals(&world), 3);
}

#[test]
fn a_rollout_that_fails_takes_the_secret_back() {
    let mut world = running(&shapes("a", 1));
    world.manner_of_new = Manner::Slowly;
    let old = of(&world.releases[&1]);
    roll_out(&mut world, 2, release(&shapes("b", 2)));
    assert_eq!(
        world.desired.current,
        Some(1),
        "{}",
        world.history.join("\n")
    );
    assert_eq!(world.known("proxy"), BTreeSet::from([old]));
    assert_eq!(renewals(&world), 6, "there and back");
}

#[test]
fn a_reload_that_keeps_failing_is_the_failure_of_its_release() {
    for bake in [0, 3] {
        let settings = RolloutSettings {
            bake: Duration::from_secs(bake),
            ..RolloutSettings::default()
        };
        let mut world = running(&shapes("a", 1));
        let old = of(&world.releases[&1]);
        world.reloads_fail = 3;
        roll_out(&mut world, 2, with_rollout(&shapes("b", 1), settings));
        assert_eq!(world.desired.current, Some(1));
        let failure = world.desired.last_failure.clone().expect("a failure");
        let reason = "it does not".to_owned();
        assert_eq!(failure.kind, FailureKind::NotReloaded { reason });
        // Only one of three was tried.
        assert_eq!(renewals(&world), 4, "{}", world.history.join("\n"));
        assert_eq!(world.known("proxy"), BTreeSet::from([old]));
    }
}

#[test]
fn a_reload_that_fails_for_a_while_does_no_harm() {
    let mut world = running(&shapes("a", 1));
    let new = release(&shapes("b", 1));
    world.reloads_fail = 2;
    roll_out(&mut world, 2, new.clone());
    assert_eq!(world.desired.current, Some(2));
    assert_eq!(world.known("proxy"), BTreeSet::from([of(&new)]));
}

#[test]
fn on_the_way_back_it_is_tried_until_it_does_well() {
    let mut world = running(&shapes("a", 1));
    let old = of(&world.releases[&1]);
    // Three there, and four back.
    world.reloads_fail = 7;
    roll_out(&mut world, 2, release(&shapes("b", 1)));
    assert_eq!(world.desired.current, Some(1));
    assert_eq!(world.known("proxy"), BTreeSet::from([old]));
    assert_eq!(world.reloads_fail, 0);
}

#[test]
fn a_rollout_that_stands_still_where_it_failed_goes_on_trying() {
    let settings = RolloutSettings {
        on_failure: OnFailure::Pause,
        ..RolloutSettings::default()
    };
    let mut world = running(&shapes("a", 1));
    world.reloads_fail = 4;
    world.roll_out(2, with_rollout(&shapes("b", 1), settings));
    for _ in 0..60 {
        world.round();
        always_served(&world);
    }
    let rollout = world.desired.rollout.as_ref().expect("it stands still");
    assert!(rollout.failure().is_some());
    assert_eq!(world.known("proxy").len(), 1);
    assert_eq!(world.reloads_fail, 0);
}

#[test]
fn what_died_meanwhile_is_made_with_what_is_wanted() {
    let mut world = running(&shapes("a", 1));
    let new = release(&shapes("b", 1));
    world.roll_out(2, new.clone());
    for _ in 0..2 {
        world.round();
    }
    let lost = proxies(&world).pop_first().expect("a replica");
    world.serving.remove(&lost);
    world.replicas.get_mut(&lost).expect("it").state = havre_release::ReplicaState::Lost;
    world.settle(ROUNDS, |_| {});
    assert_eq!(world.desired.current, Some(2));
    assert_eq!(world.known("proxy"), BTreeSet::from([of(&new)]));
}
