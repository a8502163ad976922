//! Streams: operations that outlive their connection, cancelling, output.

use std::time::Duration;

use havre_api::*;
use havre_testing::api::Script;
use havre_testing::wait_until;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::fixtures::*;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn events_come_in_order_and_before_the_outcome() {
    let (_daemon, client) = daemon(Script::default().operation::<Up, _>(
        async |request, events| {
            assert_eq!(request.project, project("shop"));
            for n in 0..100 {
                events.emit(warning(&n.to_string()));
            }
            Ok(up_outcome())
        },
    ));
    let mut running = client.start::<Up>(&up("shop")).await.unwrap();
    for n in 0..100 {
        let Progress::Event(event) = running.next().await.unwrap() else {
            panic!("too early")
        };
        assert_eq!(event, warning(&n.to_string()));
    }
    assert_eq!(running.next().await.unwrap(), Progress::Done(up_outcome()));
}

#[tokio::test]
async fn an_event_is_seen_while_the_operation_runs() {
    let (go, wait) = oneshot::channel::<()>();
    let (_daemon, client) = daemon(Script::default().operation::<Up, _>(async |_, events| {
        events.emit(warning("first"));
        wait.await.unwrap();
        Ok(up_outcome())
    }));
    let mut running = client.start::<Up>(&up("shop")).await.unwrap();
    let event = timeout(SOON, running.next()).await.unwrap().unwrap();
    assert_eq!(event, Progress::Event(warning("first")));
    go.send(()).unwrap();
    assert_eq!(running.next().await.unwrap(), Progress::Done(up_outcome()));
}

#[tokio::test]
async fn an_operation_outlives_its_client() {
    let (go, wait) = oneshot::channel::<()>();
    let (ended, end) = oneshot::channel::<bool>();
    let (_daemon, client) = daemon(Script::default().operation::<Up, _>(async |_, events| {
        wait.await.unwrap();
        events.emit(warning("nobody hears this"));
        ended.send(events.cancellation().is_cancelled()).unwrap();
        Ok(up_outcome())
    }));
    let running = client.start::<Up>(&up("shop")).await.unwrap();
    drop(running);
    go.send(()).unwrap();
    let cancelled = timeout(SOON, end).await.unwrap().unwrap();
    assert!(!cancelled);
}

#[tokio::test]
async fn cancelling_reaches_the_operation_and_its_last_words_reach_the_client() {
    let (_daemon, client) = daemon(Script::default().operation::<Up, _>(async |_, events| {
        events.cancellation().cancelled().await;
        events.emit(Event::Phase {
            phase: OperationPhase::RollBack,
        });
        Err(ApiError::new(
            ErrorCode::Cancelled,
            "release 7 was cancelled",
        ))
    }));
    let mut running = client.start::<Up>(&up("shop")).await.unwrap();
    let request = CancelRequest {
        operation: running.id(),
    };
    client.call::<Cancel>(&request).await.unwrap();
    let event = timeout(SOON, running.next()).await.unwrap().unwrap();
    assert_eq!(
        event,
        Progress::Event(Event::Phase {
            phase: OperationPhase::RollBack
        })
    );
    let error = refusal(running.next().await.unwrap_err());
    assert_eq!(error.code, ErrorCode::Cancelled);
    let error = refusal(client.call::<Cancel>(&request).await.unwrap_err());
    assert_eq!(error.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_reader_that_sleeps_never_holds_the_operation_up() {
    const EVENTS: u64 = 200_000;
    let (ended, end) = oneshot::channel::<()>();
    let (_daemon, client) = daemon(Script::default().operation::<Up, _>(async |_, events| {
        for n in 0..EVENTS {
            events.emit(warning(&n.to_string()));
            if n % 1000 == 0 {
                tokio::task::yield_now().await;
            }
        }
        ended.send(()).unwrap();
        Ok(up_outcome())
    }));
    let mut running = client.start::<Up>(&up("shop")).await.unwrap();
    timeout(SOON, end).await.unwrap().unwrap();
    let (mut seen, mut missed) = (0, 0);
    loop {
        match running.next().await.unwrap() {
            Progress::Event(Event::Missed { count }) => missed += count,
            Progress::Event(_) => seen += 1,
            Progress::Done(_) => break,
        }
    }
    assert!(missed > 0);
    assert_eq!(seen + missed, EVENTS);
}

#[tokio::test]
async fn a_panic_in_an_operation_is_told() {
    let (_daemon, client) = daemon(
        Script::default().operation::<Up, _>(async |_, _| panic!("on purpose, by the test")),
    );
    let mut running = client.start::<Up>(&up("shop")).await.unwrap();
    let error = refusal(running.next().await.unwrap_err());
    assert_eq!(error.code, ErrorCode::Internal);
}

fn query(follow: bool) -> LogQuery {
    LogQuery {
        environment: environment(),
        services: vec![],
        tail: None,
        since: None,
        follow,
    }
}

fn line(n: usize) -> LogLine {
    LogLine {
        at: "2024-05-01T10:00:00Z".parse().unwrap(),
        service: havre_model::ServiceName::new("web"),
        replica: "web-1".into(),
        stream: LogStream::Stdout,
        text: n.to_string(),
        partial: n == 1,
    }
}

#[tokio::test]
async fn every_line_of_output_arrives() {
    const LINES: usize = 20_000;
    let (_daemon, client) = daemon(Script::default().feed::<Logs, _>(async |_, lines| {
        for n in 0..LINES {
            lines.send(line(n)).await.unwrap();
        }
        Ok(())
    }));
    let mut lines = client.feed::<Logs>(&query(false)).await.unwrap();
    for n in 0..LINES {
        assert_eq!(lines.next().await.unwrap().unwrap(), line(n));
    }
    assert_eq!(lines.next().await.unwrap(), None);
}

#[tokio::test]
async fn following_ends_when_the_reader_goes_away() {
    let (gone, left) = oneshot::channel::<()>();
    struct Told(Option<oneshot::Sender<()>>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.take().unwrap().send(()).unwrap();
        }
    }
    let told = Told(Some(gone));
    let (_daemon, client) = daemon(Script::default().feed::<Logs, _>(async move |_, lines| {
        let _told = told;
        lines.send(line(1)).await.unwrap();
        lines.closed().await;
        Ok(())
    }));
    let mut lines = client.feed::<Logs>(&query(true)).await.unwrap();
    assert_eq!(lines.next().await.unwrap(), Some(line(1)));
    drop(lines);
    timeout(SOON, left).await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_the_server_ends_followers_and_waits_for_operations() {
    let (go, mut wait) = mpsc::channel::<()>(1);
    let backend = Script::default()
        .feed::<Logs, _>(async |_, lines| {
            lines.closed().await;
            Ok(())
        })
        .operation::<Up, _>(async move |_, _| {
            wait.recv().await.unwrap();
            Ok(up_outcome())
        });
    let (daemon, client) = daemon(backend);
    let mut lines = client.feed::<Logs>(&query(true)).await.unwrap();
    let mut running = client.start::<Up>(&up("shop")).await.unwrap();
    wait_until("both calls arrived", SOON, || daemon.calls().len() == 2);
    daemon.stop();
    let error = refusal(timeout(SOON, lines.next()).await.unwrap().unwrap_err());
    assert_eq!(error.code, ErrorCode::Unavailable);
    go.send(()).await.unwrap();
    let end = timeout(SOON, running.next()).await.unwrap().unwrap();
    assert_eq!(end, Progress::Done(up_outcome()));
}
