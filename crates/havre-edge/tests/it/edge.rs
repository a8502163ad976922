//! An edge under test: its process, directories, certificates and control.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use havre_edge::{
    Certificate, Control, ControlError, EdgeState, EdgeStatus, KeptSockets, PrivateKey, Replica,
    Route, UpstreamProtocol,
};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// What the certificate of an edge under test covers.
const HOSTS: &[&str] = &[
    "app.test",
    "other.test",
    "*.wild.test",
    "localhost",
    "127.0.0.1",
];

/// Its folders and files.
pub const RUN: &str = "run";
pub const STATE: &str = "state";
pub const ACCESS_LOG: &str = "state/access.log";

/// Polls until `condition` gives something.
pub fn wait_for<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            begin.elapsed() < deadline,
            "waited {deadline:?} in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A CA and what it has issued.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The CA's certificate.
    pub pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "test CA");
        let pem = params.self_signed(&key).expect("a CA").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate for `hosts`.
    pub fn issue(&self, hosts: &[&str]) -> Certificate {
        self.issue_with(hosts, Vec::new())
    }

    /// One with the extension that an authority looks for. No TLS library takes it for a certificate of a
    /// server: who wants to see it looks at its bytes.
    pub fn challenge(&self, host: &str) -> Certificate {
        let proof = CustomExtension::new_acme_identifier(&[7; 32]);
        self.issue_with(&[host], vec![proof])
    }

    fn issue_with(&self, hosts: &[&str], extensions: Vec<CustomExtension>) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names");
        params.custom_extensions = extensions;
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certificate {
            hosts: names,
            chain: certificate.pem(),
            key: PrivateKey(key.serialize_pem()),
        }
    }
}

/// An edge process with directories of its own.
pub struct Edge {
    directory: TempDir,
    child: Option<Child>,
    runtime: tokio::runtime::Runtime,
    /// For certificates.
    pub authority: Authority,
    /// What is pushed next.
    pub state: EdgeState,
    /// The last status seen.
    pub status: EdgeStatus,
}

impl Edge {
    /// Starts one that listens on loopback and serves nothing yet; [`HOSTS`] have a certificate.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::new();
        let certificate = authority.issue(HOSTS);
        let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
        let state = EdgeState {
            http: vec![loopback],
            https: vec![loopback],
            certificates: vec![certificate],
            ..EdgeState::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let status = EdgeStatus::default();
        let mut edge = Self {
            directory,
            child: None,
            runtime,
            authority,
            state,
            status,
        };
        edge.launch(&[]);
        edge
    }

    /// Starts one that has this pool at `app.test/`.
    pub fn with_replicas(replicas: &[(&str, SocketAddr)]) -> Self {
        let mut edge = Self::start();
        edge.route("web", "app.test", "/", replicas);
        edge.push();
        edge
    }

    /// Starts the process.
    pub fn launch(&mut self, more: &[&str]) {
        self.spawn(more, Stdio::null());
        self.wait_for_answer();
    }

    /// Starts the process with the sockets of another one.
    pub fn launch_with(&mut self, kept: KeptSockets) {
        let input = kept.pass_on().expect("a channel");
        self.spawn(&["--inherit"], input.into());
        self.wait_for_answer();
    }

    /// Starts the process, whether or not it will answer.
    pub fn spawn(&mut self, more: &[&str], stdin: Stdio) {
        let stderr = File::create(self.path("stderr")).expect("a file");
        self.spawn_with(more, stdin, stderr.into());
    }

    /// Starts the process with its talk going somewhere else.
    pub fn launch_talking_to(&mut self, stderr: Stdio) {
        self.spawn_with(&[], Stdio::null(), stderr);
        self.wait_for_answer();
    }

    fn spawn_with(&mut self, more: &[&str], stdin: Stdio, stderr: Stdio) {
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .arg("edge")
            .args(["--run".as_ref(), self.path(RUN).as_path()])
            .args(["--state".as_ref(), self.path(STATE).as_path()])
            .args(more)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("an edge");
        self.child = Some(child);
    }

    fn wait_for_answer(&mut self) {
        let pid = self.pid();
        self.status = wait_for("the edge to answer", Duration::from_secs(10), || {
            self.try_status().ok().filter(|status| status.pid == pid)
        });
    }

    /// Starts a second process that takes over; returns the first.
    pub fn take_over(&mut self, seconds: u32) -> Child {
        self.take_over_with(&["--takeover", &seconds.to_string()])
    }

    /// The same with arguments of the caller's.
    pub fn take_over_with(&mut self, arguments: &[&str]) -> Child {
        let old = self.child.take().expect("a running edge");
        self.launch(arguments);
        old
    }

    /// Waits for the first process to end by itself, in good order.
    pub fn wait_for_predecessor(&self, mut old: Child) {
        let end = wait_for("the old edge to end", Duration::from_secs(10), || {
            old.try_wait().expect("its state")
        });
        assert!(end.success(), "{end}");
        wait_for("its end to be noticed", Duration::from_secs(2), || {
            self.try_status()
                .expect("a status")
                .predecessor
                .is_none()
                .then_some(())
        });
    }

    /// In the edge's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The daemon's side.
    pub fn control(&self) -> Control {
        Control::new(&self.path(RUN))
    }

    /// Sets a route and its pool of the same name.
    pub fn route(&mut self, name: &str, host: &str, path: &str, replicas: &[(&str, SocketAddr)]) {
        self.state.routes.retain(|route| route.id != name);
        self.state.routes.push(Route {
            id: name.to_owned(),
            hosts: vec![host.to_owned()],
            path: path.to_owned(),
            strip_prefix: false,
            pool: name.to_owned(),
            protocol: UpstreamProtocol::Http,
        });
        let replica = |(id, address): &(&str, SocketAddr)| Replica {
            id: (*id).to_owned(),
            address: *address,
            draining: false,
        };
        let replicas = replicas.iter().map(replica).collect();
        self.state
            .pools
            .entry(name.to_owned())
            .or_default()
            .replicas = replicas;
    }

    /// Pushes the state, as the next generation.
    pub fn push(&mut self) {
        self.state.generation += 1;
        self.status = self.try_push().expect("the push");
    }

    /// Pushes the state as it is.
    pub fn try_push(&self) -> Result<EdgeStatus, ControlError> {
        self.runtime.block_on(self.control().put_state(&self.state))
    }

    /// Asks for the status.
    pub fn try_status(&self) -> Result<EdgeStatus, ControlError> {
        self.runtime.block_on(self.control().status())
    }

    /// Runs a future of the control side.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Duplicates of its sockets.
    pub fn keep_sockets(&self) -> KeptSockets {
        KeptSockets::of_edge(&self.path(RUN)).expect("its sockets")
    }

    /// Plain HTTP.
    pub fn http(&self) -> SocketAddr {
        self.status.http[0]
    }

    /// HTTPS.
    pub fn https(&self) -> SocketAddr {
        self.status.https[0]
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running edge").id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("to kill");
            child.wait().expect("its end");
        }
    }

    /// Waits for the process to end by itself.
    pub fn wait_for_end(&mut self, deadline: Duration) -> std::process::ExitStatus {
        let mut child = self.child.take().expect("a running edge");
        wait_for("the edge to end", deadline, || {
            child.try_wait().expect("its state")
        })
    }

    /// The access log so far, once it has a line for which `wanted` holds.
    pub fn log_line(
        &self,
        what: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        wait_for(what, Duration::from_secs(5), || {
            let text = std::fs::read_to_string(self.path(ACCESS_LOG)).ok()?;
            let lines = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            lines.into_iter().find(|line| wanted(line))
        })
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let stderr = std::fs::read_to_string(self.path("stderr")).unwrap_or_default();
            let log = std::fs::read_to_string(self.path(ACCESS_LOG)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(10)..].join("\n");
            eprintln!("--- edge's stderr:\n{stderr}--- end of its access log:\n{last}\n---");
        }
    }
}
