//! Subsystems that others reach by protocols of their own: an image registry, Vault's API, git.
//!
//! ```text
//! client ─► edge (TLS, limits, access log) ─► <run>/edge/up-gateway.sock ─► Gateway ─► Mount
//! ```
//!
//! A mount has hosts of its own; the edge passes on what is asked of them. Applications do not come
//! this way.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use havre_base::{in_place, one_line};
use havre_edge::{Certificate, LocalServer, Pool, Route, SocketName, UpstreamProtocol};
use havre_model::Tls;
use http::{StatusCode, header};
use tokio::net::UnixListener;
use tower_service::Service as _;

use crate::edge::EnvironmentEdge;
use crate::platform::Platform;
use crate::public_hosts;
use crate::supervisor::Supervised;

/// Its pool and its socket.
const POOL: &str = "havre/gateway";
const SOCKET: &str = "gateway";
/// How long requests wait while the daemon is replaced.
const HOLD_MS: u64 = 5000;
/// How often its certificate is looked at, and how soon again where there is none.
const EVERY: Duration = Duration::from_secs(3600);
const RETRY: Duration = Duration::from_secs(30);

/// What a subsystem serves.
#[derive(Clone)]
pub(crate) struct Mount {
    /// For the log.
    pub(crate) name: &'static str,
    /// In lower case; nobody else has them.
    pub(crate) hosts: BTreeSet<String>,
    pub(crate) router: Router,
}

/// Two subsystems want one host: a fault of this program, or of its configuration.
#[derive(Debug, thiserror::Error)]
#[error("two subsystems would answer at {host}")]
pub(crate) struct SharedHost {
    host: String,
}

/// Answers for all mounts.
#[derive(Clone)]
pub(crate) struct Gateway(Arc<Vec<Mount>>);

impl Gateway {
    /// `None` where there is nothing to serve. A host is one mount's alone.
    pub(crate) fn new(mounts: Vec<Mount>) -> Result<Option<Self>, SharedHost> {
        let mut taken = BTreeSet::new();
        let mut hosts = mounts.iter().flat_map(|mount| &mount.hosts);
        if let Some(host) = hosts.find(|host| !taken.insert(*host)) {
            return Err(SharedHost { host: host.clone() });
        }
        Ok((!mounts.is_empty()).then(|| Self(Arc::new(mounts))))
    }

    /// The hosts that no environment can have.
    pub(crate) fn hosts(&self) -> BTreeSet<String> {
        self.0
            .iter()
            .flat_map(|mount| mount.hosts.clone())
            .collect()
    }

    /// Listens for the edge and tells it so, until the daemon ends.
    pub(crate) async fn run(self, platform: Arc<Platform>, task: Supervised) {
        let listener = match listen(&platform) {
            Ok(listener) => listener,
            Err(error) => {
                task.report(Err(one_line(&*error)));
                platform.hub.carry_over_gateway(POOL).await;
                return;
            }
        };
        let serving = self
            .clone()
            .serve(listener, task.end.clone().cancelled_owned());
        let routing = async {
            loop {
                let routed = self.route(&platform).await;
                let pause = if routed.is_ok() { EVERY } else { RETRY };
                if let Err(error) = &routed {
                    tracing::warn!(error, "the gateway has no certificate");
                    platform.hub.carry_over_gateway(POOL).await;
                }
                task.report(routed);
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            served = serving => if let Err(error) = served {
                task.report(Err(error.to_string()));
            },
            () = routing => {}
        }
    }

    /// Has the edge pass the hosts' requests on; says of which.
    async fn route(&self, platform: &Platform) -> Result<String, String> {
        let hosts: Vec<String> = self.hosts().into_iter().collect();
        let told = format!("serves {}", hosts.join(", "));
        let now = SystemTime::now();
        let pair = in_place(|| {
            let files = platform.ca.certificate_for(&hosts, now);
            files.map(|files| platform.certificates.read(&files, &hosts, now).pair)
        });
        let pair = pair.map_err(|error| one_line(&error))?;
        let pair = pair.ok_or_else(|| "its certificate cannot be read".to_owned())?;
        let socket: SocketName = SOCKET.parse().map_err(|error| one_line(&error))?;
        let mut part = EnvironmentEdge {
            certificates: vec![Certificate {
                hosts: hosts.clone(),
                chain: pair.chain,
                key: pair.key,
            }],
            routes: vec![Route {
                id: POOL.to_owned(),
                hosts,
                path: "/".to_owned(),
                strip_prefix: false,
                pool: POOL.to_owned(),
                protocol: UpstreamProtocol::Http,
            }],
            public: public(&self.hosts()),
            ..EnvironmentEdge::default()
        };
        part.pools.insert(
            POOL.to_owned(),
            Pool {
                local: vec![LocalServer {
                    id: SOCKET.to_owned(),
                    socket,
                }],
                hold_ms: HOLD_MS,
                ..Pool::default()
            },
        );
        platform.hub.set_gateway(part).await;
        Ok(told)
    }

    /// Serves until `end`; what is under way then ends with the daemon.
    async fn serve(
        self,
        listener: UnixListener,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let all = Router::new().fallback(async move |request: Request| self.answer(request).await);
        axum::serve(listener, all.into_make_service())
            .with_graceful_shutdown(end)
            .await
    }

    /// Passes a request on to the mount of its host.
    async fn answer(&self, request: Request<Body>) -> Response {
        let host = request.headers().get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let name = name.to_ascii_lowercase();
        let mount = self.0.iter().find(|mount| mount.hosts.contains(&name));
        let Some(mount) = mount else {
            return (StatusCode::MISDIRECTED_REQUEST, "nobody serves this host\n").into_response();
        };
        tracing::debug!(mount = mount.name, method = %request.method(), "request");
        let answered: Result<Response, Infallible> = mount.router.clone().call(request).await;
        match answered {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Hosts for which an authority may sign.
fn public(hosts: &BTreeSet<String>) -> BTreeSet<String> {
    let is_public = |host: &&String| public_hosts::signs_for(&Tls::Auto, host);
    hosts.iter().filter(is_public).cloned().collect()
}

fn listen(platform: &Platform) -> Result<UnixListener, Box<dyn std::error::Error + Send + Sync>> {
    let socket: SocketName = SOCKET.parse()?;
    let folder = platform.root.edge_run_dir();
    Ok(in_place(|| havre_edge::listen_for_edge(&folder, &socket))?)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;
    use tokio_util::sync::CancellationToken;

    use super::*;

    async fn asked(path: &std::path::Path, host: &str) -> String {
        let mut stream = UnixStream::connect(path).await.expect("connected");
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    #[tokio::test]
    async fn each_host_has_its_own_subsystem_and_others_have_none() {
        let mount = |name: &'static str, host: &str| Mount {
            name,
            hosts: BTreeSet::from([host.to_owned()]),
            router: Router::new().route("/", get(async move || name)),
        };
        let mounts = vec![
            mount("registry", "registry.example.org"),
            mount("vault", "vault.example.org"),
        ];
        let gateway = Gateway::new(mounts).expect("each has its own");
        let gateway = gateway.expect("there are some");
        assert_eq!(gateway.hosts().len(), 2);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gateway.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let end = CancellationToken::new();
        let serving = tokio::spawn(gateway.serve(listener, end.clone().cancelled_owned()));
        let answer = asked(&path, "Registry.example.org:443").await;
        assert!(answer.ends_with("registry"), "{answer}");
        let answer = asked(&path, "vault.example.org").await;
        assert!(answer.ends_with("vault"), "{answer}");
        let answer = asked(&path, "shop.example.org").await;
        assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
        end.cancel();
        serving.await.expect("joined").expect("ended in peace");
        assert!(Gateway::new(Vec::new()).expect("none").is_none());
        let twice = vec![
            mount("registry", "example.org"),
            mount("vault", "example.org"),
        ];
        let refused = Gateway::new(twice).err().expect("refused").to_string();
        assert_eq!(refused, "two subsystems would answer at example.org");
    }
}
