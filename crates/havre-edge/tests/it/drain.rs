//! Replicas come and go under load: nothing fails, streams end in good order.

use std::time::{Duration, Instant};

use havre_edge::ReplicaStatus;
use havre_testing::load::{self, LoadPlan, LoadReport, Shot, Streams};
use tokio_util::sync::CancellationToken;

use crate::edge::{Edge, wait_for};
use crate::http1::Connection;
use crate::origin::Origin;

/// Load on an edge from a thread of its own.
struct Load {
    cancel: CancellationToken,
    thread: std::thread::JoinHandle<LoadReport>,
}

impl Load {
    fn start(edge: &Edge, change: impl FnOnce(&mut LoadPlan)) -> Self {
        let mut plan = LoadPlan::new(&format!("https://app.test:{}", edge.https().port()), 100.0);
        plan.resolve = Some(edge.https());
        plan.ca_pem = Some(edge.authority.pem.clone());
        plan.shots = vec![
            Shot::get("/"),
            Shot::post("/upload", "application/octet-stream", vec![7; 20_000]),
            Shot::post("/small", "text/plain", "x"),
        ];
        change(&mut plan);
        let cancel = CancellationToken::new();
        let told = cancel.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(load::run(plan, told)).expect("a load")
        });
        Self { cancel, thread }
    }

    fn finish(self) -> LoadReport {
        self.cancel.cancel();
        self.thread.join().expect("a report")
    }
}

fn replica(edge: &Edge, id: &str) -> ReplicaStatus {
    let status = edge.try_status().expect("a status");
    status.replicas.get(id).cloned().unwrap_or_default()
}

fn rolls_over_without_a_failure(http2: bool) {
    const RELEASES: u64 = 8;
    const EACH: u64 = 6;
    let mut current = Origin::usual("0");
    let mut edge = Edge::with_replicas(&[("r0", current.address)]);
    let load = Load::start(&edge, |plan| plan.http2 = http2);
    for number in 1..=RELEASES {
        let next = Origin::usual("n");
        let (old_id, new_id) = (format!("r{}", number - 1), format!("r{number}"));
        edge.route(
            "web",
            "app.test",
            "/",
            &[(&old_id, current.address), (&new_id, next.address)],
        );
        edge.push();
        wait_for(
            "requests on the new replica",
            Duration::from_secs(5),
            || (replica(&edge, &new_id).requests >= EACH).then_some(()),
        );
        let pool = edge.state.pools.get_mut("web").expect("the pool");
        pool.replicas[0].draining = true;
        edge.push();
        wait_for("the old replica to be idle", Duration::from_secs(5), || {
            (replica(&edge, &old_id).in_flight == 0).then_some(())
        });
        // As SIGTERM does to a server that does not wait: from here on nothing may need it.
        current.kill();
        edge.route("web", "app.test", "/", &[(&new_id, next.address)]);
        edge.push();
        current = next;
    }
    let report = load.finish();
    assert_eq!(report.failed, 0, "{report:#?}");
    assert!(report.requests >= RELEASES * EACH, "{report:#?}");
}

pub fn replicas_are_replaced_under_load() {
    rolls_over_without_a_failure(false);
}

pub fn replicas_are_replaced_under_http2_load() {
    rolls_over_without_a_failure(true);
}

pub fn a_removed_replica_is_reported_until_it_is_idle() {
    let old = Origin::usual("old");
    let new = Origin::usual("new");
    let mut edge = Edge::with_replicas(&[("old", old.address)]);
    let ca = edge.authority.pem.clone();
    let mut slow = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    slow.send("GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n");
    wait_for("the request to arrive", Duration::from_secs(5), || {
        (replica(&edge, "old").in_flight == 1).then_some(())
    });
    edge.route("web", "app.test", "/", &[("new", new.address)]);
    edge.push();
    assert_eq!(
        edge.status.replicas["old"].in_flight, 1,
        "removed, and still busy"
    );
    let mut other = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    assert_eq!(other.get("app.test", "/").text(), "new");
    assert_eq!(
        slow.answer().text(),
        "old slow",
        "what was in flight ends in peace"
    );
    wait_for(
        "the old replica to be forgotten",
        Duration::from_secs(5),
        || {
            edge.push();
            (!edge.status.replicas.contains_key("old")).then_some(())
        },
    );
}

pub fn draining_closes_idle_connections_to_the_replica() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("a", origin.address)]);
    let ca = edge.authority.pem.clone();
    let mut client = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    for _ in 0..3 {
        assert_eq!(client.get("app.test", "/").status, 200);
    }
    assert_eq!(origin.accepted(), 1, "kept alive");
    edge.state.pools.get_mut("web").expect("the pool").replicas[0].draining = true;
    edge.push();
    wait_for(
        "the connection to be closed",
        Duration::from_secs(2),
        || (origin.closed() == 1).then_some(()),
    );
    assert_eq!(client.get("app.test", "/").status, 503);
}

pub fn streams_are_closed_at_a_paced_rate() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("a", origin.address)]);
    let load = Load::start(&edge, |plan| {
        plan.rate = 0.0;
        plan.websockets = Streams {
            count: 6,
            path: "/ws".to_owned(),
        };
        plan.event_streams = Streams {
            count: 4,
            path: "/events".to_owned(),
        };
    });
    wait_for("the streams to be open", Duration::from_secs(5), || {
        (replica(&edge, "a").streams == 10).then_some(())
    });
    assert_eq!(replica(&edge, "a").in_flight, 0, "streams are not requests");
    // Ten streams take no longer than that, whatever time there is.
    let over = Duration::from_millis(1000);
    let control = edge.control();
    let begin = Instant::now();
    let closing = edge
        .block_on(control.close_streams("a", over * 20))
        .expect("to close");
    assert_eq!(closing.streams, 10);
    let closed_at = |count: usize| {
        wait_for("streams to be closed", Duration::from_secs(5), || {
            (origin.closed() >= count).then(|| begin.elapsed())
        })
    };
    let (first, last) = (closed_at(1), closed_at(10));
    assert!(first < over / 2, "{first:?}");
    assert!(last >= over * 4 / 5 && last < over * 10, "{last:?}");
    wait_for("them to come back", Duration::from_secs(5), || {
        (replica(&edge, "a").streams == 10).then_some(())
    });
    let report = load.finish();
    assert_eq!(report.streams_cut, 0, "{report:#?}");
    assert_eq!(report.streams_closed, 10, "{report:#?}");
    // The edge counts a stream before its client does, who may be ended in between.
    assert!((10..=20).contains(&report.streams_opened), "{report:#?}");
}

pub fn a_websocket_is_closed_between_two_frames() {
    let origin = Origin::start(|peer, _| {
        peer.raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")?;
        peer.raw("Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")?;
        // The first half of a frame; the other half when the client asks for it.
        peer.raw([0x81, 4, b'a', b'b'])?;
        peer.read(&mut [0; 16])?;
        peer.raw(b"cd")?;
        while peer.read(&mut [0; 64])? > 0 {}
        Ok(false)
    });
    let edge = Edge::with_replicas(&[("a", origin.address)]);
    let ca = edge.authority.pem.clone();
    let mut client = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    client.send(
        "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.try_answer(false).expect("an answer").status, 101);
    assert_eq!(client.take(4).expect("half a frame"), [0x81, 4, b'a', b'b']);
    let control = edge.control();
    edge.block_on(control.close_streams("a", Duration::ZERO))
        .expect("to close");
    wait_for("the order to be in force", Duration::from_secs(1), || {
        (replica(&edge, "a").streams == 1).then_some(())
    });
    client.send("more");
    assert_eq!(client.take(2).expect("the other half"), b"cd");
    assert_eq!(
        client.take(4).expect("a Close frame"),
        [0x88, 2, 0x03, 0xf4]
    );
    client.send([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4]);
    assert!(client.is_closed());
    wait_for("the stream to be over", Duration::from_secs(5), || {
        (replica(&edge, "a").streams == 0).then_some(())
    });
}

pub fn shutdown_finishes_what_is_under_way() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("a", origin.address)]);
    let ca = edge.authority.pem.clone();
    let mut idle = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    assert_eq!(idle.get("app.test", "/").status, 200);
    let mut slow = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    slow.send("GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n");
    wait_for("the request to arrive", Duration::from_secs(5), || {
        (replica(&edge, "a").in_flight == 1).then_some(())
    });
    let control = edge.control();
    let status = edge
        .block_on(control.shutdown(Duration::from_secs(5)))
        .expect("to shut down");
    assert!(status.stopping);
    // A request on a connection that was idle is answered still, and told that it is the last.
    let last = idle.get("app.test", "/");
    assert_eq!(
        (last.status, last.header("connection")),
        (200, Some("close"))
    );
    assert!(idle.is_closed());
    wait_for(
        "new connections to be refused",
        Duration::from_secs(2),
        || std::net::TcpStream::connect(edge.https()).err(),
    );
    let answer = slow.answer();
    assert_eq!(answer.text(), "a slow");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(
        edge.wait_for_end(Duration::from_secs(3)).success(),
        "well before the grace is over"
    );
    edge.log_line("the last request, logged", |line| line["path"] == "/slow");
}

pub fn sigterm_ends_it_in_good_order() {
    let mut edge = Edge::start();
    let pid = rustix::process::Pid::from_raw(i32::try_from(edge.pid()).expect("a pid"));
    let signal = rustix::process::Signal::TERM;
    rustix::process::kill_process(pid.expect("a pid"), signal).expect("to signal");
    assert!(edge.wait_for_end(Duration::from_secs(5)).success());
}

/// Takeovers under load, with streams: nothing is refused, reset or cut.
pub fn a_new_edge_takes_over_without_a_failure() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("a", origin.address)]);
    let load = Load::start(&edge, |plan| {
        plan.websockets = Streams {
            count: 3,
            path: "/ws".to_owned(),
        };
        plan.event_streams = Streams {
            count: 2,
            path: "/events".to_owned(),
        };
    });
    for _ in 0..3 {
        wait_for("the streams to be open", Duration::from_secs(10), || {
            (replica(&edge, "a").streams == 5).then_some(())
        });
        let port = edge.https();
        let old = edge.take_over(4);
        assert_eq!(edge.https(), port, "the very same sockets");
        assert_eq!(edge.status.predecessor, Some(old.id()));
        edge.push();
        edge.wait_for_predecessor(old);
        assert_eq!(edge.try_status().expect("a status").predecessor, None);
    }
    let report = load.finish();
    assert_eq!((report.failed, report.streams_cut), (0, 0), "{report:#?}");
    assert!(report.streams_closed >= 10, "{report:#?}");
}

pub fn a_takeover_without_an_edge_is_a_start() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("a", origin.address)]);
    edge.kill();
    edge.launch(&["--takeover", "5"]);
    let ca = edge.authority.pem.clone();
    let mut client = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    assert_eq!(client.get("app.test", "/").text(), "a");
    assert_eq!(edge.status.predecessor, None);
}
