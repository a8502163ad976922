//! An application of four services in small, and what must hold for it at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use havre_model::{Condition, RolloutSettings, RolloutStrategy};
use havre_release::Role;

use crate::world::{Shape, World, release};

/// Rounds are 0.7 s; the longest deadline of the policy is 90 s.
pub const ROUNDS: usize = 500;

pub fn application() -> Vec<Shape> {
    let healthy = Condition::ServiceHealthy;
    vec![
        Shape {
            volume: Some("data"),
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

pub fn with_image(mut shapes: Vec<Shape>, names: &[&str], image: u8) -> Vec<Shape> {
    for shape in shapes
        .iter_mut()
        .filter(|shape| names.contains(&shape.name))
    {
        shape.image = image;
    }
    shapes
}

/// The same application with a service under another name.
pub fn renamed(mut shapes: Vec<Shape>, from: &'static str, to: &'static str) -> Vec<Shape> {
    for shape in &mut shapes {
        if shape.name == from {
            shape.name = to;
        }
        for (needed, _) in shape.needs.iter_mut().filter(|(needed, _)| *needed == from) {
            *needed = to;
        }
    }
    shapes
}

pub fn running(shapes: &[Shape]) -> World {
    let mut world = World::new();
    world.roll_out(1, release(shapes));
    world.settle(ROUNDS, |_| {});
    assert!(world.runs_exactly(1), "{}", world.history.join("\n"));
    world
}

pub fn canary() -> RolloutSettings {
    RolloutSettings {
        strategy: RolloutStrategy::Canary {
            steps: vec![100, 500],
            step: Duration::from_secs(5),
        },
        bake: Duration::from_secs(3),
        ..RolloutSettings::default()
    }
}

/// Every routed service that can start first and that all releases have has someone to answer.
pub fn always_served(world: &World) {
    let release = &world.releases[&1];
    let stays = |name| {
        let mut releases = world.releases.values();
        releases.all(|release| release.services.contains_key(name))
    };
    for route in release.routes.iter().filter(|route| stays(&route.service)) {
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

/// Never two jobs of one service at once.
pub fn one_job(world: &World) {
    let mut jobs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for replica in world.replicas.values() {
        if matches!(replica.role, Role::Job { .. }) && replica.state.is_live() {
            let of_service = jobs.entry(replica.service.as_str()).or_default();
            of_service.insert(&replica.id.0);
        }
    }
    for (service, jobs) in jobs {
        assert!(
            jobs.len() <= 1,
            "{jobs:?} run at once for {service}:\n{}",
            world.history.join("\n")
        );
    }
}

/// Never two configurations at once of a service that must not run twice, and never two replicas
/// that write to one volume, whatever their services are called.
pub fn one_writer(world: &World) {
    let mut digests: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut writers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for replica in world
        .replicas
        .values()
        .filter(|replica| replica.state.is_live())
    {
        let Role::Replica { digest, .. } = &replica.role else {
            continue;
        };
        let seen = digests.entry(replica.service.as_str()).or_default();
        seen.insert(&digest.0);
        for volume in world.volumes_of(replica) {
            writers.entry(volume).or_default().insert(&replica.id.0);
        }
    }
    for name in ["db", "worker"] {
        let live = digests.get(name).map_or(0, BTreeSet::len);
        assert!(
            live <= 1,
            "{name} runs twice:\n{}",
            world.history.join("\n")
        );
    }
    for (volume, writers) in writers {
        assert!(
            writers.len() <= 1,
            "{writers:?} write to {volume}:\n{}",
            world.history.join("\n")
        );
    }
}
