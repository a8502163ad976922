//! Git's protocol over HTTP.
//!
//! ```text
//! GET  /NAME.git/info/refs?service=git-receive-pack ─► references (the repository is made, for whoever may push)
//! POST /NAME.git/git-receive-pack ─► git receive-pack --stateless-rpc ─► what it prints, as it comes
//! POST /NAME.git/connect/git-receive-pack, upgrade ─► git receive-pack, both directions
//! ```

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, Request};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use havre_base::one_line;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::io::ReaderStream;

use crate::exchange::{Exchange, Input};
use crate::head::{self, Coding};
use crate::process::{Call, Running};
use crate::push::{Asks, Door, Outcome, Phase, Refusal, Visitor};
use crate::pushes::Ticket;
use crate::repositories::Held;
use crate::room::Room;
use crate::server::Git;
use crate::service::Service;
use crate::view::{HOOKS, REPOSITORY};
use crate::{Name, hook, size};

/// What waits for a client, in pieces of 64 KiB.
const AHEAD: usize = 4;
/// What a client may send to fetch: what it wants and has.
const MOST_WANTED: u64 = 64 << 20;
/// What comes with a pack: the references that it moves.
const BESIDE_PACK: u64 = 16 << 20;
/// What connections become.
const UPGRADE: &str = "git";

impl Git {
    /// Git's protocol over HTTP: `/NAME.git/info/refs`, `/NAME.git/git-upload-pack`, `/NAME.git/git-receive-pack`;
    /// and `/NAME.git/connect/git-upload-pack` and `…/git-receive-pack`, which a client upgrades to a connection
    /// that speaks it as over SSH.
    pub fn router(&self, door: Arc<dyn Door>) -> Router {
        let git = self.clone();
        router(Arc::new(Server { git, door }))
    }
}

fn router(server: Arc<Server>) -> Router {
    let (references, upload, receive, connect) = (
        Arc::clone(&server),
        Arc::clone(&server),
        Arc::clone(&server),
        server,
    );
    Router::new()
        .route(
            "/{repository}/info/refs",
            get(
                async move |Path(part): Path<String>,
                            RawQuery(query): RawQuery,
                            request: Request| {
                    let answered = references
                        .references(&part, query.as_deref(), request)
                        .await;
                    answered.unwrap_or_else(|refusal| refused(&refusal))
                },
            ),
        )
        .route(
            "/{repository}/git-upload-pack",
            post(async move |Path(part): Path<String>, request: Request| {
                let answered = upload.exchange(&part, Service::Fetch, request).await;
                answered.unwrap_or_else(|refusal| refused(&refusal))
            }),
        )
        .route(
            "/{repository}/git-receive-pack",
            post(async move |Path(part): Path<String>, request: Request| {
                let answered = receive.exchange(&part, Service::Push, request).await;
                answered.unwrap_or_else(|refusal| refused(&refusal))
            }),
        )
        .route(
            "/{repository}/connect/{service}",
            post(
                async move |Path((part, service)): Path<(String, String)>, request: Request| {
                    let answered = connect.connect(&part, &service, request).await;
                    answered.unwrap_or_else(|refusal| refused(&refusal))
                },
            ),
        )
}

struct Server {
    git: Git,
    door: Arc<dyn Door>,
}

/// Somebody who was let in, with room for a git process.
struct Guest {
    name: Name,
    visitor: Arc<dyn Visitor>,
    room: Room,
}

/// How git is spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    References,
    Stateless,
    Connected,
}

/// A git that was started for somebody.
struct Started {
    running: Running,
    /// Of a push that may move something.
    push: Option<(Ticket, Held)>,
    guest: Guest,
}

impl Server {
    async fn references(
        &self,
        part: &str,
        query: Option<&str>,
        request: Request,
    ) -> Result<Response, Refusal> {
        let (head, _) = request.into_parts();
        let service = query
            .unwrap_or_default()
            .split('&')
            .find_map(|pair| pair.strip_prefix("service="))
            .and_then(Service::named)
            .ok_or_else(|| {
                let line = "this git is too old: it speaks the protocol that reads plain files";
                refusal(StatusCode::FORBIDDEN, line)
            })?;
        let guest = self.admit(part, service, Phase::References, &head).await?;
        let protocol = head::protocol(&head.headers);
        let first = match service {
            Service::Fetch if head::is_version_2(protocol.as_deref()) => None,
            _ => Some(head::announcement(service)),
        };
        let started = self
            .start(guest, service, Mode::References, protocol)
            .await?;
        let input = Input {
            stream: stream::empty().boxed(),
            most: 0,
            is_whole: true,
        };
        let kind = match service {
            Service::Fetch => "application/x-git-upload-pack-advertisement",
            Service::Push => "application/x-git-receive-pack-advertisement",
        };
        self.answer(started, input, first, kind).await
    }

    async fn exchange(
        &self,
        part: &str,
        service: Service,
        request: Request,
    ) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        let guest = self.admit(part, service, Phase::Exchange, &head).await?;
        let (asked, told) = match service {
            Service::Fetch => (
                "application/x-git-upload-pack-request",
                "application/x-git-upload-pack-result",
            ),
            Service::Push => (
                "application/x-git-receive-pack-request",
                "application/x-git-receive-pack-result",
            ),
        };
        let kind = head.headers.get(header::CONTENT_TYPE);
        if kind.map(HeaderValue::as_bytes) != Some(asked.as_bytes()) {
            guest.visitor.ended(Outcome::Failed);
            let line = format!("the request is not {asked}");
            return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, &line));
        }
        let Some(coding) = head::coding(&head.headers) else {
            guest.visitor.ended(Outcome::Failed);
            let line = "the request is packed otherwise than by gzip";
            return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, line));
        };
        let protocol = head::protocol(&head.headers);
        let started = self
            .start(guest, service, Mode::Stateless, protocol)
            .await?;
        let input = self.input(body, service, coding);
        self.answer(started, input, None, told).await
    }

    fn input(&self, body: Body, service: Service, coding: Coding) -> Input {
        let stream = body
            .into_data_stream()
            .map(|piece| piece.map_err(io::Error::other))
            .boxed();
        Input {
            stream: head::unpacked(stream, coding),
            most: self.most(service),
            is_whole: true,
        }
    }

    /// What a client may send; of a pack that is too large git says so itself, and its rest is read.
    fn most(&self, service: Service) -> u64 {
        match service {
            Service::Fetch => MOST_WANTED,
            Service::Push => {
                let most = self.git.0.settings.most_push;
                most.saturating_mul(2).saturating_add(BESIDE_PACK)
            }
        }
    }

    async fn connect(
        &self,
        part: &str,
        service: &str,
        mut request: Request,
    ) -> Result<Response, Refusal> {
        let service = Service::named(service);
        let service = service.ok_or_else(|| refusal(StatusCode::NOT_FOUND, "no such service"))?;
        let upgraded = hyper::upgrade::on(&mut request);
        let (head, _) = request.into_parts();
        let wanted = head.headers.get(header::UPGRADE);
        if wanted.map(HeaderValue::as_bytes) != Some(UPGRADE.as_bytes()) {
            let line = "this connection is to be upgraded to git";
            return Err(refusal(StatusCode::UPGRADE_REQUIRED, line));
        }
        let guest = self.admit(part, service, Phase::Exchange, &head).await?;
        let protocol = head::protocol(&head.headers);
        let started = self
            .start(guest, service, Mode::Connected, protocol)
            .await?;
        let (git, most) = (self.git.clone(), self.most(service));
        self.git.0.tasks.spawn(async move {
            let connection = match upgraded.await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::debug!(%error, "a connection was not upgraded");
                    started.give_up().await;
                    return;
                }
            };
            let (from, mut to) = tokio::io::split(TokioIo::new(connection));
            let input = Input {
                stream: ReaderStream::new(from).boxed(),
                most,
                is_whole: false,
            };
            let (output, mut pieces) = mpsc::channel::<Bytes>(AHEAD);
            let telling = async move {
                while let Some(piece) = pieces.recv().await {
                    if let Err(error) = to.write_all(&piece).await {
                        tracing::debug!(%error, "a client has left");
                        return;
                    }
                }
                if let Err(error) = to.shutdown().await {
                    tracing::debug!(%error, "a client had left at the end");
                }
            };
            tokio::join!(run(git, started, input, output), telling);
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, UPGRADE)
            .body(Body::empty());
        response.map_err(|error| internal(&error))
    }

    /// Lets somebody in who may, where there is what they ask for. A repository that does not exist is made for
    /// whoever may push to it.
    async fn admit(
        &self,
        part: &str,
        service: Service,
        phase: Phase,
        head: &Parts,
    ) -> Result<Guest, Refusal> {
        let named = head::repository(part);
        let no_name = || refusal(StatusCode::NOT_FOUND, "there is no such repository");
        let name = named.ok_or_else(no_name)?;
        let asks = Asks {
            project: &name,
            service,
            phase,
            head,
        };
        let visitor = self.door.admit(asks).await?;
        // Only now: strangers do not learn what there is.
        let found = self.find(&name, service).await;
        let room = found.and_then(|()| {
            let room = self.git.0.rooms.enter(visitor.key());
            room.ok_or_else(|| {
                let line = "too many git processes run for you at once: try again soon";
                refusal(StatusCode::TOO_MANY_REQUESTS, line)
            })
        });
        match room {
            Ok(room) => Ok(Guest {
                name,
                visitor,
                room,
            }),
            Err(refusal) => {
                visitor.ended(Outcome::Failed);
                Err(refusal)
            }
        }
    }

    async fn find(&self, name: &Name, service: Service) -> Result<(), Refusal> {
        let repositories = self.git.repositories();
        match (repositories.exists(name), service) {
            (true, _) => Ok(()),
            (false, Service::Fetch) => Err(refusal(
                StatusCode::NOT_FOUND,
                &format!("there is no repository {name} yet: the first push makes it"),
            )),
            (false, Service::Push) => {
                self.check_disk()?;
                let made = repositories.create(name).await;
                made.map_err(|error| unmade(&error))
            }
        }
    }

    fn check_disk(&self) -> Result<(), Refusal> {
        let least = self.git.0.settings.least_free;
        let free =
            size::free(self.git.repositories().folder()).map_err(|error| internal(&error))?;
        match free < least {
            true => Err(refusal(
                StatusCode::INSUFFICIENT_STORAGE,
                &format!(
                    "the disk of this machine is full: {} MiB are left, {} MiB are needed for a push",
                    free >> 20,
                    least >> 20
                ),
            )),
            false => Ok(()),
        }
    }

    /// What a push may still bring, in bytes.
    async fn room_of(&self, name: &Name) -> Result<u64, Refusal> {
        self.check_disk()?;
        let size = self.git.repositories().size(name).await;
        let size = size.map_err(|error| internal(&error))?;
        let settings = &self.git.0.settings;
        match settings.most_repository.saturating_sub(size) {
            0 => Err(refusal(
                StatusCode::INSUFFICIENT_STORAGE,
                &format!(
                    "the repository {name} takes {} MiB, and {} MiB are the most it may",
                    size >> 20,
                    settings.most_repository >> 20
                ),
            )),
            left => {
                let of_all = self.room_of_all(name, size).await?;
                Ok(left.min(settings.most_push).min(of_all))
            }
        }
    }

    /// What all repositories together still may, in bytes, where this one takes `size`.
    async fn room_of_all(&self, name: &Name, size: u64) -> Result<u64, Refusal> {
        let total = self.git.repositories().total(name, size).await;
        let total = total.map_err(|error| internal(&error))?;
        let most = self.git.0.settings.most_total;
        match most.saturating_sub(total) {
            0 => Err(refusal(
                StatusCode::INSUFFICIENT_STORAGE,
                &format!(
                    "all repositories take {} MiB, and {} MiB are the most they may: `git.total` of machine.yaml",
                    total >> 20,
                    most >> 20
                ),
            )),
            left => Ok(left),
        }
    }

    async fn start(
        &self,
        guest: Guest,
        service: Service,
        mode: Mode,
        protocol: Option<String>,
    ) -> Result<Started, Refusal> {
        let started = self.try_start(&guest, service, mode, protocol).await;
        match started {
            Ok((running, push)) => Ok(Started {
                running,
                push,
                guest,
            }),
            Err(refusal) => {
                guest.visitor.ended(Outcome::Failed);
                Err(refusal)
            }
        }
    }

    async fn try_start(
        &self,
        guest: &Guest,
        service: Service,
        mode: Mode,
        protocol: Option<String>,
    ) -> Result<(Running, Option<(Ticket, Held)>), Refusal> {
        let mut call = Call::default();
        match mode {
            Mode::References => call.args.extend(["--stateless-rpc", "--advertise-refs"]),
            Mode::Stateless => call.args.push("--stateless-rpc"),
            Mode::Connected => {}
        }
        call.args.push(REPOSITORY);
        call.environment
            .extend(protocol.map(|text| ("GIT_PROTOCOL", text)));
        let mut push = None;
        if service == Service::Push {
            let most = self.room_of(&guest.name).await?;
            call.settings.push(format!("receive.maxInputSize={most}"));
        }
        if service == Service::Push && mode != Mode::References {
            let begun = self
                .git
                .0
                .hooks
                .pushes
                .begin(guest.name.clone(), Arc::clone(&guest.visitor));
            let ticket = begun.map_err(|error| internal(&error))?;
            call.settings.push(format!("core.hooksPath={HOOKS}"));
            call.environment.push((hook::SECRET, ticket.secret.clone()));
            push = Some((ticket, self.git.repositories().hold(&guest.name)));
        }
        let path = self.git.repositories().path(&guest.name);
        let running = self.git.0.processes.start(&path, service.command(), &call);
        let running = running.map_err(|error| internal(&error))?;
        Ok((running, push))
    }

    /// What git prints, after `first`, as it comes.
    async fn answer(
        &self,
        started: Started,
        input: Input,
        first: Option<Bytes>,
        kind: &'static str,
    ) -> Result<Response, Refusal> {
        let (output, mut pieces) = mpsc::channel(AHEAD);
        let git = self.git.clone();
        let task: JoinHandle<Outcome> = self.git.0.tasks.spawn(run(git, started, input, output));
        let printed = match pieces.recv().await {
            Some(piece) => Some(piece),
            // As when a client only probes whether it may push.
            None => match task.await {
                Ok(Outcome::Done) => None,
                _ => return Err(internal(&io::Error::other("git failed"))),
            },
        };
        let begun = first.into_iter().chain(printed).map(Ok::<_, io::Error>);
        let rest =
            stream::poll_fn(move |context| pieces.poll_recv(context).map(|piece| piece.map(Ok)));
        let response = Response::builder()
            .header(header::CONTENT_TYPE, kind)
            .header(header::CACHE_CONTROL, "no-store")
            .body(Body::from_stream(stream::iter(begun).chain(rest)));
        response.map_err(|error| internal(&error))
    }
}

impl Started {
    async fn give_up(mut self) {
        self.running.end().await;
        self.guest.visitor.ended(Outcome::Left);
    }
}

/// Passes bytes on until git has ended, and sees to what a push leads to.
async fn run(git: Git, started: Started, input: Input, output: mpsc::Sender<Bytes>) -> Outcome {
    let Started {
        running,
        push,
        guest,
    } = started;
    let settings = &git.0.settings;
    let exchange = Exchange {
        input,
        output,
        push: push.as_ref().map(|(ticket, _)| Arc::clone(&ticket.pending)),
        lost: guest.visitor.lost(),
        end: git.0.end.clone(),
        idle: settings.idle,
        longest: settings.longest,
    };
    let outcome = exchange.run(running).await;
    let outcome = match &push {
        Some((ticket, _)) => {
            let has_moved = match ticket.pending.receive() {
                Some(unreported) => git.0.hooks.settle(unreported).await,
                None => true,
            };
            match has_moved {
                true => ticket.pending.outcome(outcome),
                false => Outcome::Failed,
            }
        }
        None => outcome,
    };
    guest.visitor.ended(outcome);
    drop(guest.room);
    outcome
}

fn unmade(error: &crate::CreateError) -> Refusal {
    match error {
        crate::CreateError::TooMany { .. } => {
            refusal(StatusCode::INSUFFICIENT_STORAGE, &error.to_string())
        }
        crate::CreateError::Folder { .. } | crate::CreateError::Git { .. } => internal(error),
    }
}

fn refusal(status: StatusCode, line: &str) -> Refusal {
    Refusal {
        status,
        lines: vec![line.to_owned()],
    }
}

fn internal(error: &(dyn std::error::Error + 'static)) -> Refusal {
    let error = one_line(error);
    tracing::error!(error, "git cannot be served");
    refusal(StatusCode::INTERNAL_SERVER_ERROR, &error)
}

/// Clients show plain text, a line each.
fn refused(refusal: &Refusal) -> Response {
    let mut text = refusal.lines.join("\n");
    text.push('\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = refusal.status;
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, plain);
    if refusal.status == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Basic realm=\"havre\", charset=\"UTF-8\"");
        headers.insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}
