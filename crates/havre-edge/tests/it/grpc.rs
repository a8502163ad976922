//! gRPC through the edge, with the client and the server of grpcio (`cargo xtask test` fetches it).

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use havre_edge::{ReplicaStatus, UpstreamProtocol};

use crate::edge::{Edge, wait_for};
use crate::origin::Origin;

/// The interpreter of the environment that `cargo xtask test` makes.
const PYTHON: &str = "target/peers/grpcio-1.85.3/bin/python";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn has_grpc() -> bool {
    let has = workspace().join(PYTHON).is_file();
    if !has {
        println!("skipped: needs grpcio, which `cargo xtask test` fetches");
    }
    has
}

/// A program of the test's that talks by lines.
struct Program {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Program {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grpc");
        let mut child = Command::new(workspace().join(PYTHON))
            .arg(scripts.join(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a program");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn rest(mut self) -> Vec<String> {
        let lines = self.lines.by_ref().lines();
        lines.map(|line| line.expect("a line")).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An edge in front of a gRPC server, the server, and the file of the edge's CA.
fn setting() -> (Edge, Program, PathBuf) {
    setting_with(&[])
}

fn setting_with(arguments: &[&str]) -> (Edge, Program, PathBuf) {
    let mut server = Program::start("server.py", arguments);
    let port: u16 = server.line().parse().expect("a port");
    let mut edge = Edge::start();
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    edge.route("rpc", "app.test", "/", &[("r1", address)]);
    edge.state.routes[0].protocol = UpstreamProtocol::H2c;
    edge.push();
    let ca = edge.path("ca.pem");
    std::fs::write(&ca, &edge.authority.pem).expect("to write");
    (edge, server, ca)
}

fn client(edge: &Edge, ca: &Path, scenario: &str) -> Program {
    let port = edge.https().port().to_string();
    let ca = ca.to_str().expect("a path");
    Program::start("client.py", &[&port, ca, scenario])
}

fn replica(edge: &Edge) -> ReplicaStatus {
    edge.try_status().expect("a status").replicas["r1"].clone()
}

pub fn calls_of_every_kind_pass() {
    if !has_grpc() {
        return;
    }
    let (edge, _server, ca) = setting();
    assert_eq!(
        client(&edge, &ca, "calls").rest(),
        [
            "unary cba 1",
            "large True",
            "failed INTERNAL as asked",
            "missing UNIMPLEMENTED",
            "count 500",
        ]
    );
    assert_eq!(
        client(&edge, &ca, "bidirectional").rest(),
        ["bidirectional [] OK"]
    );
    wait_for("calls to be counted", Duration::from_secs(5), || {
        let counted = replica(&edge);
        (counted.requests == 6 && counted.in_flight == 0).then_some(())
    });
    assert_eq!(replica(&edge).server_errors, 1, "INTERNAL is one");
    let line = edge.log_line("a call", |line| line["path"] == "/test.Test/Echo");
    assert_eq!(
        (&line["stream"], &line["status"]),
        (&"grpc".into(), &200.into())
    );
}

pub fn many_calls_at_once_pass() {
    if !has_grpc() {
        return;
    }
    let (edge, _server, ca) = setting();
    assert_eq!(client(&edge, &ca, "together").rest(), ["together 150"]);
}

/// A server that closes connections by their age, as many do behind balancers, costs no call.
pub fn connections_that_are_closed_cost_no_call() {
    if !has_grpc() {
        return;
    }
    let (edge, _server, ca) = setting_with(&["100"]);
    assert_eq!(client(&edge, &ca, "steady").rest(), ["steady 1200"]);
    assert_eq!(replica(&edge).failed, 0);
}

/// A call that lasts is a stream: its replica drains without it, and it ends in good order.
pub fn a_long_call_ends_when_its_replica_leaves() {
    if !has_grpc() {
        return;
    }
    for (scenario, first, last) in [
        ("watch", "first", "ended UNAVAILABLE the replica drains"),
        ("silent", "waiting", "ended UNAVAILABLE"),
    ] {
        let (mut edge, _server, ca) = setting();
        let mut watcher = client(&edge, &ca, scenario);
        assert_eq!(watcher.line(), first);
        wait_for(
            "the call to count as a stream",
            Duration::from_secs(20),
            || (replica(&edge).streams == 1).then_some(()),
        );
        assert_eq!(replica(&edge).in_flight, 0);
        let pool = edge.state.pools.get_mut("rpc").expect("the pool");
        pool.replicas[0].draining = true;
        edge.push();
        assert_eq!(replica(&edge).streams, 1, "it is not cut");
        let control = edge.control();
        edge.block_on(control.close_streams("r1", Duration::ZERO))
            .expect("to close");
        let line = watcher.line();
        assert!(line.starts_with(last), "{line}");
        wait_for("the stream to be gone", Duration::from_secs(5), || {
            (replica(&edge).streams == 0).then_some(())
        });
    }
}

/// Whatever the client speaks; and a replica that does not speak it is a failure.
pub fn h2c_replicas_serve_other_clients() {
    if !has_grpc() {
        return;
    }
    let (mut edge, _server, ca) = setting();
    let mut plain =
        crate::http1::Connection::tls(edge.https(), "app.test", &edge.authority.pem).expect("TLS");
    plain.send(
        "POST /test.Test/Unary HTTP/1.1\r\nHost: app.test\r\nContent-Type: application/grpc\r\n\
         TE: trailers\r\nConnection: TE\r\nContent-Length: 8\r\n\r\n\0\0\0\0\x03abc",
    );
    let head = plain.head().expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let body = plain.chunk().expect("a chunk");
    assert_eq!(body.as_deref(), Some(&b"\0\0\0\0\x03cba"[..]));
    assert_eq!(plain.take(3).expect("the last chunk"), b"0\r\n");
    let trailers = plain.head().expect("trailers");
    assert!(trailers.starts_with("grpc-status: 0\r\n"), "{trailers}");
    edge.state.routes[0].protocol = UpstreamProtocol::Http;
    edge.push();
    let lines = client(&edge, &ca, "watch").rest();
    assert_eq!(lines, [""; 0], "HTTP/1.1 is not what the server speaks");
    edge.log_line("the advice", |line| {
        let cause = line["cause"].as_str().unwrap_or_default();
        line["status"] == 502 && cause.ends_with("for gRPC its route needs `protocol: h2c`")
    });
    let origin = Origin::usual("a");
    edge.route("rpc", "app.test", "/", &[("r2", origin.address)]);
    edge.state.routes[0].protocol = UpstreamProtocol::H2c;
    edge.push();
    let lines = client(&edge, &ca, "watch").rest();
    assert_eq!(
        lines,
        Vec::<String>::new(),
        "it says nothing before it fails"
    );
    edge.log_line("the failure", |line| {
        line["status"] == 502 && line["replica"] == "r2"
    });
}
