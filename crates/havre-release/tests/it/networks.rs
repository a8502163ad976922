//! Replicas in the network of another service's.

use std::collections::BTreeSet;

use havre_model::{Condition, FoundDatabases, ServiceName, UpdateOrder};
use havre_release::{ExitInfo, Intent, ReplicaId, ReplicaState, Strategy};

use crate::application::{ROUNDS, running, with_image};
use crate::world::{Fate, Shape, World, release};

/// A tunnel with a client in its network, and somebody else.
fn tunnelled() -> Vec<Shape> {
    let client = Shape {
        network_of: Some("tunnel"),
        needs: vec![("tunnel", Condition::ServiceStarted)],
        ..Shape::new("client")
    };
    let tunnel = Shape {
        routed: true,
        ..Shape::new("tunnel")
    };
    vec![tunnel, client, Shape::new("other")]
}

/// Whoever runs in a network is in one that is there, but for the moment in which that is noticed.
fn connected(world: &World) -> bool {
    world.replicas.values().all(|replica| {
        let Some(joined) = &replica.joined else {
            return replica.service.as_str() != "client";
        };
        let provider = world.replicas.get(&joined.id);
        !replica.state.is_live()
            || provider.is_some_and(|one| one.start == joined.start && one.state.is_live())
    })
}

fn start_of(world: &World, service: &str) -> String {
    let mut replicas = world.replicas.values();
    let replica = replicas.find(|one| one.service.as_str() == service);
    replica.expect("a replica").start.clone()
}

#[test]
fn they_come_after_it_and_end_before_it() {
    let mut world = running(&tunnelled());
    assert!(connected(&world), "{}", world.history.join("\n"));
    let mut shapes = tunnelled();
    for (number, changed) in [(2, "tunnel"), (3, "client")] {
        shapes = with_image(shapes, &[changed], 2);
        world.roll_out(number, release(&shapes));
        world.settle(ROUNDS, |world| {
            assert!(connected(world), "{}", world.history.join("\n"));
            let clients = world
                .replicas
                .values()
                .filter_map(|one| one.joined.as_ref());
            let networks: BTreeSet<&ReplicaId> = clients.clone().map(|joined| &joined.id).collect();
            assert_eq!(networks.len(), clients.count(), "two in one network");
        });
        assert!(world.runs_exactly(number), "{}", world.history.join("\n"));
    }
    let release = &world.releases[&3];
    let client = &release.services[&ServiceName::new("client")];
    let joined = world.replicas.values().find(|one| one.joined.is_some());
    assert_eq!(joined.expect("the client").service.as_str(), "client");
    assert!(client.follows().contains_key(&ServiceName::new("tunnel")));
}

#[test]
fn a_network_that_is_made_anew_gets_new_replicas() {
    let mut world = running(&tunnelled());
    let (client, other) = (start_of(&world, "client"), start_of(&world, "other"));
    for state in [
        ReplicaState::Lost,
        ReplicaState::Ended {
            exit: ExitInfo {
                code: 1,
                signal: None,
                oom_killed: false,
                requested: true,
            },
        },
    ] {
        let mut replicas = world.replicas.values_mut();
        let tunnel = replicas.find(|one| one.service.as_str() == "tunnel");
        let tunnel = tunnel.expect("the tunnel");
        let before = tunnel.start.clone();
        tunnel.state = state;
        world.settle(ROUNDS, |_| {});
        assert!(world.runs_exactly(1), "{}", world.history.join("\n"));
        assert!(connected(&world), "{}", world.history.join("\n"));
        assert_ne!(start_of(&world, "tunnel"), before);
    }
    assert_ne!(start_of(&world, "client"), client);
    assert_eq!(start_of(&world, "other"), other, "left alone");
}

#[test]
fn a_failing_one_goes_back_with_its_network() {
    for guilty in ["tunnel", "client"] {
        for fate in [Fate::CrashLoop, Fate::CannotStart, Fate::Unhealthy(2)] {
            let mut world = running(&tunnelled());
            world.fate_of_new = fate;
            world.roll_out(2, release(&with_image(tunnelled(), &[guilty], 2)));
            world.settle(ROUNDS, |_| {});
            assert!(world.runs_exactly(1), "{}", world.history.join("\n"));
            assert!(connected(&world), "{}", world.history.join("\n"));
        }
    }
}

#[test]
fn a_network_that_ends_first_takes_them_along() {
    let shapes = |image| {
        let mut shapes = with_image(tunnelled(), &["tunnel"], image);
        shapes[0].order = Some(UpdateOrder::StopFirst);
        shapes
    };
    let mut world = running(&shapes(1));
    world.roll_out(2, release(&shapes(2)));
    world.settle(ROUNDS, |world| {
        assert!(connected(world), "{}", world.history.join("\n"));
    });
    assert!(world.runs_exactly(2), "{}", world.history.join("\n"));
    let found = FoundDatabases::default();
    let strategy = world.releases[&2].strategy(&ServiceName::new("client"), &found);
    assert_eq!(strategy.0, Strategy::StopFirst);
    world.desired.intent = Intent::Down {
        remove_volumes: BTreeSet::new(),
    };
    world.settle(ROUNDS, |world| {
        assert!(connected(world), "{}", world.history.join("\n"));
    });
    assert!(world.replicas.is_empty());
}

#[test]
fn what_is_answered_there_shows_who_is_ready() {
    let release = release(&tunnelled());
    let ports = |name| release.probe_ports(&ServiceName::new(name)).len();
    assert_eq!(
        [ports("tunnel"), ports("client"), ports("other")],
        [0, 1, 0]
    );
}
