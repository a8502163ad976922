//! A FAKE edge: it shows proofs on ports of its own, to nobody but those who ask as an authority has to.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use havre_acme::{BoxFuture, Name, Outlet, Pair, Proof, Proofs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};

const ACME: &[u8] = b"acme-tls/1";

#[derive(Default, Debug)]
struct Seen {
    answers: BTreeMap<String, String>,
    certificates: BTreeMap<String, Arc<CertifiedKey>>,
    served: Vec<(Name, String)>,
    /// Kinds of proofs, in the order in which they were shown.
    shown: Vec<&'static str>,
    /// Answers what is not the answer.
    lies_about: Option<String>,
    hides_http: bool,
    /// Nothing becomes visible meanwhile.
    is_slow: bool,
    /// Somebody waits for that.
    is_awaited: bool,
}

#[derive(Debug)]
pub struct FakeEdge {
    seen: Arc<Mutex<Seen>>,
    pub http: u16,
    pub tls: u16,
}

impl FakeEdge {
    pub fn start() -> Arc<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let http = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let tls = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let edge = Self {
            http: http.local_addr().unwrap().port(),
            tls: tls.local_addr().unwrap().port(),
            seen: Arc::clone(&seen),
        };
        let known = Arc::clone(&seen);
        std::thread::spawn(move || serve(&http, &known, answer));
        std::thread::spawn(move || serve(&tls, &seen, shake));
        Arc::new(edge)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// Chains that serve a name, the oldest first.
    pub fn served(&self, name: &str) -> Vec<String> {
        let seen = self.seen();
        let own = seen.served.iter().filter(|(own, _)| own.as_str() == name);
        own.map(|(_, chain)| chain.clone()).collect()
    }

    pub fn shown(&self) -> Vec<&'static str> {
        self.seen().shown.clone()
    }

    /// Nothing may stay visible.
    pub fn shows_nothing(&self) -> bool {
        let seen = self.seen();
        seen.answers.is_empty() && seen.certificates.is_empty()
    }

    /// Until told otherwise a proof is not shown, and who shows it waits.
    pub fn be_slow(&self, is_slow: bool) {
        self.seen().is_slow = is_slow;
    }

    /// Whether somebody waited while it was slow.
    pub fn is_awaited(&self) -> bool {
        self.seen().is_awaited
    }

    /// From now on it gives a wrong answer to questions about a host, or a right one again.
    pub fn lie_about(&self, host: Option<&str>) {
        self.seen().lies_about = host.map(ToOwned::to_owned);
    }
}

impl Proofs for FakeEdge {
    fn show<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            while self.seen().is_slow {
                self.seen().is_awaited = true;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let mut seen = self.seen();
            match proof {
                Proof::Http { token, answer } => {
                    seen.shown.push("http");
                    let before = seen.answers.insert(token.clone(), answer.clone());
                    assert_eq!(before, None, "one token, one proof");
                }
                Proof::Tls {
                    server_name,
                    chain,
                    key,
                } => {
                    seen.shown.push("tls");
                    let chain = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
                    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
                    // No TLS library checks the extension that it is for.
                    let pair = CertifiedKey::new(vec![chain], key);
                    seen.certificates
                        .insert(server_name.clone(), Arc::new(pair));
                }
            }
            Ok(())
        })
    }

    fn withdraw<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut seen = self.seen();
            let gone = match proof {
                Proof::Http { token, .. } => seen.answers.remove(token).is_some(),
                Proof::Tls { server_name, .. } => seen.certificates.remove(server_name).is_some(),
            };
            assert!(gone, "what is withdrawn was shown");
        })
    }
}

impl Outlet for FakeEdge {
    fn serve<'a>(&'a self, name: &'a Name, pair: Pair) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.seen().served.push((name.clone(), pair.chain));
        })
    }
}

/// For the life of the test's process.
fn serve(
    listener: &TcpListener,
    seen: &Arc<Mutex<Seen>>,
    one: fn(TcpStream, &Arc<Mutex<Seen>>) -> std::io::Result<()>,
) {
    while let Ok((stream, _)) = listener.accept() {
        let seen = Arc::clone(seen);
        std::thread::spawn(move || {
            let patience = Some(Duration::from_secs(5));
            let timed = stream.set_read_timeout(patience);
            // The other side sees how it ended.
            drop(timed.and_then(|()| one(stream, &seen)));
        });
    }
}

fn answer(mut stream: TcpStream, seen: &Arc<Mutex<Seen>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let token = path.strip_prefix("/.well-known/acme-challenge/");
    let host = head.lines().find_map(|line| line.strip_prefix("Host: "));
    let host = host.and_then(|host| host.split(':').next());
    let said = {
        let seen = seen.lock().unwrap();
        if seen.hides_http {
            return Ok(());
        }
        let said = token.and_then(|token| seen.answers.get(token).cloned());
        match seen.lies_about.as_deref() == host && host.is_some() {
            true => Some("what an application says".to_owned()),
            false => said,
        }
    };
    let (status, body) = match said {
        Some(said) => ("200 OK", said),
        None => ("404 Not Found", String::new()),
    };
    let length = body.len();
    let text =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(text.as_bytes())
}

#[derive(Debug)]
struct Resolver(Arc<Mutex<Seen>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered: Vec<&[u8]> = hello.alpn()?.collect();
        assert_eq!(offered, [ACME]);
        let seen = self.0.lock().unwrap();
        seen.certificates.get(hello.server_name()?).cloned()
    }
}

fn shake(mut stream: TcpStream, seen: &Arc<Mutex<Seen>>) -> std::io::Result<()> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(Arc::clone(seen))));
    config.alpn_protocols = vec![ACME.to_vec()];
    let mut session = ServerConnection::new(Arc::new(config)).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    session.send_close_notify();
    session.write_tls(&mut stream).map(drop)
}
