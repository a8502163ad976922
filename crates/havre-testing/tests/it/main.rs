//! The load generator counts what goes wrong, and nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use havre_testing::load::{self, LoadPlan, LoadReport, Shot, Streams, Visitor};
use tokio_util::sync::CancellationToken;

/// A server that reads a head and answers with `answer`, then closes, for each connection.
fn server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream, answer));
        }
    });
    address
}

fn serve(mut stream: TcpStream, answer: &str) {
    let mut head = Vec::new();
    let mut space = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut space) {
            Ok(count @ 1..) => head.extend_from_slice(&space[..count]),
            _ => return,
        }
    }
    // The client may have gone.
    drop(stream.write_all(answer.as_bytes()));
}

async fn load(address: SocketAddr, change: impl FnOnce(&mut LoadPlan)) -> LoadReport {
    let mut plan = LoadPlan::new(&format!("http://{address}"), 50.0);
    // Long enough for a busy machine to get to it.
    plan.duration = Some(Duration::from_secs(1));
    change(&mut plan);
    load::run(plan, CancellationToken::new())
        .await
        .expect("a load")
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";

#[tokio::test]
async fn good_answers_are_no_failures() {
    let report = load(server(FINE), |_| ()).await;
    assert_eq!(report.failed, 0, "{report:#?}");
    assert!((25..=51).contains(&report.requests), "{report:#?}");
    assert!(
        report.p50_ms > 0.0 && report.p99_ms >= report.p50_ms,
        "{report:#?}"
    );
}

#[tokio::test]
async fn whatever_goes_wrong_is_a_failure_with_its_reason() {
    for (answer, reason) in [
        ("", "connection closed before message completed"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nfine",
            "truncated body",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n",
            "truncated body",
        ),
        ("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "status 500"),
        ("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "status 404"),
        ("not HTTP at all\r\n\r\n", "invalid HTTP"),
    ] {
        let report = load(server(answer), |_| ()).await;
        assert_eq!(report.failed, report.requests, "{answer:?}: {report:#?}");
        assert!(
            report.reasons.keys().any(|known| known.contains(reason)),
            "{answer:?}: {report:#?}"
        );
    }
}

#[tokio::test]
async fn nobody_there_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let report = load(address, |_| ()).await;
    assert_eq!(report.failed, report.requests, "{report:#?}");
    assert!(report.max_gap_ms >= 400.0, "{report:#?}");
}

#[tokio::test]
async fn silence_is_a_failure_after_the_deadline() {
    // Accepts in the kernel alone.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let report = load(address, |plan| {
        plan.request_deadline = Duration::from_millis(200);
        plan.shots = vec![Shot::post("/", "text/plain", "x")];
    })
    .await;
    assert_eq!(report.failed, report.requests, "{report:#?}");
    assert!(
        report.reasons.contains_key("no complete answer in time"),
        "{report:#?}"
    );
}

#[tokio::test]
async fn streams_that_end_well_are_told_from_cut_ones() {
    const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                          Upgrade: websocket\r\n\r\n";
    const CLOSED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                          Upgrade: websocket\r\n\r\n\u{8}";
    let websocket = |plan: &mut LoadPlan| {
        plan.rate = 0.0;
        plan.websockets = Streams {
            count: 1,
            path: "/".to_owned(),
        };
    };
    let report = load(server(AGREED), websocket).await;
    assert!(
        report.streams_cut > 0 && report.streams_closed == 0,
        "{report:#?}"
    );
    let report = load(server(CLOSED), websocket).await;
    assert!(
        report.streams_cut > 0,
        "half a frame is no Close frame: {report:#?}"
    );

    let events = |plan: &mut LoadPlan| {
        plan.rate = 0.0;
        plan.event_streams = Streams {
            count: 1,
            path: "/".to_owned(),
        };
    };
    const ENDED: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\n\r\n";
    let report = load(server(ENDED), events).await;
    assert!(
        report.streams_closed > 0 && report.streams_cut == 0,
        "{report:#?}"
    );
    const BROKEN: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n";
    let report = load(server(BROKEN), events).await;
    assert!(
        report.streams_cut > 0 && report.streams_closed == 0,
        "{report:#?}"
    );
    let report = load(
        server("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
        events,
    )
    .await;
    assert!(
        report.streams_refused > 0 && report.streams_opened == 0,
        "{report:#?}"
    );
}

#[tokio::test]
async fn a_visitor_gets_the_answer_or_the_reason() {
    let visitor = |address: SocketAddr| {
        Visitor::new(&LoadPlan::new(&format!("http://{address}"), 0.0)).expect("a visitor")
    };
    let answer = visitor(server(FINE)).get("/").await;
    assert_eq!(answer, Ok((200, "fine".to_owned())));
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nfine";
    let answer = visitor(server(cut)).get("/").await;
    assert!(
        answer
            .as_ref()
            .is_err_and(|why| why.contains("truncated body")),
        "{answer:?}"
    );
}
