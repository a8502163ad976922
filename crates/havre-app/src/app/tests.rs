//! That the subsystems answer for all that is declared, and that one has all that it brings, from its
//! table to its end, on a FAKE daemon.

use havre_api::Guard;
use havre_release::Answer;

use super::*;
use crate::fake::Stage;
use crate::subsystem::Task;

const TABLE: Schema = Schema {
    name: "notes",
    migrations: &["CREATE TABLE notes (text TEXT) STRICT"],
};

/// Notes in its table how it ends.
#[derive(Clone)]
struct Notes(Arc<Store>);

impl Notes {
    fn note(&self, text: &'static str) {
        let insert = "INSERT INTO notes VALUES (?1)";
        let noted = self.0.run("note", move |db| db.execute(insert, [text]));
        noted.unwrap();
    }
}

impl Subsystem for Notes {
    fn tasks(&self) -> Vec<Task> {
        let notes = self.clone();
        vec![Task::new("notes", move |task| {
            let notes = notes.clone();
            async move {
                task.end.cancelled().await;
                notes.note("task");
            }
        })]
    }

    fn mount(&self) -> Option<Mount> {
        Some(Mount {
            name: "notes",
            hosts: BTreeSet::from(["notes.test".to_owned()]),
            router: axum::Router::new(),
        })
    }

    fn drain(&self) -> Answer<'_, ()> {
        Box::pin(async { self.note("end") })
    }
}

/// One that cannot run jobs: it answers all the same.
fn pipeline_of(stage: &Stage) -> Box<dyn Subsystem> {
    Box::new(subsystems::pipeline::Runs {
        daemon: Arc::clone(&stage.daemon),
        pipeline: Err("there are no boxes here".to_owned()),
    })
}

/// Without repositories: its calls say so.
fn mirrors_of(stage: &Stage) -> Box<dyn Subsystem> {
    Box::new(subsystems::mirrors::Mirrors {
        daemon: Arc::clone(&stage.daemon),
        mirrors: Arc::new(Mirrors::new(Arc::clone(&stage.store))),
        git: Err("there is no git here".to_owned()),
        runs: None,
    })
}

/// Calls that nobody answers among these.
fn unanswered(stage: &Stage, parts: &[Part]) -> Vec<&'static str> {
    let parts = parts.iter();
    let built: Vec<_> = parts
        .map(|part| (part.build)(&stage.daemon, &stage.store))
        .chain([pipeline_of(stage), mirrors_of(stage)])
        .collect();
    match calls(&built) {
        Ok(_) => Vec::new(),
        Err(DaemonError::Unanswered { calls }) => calls,
        Err(error) => panic!("{error}"),
    }
}

/// One that does not hear the end has each stop of the daemon wait for its deadline.
#[tokio::test(flavor = "multi_thread")]
async fn every_task_ends_with_the_daemon() {
    let stage = Stage::new();
    let parts = PARTS.iter();
    let built = parts.map(|part| (part.build)(&stage.daemon, &stage.store));
    let built = built.chain([pipeline_of(&stage), mirrors_of(&stage)]);
    for task in built.flat_map(|subsystem| subsystem.tasks()) {
        let end = tokio_util::sync::CancellationToken::new();
        let supervisor = crate::supervisor::Supervisor::new(end.clone());
        supervisor.keep(task.name, task.run);
        end.cancel();
        assert!(supervisor.drain(END_DEADLINE).await, "{}", task.name);
    }
}

#[tokio::test]
async fn every_declared_call_is_answered() {
    let stage = Stage::new();
    assert_eq!(unanswered(&stage, PARTS), [""; 0]);
    let without_images = unanswered(&stage, &PARTS[1..]);
    let image_calls = |path: &&str| path.contains("image");
    assert_eq!(
        without_images
            .iter()
            .filter(|path| image_calls(path))
            .count(),
        6
    );
    assert_eq!(without_images.len(), 6, "{without_images:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_subsystem_brings_is_there_from_its_table_to_its_end() {
    let stage = Stage::new();
    let daemon = &stage.daemon;
    let database = daemon.platform.root.state_dir().join("state.db");
    let store = Store::open(&database, &[schemas(), vec![TABLE]].concat());
    let notes = Notes(Arc::new(store.unwrap()));
    let all: [Box<dyn Subsystem>; 1] = [Box::new(notes.clone())];
    let server = Server::new(
        Routes::new(()),
        Arc::clone(&daemon.platform.door) as Arc<dyn Guard>,
        stage.daemon.end.clone(),
    );
    let gateway = gateway(daemon, &all, &server)
        .await
        .expect("hosts of its own");
    let own = daemon.platform.hub.own_hosts().await;
    assert!(own.contains("notes.test"), "{own:?}");
    keep_tasks(daemon, &all, gateway);
    let tasks = daemon.supervisor.reports().into_iter();
    assert!(tasks.map(|task| task.name).eq(["gateway", "notes"]));
    stage.end();
    drain(daemon, &all).await;
    let select = "SELECT group_concat(text) FROM notes";
    let read = move |db: &mut rusqlite::Connection| db.query_row(select, [], |row| row.get(0));
    let noted: Result<String, _> = notes.0.run("read", read);
    assert_eq!(noted.unwrap(), "task,end");
}
