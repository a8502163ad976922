//! The edge under 512 requests at a time over HTTP/2, beside nginx in front of the same origin: requests
//! per second, and how many of them cost a new connection to the origin.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::figures::{mention, print_figure, rounded};
use crate::packages;
use crate::shell::{command, has, read, say, succeed, wait_until};

const CONNECTIONS: u32 = 16;
/// On each connection; together 512.
const STREAMS: u32 = 32;
const SECONDS: u32 = 8;
/// Before them.
const WARM_UP: u32 = 2;
/// Of each proxy.
const THREADS: u32 = 2;
/// Of requests that open a connection to the origin.
const BAR_NEW_SHARE: f64 = 0.01;
const PATIENCE: Duration = Duration::from_secs(10);

pub fn measure(binary: &Path) -> Result<Value> {
    let wanted = [
        ("nginx", "nginx-light"),
        ("h2load", "nghttp2-client"),
        ("openssl", "openssl"),
    ];
    let missing = wanted.iter().filter(|(program, _)| !has(program));
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    packages::install(&missing)?;
    let bench = Bench::new(binary)?;
    say(&format!("{SECONDS} s through Havre's edge"));
    let ours = bench.load(bench.edge_port)?;
    say(&format!("{SECONDS} s through nginx"));
    let theirs = bench.load(bench.nginx_port)?;

    mention("requests through Havre's edge", ours.per_second, "/s");
    mention("requests through nginx", theirs.per_second, "/s");
    mention("of nginx", ours.per_second / theirs.per_second, "×");
    print_figure(
        "share that opens a connection to the origin",
        ours.new_share,
        "",
        BAR_NEW_SHARE,
    );
    mention("the same with nginx", theirs.new_share, "");
    Ok(json!({
        "bench": "edge",
        "concurrent": CONNECTIONS * STREAMS,
        "havre_per_second": rounded(ours.per_second),
        "nginx_per_second": rounded(theirs.per_second),
        "havre_new_share": rounded(ours.new_share),
        "nginx_new_share": rounded(theirs.new_share),
        "havre_failed": ours.failed,
        "nginx_failed": theirs.failed,
    }))
}

/// A process that ends with the bench.
struct Running(Child);

impl Running {
    fn start(program: &mut Command) -> Result<Self> {
        let started = program.stdin(Stdio::null()).spawn();
        Ok(Self(started.with_context(|| {
            format!("cannot start {}", program.get_program().display())
        })?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx ends its workers when it is asked to end, and leaves them when it is killed.
        let id = self.0.id().to_string();
        let ended = succeed(command("kill").arg(&id)).and_then(|()| Ok(self.0.wait()?));
        if let Err(error) = ended {
            say(&format!("process {id} stays: {error:#}"));
        }
    }
}

struct Bench {
    _processes: Vec<Running>,
    scratch: tempfile::TempDir,
    origin_port: u16,
    edge_port: u16,
    nginx_port: u16,
}

/// What one proxy has done.
struct Figures {
    per_second: f64,
    new_share: f64,
    failed: u64,
}

impl Bench {
    fn new(binary: &Path) -> Result<Self> {
        let scratch = tempfile::tempdir().context("cannot make a folder")?;
        let [origin_port, edge_port, nginx_port] = [free_port()?, free_port()?, free_port()?];
        let mut bench = Self {
            _processes: Vec::new(),
            scratch,
            origin_port,
            edge_port,
            nginx_port,
        };
        bench.make_certificate()?;
        for (name, text) in [("origin", bench.origin()), ("peer", bench.peer())] {
            let process = bench.nginx(name, &text)?;
            bench._processes.push(process);
        }
        let edge = bench.edge(binary)?;
        bench._processes.push(edge);
        for port in [origin_port, edge_port, nginx_port] {
            wait_until("a server to listen", PATIENCE, || {
                Ok(std::net::TcpStream::connect(("127.0.0.1", port)).ok())
            })?;
        }
        Ok(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn make_certificate(&self) -> Result<()> {
        let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 \
                       -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1";
        let mut openssl = command("openssl");
        openssl.args(request.split_whitespace());
        openssl.arg("-keyout").arg(self.path("key.pem"));
        openssl.arg("-out").arg(self.path("chain.pem"));
        succeed(openssl.stderr(Stdio::null()))
    }

    fn origin(&self) -> String {
        let port = self.origin_port;
        format!(
            "access_log off;
             keepalive_requests 1000000000;
             server {{
               listen 127.0.0.1:{port} backlog=4096;
               location = /figures {{ stub_status; }}
               location / {{ return 200 \"some words for whoever asks\"; }}
             }}"
        )
    }

    fn peer(&self) -> String {
        let (port, origin) = (self.nginx_port, self.origin_port);
        let folder = self.scratch.path().display();
        format!(
            "access_log {folder}/peer-access.log combined buffer=32k flush=1s;
             keepalive_requests 1000000000;
             upstream origin {{ server 127.0.0.1:{origin}; keepalive 512; keepalive_requests 1000000000; }}
             server {{
               listen 127.0.0.1:{port} ssl http2;
               ssl_certificate {folder}/chain.pem;
               ssl_certificate_key {folder}/key.pem;
               location / {{
                 proxy_pass http://origin;
                 proxy_http_version 1.1;
                 proxy_set_header Connection \"\";
               }}
             }}"
        )
    }

    fn nginx(&self, name: &str, http: &str) -> Result<Running> {
        let folder = self.scratch.path().display();
        let workers = if name == "peer" { THREADS } else { 1 };
        let text = format!(
            "daemon off; worker_processes {workers}; pid {folder}/{name}.pid;
             events {{ worker_connections 8192; }}
             http {{ {http} }}"
        );
        let path = self.path(&format!("{name}.conf"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let log = self.path(&format!("{name}.log"));
        Running::start(command("nginx").arg("-c").arg(&path).arg("-e").arg(log))
    }

    fn edge(&self, binary: &Path) -> Result<Running> {
        let edge = Running::start(
            command(binary)
                .arg("edge")
                .arg("--run")
                .arg(self.path("run"))
                .arg("--state")
                .arg(self.path("state"))
                .args(["--threads", &THREADS.to_string()]),
        )?;
        let socket = self.path("run/edge.sock");
        wait_until("the edge to answer", PATIENCE, || {
            Ok(socket.exists().then_some(()))
        })?;
        let text = |name: &str| {
            let path = self.path(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let state = json!({
            "generation": 1,
            "http": [],
            "https": [format!("127.0.0.1:{}", self.edge_port)],
            "certificates": [{
                "hosts": ["127.0.0.1"],
                "chain": text("chain.pem")?,
                "key": text("key.pem")?,
            }],
            "routes": [{
                "id": "bench", "hosts": ["127.0.0.1"], "path": "/", "strip_prefix": false,
                "pool": "bench",
            }],
            "pools": {"bench": {
                "replicas": [{
                    "id": "origin",
                    "address": format!("127.0.0.1:{}", self.origin_port),
                    "draining": false,
                }],
                "hold_ms": 0,
                "unavailable_reason": null,
            }},
            "trusted_proxies": [],
        });
        let path = self.path("state.json");
        fs::write(&path, state.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        let mut push = command("curl");
        push.args(["--silent", "--show-error", "--fail-with-body", "-X", "PUT"]);
        push.arg("--unix-socket").arg(&socket);
        push.arg("--data-binary")
            .arg(format!("@{}", path.display()))
            .arg("http://edge/v1/state");
        let status: Value = serde_json::from_str(&read(&mut push)?)?;
        ensure!(
            status["problems"] == json!([]) && status["taken"] == json!([]),
            "the edge has problems: {status}"
        );
        Ok(edge)
    }

    fn load(&self, port: u16) -> Result<Figures> {
        // The first requests of all have to open connections.
        run_h2load(port, WARM_UP)?;
        let before = self.origin_figures()?;
        let said = run_h2load(port, SECONDS)?;
        let after = self.origin_figures()?;
        let (accepted, requests) = (after.0 - before.0, after.1 - before.1);
        ensure!(requests > 0, "nothing reached the origin:\n{said}");
        Ok(Figures {
            new_share: accepted as f64 / requests as f64,
            ..report(&said)?
        })
    }

    /// Connections that the origin has accepted, and requests that it has had.
    fn origin_figures(&self) -> Result<(u64, u64)> {
        let url = format!("http://127.0.0.1:{}/figures", self.origin_port);
        let text = read(command("curl").args(["--silent", "--fail", &url]))?;
        // The line below "server accepts handled requests".
        let line = text.lines().nth(2).unwrap_or_default();
        let numbers: Vec<u64> = line
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        match numbers.as_slice() {
            [accepted, _, requests] => Ok((*accepted, *requests)),
            _ => bail!("the origin says {text:?}"),
        }
    }
}

fn run_h2load(port: u16, seconds: u32) -> Result<String> {
    let mut h2load = command("h2load");
    h2load.arg(format!("--clients={CONNECTIONS}"));
    h2load.arg(format!("--max-concurrent-streams={STREAMS}"));
    h2load.arg(format!("--duration={seconds}"));
    read(h2load.arg(format!("https://127.0.0.1:{port}/")))
}

/// What h2load says of its run.
fn report(said: &str) -> Result<Figures> {
    let per_second = said
        .lines()
        .find(|line| line.starts_with("finished in "))
        .and_then(|line| line.split(", ").nth(1))
        .and_then(|words| words.strip_suffix(" req/s")?.parse().ok());
    // Answers with another status than 2xx and 3xx count as failed.
    let failed = said
        .lines()
        .find(|line| line.starts_with("requests: "))
        .and_then(|line| {
            line.split(", ")
                .find_map(|part| part.strip_suffix(" failed"))
        })
        .and_then(|number| number.parse().ok());
    let (Some(per_second), Some(failed)) = (per_second, failed) else {
        bail!("h2load says what is not understood:\n{said}");
    };
    Ok(Figures {
        per_second,
        new_share: 0.0,
        failed,
    })
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2load_is_read() {
        let said = "starting benchmark...\n\n\
            finished in 8.00s, 12345.50 req/s, 1.29MB/s\n\
            requests: 98764 total, 99276 started, 98764 done, 98760 succeeded, 4 failed, 1 errored, 2 timeout\n\
            status codes: 98760 2xx, 0 3xx, 3 4xx, 1 5xx\n";
        let figures = report(said).unwrap();
        assert!((figures.per_second - 12345.5).abs() < 1e-9);
        assert_eq!(figures.failed, 4);
        assert!(report("no servers").is_err());
    }
}
