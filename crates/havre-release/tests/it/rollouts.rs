//! What must hold for every rollout.

use std::collections::BTreeMap;
use std::time::Duration;

use havre_model::{Condition, ServiceName};
use havre_release::{Failure, FailureKind, Intent, Phase, ReplicaId, ReplicaState, Role};
use proptest::prelude::*;

use crate::world::{Fate, Shape, World, release};

/// Rounds are 0.7 s; the longest deadline of the policy is 90 s.
const ROUNDS: usize = 500;

fn application() -> Vec<Shape> {
    let healthy = Condition::ServiceHealthy;
    vec![
        Shape {
            exclusive: true,
            ..Shape::new("db")
        },
        Shape {
            replicas: 2,
            routed: true,
            hooks: 1,
            needs: vec![("db", healthy)],
            ..Shape::new("backend")
        },
        Shape {
            needs: vec![("backend", healthy)],
            ..Shape::new("worker")
        },
        Shape {
            routed: true,
            replicas: 2,
            needs: vec![("backend", healthy)],
            ..Shape::new("frontend")
        },
    ]
}

fn with_image(mut shapes: Vec<Shape>, names: &[&str], image: u8) -> Vec<Shape> {
    for shape in shapes
        .iter_mut()
        .filter(|shape| names.contains(&shape.name))
    {
        shape.image = image;
    }
    shapes
}

fn running(shapes: &[Shape]) -> World {
    let mut world = World::new();
    world.roll_out(1, release(shapes));
    world.settle(ROUNDS, |_| {});
    assert!(world.runs_exactly(1), "{}", world.history.join("\n"));
    world
}

/// Makes a replica ill; its name.
fn fall_ill(world: &mut World, service: &str) -> ReplicaId {
    let ill = world
        .replicas
        .values_mut()
        .find(|one| one.service.as_str() == service && one.state == ReplicaState::Ready)
        .expect("one that is well");
    ill.state = ReplicaState::Unhealthy { probe: "no".into() };
    ill.id.clone()
}

#[test]
fn a_replica_that_falls_ill_is_replaced_and_the_others_are_left_alone() {
    let mut world = running(&application());
    for service in ["backend", "db"] {
        let ill = fall_ill(&mut world, service);
        let mut replaced = false;
        world.settle(ROUNDS, |world| {
            let now = world.replicas.get(&ill);
            replaced |= now.is_none_or(|one| !one.state.is_live());
            let others = world.replicas.values().filter(|one| one.id != ill);
            let well = others
                .filter(|one| one.state == ReplicaState::Ready)
                .count();
            assert_eq!(well, 5, "{}", world.history.join("\n"));
        });
        assert!(replaced, "{}", world.history.join("\n"));
        assert!(world.runs_exactly(1), "{}", world.history.join("\n"));
    }
}

#[test]
fn what_does_not_help_is_done_less_and_less_often() {
    let mut world = running(&application());
    let mut chosen = Vec::new();
    let begun = world.now;
    while world.now < begun + Duration::from_secs(1800) {
        if world
            .replicas
            .values()
            .any(|one| one.service.as_str() == "frontend" && one.state == ReplicaState::Ready)
        {
            fall_ill(&mut world, "frontend");
        }
        world.round();
        let heal = &world.desired.heals.get(&ServiceName::new("frontend"));
        if let Some(heal) = heal
            && chosen.last() != Some(&heal.last)
        {
            chosen.push(heal.last);
        }
    }
    // 10, 20, 40, 80, 160 s and then every 5 minutes.
    assert!((8..=11).contains(&chosen.len()), "{}", chosen.len());
    let pauses: Vec<Duration> = chosen
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]).expect("in order"))
        .collect();
    assert!(
        pauses.is_sorted_by(|a, b| *a <= *b + Duration::from_secs(1)),
        "{pauses:?}"
    );
}

#[test]
fn a_first_release_comes_up_in_dependency_order() {
    let world = running(&application());
    let position = |text: &str| {
        world
            .history
            .iter()
            .position(|line| line.contains(text))
            .unwrap_or(usize::MAX)
    };
    let start = |service: &str| {
        position(&format!(
            "Start {{ id: ReplicaId(\"shop.production.{service}."
        ))
    };
    assert!(start("db") < position("RunJob"));
    assert!(position("RunJob") < start("backend"));
    assert!(start("backend") < start("frontend"));
}

#[test]
fn what_did_not_change_is_left_alone() {
    let mut world = running(&application());
    let before: Vec<_> = world.replicas.keys().cloned().collect();
    world.roll_out(2, release(&with_image(application(), &["frontend"], 2)));
    world.settle(ROUNDS, |_| {});
    assert!(world.runs_exactly(2), "{}", world.history.join("\n"));
    let kept = before
        .iter()
        .filter(|id| world.replicas.contains_key(id))
        .count();
    assert_eq!(
        kept,
        before.len() - 2,
        "only the two front ends are replaced"
    );
}

#[test]
fn a_release_that_fails_leaves_the_one_before() {
    for fate in [
        Fate::Unhealthy(2),
        Fate::CrashLoop,
        Fate::CannotStart,
        Fate::Hangs,
    ] {
        let mut world = running(&application());
        let before: Vec<_> = world.replicas.keys().cloned().collect();
        world.fate_of_new = fate;
        world.roll_out(
            2,
            release(&with_image(application(), &["backend", "frontend"], 2)),
        );
        world.settle(ROUNDS, always_served);
        assert!(
            world.runs_exactly(1),
            "{fate:?}:\n{}",
            world.history.join("\n")
        );
        let after: Vec<_> = world.replicas.keys().cloned().collect();
        assert_eq!(
            before, after,
            "{fate:?}: the old replicas were never touched"
        );
        let failure = world.desired.last_failure.expect("the failure is kept");
        assert_eq!(failure.service, ServiceName::new("backend"), "{fate:?}");
        assert_ne!(failure.kind, FailureKind::Aborted);
    }
}

#[test]
fn a_first_release_that_fails_leaves_nothing() {
    let mut world = World::new();
    world.fate_of_new = Fate::Hangs;
    world.roll_out(2, release(&application()));
    world.settle(ROUNDS, |_| {});
    assert!(world.replicas.is_empty(), "{}", world.history.join("\n"));
    assert_eq!(world.desired.current, None);
    assert!(world.desired.last_failure.is_some());
}

#[test]
fn a_first_release_that_is_given_up_halfway_leaves_nothing() {
    let mut world = World::new();
    world.roll_out(1, release(&application()));
    while !world.serving.iter().any(|id| id.0.contains("backend")) {
        world.round();
    }
    let failure = Failure {
        service: ServiceName::new("worker"),
        replica: None,
        kind: FailureKind::Aborted,
    };
    if let Some(rollout) = &mut world.desired.rollout {
        rollout.phase = Phase::GoingBack { failure };
    }
    world.settle(ROUNDS, |_| {});
    assert!(world.replicas.is_empty(), "{}", world.history.join("\n"));
}

#[test]
fn an_exclusive_service_that_fails_comes_back() {
    let mut world = running(&application());
    world.fate_of_new = Fate::Unhealthy(1);
    world.roll_out(2, release(&with_image(application(), &["db"], 2)));
    // The way back is not a new release: the old database starts as it did before.
    world.settle(ROUNDS, |world| {
        one_writer(world);
    });
    assert_eq!(world.desired.current, Some(1));
    assert!(world.desired.rollout.is_none());
}

#[test]
fn a_newer_release_replaces_one_on_its_way() {
    let mut world = running(&application());
    world.fate_of_new = Fate::Hangs;
    world.roll_out(2, release(&with_image(application(), &["backend"], 2)));
    for _ in 0..10 {
        world.round();
    }
    world.fate_of_new = Fate::Fine(2);
    world.roll_out(3, release(&with_image(application(), &["backend"], 3)));
    world.settle(ROUNDS, always_served);
    assert!(world.runs_exactly(3), "{}", world.history.join("\n"));
}

#[test]
fn down_ends_what_is_needed_last() {
    let mut world = running(&application());
    world.desired.intent = Intent::Down { volumes: false };
    let mut database_alive_at_backend_end = false;
    for _ in 0..50 {
        world.desired.rollout = None;
        world.round();
        let live = |name: &str| {
            world
                .replicas
                .values()
                .any(|r| r.service.as_str() == name && r.state.is_live())
        };
        database_alive_at_backend_end |= live("db") && !live("backend");
        assert!(
            live("db") || !live("backend"),
            "the back end outlives its database"
        );
    }
    assert!(world.replicas.is_empty());
    assert!(database_alive_at_backend_end);
}

#[test]
fn a_lost_replica_is_replaced_by_the_same_id() {
    let mut world = running(&application());
    let id = world
        .replicas
        .keys()
        .next()
        .cloned()
        .expect("there are replicas");
    if let Some(replica) = world.replicas.get_mut(&id) {
        replica.state = ReplicaState::Lost;
    }
    world.settle(ROUNDS, |_| {});
    assert!(world.runs_exactly(1));
    assert!(world.replicas.contains_key(&id));
}

/// Every routed service that can start first has someone to answer.
fn always_served(world: &World) {
    let release = &world.releases[&1];
    for route in &release.routes {
        let served = world
            .replicas
            .values()
            .any(|replica| replica.service == route.service && world.serving.contains(&replica.id));
        assert!(
            served,
            "nobody serves {}:\n{}",
            route.service,
            world.history.join("\n")
        );
    }
}

/// Never two configurations of an exclusive service at once.
fn one_writer(world: &World) {
    let mut digests: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for replica in world
        .replicas
        .values()
        .filter(|replica| replica.state.is_live())
    {
        if let Role::Replica { digest, .. } = &replica.role {
            let seen = digests.entry(replica.service.as_str()).or_default();
            if !seen.contains(&digest.0) {
                seen.push(digest.0.clone());
            }
        }
    }
    let exclusive = digests.get("db").map_or(0, Vec::len);
    assert!(exclusive <= 1, "two writers:\n{}", world.history.join("\n"));
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        (0..6u8).prop_map(Fate::Fine),
        (0..6u8).prop_map(Fate::Unhealthy),
        Just(Fate::CrashLoop),
        Just(Fate::CannotStart),
        Just(Fate::Hangs),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever changes and whatever happens to it, a rollout ends in one of the two releases,
    /// routed services are served throughout, and an exclusive one is never run twice.
    #[test]
    fn a_rollout_ends_in_exactly_one_release(
        changed in proptest::collection::vec(0..4usize, 1..4),
        fate in fates(),
        interrupted_after in proptest::option::of(0..20usize),
    ) {
        let names = ["db", "backend", "worker", "frontend"];
        let changed: Vec<&str> = changed.into_iter().map(|index| names[index]).collect();
        let mut world = running(&application());
        world.fate_of_new = fate;
        world.roll_out(2, release(&with_image(application(), &changed, 2)));
        if let Some(rounds) = interrupted_after {
            for _ in 0..rounds {
                world.round();
                always_served(&world);
                one_writer(&world);
            }
            world.roll_out(3, release(&with_image(application(), &changed, 3)));
        }
        let last = if interrupted_after.is_some() { 3 } else { 2 };
        world.settle(ROUNDS, |world| {
            always_served(world);
            one_writer(world);
        });
        let served = world.desired.current;
        prop_assert!(world.desired.rollout.is_none());
        prop_assert!(
            served == Some(last) || served == Some(1) || served == Some(2),
            "{served:?}"
        );
        if matches!(fate, Fate::Fine(_)) {
            prop_assert!(world.runs_exactly(last), "{}", world.history.join("\n"));
        }
    }
}
