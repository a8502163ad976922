//! The guard is asked before each handler, and told afterwards how it ended.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use havre_api::*;
use havre_model::ServiceName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fixtures::*;

const SOON: Duration = Duration::from_secs(10);

/// Lets in whoever the test says, and writes down what it is told. FAKE.
struct Watching {
    grant: Mutex<Grant>,
    /// Else whoever the kernel says.
    who: Option<Who>,
    lost: CancellationToken,
    told: Mutex<Vec<String>>,
}

impl Watching {
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, role: Role, place: &str) {
        let environments = vec![place.parse().expect("sound")];
        *self.grant.lock().expect("no panic") = Grant { role, environments };
    }
}

impl Guard for Watching {
    fn authenticate(&self, credential: &Credential) -> Result<Principal, ApiError> {
        let Credential::Local(peer) = credential else {
            panic!("{credential:?}");
        };
        Ok(Principal {
            who: self.who.clone().unwrap_or(Who::Local(peer.clone())),
            grant: self.grant.lock().expect("no panic").clone(),
        })
    }

    fn hear(&self, asked: &Asked) -> Result<(), ApiError> {
        permit_somewhere(asked)
    }

    fn admit(&self, asked: &Asked) -> Result<Admission, ApiError> {
        permit(asked)?;
        Ok(Admission {
            lost: self.lost.clone(),
            ..Admission::default()
        })
    }

    fn ended(&self, asked: &Asked, ended: Ended) {
        let scope = match &asked.scope {
            Scope::Environment(id) => id.to_string(),
            Scope::Visible => "visible".to_owned(),
            Scope::Machine => "machine".to_owned(),
        };
        let number = asked.operation.map(|id| format!(" #{id}"));
        let told = format!(
            "{} {scope} [{}]{} {:?}",
            asked.path.trim_start_matches("/v1/"),
            asked.subject,
            number.unwrap_or_default(),
            ended.outcome,
        );
        let mut all = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(told);
    }
}

/// A server whose operations wait to be cancelled, whose feeds and commands to be left.
struct World {
    guard: Arc<Watching>,
    client: Client,
    socket: PathBuf,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self::of(None)
    }

    fn of(who: Option<Who>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("api.sock");
        let guard = Arc::new(Watching {
            grant: Mutex::new(Grant::everywhere(Role::Admin)),
            who,
            lost: CancellationToken::new(),
            told: Mutex::default(),
        });
        let routes = Routes::new(())
            .call::<Status, _>(async |(), _, _| Ok(Vec::new()))
            .call::<Images, _>(async |(), _, _| Ok(Vec::new()))
            .call::<LoginOidc, _>(async |(), by, _| {
                assert_eq!(by.who, Who::Nobody);
                Ok(IssuedToken {
                    token: TokenText::new("havre_secret".to_owned()),
                    info: TokenInfo {
                        id: "1".to_owned(),
                        name: "acme/shop".to_owned(),
                        issuer: Some("github".to_owned()),
                        grant: Grant::everywhere(Role::Viewer),
                        created: Timestamp::now(),
                        created_by: String::new(),
                        expires: None,
                        last_used: None,
                    },
                })
            })
            .call::<NetworkRemove, _>(async |(), _, _| {
                Err(ApiError::new(ErrorCode::Conflict, "in use"))
            })
            .operation::<Up, _>(async |(), _, _, events: EventSink| {
                events.cancellation().cancelled().await;
                Err(ApiError::new(ErrorCode::Cancelled, "cancelled"))
            })
            .feed::<Logs, _>(async |(), _, query: LogQuery, items| {
                if query.follow {
                    items.closed().await;
                    return Ok(());
                }
                // More than a socket holds.
                for _ in 0..16 {
                    items.send(line(&"x".repeat(1 << 16))).await.expect("room");
                }
                Ok(())
            })
            .exec(async |(), _, _, session: ExecSession| {
                session.output.closed().await;
                Ok(137)
            });
        let stop = CancellationToken::new();
        let server = Server::new(routes, Arc::clone(&guard) as Arc<dyn Guard>, stop.clone());
        let serving = tokio::spawn(server.serve(bind(&socket, None).expect("bound")));
        Self {
            client: Client::new(&socket),
            guard,
            socket,
            stop,
            serving,
            _folder: folder,
        }
    }

    /// What the guard is told next, once it is.
    async fn told(&self) -> Vec<String> {
        let mut told = Vec::new();
        let waited = timeout(SOON, async {
            while told.is_empty() {
                tokio::task::yield_now().await;
                told = self.guard.told();
            }
        });
        waited.await.expect("told in time");
        told
    }

    async fn end(self) {
        self.stop.cancel();
        self.serving.await.expect("no panic").expect("served");
        assert!(self.socket.exists());
    }
}

fn logs() -> LogQuery {
    LogQuery {
        environment: environment(),
        services: vec![ServiceName::new("web")],
        tail: None,
        since: None,
        follow: true,
    }
}

fn line(text: &str) -> LogLine {
    LogLine {
        at: Timestamp::now(),
        service: ServiceName::new("web"),
        replica: "web-1".to_owned(),
        stream: LogStream::Stdout,
        text: text.to_owned(),
        partial: false,
    }
}

fn exec() -> ExecRequest {
    ExecRequest {
        environment: environment(),
        service: ServiceName::new("web"),
        replica: None,
        argv: vec!["cat".to_owned(), "/run/secrets/x".to_owned()],
        env: Default::default(),
        user: None,
        working_dir: None,
        stdin: true,
        tty: None,
    }
}

#[tokio::test]
async fn each_call_is_told_once_with_what_it_was_about_and_how_it_ended() {
    let world = World::new();
    let query = StatusQuery::default();
    world.client.call::<Status>(&query).await.expect("answered");
    assert_eq!(world.told().await, ["status visible [] Done"]);

    let name = "shared".to_owned();
    let request = NetworkRemoveRequest { name };
    let refused = world.client.call::<NetworkRemove>(&request).await;
    assert_eq!(refusal(refused.unwrap_err()).code, ErrorCode::Conflict);
    let told = world.told().await;
    assert_eq!(told, ["networks/remove machine [shared] Failed(Conflict)"]);

    let lines = world.client.feed::<Logs>(&logs()).await.expect("answered");
    drop(lines);
    let told = world.told().await;
    assert_eq!(told, ["logs shop/production [web] Left"]);

    let command = world.client.exec(&exec()).await.expect("answered");
    drop(command);
    let told = world.told().await;
    assert_eq!(
        told,
        ["exec shop/production [web: cat and 1 arguments] Left"]
    );
    world.end().await;
}

#[tokio::test]
async fn a_login_is_told_with_who_came_of_it_and_asks_for_no_role() {
    let world = World::new();
    *world.guard.grant.lock().expect("no panic") = Grant::nothing();
    let token = "an identity token".to_owned();
    let request = OidcLoginRequest { token };
    world
        .client
        .call::<LoginOidc>(&request)
        .await
        .expect("let in");
    let expected = "login/oidc visible [github:acme/shop, viewer of everything] Done";
    assert_eq!(world.told().await, [expected]);
    // Of nobody only so much is read.
    let token = "x".repeat(16 * 1024 + 1);
    let refused = world
        .client
        .call::<LoginOidc>(&OidcLoginRequest { token })
        .await;
    assert_eq!(refusal(refused.unwrap_err()).code, ErrorCode::Invalid);
    world.end().await;
}

#[tokio::test]
async fn an_operation_is_told_when_it_has_ended_itself() {
    let world = World::new();
    let running = world.client.start::<Up>(&up("shop")).await.expect("begun");
    let operation = running.id();
    drop(running);
    let request = CancelRequest { operation };
    // Its client has left; the next call comes after.
    world
        .client
        .call::<Images>(&MachineQuery {})
        .await
        .expect("answered");
    assert_eq!(world.told().await, ["images machine [] Done"]);
    world
        .client
        .call::<Cancel>(&request)
        .await
        .expect("cancelled");
    let mut told = world.told().await;
    while told.len() < 2 {
        told.extend(world.told().await);
    }
    told.sort();
    assert_eq!(
        told,
        [
            format!("cancel shop/production [operation {operation}] Done"),
            format!("up shop/production [] #{operation} Failed(Cancelled)"),
        ]
    );
    world.end().await;
}

#[tokio::test]
async fn what_needs_more_than_the_role_is_refused_before_its_handler() {
    let world = World::new();
    let running = world.client.start::<Up>(&up("shop")).await.expect("begun");
    let cancel = CancelRequest {
        operation: running.id(),
    };
    let code = |error: ClientError| refusal(error).code;

    world.guard.set(Role::Viewer, "shop/*");
    let refused = world.client.start::<Up>(&up("shop")).await.err().unwrap();
    let refused = refusal(refused);
    assert_eq!(refused.code, ErrorCode::Forbidden);
    // Where is not even read.
    assert_eq!(refused.message, "up needs the role deployer");
    assert!(refused.hint.unwrap().ends_with("is viewer of shop/*"));
    assert_eq!(world.told().await, ["up visible [] Failed(Forbidden)"]);
    let refused = world.client.call::<Images>(&MachineQuery {}).await;
    assert_eq!(code(refused.unwrap_err()), ErrorCode::Forbidden);
    let refused = world.client.call::<Cancel>(&cancel).await;
    assert_eq!(code(refused.unwrap_err()), ErrorCode::Forbidden);
    let refused = world.client.exec(&exec()).await.err().unwrap();
    assert_eq!(code(refused), ErrorCode::Forbidden);

    // The same role elsewhere is none here, for what exists as for what does not.
    world.guard.set(Role::Admin, "blog/*");
    let refused = world.client.start::<Up>(&up("shop")).await.err().unwrap();
    let expected = "up needs the role deployer of shop/production";
    assert_eq!(refusal(refused).message, expected);
    let none = CancelRequest {
        operation: OperationId(4711),
    };
    for cancel in [&cancel, &none] {
        let refused = world.client.call::<Cancel>(cancel).await;
        let refused = refusal(refused.unwrap_err());
        assert_eq!(refused.code, ErrorCode::NotFound);
        let expected = format!("operation {} is not running", cancel.operation);
        assert_eq!(refused.message, expected);
    }
    let refused = world.client.feed::<Logs>(&logs()).await.err().unwrap();
    assert_eq!(code(refused), ErrorCode::Forbidden);

    world.guard.set(Role::Deployer, "shop/*");
    let refused = world.client.exec(&exec()).await.err().unwrap();
    assert_eq!(code(refused), ErrorCode::Forbidden);
    world
        .client
        .call::<Cancel>(&cancel)
        .await
        .expect("cancelled");
    world.end().await;
}

#[tokio::test]
async fn who_loses_their_rights_is_answered_no_more_but_an_operation_goes_on() {
    let world = World::new();
    let mut running = world.client.start::<Up>(&up("shop")).await.expect("begun");
    let mut lines = world.client.feed::<Logs>(&logs()).await.expect("answered");
    let mut command = world.client.exec(&exec()).await.expect("answered");
    world.guard.lost.cancel();
    let ended = timeout(SOON, lines.next()).await.expect("in time");
    let error = refusal(ended.unwrap_err());
    assert_eq!(error.code, ErrorCode::Unauthenticated);
    let ended = timeout(SOON, async {
        loop {
            match command.reader.next().await {
                Ok(ExecNews::Output(_)) => {}
                ended => return ended,
            }
        }
    });
    let error = refusal(ended.await.expect("in time").unwrap_err());
    assert_eq!(error.code, ErrorCode::Unauthenticated);
    let ended = timeout(SOON, running.next()).await.expect("in time");
    let error = refusal(ended.expect_err("an error"));
    assert_eq!(error.code, ErrorCode::Unauthenticated);
    let mut told = world.told().await;
    while told.len() < 2 {
        told.extend(world.told().await);
    }
    assert!(
        told.iter()
            .all(|one| one.ends_with("Failed(Unauthenticated)")),
        "{told:?}"
    );
    assert!(!told.iter().any(|one| one.starts_with("up ")), "{told:?}");
    drop(running);
    world.stop.cancel();
    world.serving.abort();
}

/// What is kept of an answer that nobody reads counts though nothing more is added to it.
#[tokio::test]
async fn a_feed_counts_until_it_was_read_or_left() {
    let world = World::of(Some(Who::Token {
        id: "1".to_owned(),
        name: "ci".to_owned(),
    }));
    let past = LogQuery {
        follow: false,
        ..logs()
    };
    let mut unread = Vec::new();
    let refused = loop {
        match world.client.feed::<Logs>(&past).await {
            Ok(lines) => unread.push(lines),
            Err(error) => break refusal(error),
        }
        assert!(unread.len() < 100, "they are not counted");
    };
    assert_eq!(refused.code, ErrorCode::TooMany);
    assert_eq!(unread.len(), 32);
    let mut lines = unread.pop().expect("some");
    while lines.next().await.expect("readable").is_some() {}
    unread.pop();
    let again = timeout(SOON, async {
        for _ in 0..2 {
            while let Err(error) = world
                .client
                .feed::<Logs>(&past)
                .await
                .map(|it| unread.push(it))
            {
                assert_eq!(refusal(error).code, ErrorCode::TooMany);
            }
        }
    });
    again.await.expect("in time");
    drop(unread);
    world.end().await;
}

#[tokio::test]
async fn who_may_do_it_nowhere_is_refused_though_they_never_say_what() {
    let world = World::new();
    world.guard.set(Role::Viewer, "*");
    let mut stream = tokio::net::UnixStream::connect(&world.socket)
        .await
        .expect("connected");
    let head = "POST /v1/up HTTP/1.1\r\nhost: x\r\ncontent-length: 33554432\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let answered = timeout(SOON, stream.read_to_string(&mut answer));
    answered.await.expect("in time").expect("readable");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(world.told().await, ["up visible [] Failed(Forbidden)"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_refused_while_they_send_much_is_told_why() {
    let world = World::new();
    world.guard.set(Role::Viewer, "*");
    let mut large = up("shop");
    large.project.hosts = vec!["x".repeat(1 << 20); 2];
    for _ in 0..20 {
        let refused = world.client.start::<Up>(&large).await.err().unwrap();
        assert_eq!(refusal(refused).code, ErrorCode::Forbidden);
    }
    world.end().await;
}
