//! From creation to removal.

use std::time::{Duration, Instant};

use havre_engine::{CreateError, RestartRule, State};

use crate::harness::{Sandbox, Test, logged};

pub const TESTS: &[(&str, Test)] = &[
    ("exit_code_and_output", |p| {
        Box::pin(exit_code_and_output(p))
    }),
    ("killed_by_a_signal", |p| Box::pin(killed_by_a_signal(p))),
    ("command_not_found", |p| Box::pin(command_not_found(p))),
    ("stop_signals_then_kills", |p| {
        Box::pin(stop_signals_then_kills(p))
    }),
    ("stop_reaches_who_listens_later", |p| {
        Box::pin(stop_reaches_who_listens_later(p))
    }),
    ("restarts_with_back_off", |p| {
        Box::pin(restarts_with_back_off(p))
    }),
];

async fn exit_code_and_output(place: &Sandbox) {
    let spec = place.spec("c1", "echo out; echo err >&2; exit 7");
    let (exit, output) = place.run(&spec).await;
    assert_eq!(
        (exit.code, exit.signal, exit.oom_killed, exit.requested),
        (7, None, false, false)
    );
    assert_eq!(
        output.lines().collect::<std::collections::BTreeSet<_>>(),
        ["err", "out"].into()
    );
    let list = place.engine().containers();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].state, State::Exited);
    assert_eq!(list[0].labels, spec.labels);
    assert!(place.engine().remove(&spec.id).await.is_empty());
    assert!(
        place.engine().remove(&spec.id).await.is_empty(),
        "safe to repeat"
    );
    assert!(place.engine().containers().is_empty());
}

async fn killed_by_a_signal(place: &Sandbox) {
    let spec = place.spec("c1", "kill -9 $$; sleep 1000");
    // Process 1 cannot kill itself, so the signal comes from outside.
    place.start(&spec).await;
    place.engine().signal(&spec.id, 9).await.expect("sent");
    let exit = place.engine().wait(&spec.id).await.expect("an exit");
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
}

async fn command_not_found(place: &Sandbox) {
    let cases = [
        (vec!["nope"], "command \"nope\" not found in PATH"),
        (vec!["/nope"], "command \"/nope\" not found"),
        (
            vec!["/etc/passwd"],
            "cannot run /etc/passwd: it is not executable",
        ),
        (vec!["/etc"], "cannot run /etc: it is a directory"),
        (
            vec!["/etc/script"],
            "cannot run /etc/script: its interpreter or dynamic loader is not in the image",
        ),
    ];
    for (number, (argv, expected)) in cases.into_iter().enumerate() {
        let mut spec = place.spec(&format!("c{number}"), "");
        spec.argv = argv.into_iter().map(str::to_owned).collect();
        spec.restart = RestartRule::Always;
        match place.engine().create(&spec).await {
            Err(CreateError::Failed { reason, .. }) => assert_eq!(reason, expected),
            other => panic!("{expected}: {other:?}"),
        }
        let state = place.engine().get(&spec.id).await.map(|o| o.state);
        assert_eq!(
            state,
            Some(State::Failed {
                reason: expected.to_owned()
            })
        );
        assert!(place.engine().remove(&spec.id).await.is_empty());
    }
}

async fn stop_signals_then_kills(place: &Sandbox) {
    // With `init`, process 1 waits for signals and passes them on.
    for (id, init) in [("polite", false), ("passed-on", true)] {
        let mut polite = place.spec(
            id,
            "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done",
        );
        polite.restart = RestartRule::Always;
        polite.init = init;
        place.start(&polite).await;
        logged(&polite, "up").await;
        let stopped = place.engine().stop(&polite.id, None).await;
        stopped.expect("stopped");
        let exit = place.engine().wait(&polite.id).await.expect("an exit");
        assert_eq!((exit.code, exit.requested), (3, true), "{id}");
        logged(&polite, "bye").await;
    }

    let mut stubborn = place.spec(
        "stubborn",
        "trap '' TERM; echo up; while :; do sleep 0.05; done",
    );
    stubborn.restart = RestartRule::Always;
    place.start(&stubborn).await;
    logged(&stubborn, "up").await;
    let began = Instant::now();
    place
        .engine()
        .stop(&stubborn.id, Some(Duration::from_millis(300)))
        .await
        .expect("stopped");
    assert!(
        began.elapsed() >= Duration::from_millis(300),
        "{:?}",
        began.elapsed()
    );
    let exit = place.engine().wait(&stubborn.id).await.expect("an exit");
    assert_eq!(
        (exit.code, exit.signal, exit.requested),
        (137, Some(9), true)
    );
}

/// The first process of a namespace does not hear a signal before it has a handler for it.
async fn stop_reaches_who_listens_later(place: &Sandbox) {
    let late = place.spec(
        "late",
        "echo up; sleep 1; trap 'exit 3' TERM; while :; do sleep 0.05; done",
    );
    place.start(&late).await;
    logged(&late, "up").await;
    let grace = Some(Duration::from_secs(60));
    let stopped = place.engine().stop(&late.id, grace).await;
    stopped.expect("stopped");
    let exit = place.engine().wait(&late.id).await.expect("an exit");
    assert_eq!((exit.code, exit.requested), (3, true));
}

async fn restarts_with_back_off(place: &Sandbox) {
    let mut spec = place.spec("c1", "echo run; exit 1");
    spec.restart = RestartRule::OnFailure {
        max_retries: Some(3),
    };
    let began = Instant::now();
    let (exit, output) = place.run(&spec).await;
    assert_eq!(exit.code, 1);
    assert_eq!(output.matches("run").count(), 4);
    assert!(
        began.elapsed() >= Duration::from_millis(700),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        place.engine().get(&spec.id).await.map(|o| o.restarts),
        Some(3)
    );
}
