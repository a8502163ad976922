//! A real authority for certificates on loopback: pebble, which `cargo xtask test` fetches, and the name
//! server that tells it where names are.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::wait_until;

/// Where the programs are, below the workspace.
const FOLDER: &str = "target/peers/pebble";
const PATIENCE: Duration = Duration::from_secs(20);

/// How it is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it looks for proofs by HTTP.
    pub http_port: u16,
    /// Where it looks for proofs by TLS.
    pub tls_port: u16,
    /// Percentage of sound nonces that it refuses all the same.
    pub refused_nonces: u8,
    /// Id and key, in base64url, of the account by which it knows us.
    pub external_account: Option<(String, String)>,
    /// Life of certificates by profile, in seconds.
    pub profiles: Vec<(String, u64)>,
    /// Names for which it does not sign.
    pub blocked: Vec<String>,
    /// Port of the directory; 0: any.
    pub port: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            http_port: 0,
            tls_port: 0,
            refused_nonces: 5,
            external_account: None,
            profiles: vec![("default".to_owned(), 90 * 24 * 3600)],
            blocked: Vec::new(),
            port: 0,
        }
    }
}

/// A running one, with its name server: every name is at 127.0.0.1.
pub struct Pebble {
    folder: TempDir,
    children: Vec<Child>,
    options: Options,
    port: u16,
    management: u16,
    names: u16,
}

impl Pebble {
    /// Starts one; `None` where the programs are not there.
    pub fn start(options: Options) -> Option<Self> {
        let programs = workspace().join(FOLDER);
        if !programs.join("pebble").is_file() {
            return None;
        }
        let folder = TempDir::new().expect("a folder");
        write_identity(folder.path());
        let [port, management, names, dns] = free_ports();
        let mut pebble = Self {
            folder,
            children: Vec::new(),
            port: if options.port == 0 {
                port
            } else {
                options.port
            },
            options,
            management,
            names,
        };
        pebble.write_config();
        let dns = format!("127.0.0.1:{dns}");
        let mut server = Command::new(programs.join("pebble-challtestsrv"));
        server.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""]);
        server.args(["-defaultIPv6", "", "-dnsserver", &dns]);
        server.args(["-management", &format!("127.0.0.1:{names}")]);
        pebble.spawn(server);
        let mut authority = Command::new(programs.join("pebble"));
        authority.arg("-config").arg(pebble.path("config.json"));
        authority.args(["-dnsserver", &dns]);
        authority.env("PEBBLE_VA_NOSLEEP", "1");
        authority.env("PEBBLE_AUTHZREUSE", "0");
        let refused = pebble.options.refused_nonces.to_string();
        authority.env("PEBBLE_WFE_NONCEREJECT", refused);
        pebble.spawn(authority);
        wait_until("pebble to listen", PATIENCE, || {
            [pebble.port, pebble.management, pebble.names]
                .iter()
                .all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
        });
        Some(pebble)
    }

    /// Address of its directory.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// Its port, for another one in its place.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate to trust when talking to it.
    pub fn ca_file(&self) -> PathBuf {
        self.path("api.pem")
    }

    /// The certificate by which its certificates can be checked.
    pub fn root(&self) -> String {
        self.curl(&["/roots/0"])
    }

    /// Moves the window in which a certificate is to be replaced; RFC 3339.
    pub fn set_window(&self, chain: &str, start: &str, end: &str) {
        let leaf = chain.split_inclusive("-----END CERTIFICATE-----").next();
        let window = json!({"suggestedWindow": {"start": start, "end": end}});
        let body = json!({"Certificate": leaf, "ARIResponse": window.to_string()});
        self.curl(&["/set-renewal-info/", "--data-binary", &body.to_string()]);
    }

    /// Calls the name server, e.g. `set-txt` with `{"host": "_acme-challenge.a.dev.", "value": …}`.
    pub fn names(&self, call: &str, body: &Value) {
        call_names(self.names, call, body).expect("the name server");
    }

    /// Port of the name server's calls, for hooks.
    pub fn names_port(&self) -> u16 {
        self.names
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Ends it, as an authority that is down.
    pub fn stop(&mut self) {
        for mut child in self.children.drain(..) {
            child.kill().expect("to kill");
            child.wait().expect("its end");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spawn(&mut self, mut command: Command) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("a log");
        let second = log.try_clone().expect("a log");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(second);
        self.children.push(child.spawn().expect("pebble"));
    }

    fn write_config(&self) {
        let profile = |(name, seconds): &(String, u64)| {
            let said = json!({"description": name, "validityPeriod": seconds});
            (name.clone(), said)
        };
        let profiles: serde_json::Map<_, _> = self.options.profiles.iter().map(profile).collect();
        let mut config = json!({
            "listenAddress": format!("127.0.0.1:{}", self.port),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": self.path("api.pem"),
            "privateKey": self.path("api.key"),
            "httpPort": self.options.http_port,
            "tlsPort": self.options.tls_port,
            "domainBlocklist": self.options.blocked,
            "retryAfter": {"authz": 1, "order": 1},
            "keyAlgorithm": "ecdsa",
            "profiles": profiles,
        });
        if let Some((id, key)) = &self.options.external_account {
            config["externalAccountBindingRequired"] = true.into();
            config["externalAccountMACKeys"] = json!({ id: key });
        }
        let text = json!({ "pebble": config }).to_string();
        std::fs::write(self.path("config.json"), text).expect("a configuration");
    }

    /// Calls its management port.
    fn curl(&self, arguments: &[&str]) -> String {
        let (path, more) = arguments.split_first().expect("a path");
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body", "--cacert"])
            .arg(self.ca_file())
            .args(more)
            .arg(format!("https://localhost:{}{path}", self.management))
            .output()
            .expect("curl");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{path}: {said}");
        said
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.stop();
    }
}

/// POSTs to the name server of a [`Pebble`].
fn call_names(port: u16, call: &str, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let length = body.len();
    let head = format!("POST /{call} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.starts_with("HTTP/1.0 200") {
        true => Ok(()),
        false => Err(io::Error::other(answer)),
    }
}

fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}

/// What it shows of itself.
fn write_identity(folder: &Path) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(folder.join("api.pem"), certificate.pem()).expect("to write");
    std::fs::write(folder.join("api.key"), key.serialize_pem()).expect("to write");
}

/// Different ones: all are held until all are known.
fn free_ports<const N: usize>() -> [u16; N] {
    let held: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a port"))
        .collect();
    std::array::from_fn(|index| held[index].local_addr().expect("an address").port())
}
