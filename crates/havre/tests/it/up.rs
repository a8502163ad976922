//! `up`: progress, outcome, failure, interruption.

use havre_api::Up;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use havre_api::*;
use havre_testing::wait_until;

use crate::fixtures::*;
use crate::program::{Ran, World};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn without_a_terminal_every_event_is_a_line_and_the_data_are_the_urls() {
    let world = World::new(backend(1).operation::<Up, _>(async |request, events| {
        assert_eq!(request.project.name.as_str(), "shop");
        assert_eq!(request.options, UpOptions::default());
        events_of(&events);
        Ok(up_outcome(true))
    }));
    let ran = world.run(&["up"]);
    assert_eq!(ran.code, 0);
    assert_eq!(
        ran.out,
        "https://shop.localhost/\nhttps://shop.localhost/api\n"
    );
    insta::assert_snapshot!("up-plain", ran.err);
}

fn events_of(sink: &EventSink) {
    for event in events() {
        sink.emit(event);
    }
}

#[test]
fn quiet_leaves_only_warnings_and_data() {
    let world = World::new(backend(1).operation::<Up, _>(async |_, events| {
        events_of(&events);
        Ok(up_outcome(true))
    }));
    let ran = world.run(&["up", "-q"]);
    assert_eq!(
        ran.err,
        "warning: web has no health check\n  hint: add `healthcheck:`\n"
    );
    assert_eq!(ran.out.lines().count(), 2);
}

#[test]
fn json_is_the_outcome() {
    let world = World::new(backend(1).operation::<Up, _>(async |_, _| Ok(up_outcome(false))));
    let ran = world.run(&["up", "--json"]);
    assert_eq!(ran.json(), serde_json::to_value(up_outcome(false)).unwrap());
    assert!(ran.err.contains("nothing changed"), "{}", ran.err);
}

#[test]
fn flags_reach_the_daemon() {
    let world = World::new(backend(1).operation::<Up, _>(async |request, _| {
        let all = UpOptions {
            no_cache: true,
            pull: true,
        };
        assert_eq!(request.options, all);
        assert_eq!(request.project.environment.as_str(), "staging");
        assert_eq!(request.project.name.as_str(), "other");
        Ok(up_outcome(true))
    }));
    let ran = world.run(&["up", "--no-cache", "--pull", "-E", "staging", "-p", "other"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn a_failed_rollout_says_why_on_one_screen() {
    let rolled_back = || {
        ApiError::new(
            ErrorCode::RolledBack,
            "release 7 of shop/production failed; release 6 still serves",
        )
        .with_hint("repair it and run `havre up` again")
    };
    let world = World::new(backend(1).operation::<Up, _>(async move |_, events| {
        events.emit(Event::Failure {
            report: Box::new(failure()),
        });
        events.emit(Event::Failure {
            report: Box::new(build_failure()),
        });
        Err(rolled_back())
    }));
    let ran = world.run(&["up"]);
    assert_eq!((ran.code, ran.out.as_str()), (5, ""));
    insta::assert_snapshot!("up-failed", ran.err);

    let world = World::new(backend(1).operation::<Up, _>(async move |_, events| {
        events.emit(Event::Failure {
            report: Box::new(failure()),
        });
        Err(rolled_back())
    }));
    let ran = world.run(&["up", "--json"]);
    let document = ran.json();
    assert_eq!(document["error"]["exit"], 5);
    assert_eq!(document["error"]["failures"][0]["failed"], "service");
}

#[test]
fn a_file_that_is_mounted_and_missing_is_named_before_anything_is_made() {
    let world = World::new(backend(0));
    let folder = world.folder.path();
    let compose = "services:\n  web:\n    image: nginx\n    ports: ['80:80']\n    volumes: \
                   ['./conf/nginx.conf:/etc/nginx/nginx.conf', './data:/data']\n";
    std::fs::write(folder.join("compose.yaml"), compose).unwrap();
    let ran = world.run(&["up"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.err.contains("conf/nginx.conf does not exist"),
        "{ran:?}"
    );
    assert!(ran.err.contains("compose.yaml:5:"), "{ran:?}");
    assert!(!folder.join("conf").exists() && !folder.join("data").exists());
    // Elsewhere than where it runs, its lack is a warning.
    assert_eq!(world.run(&["check"]).code, 0);
}

#[test]
fn a_mistake_in_the_files_is_shown_in_its_line_and_not_sent() {
    let world = World::new(backend(0));
    let file = world.folder.path().join("compose.yaml");
    std::fs::write(&file, "services:\n  web:\n    imagee: nginx\n").unwrap();
    let ran = world.run(&["up"]);
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("compose.yaml:3:5"), "{}", ran.err);
    assert!(ran.err.contains("    imagee: nginx"), "{}", ran.err);
    // It was asked what the target cannot do, and nothing else.
    assert_eq!(world.daemon.calls(), ["target"]);
}

#[test]
fn detach_does_not_wait() {
    let world = World::new(backend(1).operation::<Up, _>(async |_, events| {
        // Ends when the fake daemon does: nobody cancels.
        tokio_forever(events).await
    }));
    let ran = world.run(&["up", "-d"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("havre status"), "{}", ran.err);
}

async fn tokio_forever(events: EventSink) -> Result<UpOutcome, ApiError> {
    events.cancellation().cancelled().await;
    Err(ApiError::new(ErrorCode::Cancelled, "cancelled"))
}

#[test]
fn the_first_interrupt_undoes_and_the_second_leaves() {
    let world = World::new(backend(1).operation::<Up, _>(async |_, events| {
        events.emit(Event::Phase {
            phase: OperationPhase::Rollout,
        });
        events.cancellation().cancelled().await;
        events.emit(Event::Phase {
            phase: OperationPhase::RollBack,
        });
        std::future::pending().await
    }));
    let mut child = world
        .command(&["up"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut wait_for = |text: &str| {
        let found = lines
            .by_ref()
            .map(Result::unwrap)
            .any(|line| line.contains(text));
        assert!(found, "{text} was never said");
    };
    wait_for("== rollout");
    signal(&child, rustix::process::Signal::INT);
    wait_for("stopping and undoing");
    wait_for("== rolling back");
    signal(&child, rustix::process::Signal::INT);
    wait_for("error: stopped watching");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_cancelled_rollout_ends_as_interrupted() {
    let world =
        World::new(backend(1).operation::<Up, _>(async |_, events| tokio_forever(events).await));
    let mut child = world
        .command(&["up"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the operation runs", SOON, || {
        world.daemon.calls().contains(&"up")
    });
    // The answer's head may still be on its way: signals wait in the program until it is there.
    signal(&child, rustix::process::Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

fn signal(child: &std::process::Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn a_daemon_that_dies_meanwhile_is_told() {
    let world = World::new(backend(1).operation::<Up, _>(async |_, events| {
        events.emit(Event::Phase {
            phase: OperationPhase::Rollout,
        });
        std::future::pending().await
    }));
    let mut child = world
        .command(&["up"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(
        lines
            .by_ref()
            .map(Result::unwrap)
            .any(|line| line == "== rollout")
    );
    drop(world);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(4), "{rest:?}");
    assert!(rest[0].starts_with("error: "), "{rest:?}");
}

#[test]
fn no_daemon_and_no_root_are_told_apart() {
    // A root whose socket path is taken by a folder: nothing can listen there.
    let folder = tempfile::tempdir().unwrap();
    let ran: Ran = crate::program::command(folder.path(), &["status"])
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 4);
    insta::assert_snapshot!(
        "no-daemon",
        ran.err
            .replace(&folder.path().display().to_string(), "ROOT")
    );
}
