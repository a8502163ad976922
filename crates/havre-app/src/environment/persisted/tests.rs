//! What holds for every change of what is persisted, also where it cannot be written down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use havre_model::{EnvironmentName, FoundDatabases, LoadOptions, ProjectName, ServiceName, load};
use havre_release::{Cause, RolloutPhase};

use std::sync::Arc;

use havre_store::Store;

use super::*;
use crate::environment::tables::SCHEMA;
use crate::fault::Fault;

/// A database in a folder of its own, and the environment in it.
struct World {
    folder: tempfile::TempDir,
    tables: Tables,
    persisted: Persisted,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&database(folder.path()), &[havre_image::SCHEMA, SCHEMA]).unwrap();
        let tables = Tables::new(Arc::new(store));
        let persisted = Persisted::load(id(), tables.clone(), None).unwrap();
        Self {
            folder,
            tables,
            persisted,
        }
    }

    /// Release 1 serves and nothing moves.
    fn resting() -> Self {
        let mut world = Self::new();
        world.apply(roll_out("one")).unwrap();
        let next = Desired {
            current: Some(1),
            rollout: None,
            ..world.persisted.desired().clone()
        };
        world.persisted.advance(next, None, UNIX_EPOCH).unwrap();
        world
    }

    fn moving() -> Self {
        let mut world = Self::resting();
        world.apply(roll_out("two")).unwrap();
        world
    }

    fn paused() -> Self {
        let mut world = Self::moving();
        world.apply(Change::Pause).unwrap();
        world
    }

    fn apply(&mut self, command: Change) -> Result<Applied, ApplyError> {
        self.persisted.apply(command, None, UNIX_EPOCH)
    }

    fn fault(&self) -> Fault {
        Fault::inject(&database(self.folder.path()))
    }

    /// What the next daemon would find; `None`: nothing.
    fn stored(&self) -> Option<Persisted> {
        let row = self.tables.environments().unwrap().pop()?;
        Some(Persisted::load(id(), self.tables.clone(), Some(&row.desired)).unwrap())
    }

    #[track_caller]
    fn is_as_on_disk(&self, what: &str) {
        let stored = self.stored().expect(what);
        assert_eq!(stored.desired, self.persisted.desired, "{what}");
        for (number, release) in &*stored.releases {
            assert_eq!(self.persisted.releases.get(number), Some(release), "{what}");
        }
    }
}

fn database(folder: &Path) -> PathBuf {
    folder.join("state.db")
}

fn id() -> EnvironmentId {
    EnvironmentId {
        project: ProjectName::new("shop"),
        environment: EnvironmentName::new("production"),
    }
}

/// A release with a volume that runs `command`.
fn release(command: &str) -> Release {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "name: shop\nservices: {{web: {{image: x, command: {command}, volumes: [\"data:/data\"]}}}}\n\
         volumes: {{data: }}\n"
    );
    std::fs::write(folder.path().join("compose.yaml"), text).unwrap();
    let options = LoadOptions {
        directory: folder.path().to_owned(),
        ..LoadOptions::default()
    };
    let project = load(&options).unwrap().project;
    Release::new(&project, &BTreeMap::new(), &BTreeMap::new())
}

fn roll_out(command: &str) -> Change {
    Change::RollOut(Box::new(Move {
        release: release(command),
        record: Record {
            cause: Cause::Up,
            by: Some("anna".to_owned()),
            ..Record::default()
        },
        scale: Scale::FromFile,
        databases: FoundDatabases::default(),
        jobs: Jobs::Run,
        analysis: Analysis::Enabled,
    }))
}

type Make = fn() -> World;

/// Every command with a state in which it is applied. A new command does not compile until it is
/// here.
fn every_command() -> Vec<(&'static str, Make, Change)> {
    let name = |command: &Change| match command {
        Change::RollOut(_) => "roll out",
        Change::Abort => "abort",
        Change::Pause => "pause",
        Change::Resume => "resume",
        Change::Scale(_) => "scale",
        Change::TakeDown { volumes: true } => "take down with volumes",
        Change::TakeDown { volumes: false } => "take down",
    };
    let scale = || Change::Scale([(ServiceName::new("web"), 3)].into());
    let cases: Vec<(Make, Change)> = vec![
        (World::resting, roll_out("two")),
        (World::moving, roll_out("three")),
        (World::moving, Change::Abort),
        (World::moving, Change::Pause),
        (World::paused, Change::Resume),
        (World::paused, Change::Abort),
        (World::resting, scale()),
        (World::moving, scale()),
        (World::resting, Change::TakeDown { volumes: false }),
        (World::resting, Change::TakeDown { volumes: true }),
        (World::moving, Change::TakeDown { volumes: true }),
    ];
    let named = cases.into_iter();
    named
        .map(|(world, command)| (name(&command), world, command))
        .collect()
}

#[test]
fn what_cannot_be_written_down_changes_nothing() {
    for (name, world, command) in every_command() {
        let mut world = world();
        let before = world.persisted.desired().clone();
        let (revision, releases) = (
            world.persisted.revision(),
            world.persisted.releases().clone(),
        );
        let fault = world.fault();
        let refused = world.apply(command.clone());
        assert!(
            matches!(&refused, Err(ApplyError::Persist(_))),
            "{name}: {refused:?}"
        );
        assert_eq!(world.persisted.desired(), &before, "{name}");
        assert_eq!(world.persisted.revision(), revision, "{name}");
        assert_eq!(world.persisted.releases(), &releases, "{name}");
        fault.heal();
        world.is_as_on_disk(name);
        let rows = world.tables.releases("shop", "production", 10).unwrap();
        assert!(
            rows.len() <= 2,
            "{name}: no release without a command for it"
        );

        let applied = world.apply(command);
        assert!(applied.is_ok(), "{name}: {applied:?}");
        assert_ne!(world.persisted.desired(), &before, "{name}");
        assert_eq!(world.persisted.revision(), revision + 1, "{name}");
        world.is_as_on_disk(name);
    }
}

#[test]
fn a_step_of_a_rollout_that_cannot_be_written_down_is_not_taken() {
    let mut world = World::moving();
    let before = world.persisted.desired().clone();
    let mut next = before.clone();
    if let Some(rollout) = &mut next.rollout {
        rollout.phase = RolloutPhase::Finishing { since: UNIX_EPOCH };
    }
    let fault = world.fault();
    assert!(
        world
            .persisted
            .advance(next.clone(), None, UNIX_EPOCH)
            .is_err()
    );
    assert_eq!(world.persisted.desired(), &before);
    fault.heal();
    world
        .persisted
        .advance(next.clone(), None, UNIX_EPOCH)
        .unwrap();
    assert_eq!(world.persisted.desired(), &next);
    world.is_as_on_disk("finishing");
}

#[test]
fn a_release_comes_with_the_wish_for_it_and_its_record() {
    let mut world = World::new();
    let written = world.apply(roll_out("one")).unwrap();
    assert_eq!(written.release, Some(1));
    let row = world.tables.release("shop", "production", 1).unwrap();
    let record: Record = serde_json::from_str(&row.unwrap().record).unwrap();
    assert_eq!(record.by.as_deref(), Some("anna"));
    assert_eq!(world.apply(roll_out("two")).unwrap().release, Some(2));
    world.is_as_on_disk("two rollouts");
}

#[test]
fn a_release_is_known_as_long_as_something_of_it_is_there() {
    let mut world = World::moving();
    world.apply(roll_out("three")).unwrap();
    let known = |persisted: &Persisted| persisted.releases().keys().copied().collect::<Vec<_>>();
    assert_eq!(known(&world.persisted), [1, 2, 3]);
    world.persisted.know([2].into()).unwrap();
    assert_eq!(known(&world.persisted), [1, 2, 3]);
    world.persisted.know(BTreeSet::new()).unwrap();
    assert_eq!(known(&world.persisted), [1, 3]);
    // A daemon that finds a replica of it reads it again; what history has forgotten is no error.
    let mut next = world.stored().unwrap();
    next.know([2, 77].into()).unwrap();
    assert_eq!(known(&next), [1, 2, 3]);
}

#[test]
fn what_is_refused_is_not_written() {
    let mut world = World::resting();
    for command in [Change::Abort, Change::Pause, Change::Resume] {
        let refused = world.apply(command);
        let nothing_moves = matches!(refused, Err(ApplyError::Refused(Refusal::NothingMoves)));
        assert!(nothing_moves, "{refused:?}");
    }
    assert_eq!(world.persisted.revision(), 2);
}

/// The next daemon may have to go on with it, and the first release is in nobody's memory then.
#[test]
fn the_volumes_that_are_to_go_are_written_down() {
    for (volumes, names) in [(true, vec!["shop_data"]), (false, vec![])] {
        let mut world = World::new();
        world.apply(roll_out("one")).unwrap();
        world.apply(Change::TakeDown { volumes }).unwrap();
        let stored = world.stored().unwrap();
        assert!(stored.releases().is_empty());
        let Intent::Down { remove_volumes } = &stored.desired().intent else {
            panic!("it is to go");
        };
        assert!(remove_volumes.iter().eq(names), "{remove_volumes:?}");
    }
}

#[test]
fn a_wish_to_take_down_that_names_no_volumes_removes_none() {
    // As an earlier version has written it down.
    let stored = r#"{"intent": {"intent": "down", "volumes": true}, "current": null,
        "current_since": null, "rollout": null, "last_failure": null}"#;
    let desired: Desired = serde_json::from_str(stored).unwrap();
    assert_eq!(
        desired.intent,
        Intent::Down {
            remove_volumes: BTreeSet::new()
        }
    );
}

#[test]
fn an_environment_that_cannot_be_forgotten_is_still_there() {
    let mut world = World::resting();
    world.apply(Change::TakeDown { volumes: true }).unwrap();
    let fault = world.fault();
    assert!(world.persisted.forget().is_err());
    fault.heal();
    world.is_as_on_disk("going");
    world.persisted.forget().unwrap();
    assert!(world.stored().is_none());
    let rows = world.tables.releases("shop", "production", 10).unwrap();
    assert_eq!(rows, []);
}
