//! What a rollout does, case by case.

use std::collections::BTreeSet;
use std::time::Duration;

use havre_model::{FoundDatabases, OnFailure, RolloutSettings, ServiceName, UpdateOrder};
use havre_release::{
    Desired, ExitInfo, FailedProbe, FailureKind, Heal, Intent, Refusal, Release, Replica,
    ReplicaId, ReplicaState, Role, RolloutPhase, Strategy, StrategyReason, WriteContext, hold,
};

use crate::application::{
    ROUNDS, always_served, application, canary, one_job, one_writer, renamed, running, with_image,
};
use crate::world::{ENVIRONMENT, Fate, Manner, Shape, World, release, with_rollout};

/// Makes a replica unhealthy; its name.
fn become_unhealthy(world: &mut World, service: &str) -> ReplicaId {
    let unhealthy = world
        .replicas
        .values_mut()
        .find(|one| one.service.as_str() == service && one.state == ReplicaState::Ready)
        .expect("one that is well");
    unhealthy.state = ReplicaState::Unhealthy {
        failed: FailedProbe::Health,
        probe: "no".into(),
    };
    unhealthy.id.clone()
}

#[test]
fn a_replica_that_falls_ill_is_replaced_and_the_others_are_left_alone() {
    let mut world = running(&application());
    for service in ["backend", "db"] {
        let unhealthy = become_unhealthy(&mut world, service);
        let mut replaced = false;
        world.settle(ROUNDS, |world| {
            let now = world.replicas.get(&unhealthy);
            replaced |= now.is_none_or(|one| !one.state.is_live());
            let others = world.replicas.values().filter(|one| one.id != unhealthy);
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
fn a_replica_whose_policy_gives_up_stays_ended_and_says_so_until_it_is_restarted() {
    let shape = Shape {
        tries: Some(3),
        ..Shape::new("worker")
    };
    let mut world = running(std::slice::from_ref(&shape));
    let replica = world.replicas.values_mut().next().expect("the worker");
    let id = replica.id.clone();
    let ended = |requested| ReplicaState::Ended {
        exit: ExitInfo {
            code: 1,
            signal: None,
            oom_killed: false,
            requested,
        },
    };
    (replica.state, replica.restarts) = (ended(false), 3);
    let until = world.now + Duration::from_secs(600);
    while world.now < until {
        world.round();
        assert_eq!(world.replicas[&id].state, ended(false));
    }
    let reason = &world.reasons["worker"];
    assert!(
        reason.ends_with("is not started again, after 3 restarts"),
        "{reason}"
    );
    // It holds up no release of the others.
    let other = |image| Shape {
        image,
        ..Shape::new("mailer")
    };
    for (number, image) in [(2, 1), (3, 2)] {
        let begun = world.now;
        world.roll_out(number, release(&[shape.clone(), other(image)]));
        world.settle(ROUNDS, |_| {});
        assert_eq!(world.desired.current, Some(number));
        assert!(world.now < begun + Duration::from_secs(60));
        assert_eq!(world.replicas[&id].state, ended(false));
    }
    let mut again = release(&[shape]);
    again
        .services
        .values_mut()
        .for_each(|service| service.set_restarts(1));
    world.roll_out(4, again);
    world.settle(ROUNDS, |_| {});
    assert!(world.runs_exactly(4), "{}", world.history.join("\n"));
    // One that was told to end is no crash.
    let replica = world.replicas.values_mut().find(|one| one.state.is_live());
    replica.expect("the worker").state = ended(true);
    world.settle(ROUNDS, |_| {});
    assert!(world.runs_exactly(4), "{}", world.history.join("\n"));
}

#[test]
fn a_worker_that_is_replaced_waits_for_no_callers() {
    let asked = Some(UpdateOrder::StartFirst);
    for (name, order, waits) in [
        ("worker", None, false),
        ("worker", asked, false),
        ("mailer", asked, true),
    ] {
        let shape = |image| Shape {
            image,
            order,
            ..Shape::new(name)
        };
        let mut world = running(&[shape(1)]);
        world.policy.min_drain = Duration::from_secs(20);
        let begun = world.now;
        world.roll_out(2, release(&[shape(2)]));
        world.settle(ROUNDS, |_| {});
        assert!(world.runs_exactly(2), "{}", world.history.join("\n"));
        let took = world.now.duration_since(begun).expect("later");
        assert_eq!(took >= Duration::from_secs(20), waits, "{name}: {took:?}");
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
            become_unhealthy(&mut world, "frontend");
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

/// However long that lasts: the edge may go by an older state, which names them.
#[test]
fn nobody_drains_by_the_clock_alone_while_nothing_is_known_of_the_edge() {
    let mut world = running(&application());
    world.roll_out(2, release(&with_image(application(), &["backend"], 2)));
    let of_old = |world: &World| {
        let backends = world.replicas.iter();
        let live = backends.filter(|(_, one)| one.service.as_str() == "backend");
        let live = live.filter(|(_, one)| one.state == ReplicaState::Ready);
        live.map(|(id, _)| id.clone()).collect::<BTreeSet<_>>()
    };
    let old = of_old(&world);
    while old.iter().any(|id| world.serving.contains(id)) {
        world.round();
    }
    world.edge_is_silent = true;
    let drained = RolloutSettings::default().drain_timeout * 3;
    let until = world.now + drained;
    while world.now < until {
        world.round();
        assert!(
            old.is_subset(&of_old(&world)),
            "{}",
            world.history.join("\n")
        );
    }
    world.edge_is_silent = false;
    world.settle(ROUNDS, always_served);
    assert!(world.runs_exactly(2), "{}", world.history.join("\n"));
}

#[test]
fn a_start_that_took_longer_is_no_other_step() {
    let world = running(&application());
    let mut timed = world.desired.clone();
    timed
        .starts
        .insert(ServiceName::new("db"), Duration::from_secs(9));
    assert!(timed.is_the_same_step(&world.desired));
    timed.current = Some(2);
    assert!(!timed.is_the_same_step(&world.desired));
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
    assert_eq!(world.desired.last_failed, Some(2));
}

#[test]
fn a_first_release_that_is_given_up_halfway_leaves_nothing() {
    let mut world = World::new();
    world.roll_out(1, release(&application()));
    while !world.serving.iter().any(|id| id.0.contains("backend")) {
        world.round();
    }
    let given_up = world.releases[&1].clone();
    assert_eq!(world.desired.abort(&given_up, world.now), Ok(()));
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
    world.desired.intent = Intent::Down {
        remove_volumes: BTreeSet::new(),
    };
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

#[test]
fn a_release_that_answers_worse_goes_back_to_replicas_that_waited() {
    for manner in [Manner::Errors, Manner::Slowly] {
        let mut world = running(&application());
        let before: Vec<_> = ids_of(&world, "backend");
        world.manner_of_new = manner;
        world.roll_out(2, release(&with_image(application(), &["backend"], 2)));
        world.settle(ROUNDS, always_served);
        assert!(world.runs_exactly(1), "{}", world.history.join("\n"));
        assert_eq!(ids_of(&world, "backend"), before, "they never ended");
        let failure = world.desired.last_failure.clone().expect("a failure");
        assert_eq!(failure.service, ServiceName::new("backend"));
        match (manner, failure.kind) {
            (Manner::Errors, FailureKind::Errors { .. })
            | (Manner::Slowly, FailureKind::Slow { .. }) => {}
            (_, other) => panic!("{manner:?}: {other:?}"),
        }
    }
}

#[test]
fn a_release_that_cannot_answer_worse_than_before_is_let_in() {
    let mut world = running(&application());
    world.manner_of_new = Manner::Well;
    world.roll_out(2, release(&with_image(application(), &["backend"], 2)));
    let mut watched = false;
    world.settle(ROUNDS, |world| {
        watched |= is_baking(world);
        always_served(world);
    });
    assert!(watched, "{}", world.history.join("\n"));
    assert!(world.runs_exactly(2), "{}", world.history.join("\n"));
}

#[test]
fn a_canary_grows_by_its_steps_and_one_that_fails_never_gets_the_rest() {
    for (manner, last) in [(Manner::Well, 2), (Manner::Errors, 1)] {
        let mut world = running(&application());
        world.manner_of_new = manner;
        let next = with_image(application(), &["backend", "frontend"], 2);
        world.roll_out(2, with_rollout(&next, canary()));
        let mut shares = Vec::new();
        world.settle(ROUNDS, |world| {
            always_served(world);
            let share = world.canary.get("backend").copied();
            if shares.last() != Some(&share) {
                shares.push(share);
            }
        });
        assert!(world.runs_exactly(last), "{}", world.history.join("\n"));
        let expected: &[Option<u32>] = match manner {
            Manner::Well => &[None, Some(100), Some(500), None],
            Manner::Errors | Manner::Slowly => &[None, Some(100), None],
        };
        assert_eq!(shares, expected);
    }
}

#[test]
fn a_rollout_that_is_paused_stands_still_until_it_is_resumed() {
    let mut world = running(&application());
    world.roll_out(
        2,
        with_rollout(&with_image(application(), &["backend"], 2), canary()),
    );
    while world.canary.is_empty() {
        world.round();
    }
    assert_eq!(world.desired.pause(world.now), Ok(()));
    assert_eq!(world.desired.pause(world.now), Err(Refusal::PausedAlready));
    for _ in 0..50 {
        world.round();
        always_served(&world);
        assert_eq!(world.canary.get("backend"), Some(&100));
    }
    assert_eq!(world.desired.resume(world.now), Ok(()));
    assert_eq!(world.desired.resume(world.now), Err(Refusal::NotPaused));
    world.round();
    assert_eq!(world.canary.get("backend"), Some(&100), "its time goes on");
    world.settle(ROUNDS, always_served);
    assert!(world.runs_exactly(2), "{}", world.history.join("\n"));
    assert_eq!(world.desired.pause(world.now), Err(Refusal::NothingMoves));
}

#[test]
fn a_rollout_that_is_to_pause_when_it_fails_waits_for_a_person() {
    let mut world = running(&application());
    world.manner_of_new = Manner::Errors;
    let settings = RolloutSettings {
        on_failure: OnFailure::Pause,
        ..canary()
    };
    let next = release_with(&["backend"], settings);
    world.roll_out(2, next.clone());
    let paused = |world: &World| {
        let rollout = world.desired.rollout.as_ref();
        rollout.is_some_and(|rollout| rollout.pause.is_some())
    };
    while !paused(&world) {
        world.round();
    }
    for _ in 0..20 {
        world.round();
        assert!(paused(&world));
        always_served(&world);
    }
    assert_eq!(world.desired.abort(&next, world.now), Ok(()));
    assert_eq!(world.desired.abort(&next, world.now), Err(Refusal::TooLate));
    world.settle(ROUNDS, always_served);
    assert!(world.runs_exactly(1));
    let failure = world.desired.last_failure.expect("what stopped it");
    assert!(matches!(failure.kind, FailureKind::Errors { .. }));
}

fn release_with(changed: &[&str], rollout: RolloutSettings) -> Release {
    with_rollout(&with_image(application(), changed, 2), rollout)
}

#[test]
fn a_service_may_be_replaced_group_by_group() {
    for exclusive in [false, true] {
        let mut shapes = vec![Shape {
            routed: true,
            replicas: 5,
            at_a_time: Some(2),
            order: exclusive.then_some(UpdateOrder::StopFirst),
            ..Shape::new("web")
        }];
        let mut world = running(&shapes);
        shapes[0].image = 2;
        world.roll_out(2, release(&shapes));
        let (mut most, mut least) = (0, usize::MAX);
        world.settle(ROUNDS, |world| {
            let live = world.replicas.values().filter(|one| one.state.is_live());
            most = most.max(live.count());
            least = least.min(world.serving.len());
        });
        assert!(world.runs_exactly(2), "{}", world.history.join("\n"));
        match exclusive {
            true => assert_eq!((most, least), (5, 3), "two make place at a time"),
            false => assert_eq!((most, least), (7, 5), "two more at a time"),
        }
    }
}

#[test]
fn groups_that_were_replaced_come_back_when_a_later_one_fails() {
    let mut shapes = vec![Shape {
        routed: true,
        replicas: 4,
        at_a_time: Some(2),
        ..Shape::new("web")
    }];
    let mut world = running(&shapes);
    shapes[0].image = 2;
    world.roll_out(2, release(&shapes));
    while world.new_ones_serving() < 2 {
        world.round();
    }
    world.fate_of_new = Fate::CrashLoop;
    world.settle(ROUNDS, |world| {
        always_served(world);
        assert!(world.serving.len() >= 2, "{}", world.history.join("\n"));
    });
    assert!(world.runs_exactly(1), "{}", world.history.join("\n"));
}

#[test]
fn a_single_worker_never_runs_twice() {
    let world = running(&application());
    let release = &world.releases[&1];
    let found = FoundDatabases::default();
    let of = |name: &str| release.strategy(&ServiceName::new(name), &found);
    assert_eq!(of("worker"), (Strategy::StopFirst, StrategyReason::Worker));
    assert_eq!(
        of("backend"),
        (Strategy::StartFirst, StrategyReason::Default)
    );
}

fn ids_of(world: &World, service: &str) -> Vec<ReplicaId> {
    let of = world.replicas.values();
    of.filter(|one| one.service.as_str() == service)
        .map(|one| one.id.clone())
        .collect()
}

fn is_baking(world: &World) -> bool {
    let rollout = world.desired.rollout.as_ref();
    rollout.is_some_and(|rollout| matches!(rollout.phase, RolloutPhase::Baking { .. }))
}

#[test]
fn a_service_that_a_release_has_no_more_ends() {
    let mut world = running(&[Shape::new("worker"), Shape::new("mailer")]);
    world.roll_out(2, release(&[Shape::new("worker")]));
    world.settle(ROUNDS, |_| {});
    assert!(world.runs_exactly(2), "{}", world.history.join("\n"));
    assert_eq!(world.replicas.len(), 1, "{}", world.history.join("\n"));
}

#[test]
fn a_number_of_replicas_that_no_machine_could_hold_is_not_tried() {
    // As an earlier version has written it down.
    let stored = r#"{"current": null, "current_since": null, "rollout": null,
        "last_failure": null, "scale": {"web": 2147483648}}"#;
    let desired: Desired = serde_json::from_str(stored).unwrap();
    let web = ServiceName::new("web");
    assert_eq!(desired.replicas(&web, 2), 1000);
    assert_eq!(Desired::default().replicas(&web, u32::MAX), 1000);
}

#[test]
fn a_database_under_another_name_starts_when_the_one_before_has_ended() {
    for (fate, ends_in) in [(Fate::Fine(2), 2), (Fate::Unhealthy(2), 1)] {
        let mut world = running(&application());
        world.fate_of_new = fate;
        world.roll_out(2, release(&renamed(application(), "db", "database")));
        world.settle(ROUNDS, one_writer);
        assert!(world.runs_exactly(ends_in), "{}", world.history.join("\n"));
    }
}

#[test]
fn one_that_takes_over_a_volume_waits_for_a_release_given_up_halfway() {
    let mut world = running(&application());
    world.roll_out(2, release(&renamed(application(), "db", "database")));
    while !world.replicas.keys().any(|id| id.0.contains("database")) {
        world.round();
        one_writer(&world);
    }
    world.roll_out(3, release(&renamed(application(), "db", "postgres")));
    world.settle(ROUNDS, one_writer);
    assert!(world.runs_exactly(3), "{}", world.history.join("\n"));
}

/// Until a start of `service` for a release other than the first is under way.
fn until_creating(world: &mut World, service: &str) {
    let creating =
        |one: &Replica| one.service.as_str() == service && one.state == ReplicaState::Creating;
    while !world.replicas.values().any(creating) {
        world.round();
        one_writer(world);
        one_job(world);
    }
}

#[test]
fn a_database_waits_for_one_whose_start_is_under_way() {
    for newer in [false, true] {
        let mut world = running(&application());
        world.roll_out(2, release(&with_image(application(), &["db"], 2)));
        until_creating(&mut world, "db");
        match newer {
            true => world.roll_out(3, release(&with_image(application(), &["db"], 3))),
            false => {
                let given_up = world.releases[&2].clone();
                world.desired.abort(&given_up, world.now).unwrap();
            }
        }
        world.settle(ROUNDS, one_writer);
        let ends_in = if newer { 3 } else { 1 };
        assert!(world.runs_exactly(ends_in), "{}", world.history.join("\n"));
    }
}

#[test]
fn a_migration_waits_for_the_one_of_a_release_that_was_given_up() {
    let next = |image| release(&with_image(application(), &["backend"], image));
    // Its start may be under way, or it runs.
    for rounds in 0..3 {
        let mut world = running(&application());
        world.fate_of_new = Fate::Fine(4);
        world.roll_out(2, next(2));
        until_creating(&mut world, "backend");
        for _ in 0..rounds {
            world.round();
        }
        world.roll_out(3, next(3));
        world.settle(ROUNDS, one_job);
        assert!(world.runs_exactly(3), "{}", world.history.join("\n"));
    }
}

#[test]
fn what_shares_a_volume_in_one_release_goes_on_sharing_it() {
    let shapes = |image| {
        ["db", "backup"].map(|name| Shape {
            volume: Some("data"),
            image,
            ..Shape::new(name)
        })
    };
    let mut world = running(&shapes(1));
    let next = release(&shapes(2));
    let found = FoundDatabases::default();
    let ground = WriteContext {
        environment: ENVIRONMENT,
        databases: &found,
    };
    let taken_over = next.taken_over(ground, &world.releases[&1]);
    assert_eq!(taken_over.count(), 0);
    world.roll_out(2, next);
    world.settle(ROUNDS, |_| {});
    assert!(world.runs_exactly(2), "{}", world.history.join("\n"));
}

#[test]
fn a_database_waits_for_one_whose_name_now_stands_for_something_else() {
    let shape = |name, program| Shape {
        volume: Some("data"),
        program: Some(program),
        image: if program == "backup" { 2 } else { 1 },
        ..Shape::new(name)
    };
    let before = [shape("db", "postgres")];
    let after = [shape("database", "postgres"), shape("db", "backup")];
    let beside = [shape("database", "backup"), shape("db", "postgres")];
    let alone = [shape("database", "postgres")];
    // The old name goes on in another role, and the new one had another role before.
    for (old, new) in [(&before[..], &after[..]), (&beside[..], &alone[..])] {
        let servers = |world: &World| {
            let live = world.replicas.values().filter(|one| one.state.is_live());
            let serves = |one: &&Replica| {
                let Role::Replica { digest, .. } = &one.role else {
                    return false;
                };
                let mut services = world.releases.values().flat_map(|all| &all.services);
                services.any(|(name, service)| {
                    *name == one.service
                        && service.digest() == digest
                        && service.service.image.as_deref() == Some("postgres")
                })
            };
            live.filter(serves).count()
        };
        let mut world = running(old);
        world.roll_out(2, release(new));
        world.settle(ROUNDS, |world| {
            assert!(servers(world) <= 1, "{}", world.history.join("\n"));
        });
        assert!(world.runs_exactly(2), "{}", world.history.join("\n"));
    }
}

#[test]
fn what_answers_starts_first_though_it_writes_unless_it_keeps_a_database() {
    for database in [false, true] {
        let shape = |image| Shape {
            routed: true,
            volume: Some("data"),
            image,
            ..Shape::new("web")
        };
        let mut world = running(&[shape(1)]);
        if database {
            let next = release(&[shape(2)]);
            let mount = &next.services[&ServiceName::new("web")].service.mounts[0];
            world.desired.databases.note(mount, "app.db".into());
        }
        let (mut most, mut unserved) = (0, 0);
        world.roll_out(2, release(&[shape(2)]));
        world.settle(ROUNDS, |world| {
            let live = world.replicas.values().filter(|one| one.state.is_live());
            most = most.max(live.count());
            unserved += usize::from(world.serving.is_empty());
        });
        assert!(world.runs_exactly(2), "{}", world.history.join("\n"));
        match database {
            true => assert_eq!(most, 1, "two servers on one database"),
            false => assert_eq!((most, unserved), (2, 0)),
        }
    }
}

#[test]
fn a_start_is_measured_until_the_next_one() {
    let mut world = running(&[Shape::new("worker")]);
    let name = ServiceName::new("worker");
    assert_eq!(world.desired.starts.get(&name), None);
    let took = |world: &mut World, seconds: Option<u64>| {
        let replica = world.replicas.values_mut().next().expect("the worker");
        replica.ready_after = seconds.map(Duration::from_secs);
        world.round();
        world.desired.starts.get(&name).map(Duration::as_secs)
    };
    assert_eq!(took(&mut world, Some(40)), Some(40));
    // Nobody has seen the start of one that a restart of the daemon has found.
    assert_eq!(took(&mut world, None), Some(40));
    assert_eq!(took(&mut world, Some(3)), Some(3));
    world.roll_out(2, release(&[Shape::new("mailer")]));
    world.settle(ROUNDS, |_| {});
    world.releases.remove(&1);
    world.round();
    assert!(world.desired.starts.is_empty());
}

#[test]
fn requests_wait_as_long_as_the_old_one_may_take_to_end() {
    let shape = |image| Shape {
        image,
        routed: true,
        order: Some(UpdateOrder::StopFirst),
        ..Shape::new("web")
    };
    let with_grace = |image, seconds| {
        let mut release = release(&[shape(image)]);
        let web = release.services.values_mut().next().expect("the service");
        web.service.stop_grace_period = Duration::from_secs(seconds);
        release
    };
    let name = ServiceName::new("web");
    let seconds =
        |world: &World| hold(ENVIRONMENT, &world.desired, &world.releases, &name).as_secs();
    let mut world = World::new();
    world.roll_out(1, with_grace(1, 120));
    assert_eq!(seconds(&world), 30, "nothing has to end first");
    world.settle(ROUNDS, |_| {});
    world
        .desired
        .starts
        .insert(name.clone(), Duration::from_secs(20));
    assert_eq!(seconds(&world), 45);
    let drain = 30;
    world.roll_out(2, with_grace(2, 40));
    assert_eq!(seconds(&world), 45 + drain + 120, "the old one's grace");
    let mut healed = running(&[shape(1)]);
    let heal = Heal {
        count: 1,
        last: healed.now,
        replica: None,
    };
    healed.desired.heals.insert(name.clone(), heal);
    assert_eq!(seconds(&healed), 30 + drain + 10);
    // The way back ends the new one.
    world.releases.insert(2, with_grace(2, 300));
    assert_eq!(seconds(&world), 45 + drain + 300);
    world.releases.insert(2, with_grace(2, 900));
    assert_eq!(seconds(&world), 600);
    world.releases.get_mut(&2).expect("it").rollout.hold = Some(Duration::from_secs(7));
    assert_eq!(seconds(&world), 7);
}

#[test]
fn what_is_started_once_is_never_started_again() {
    let other = |image| Shape {
        image,
        ..Shape::new("mailer")
    };
    let once = || Shape {
        once: true,
        ..Shape::new("import")
    };
    let ended = |code, requested| ReplicaState::Ended {
        exit: ExitInfo {
            code,
            signal: None,
            oom_killed: false,
            requested,
        },
    };
    for (code, gone) in [(7, false), (0, false), (7, true), (0, true)] {
        let mut world = running(&[once(), other(1)]);
        let id = ids_of(&world, "import")[0].clone();
        let state = |world: &World| world.replicas.get(&id).map(|one| one.state.clone());
        match gone {
            // The machine was switched off.
            true => drop(world.replicas.remove(&id)),
            false => {
                let replica = world.replicas.get_mut(&id).expect("the import");
                replica.state = ended(code, false);
            }
        }
        let expected = state(&world);
        let until = world.now + Duration::from_secs(600);
        while world.now < until {
            world.round();
            assert_eq!(state(&world), expected, "{}", world.history.join("\n"));
        }
        // It holds up no release of the others.
        world.roll_out(2, release(&[once(), other(2)]));
        world.settle(ROUNDS, |_| {});
        assert_eq!(world.desired.current, Some(2));
        assert_eq!(state(&world), expected);
        // A person may.
        let mut again = release(&[once(), other(2)]);
        let import = again.services.get_mut(&ServiceName::new("import"));
        import.expect("the import").set_restarts(1);
        world.roll_out(3, again);
        world.settle(ROUNDS, |_| {});
        assert!(world.runs_exactly(3), "{}", world.history.join("\n"));
    }
}

#[test]
fn what_is_started_once_comes_back_when_its_successor_fails() {
    let shape = |image| Shape {
        once: true,
        image,
        volume: Some("data"),
        ..Shape::new("keeper")
    };
    let mut world = running(&[shape(1)]);
    world.fate_of_new = Fate::Unhealthy(2);
    world.roll_out(2, release(&[shape(2)]));
    world.settle(ROUNDS, one_writer);
    assert!(world.runs_exactly(1), "{}", world.history.join("\n"));
}

#[test]
fn what_is_started_once_is_not_healed() {
    let mut world = running(&[Shape {
        once: true,
        ..Shape::new("import")
    }]);
    let unhealthy = become_unhealthy(&mut world, "import");
    for _ in 0..100 {
        world.round();
        assert!(matches!(
            world.replicas[&unhealthy].state,
            ReplicaState::Unhealthy { .. }
        ));
    }
}

#[test]
fn a_step_that_fails_costs_no_worker() {
    let shapes = |image| {
        let stepping = Shape {
            hooks: 1,
            image,
            routed: true,
            ..Shape::new("web")
        };
        // By name it comes before the one whose step fails.
        let worker = Shape {
            image,
            ..Shape::new("queue-worker")
        };
        [worker, stepping]
    };
    let mut world = running(&shapes(1));
    let before = ids_of(&world, "queue-worker");
    world.fate_of_new = Fate::Unhealthy(3);
    world.roll_out(2, release(&shapes(2)));
    world.settle(ROUNDS, |world| {
        let well = &world.replicas[&before[0]].state;
        assert_eq!(well, &ReplicaState::Ready, "{}", world.history.join("\n"));
    });
    assert!(world.runs_exactly(1), "{}", world.history.join("\n"));
    // One that goes well: the worker is replaced once it has.
    world.fate_of_new = Fate::Fine(2);
    world.roll_out(3, release(&shapes(3)));
    world.settle(ROUNDS, one_writer);
    assert!(world.runs_exactly(3), "{}", world.history.join("\n"));
}
