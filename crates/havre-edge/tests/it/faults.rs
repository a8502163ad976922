//! What goes wrong is answered in time, with its cause, and costs nobody else.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use havre_edge::{PrivateKey, TakenPort, Transport};
use havre_testing::load::{self, LoadPlan};
use tokio_util::sync::CancellationToken;

use crate::edge::{Edge, RUN, STATE, wait_for};
use crate::http1::Connection;
use crate::origin::Origin;

fn secure(edge: &Edge) -> Connection {
    Connection::tls(edge.https(), "app.test", &edge.authority.pem).expect("TLS")
}

/// A port on which nobody listens.
fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
}

pub fn a_dead_replica_is_named_in_the_log_only() {
    let edge = Edge::with_replicas(&[("0123456789abcdef", dead())]);
    let mut client = secure(&edge);
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 502);
    let cause = "replica 0123456789abcdef of web cannot be reached: connection refused";
    for secret in ["0123456789", "web", "refused", "replica"] {
        assert!(!answer.text().contains(secret), "{}", answer.text());
    }
    let id = answer.header("x-request-id").expect("an id");
    assert!(answer.text().contains(id), "{}", answer.text());
    let line = edge.log_line("the failure", |line| line["status"] == 502);
    assert_eq!(line["cause"], cause);
    let replica = edge.try_status().expect("a status").replicas["0123456789abcdef"].clone();
    assert_eq!(replica.failed, 1);
    let last = replica.last_failure.expect("the failure");
    assert_eq!((last.cause.as_str(), last.request_id.as_str()), (cause, id));
}

pub fn a_replica_that_dies_in_the_middle_is_told_from_a_finished_one() {
    let origin = Origin::start(|peer, request| {
        match request.target.as_str() {
            "/silent" => {}
            "/garbage" => peer.raw("ICY 200 OK\r\n\r\n")?,
            _ => peer.raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")?,
        }
        Ok(false)
    });
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut client = secure(&edge);
    for (path, cause) in [
        ("/silent", "closed the connection before it answered"),
        ("/garbage", "is not HTTP"),
    ] {
        let answer = client.get("app.test", path);
        assert_eq!(answer.status, 502);
        assert!(answer.text().starts_with("502 Bad Gateway\nrequest id: "));
        edge.log_line("the cause", |line| {
            line["path"] == path && line["cause"].as_str().is_some_and(|it| it.contains(cause))
        });
    }
    client.send("GET /short HTTP/1.1\r\nHost: app.test\r\n\r\n");
    client
        .try_answer(true)
        .expect_err("a broken connection, not a short answer");
    edge.log_line("the broken answer", |line| {
        line["cause"]
            .as_str()
            .is_some_and(|cause| cause.contains("broke off its answer"))
    });
    assert_eq!(
        edge.try_status().expect("a status").replicas["r1"].failed,
        3
    );
}

pub fn other_replicas_take_over_from_a_dead_one() {
    let alive = Origin::usual("alive");
    let edge = Edge::with_replicas(&[("dead", dead()), ("alive", alive.address)]);
    let mut client = secure(&edge);
    for _ in 0..20 {
        client.send("POST /upload HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.answer().text(), "5");
    }
    let status = edge.try_status().expect("a status");
    assert_eq!(status.replicas["alive"].requests, 20);
    assert_eq!(status.replicas["dead"].failed, 0, "no request failed");
}

pub fn a_stale_connection_costs_nothing() {
    // Closes each connection after one answer, without saying so.
    let origin = Origin::start(|peer, request| {
        peer.body(&request, |_| ())?;
        peer.reply("200 OK", "", b"fine")?;
        Ok(false)
    });
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut plan = LoadPlan::new(&format!("https://app.test:{}", edge.https().port()), 100.0);
    plan.resolve = Some(edge.https());
    plan.ca_pem = Some(edge.authority.pem.clone());
    plan.duration = Some(Duration::from_secs(2));
    let report = edge
        .block_on(load::run(plan, CancellationToken::new()))
        .expect("a load");
    assert_eq!(report.failed, 0, "{report:#?}");
}

pub fn requests_are_held_until_a_replica_comes() {
    let mut edge = Edge::with_replicas(&[]);
    edge.state.pools.get_mut("web").expect("the pool").hold_ms = 8000;
    edge.push();
    let mut client = secure(&edge);
    client.send("POST /upload HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello");
    // It waits while states come and go that do not help.
    edge.push();
    let origin = Origin::usual("late");
    edge.route("web", "app.test", "/", &[("r1", origin.address)]);
    edge.push();
    assert_eq!(client.answer().text(), "5");
    let line = edge.log_line("the held request", |line| line["status"] == 200);
    assert!(line["held_ms"].as_f64().expect("held") > 0.0);
}

pub fn requests_are_held_while_a_replica_restarts() {
    let address = dead();
    let mut edge = Edge::with_replicas(&[("r1", address)]);
    edge.state.pools.get_mut("web").expect("the pool").hold_ms = 8000;
    edge.push();
    let mut client = secure(&edge);
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    wait_for("a first attempt", Duration::from_secs(2), || {
        (edge.try_status().expect("a status").replicas["r1"].in_flight == 0).then_some(())
    });
    // Somebody's connection may have it for a moment.
    let listener = wait_for("the same port", Duration::from_secs(5), || {
        TcpListener::bind(address).ok()
    });
    let origin = Origin::on(listener, |peer, _| {
        peer.reply("200 OK", "", b"back").map(|()| true)
    });
    assert_eq!(client.answer().text(), "back");
    drop(origin);
}

pub fn holding_ends_with_the_reason() {
    let mut edge = Edge::with_replicas(&[]);
    let pool = edge.state.pools.get_mut("web").expect("the pool");
    pool.hold_ms = 300;
    pool.unavailable_reason = Some("it exited with 137 (out of memory)".to_owned());
    edge.push();
    let mut client = secure(&edge);
    let begin = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\nAccept: application/json\r\n\r\n");
    let answer = client.answer();
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("2"));
    let cause = "web has no replica to serve this request: it exited with 137 (out of memory)";
    assert_eq!(answer.json()["cause"], serde_json::Value::Null);
    edge.log_line("the cause", |line| line["cause"] == cause);
}

pub fn unknown_hosts_reach_no_application() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    edge.route("deep", "other.test", "/deep", &[("r1", origin.address)]);
    edge.push();
    let ca = edge.authority.pem.clone();
    let refused = Connection::tls(edge.https(), "stranger.test", &ca);
    let error = refused
        .err()
        .expect("no handshake for a name without a certificate");
    assert!(error.to_string().contains("alert"), "{error}");
    let mut client = secure(&edge);
    assert_eq!(
        client.get("other.test", "/deep").status,
        200,
        "SNI and Host differ, and one certificate covers both"
    );
    assert_eq!(client.get("stranger.test", "/").status, 421);
    let mut client = Connection::tls(edge.https(), "other.test", &ca).expect("TLS");
    assert_eq!(
        client.get("other.test", "/").status,
        404,
        "no route for the path"
    );
    assert_eq!(client.get("other.test", "/deep").status, 200);
    let mut wild = Connection::tls(edge.https(), "x.wild.test", &ca).expect("TLS");
    assert_eq!(
        wild.get("x.wild.test", "/").status,
        404,
        "a certificate and no route"
    );
    let mut plain = Connection::plain(edge.http());
    assert_eq!(plain.get("stranger.test", "/").status, 404);
    assert_eq!(origin.heads().len(), 2);
    // Another certificate covers it better: the client is sent to a connection with that one.
    let own = edge.authority.issue(&["other.test"]);
    edge.state.certificates.insert(0, own);
    edge.push();
    assert_eq!(secure(&edge).get("other.test", "/deep").status, 421);
    let mut client = Connection::tls(edge.https(), "other.test", &ca).expect("TLS");
    assert_eq!(client.get("other.test", "/deep").status, 200);
    assert_eq!(client.get("app.test", "/").status, 421);
}

pub fn a_client_without_sni_may_ask_for_what_the_certificate_covers() {
    let origin = Origin::usual("a");
    let mut edge = Edge::start();
    edge.route("local", "127.0.0.1", "/", &[("r1", origin.address)]);
    edge.push();
    let ca = edge.authority.pem.clone();
    let mut client = Connection::tls(edge.https(), "127.0.0.1", &ca).expect("TLS");
    let host = format!("127.0.0.1:{}", edge.https().port());
    assert_eq!(client.get(&host, "/").text(), "a");
    assert_eq!(client.get("stranger.test", "/").status, 421);
}

pub fn a_bad_certificate_hurts_its_own_host_only() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    let ca = edge.authority.pem.clone();
    let good = edge.state.certificates[0].clone();
    let other = edge.authority.issue(&["broken.test"]);
    for (what, chain, key) in [
        ("garbage", "garbage".to_owned(), "garbage".to_owned()),
        ("empty", String::new(), String::new()),
        (
            "cut in the middle",
            good.chain[..300].to_owned(),
            other.key.0.clone(),
        ),
        (
            "not a certificate within",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            other.key.0.clone(),
        ),
        ("of another key", good.chain.clone(), other.key.0.clone()),
    ] {
        let mut broken = other.clone();
        broken.chain = chain;
        broken.key = PrivateKey(key);
        edge.state.certificates = vec![broken, good.clone()];
        edge.push();
        assert_eq!(
            edge.status.problems.len(),
            1,
            "{what}: {:?}",
            edge.status.problems
        );
        let problem = &edge.status.problems[0];
        assert!(
            problem.starts_with("certificate for broken.test: "),
            "{what}: {problem}"
        );
        assert_eq!(secure(&edge).get("app.test", "/").text(), "a", "{what}");
        assert!(
            Connection::tls(edge.https(), "broken.test", &ca).is_err(),
            "{what}"
        );
    }
    // Damaged after it was loaded once: what was loaded stays in use.
    edge.state.certificates = vec![good.clone()];
    edge.push();
    edge.state.certificates[0].key = PrivateKey("damaged".to_owned());
    edge.push();
    assert!(
        edge.status.problems[0].contains("stays in use"),
        "{:?}",
        edge.status.problems
    );
    assert_eq!(secure(&edge).get("app.test", "/").text(), "a");
    // Nor do they lose it where another host is to be served with them.
    let more = &mut edge.state.certificates[0];
    more.hosts.insert(0, "more.test".to_owned());
    more.chain.clear();
    edge.push();
    assert_eq!(secure(&edge).get("app.test", "/").text(), "a");
    assert!(Connection::tls(edge.https(), "more.test", &ca).is_err());
}

pub fn a_taken_port_is_a_problem_that_heals() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    edge.state.http.push(address);
    edge.push();
    let transport = Transport::Tcp;
    assert_eq!(edge.status.taken, [TakenPort { address, transport }]);
    assert_eq!(
        secure(&edge).get("app.test", "/").text(),
        "a",
        "the rest is served"
    );
    drop(taken);
    wait_for("the port to be taken over", Duration::from_secs(5), || {
        edge.try_status()
            .expect("a status")
            .taken
            .is_empty()
            .then_some(())
    });
    assert_eq!(Connection::plain(address).get("app.test", "/").status, 308);
    // And given back.
    edge.state.http.pop();
    edge.push();
    TcpListener::bind(address).expect("free again");
}

pub fn two_edges_do_not_share_a_port() {
    let mut first = Edge::start();
    first.push();
    let mut second = Edge::start();
    second.state.http = vec![first.http()];
    second.push();
    let taken = second.status.taken.first().expect("a taken port");
    assert_eq!(taken.address, first.http());
}

pub fn a_second_edge_in_the_same_directory_refuses() {
    let edge = Edge::start();
    let output = std::process::Command::new(std::env::current_exe().expect("this binary"))
        .arg("edge")
        .args(["--run".as_ref(), edge.path(RUN).as_path()])
        .args(["--state".as_ref(), edge.path("other").as_path()])
        .output()
        .expect("an edge");
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("another edge runs in"), "{error}");
    edge.try_status().expect("the first one is unharmed");
}

pub fn it_comes_back_after_sigkill() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    edge.state.http = vec![dead()];
    edge.push();
    for _ in 0..3 {
        edge.kill();
        edge.launch(&[]);
        assert_eq!(edge.status.problems, Vec::<String>::new());
        assert_eq!(secure(&edge).get("app.test", "/").text(), "a");
    }
    // A damaged state is a problem, not the end.
    edge.kill();
    std::fs::write(edge.path(STATE).join("edge.json"), "{").expect("to write");
    edge.launch(&[]);
    assert!(
        edge.status.problems[0].contains("damaged"),
        "{:?}",
        edge.status.problems
    );
    edge.push();
    assert_eq!(secure(&edge).get("app.test", "/").text(), "a");
}

pub fn a_log_that_cannot_be_written_ends_nothing() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    edge.kill();
    // It complains of a certificate in its state.
    let path = edge.path(STATE).join("edge.json");
    let mut state = edge.state.clone();
    state.certificates[0].key = PrivateKey("damaged".to_owned());
    std::fs::write(&path, serde_json::to_vec(&state).expect("text")).expect("to write");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    edge.launch_talking_to(full.expect("a full device").into());
    assert!(!edge.status.problems.is_empty(), "it complains");
    edge.push();
    assert_eq!(secure(&edge).get("app.test", "/").text(), "a");
}

pub fn a_state_that_could_not_be_saved_is_saved_without_a_push() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    let in_the_way = edge.path(STATE).join("edge.json.new");
    std::fs::create_dir(&in_the_way).expect("a folder");
    edge.push();
    let problems = &edge.status.problems;
    assert!(problems[0].contains("edge.json"), "{problems:?}");
    std::fs::remove_dir(&in_the_way).expect("removed");
    wait_for("it to be saved", Duration::from_secs(10), || {
        let problems = edge.try_status().expect("a status").problems;
        problems.is_empty().then_some(())
    });
    let generation = edge.state.generation;
    edge.kill();
    edge.launch(&[]);
    assert_eq!(edge.status.generation, generation, "it was saved");
}

pub fn slow_heads_are_cut_off() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut slow = secure(&edge);
    slow.send("GET / HTTP/1.1\r\n");
    let begin = Instant::now();
    // A byte now and then does not help: the deadline is for the whole head.
    while slow.try_send("X: y\r\n").is_ok() && begin.elapsed() < Duration::from_secs(30) {
        assert_eq!(
            secure(&edge).get("app.test", "/").text(),
            "a",
            "others are served"
        );
        let pause = Instant::now() + Duration::from_millis(500);
        wait_for("the next byte", Duration::from_secs(1), || {
            (Instant::now() > pause).then_some(())
        });
    }
    let took = begin.elapsed();
    assert!((14..20).contains(&took.as_secs()), "{took:?}");
}

pub fn a_connection_flood_from_one_address_is_capped() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut open = Vec::new();
    for _ in 0..1200 {
        open.push(std::net::TcpStream::connect(edge.http()).expect("a connection"));
    }
    wait_for(
        "connections to be turned away",
        Duration::from_secs(5),
        || (edge.try_status().expect("a status").turned_away >= 100).then_some(()),
    );
    drop(open);
    wait_for("places to be free again", Duration::from_secs(5), || {
        let mut stream = std::net::TcpStream::connect(edge.http()).ok()?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            .ok()?;
        let mut space = [0; 12];
        std::io::Read::read_exact(&mut stream, &mut space).ok()
    });
}

pub fn what_one_address_may_have_is_configured_and_told_once() {
    let mut edge = Edge::start();
    edge.state.connections_per_address = Some(8);
    edge.push();
    let connect = || std::net::TcpStream::connect(edge.http()).expect("a connection");
    let crowd = || edge.try_status().expect("a status").crowds;
    let talk = || std::fs::read_to_string(edge.path("stderr")).expect("its talk");
    let told = |what: &str| talk().lines().filter(|line| line.contains(what)).count();
    for episode in 1..=2 {
        let open: Vec<_> = (0..20).map(|_| connect()).collect();
        let crowds = wait_for("a crowd", Duration::from_secs(5), || {
            let crowds = crowd();
            crowds.iter().any(|it| it.refused == 12).then_some(crowds)
        });
        assert_eq!(
            (crowds[0].address.as_str(), crowds[0].open),
            ("127.0.0.1", 8)
        );
        assert_eq!(told("127.0.0.1 has 8 connections"), episode);
        drop(open);
        wait_for("its end", Duration::from_secs(5), || {
            crowd().is_empty().then_some(())
        });
        wait_for("a word of it", Duration::from_secs(5), || {
            (told("12 were refused") == episode).then_some(())
        });
    }
    // A proxy that is trusted speaks for many.
    edge.state.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    edge.push();
    let turned_away = edge.status.turned_away;
    let open: Vec<_> = (0..20)
        .map(|_| std::net::TcpStream::connect(edge.http()).expect("a connection"))
        .collect();
    let mut last = Connection::plain(edge.http());
    assert_eq!(last.get("app.test", "/").status, 404);
    assert_eq!(
        edge.try_status().expect("a status").turned_away,
        turned_away
    );
    drop(open);
}

/// Whose requests end together: then all their connections are idle for a moment.
pub fn a_crowd_keeps_its_connections_to_a_replica() {
    const CROWD: usize = 300;
    let origin = Origin::usual("a");
    let mut edge = Edge::start();
    edge.state.https.clear();
    edge.route("web", "app.test", "/", &[("r1", origin.address)]);
    edge.push();
    let mut crowd: Vec<Connection> = (0..CROWD).map(|_| Connection::plain(edge.http())).collect();
    for _ in 0..8 {
        for visitor in &mut crowd {
            visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        }
        for visitor in &mut crowd {
            assert_eq!(visitor.answer().text(), "a");
        }
    }
    let opened = origin.accepted();
    assert!(opened <= CROWD * 5 / 4, "{opened} connections for {CROWD}");
}

pub fn a_host_without_a_certificate_is_a_problem() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    edge.route("bare", "bare.test", "/", &[("r1", origin.address)]);
    edge.push();
    assert_eq!(
        edge.status.problems,
        ["no certificate covers bare.test: it has no HTTPS"]
    );
}
