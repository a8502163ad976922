//! What an engine knows without looking, and what a look is needed for.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use havre_engine::{ContainerId, ContainerSpec, Observed, RestartRule, State};
use rustix::process::{Signal, kill_process};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::daemon::shim_of;
use crate::harness::{DEADLINE, Sandbox, Test, pid, reconciled, until_in, wait_until};

pub const TESTS: &[(&str, Test)] = &[
    ("all_is_known_without_a_look", |p| {
        Box::pin(all_is_known_without_a_look(p))
    }),
    ("an_event_wakes_its_own_environment", |p| {
        Box::pin(an_event_wakes_its_own_environment(p))
    }),
    ("a_killed_shim_is_noticed_without_a_look", |p| {
        Box::pin(a_killed_shim_is_noticed_without_a_look(p))
    }),
    ("killed_while_it_is_adopted", |p| {
        Box::pin(killed_while_it_is_adopted(p))
    }),
    ("a_folder_that_vanishes", |p| {
        Box::pin(a_folder_that_vanishes(p))
    }),
    ("a_folder_that_vanishes_is_removed", |p| {
        Box::pin(a_folder_that_vanishes_is_removed(p))
    }),
    ("folders_half_made", |p| Box::pin(folders_half_made(p))),
];

type Siblings = watch::Receiver<Arc<Vec<Observed>>>;

/// A container of an environment.
fn of(place: &Sandbox, environment: &str, name: &str, script: &str) -> ContainerSpec {
    let mut spec = place.spec(name, script);
    spec.cgroup_parent = environment.to_owned();
    spec
}

/// Waits, by what the engine tells alone, until the containers are as wanted.
async fn until(siblings: &mut Siblings, what: &str, is: impl Fn(&[Observed]) -> bool) {
    let told = siblings.wait_for(|all| is(all));
    let told = timeout(DEADLINE, told).await;
    assert!(told.is_ok_and(|told| told.is_ok()), "never {what}");
}

/// A folder among those of containers is what only a look finds: none is seen in all that follows.
async fn all_is_known_without_a_look(place: &Sandbox) {
    let engine = place.engine();
    engine.reconcile().await.expect("a look");
    fs::create_dir_all(place.run.path().join("c/planted")).expect("a folder");
    let environments = ["a", "b", "c"];
    let specs: Vec<ContainerSpec> = (0..9)
        .map(|n| {
            let script = "trap 'exit 0' TERM; while :; do sleep 0.02; done";
            of(place, environments[n % 3], &format!("c{n}"), script)
        })
        .collect();
    for spec in &specs {
        place.start(spec).await;
    }
    let mut watched: Vec<Siblings> = environments.map(|e| engine.watch_containers(e)).into();
    for siblings in &mut watched {
        let running = |one: &Observed| matches!(one.state, State::Running { .. });
        until(siblings, "running", |all| {
            all.len() == 3 && all.iter().all(running)
        })
        .await;
    }
    assert_eq!(engine.containers().len(), 9);
    for spec in &specs {
        engine.stop(&spec.id, None).await.expect("stopped");
    }
    for siblings in &mut watched {
        let ended = |one: &Observed| one.state == State::Exited;
        until(siblings, "ended", |all| all.iter().all(ended)).await;
    }
    for spec in &specs {
        assert!(engine.stats(&spec.id).await.is_ok(), "by its control group");
        assert!(engine.remove(&spec.id).await.is_empty());
    }
    for siblings in &mut watched {
        until(siblings, "removed", <[Observed]>::is_empty).await;
    }
    assert!(engine.containers().is_empty(), "nobody has looked");
    let found = engine.reconcile().await.expect("a look");
    assert_eq!((found.containers, found.adopted), (1, 1));
    assert_eq!(engine.containers()[0].state, State::Lost);
}

async fn an_event_wakes_its_own_environment(place: &Sandbox) {
    let engine = place.engine();
    let (mine, other) = (
        of(place, "a", "c1", "exit 0"),
        of(place, "b", "c2", "exit 3"),
    );
    let mut siblings = engine.watch_containers("a");
    place.run(&other).await;
    assert!(engine.remove(&other.id).await.is_empty());
    assert!(!siblings.has_changed().expect("open"), "another's");
    place.run(&mine).await;
    assert!(siblings.has_changed().expect("open"));
    let now = siblings.borrow_and_update().clone();
    assert_eq!((now.len(), &now[0].state), (1, &State::Exited));
    // A look finds nothing new.
    engine.reconcile().await.expect("a look");
    assert!(!siblings.has_changed().expect("open"));
}

async fn a_killed_shim_is_noticed_without_a_look(place: &Sandbox) {
    let engine = place.engine();
    let spec = of(place, "a", "c1", "exec sleep 1000");
    place.start(&spec).await;
    let mut siblings = engine.watch_containers("a");
    kill_process(shim_of(&spec, place), Signal::KILL).expect("killed");
    until(&mut siblings, "lost", |all| all[0].state == State::Lost).await;
    assert_eq!(siblings.borrow()[0].labels, spec.labels);
    assert!(engine.remove(&spec.id).await.is_empty());
    until(&mut siblings, "removed", <[Observed]>::is_empty).await;
}

/// At whatever moment of the first conversation a shim is killed, that is noticed by who had it.
async fn killed_while_it_is_adopted(place: &Sandbox) {
    for step in 0..20_u32 {
        let spec = place.spec(&format!("c{step}"), "exec sleep 1000");
        place.start(&spec).await;
        let shim = shim_of(&spec, place);
        let engine = place.another_engine();
        let kill = async {
            sleep(Duration::from_micros(100) * step).await;
            kill_process(shim, Signal::KILL).expect("killed");
        };
        let (found, ()) = tokio::join!(engine.reconcile(), kill);
        assert_eq!(found.expect("a look").adopted, 1);
        until_in(&engine, &spec, "lost", |o| o.state == State::Lost).await;
        assert!(place.engine().remove(&spec.id).await.is_empty());
    }
}

/// Nobody can reach a shim without its folder: a look ends its container, as the next daemon would.
async fn a_folder_that_vanishes(place: &Sandbox) {
    let engine = place.engine();
    let mut running = of(
        place,
        "a",
        "c1",
        "sleep 1000 & exec su app -c 'exec sleep 1000'",
    );
    running.restart = RestartRule::Always;
    let ended = of(place, "a", "c2", "exit 0");
    let other = of(place, "b", "c3", "exec sleep 1000");
    place.start(&running).await;
    place.start(&other).await;
    place.run(&ended).await;
    let process = pid(&engine.get(&running.id).await.expect("known"));
    let mut siblings = engine.watch_containers("a");
    for spec in [&running, &ended] {
        fs::remove_dir_all(place.run_dir(spec)).expect("removed");
    }
    let found = engine.reconcile().await.expect("a look");
    // What has ended leaves an empty control group.
    assert_eq!((found.vanished, found.orphans), (2, 1));
    let lost = |all: &[Observed]| all.len() == 1 && all[0].state == State::Lost;
    until(&mut siblings, "lost", lost).await;
    let process = format!("/proc/{process}");
    wait_until("dead", || !Path::new(&process).exists()).await;
    // What is lost and has no folder is nobody's affair any more.
    wait_for_forgotten(place, &running.id).await;
    assert!(siblings.borrow().is_empty());
    let there = reconciled(engine).await;
    assert!(matches!(there[0].state, State::Running { .. }), "{there:?}");
    assert_eq!((there.len(), &there[0].id), (1, &other.id));
}

async fn wait_for_forgotten(place: &Sandbox, id: &ContainerId) {
    let forgotten = async {
        while place.engine().get(id).await.is_some() {
            place.engine().reconcile().await.expect("a look");
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, forgotten).await.expect("forgotten");
}

async fn a_folder_that_vanishes_is_removed(place: &Sandbox) {
    let mut spec = place.spec("c1", "exec sleep 1000");
    spec.restart = RestartRule::Always;
    place.start(&spec).await;
    let running = place.engine().get(&spec.id).await.expect("known");
    fs::remove_dir_all(place.run_dir(&spec)).expect("removed");
    assert!(place.engine().remove(&spec.id).await.is_empty());
    let process = format!("/proc/{}", pid(&running));
    wait_until("dead", || !Path::new(&process).exists()).await;
    assert!(place.engine().containers().is_empty());
}

/// What a daemon that was killed may leave of a container that it was about to make.
async fn folders_half_made(place: &Sandbox) {
    let made = place.spec("made", "exec sleep 1000");
    place.start(&made).await;
    let meta = fs::read(place.run_dir(&made).join("meta.json")).expect("readable");
    let top = place.run.path().join("c");
    let whole = String::from_utf8(meta)
        .expect("JSON")
        .replace("\"made\"", "\"whole\"");
    for (name, files) in [
        ("empty", &[][..]),
        ("locked", &[("lock", "")]),
        ("half", &[("lock", ""), ("meta.json.tmp", "{\"ver")]),
        ("torn", &[("lock", ""), ("meta.json", "{\"version\":")]),
        ("whole", &[("lock", ""), ("meta.json", whole.as_str())]),
    ] {
        fs::create_dir_all(top.join(name)).expect("a folder");
        for (file, content) in files {
            fs::write(top.join(name).join(file), content).expect("written");
        }
    }
    let engine = place.another_engine();
    let found = engine.reconcile().await.expect("a look");
    assert_eq!((found.containers, found.adopted), (6, 6));
    for one in engine.containers() {
        let running = matches!(one.state, State::Running { .. });
        assert_eq!(running, one.id == made.id, "{one:?}");
        assert!(running || one.state == State::Lost, "{one:?}");
        let knows_labels = one.labels.contains_key("service");
        assert_eq!(knows_labels, ["made", "whole"].contains(&one.id.0.as_str()));
        assert!(engine.remove(&one.id).await.is_empty());
    }
    let left: Vec<_> = fs::read_dir(&top).expect("there").collect();
    assert!(left.is_empty(), "{left:?}");
}
