//! A rollout ends in exactly one release, whatever comes in its way.

use std::time::Duration;

use havre_model::{Condition, RolloutSettings};
use proptest::prelude::{Just, ProptestConfig, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy;

use crate::application::{
    ROUNDS, always_served, application, canary, one_job, one_writer, renamed, running, with_image,
};
use crate::world::{Fate, Manner, Shape, World, with_rollout};

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        (0..6u8).prop_map(Fate::Fine),
        (0..6u8).prop_map(Fate::Unhealthy),
        Just(Fate::CrashLoop),
        Just(Fate::CannotStart),
        Just(Fate::Hangs),
    ]
}

fn manners() -> impl Strategy<Value = Manner> {
    prop_oneof![
        3 => Just(Manner::Well),
        1 => Just(Manner::Errors),
        1 => Just(Manner::Slowly),
    ]
}

fn ways() -> impl Strategy<Value = RolloutSettings> {
    let quick = RolloutSettings {
        bake: Duration::ZERO,
        ready_timeout: Duration::from_secs(30),
        ..RolloutSettings::default()
    };
    let watched = RolloutSettings {
        bake: Duration::from_secs(3),
        ..quick.clone()
    };
    prop_oneof![Just(quick), Just(watched), Just(canary())]
}

/// What comes in the way of a rollout.
#[derive(Clone, Copy, Debug)]
enum Disturbance {
    /// Another release is wanted.
    Newer,
    /// It is given up.
    Abort,
    /// It is paused, and resumed ten rounds later.
    Pause,
    /// A replica vanishes with its supervisor.
    Lost(usize),
    /// A replica becomes unhealthy.
    Ill(usize),
}

fn disturbances() -> impl Strategy<Value = Vec<(usize, Disturbance)>> {
    let one = prop_oneof![
        Just(Disturbance::Newer),
        Just(Disturbance::Abort),
        Just(Disturbance::Pause),
        (0..8usize).prop_map(Disturbance::Lost),
        (0..8usize).prop_map(Disturbance::Ill),
    ];
    proptest::collection::vec((0..12usize, one), 0..4)
}

/// What a release has other than the first one has.
#[derive(Clone, Copy, Debug)]
enum Services {
    Same,
    Without(&'static str),
    WithAdmin,
    /// The database under another name, on the same volume.
    Renamed,
}

impl Services {
    fn apply(self, shapes: &mut Vec<Shape>) {
        match self {
            Services::Same => {}
            Services::Renamed => *shapes = renamed(std::mem::take(shapes), "db", "database"),
            Services::Without(name) => shapes.retain(|shape| shape.name != name),
            Services::WithAdmin => shapes.push(Shape {
                routed: true,
                needs: vec![("backend", Condition::ServiceHealthy)],
                ..Shape::new("admin")
            }),
        }
    }
}

fn services() -> impl Strategy<Value = Services> {
    prop_oneof![
        2 => Just(Services::Same),
        1 => Just(Services::Without("worker")),
        1 => Just(Services::Without("frontend")),
        1 => Just(Services::WithAdmin),
        2 => Just(Services::Renamed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever changes, however it comes in, whatever becomes of it and whatever comes in its
    /// way: a rollout ends in one release, completely; routed services are served throughout
    /// where nobody took their replicas away, and what must not run twice never does.
    #[test]
    fn a_rollout_ends_in_exactly_one_release(
        changed in proptest::collection::vec(0..4usize, 1..4),
        services in [services(), services()],
        fate in fates(),
        manner in manners(),
        way in ways(),
        at_a_time in proptest::option::of(1..3u32),
        disturbances in disturbances(),
    ) {
        let names = ["db", "backend", "worker", "frontend"];
        let changed: Vec<&str> = changed.into_iter().map(|index| names[index]).collect();
        let next = |number: u64| {
            let image = u8::try_from(number).expect("few");
            let mut shapes = with_image(application(), &changed, image);
            services[usize::from(image) % 2].apply(&mut shapes);
            for shape in &mut shapes {
                shape.at_a_time = at_a_time;
            }
            with_rollout(&shapes, way.clone())
        };
        let taken = disturbances.iter().any(|(_, disturbance)| {
            matches!(disturbance, Disturbance::Lost(_) | Disturbance::Ill(_))
        });
        let check = |world: &World| {
            if !taken {
                always_served(world);
            }
            one_writer(world);
            one_job(world);
        };
        let mut world = running(&application());
        world.fate_of_new = fate;
        world.manner_of_new = manner;
        let mut last = 2;
        world.roll_out(2, next(2));
        for (rounds, disturbance) in disturbances {
            for _ in 0..rounds {
                world.round();
                check(&world);
            }
            match disturbance {
                Disturbance::Newer => {
                    last += 1;
                    world.roll_out(last, next(last));
                }
                Disturbance::Abort => {
                    let to = world.desired.rollout.as_ref().map(|rollout| rollout.to);
                    if let Some(to) = to {
                        let release = world.releases[&to].clone();
                        // Too late is as good as in time: it ends in one of the two.
                        world.desired.abort(&release, world.now).ok();
                    }
                }
                Disturbance::Pause => {
                    if world.desired.pause(world.now).is_ok() {
                        for _ in 0..10 {
                            world.round();
                            check(&world);
                        }
                        prop_assert_eq!(world.desired.resume(world.now), Ok(()));
                    }
                }
                Disturbance::Lost(index) => world.lose(index),
                Disturbance::Ill(index) => world.make_ill(index),
            }
        }
        world.settle(ROUNDS, check);
        prop_assert!(world.desired.rollout.is_none());
        let current = world.desired.current.expect("a release");
        prop_assert!((1..=last).contains(&current));
        let sound = matches!(fate, Fate::Fine(_)) && manner == Manner::Well && !taken;
        if sound || current == 1 {
            prop_assert!(world.runs_exactly(current), "{}", world.history.join("\n"));
        }
    }
}
