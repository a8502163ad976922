//! A served git, its strict receiver and door, and a client's working folder.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use futures_util::future::BoxFuture;
use havre_git::{
    Asks, Door, Git, Lines, Name, Objects, Outcome, Push, Receiver, Refusal, Service, Settings,
    Visitor,
};
use http::{StatusCode, header};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// `anna:pusher`, `anna:viewer` and `anna:nobody-else` in base 64.
const PUSHER: &str = "Basic YW5uYTpwdXNoZXI=";
const VIEWER: &str = "Basic YW5uYTp2aWV3ZXI=";

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A receiver that refuses what contains a file `broken`, and goes on as it is told.
#[derive(Default)]
pub struct Fake {
    pub received: Mutex<Vec<Push>>,
    pub done: Mutex<Vec<Push>>,
    /// Held: `received` ends only when this is told.
    pub hold: Mutex<Option<Arc<Notify>>>,
    /// What was read of a pushed file named `seen` before it was accepted.
    pub seen: Mutex<Vec<String>>,
}

impl Receiver for Fake {
    fn check<'a>(
        &'a self,
        push: &'a Push,
        objects: &'a Objects,
    ) -> BoxFuture<'a, Result<(), Vec<String>>> {
        Box::pin(async move {
            for update in &push.updates {
                let Some(new) = &update.new else { continue };
                let read = |path| objects.file(new, path, 1000);
                if let Some(seen) = read("seen").await.expect("read") {
                    let text = String::from_utf8(seen).expect("text");
                    self.seen.lock().expect("whole").push(text);
                }
                if read("broken").await.expect("read").is_some() {
                    return Err(vec![
                        "ci.yml:3:7: unknown key `job`".to_owned(),
                        "fix it".to_owned(),
                    ]);
                }
            }
            Ok(())
        })
    }

    fn received<'a>(&'a self, push: &'a Push, tell: Lines) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.received.lock().expect("whole").push(push.clone());
            tell.say("run 1 begins");
            let hold = self.hold.lock().expect("whole").clone();
            if let Some(hold) = hold {
                hold.notified().await;
            }
            tell.say("run 1 succeeded");
            self.done.lock().expect("whole").push(push.clone());
        })
    }
}

/// Lets `pusher` do everything and `viewer` fetch.
#[derive(Default)]
pub struct FakeDoor {
    pub ended: Arc<Mutex<Vec<Outcome>>>,
}

impl Door for FakeDoor {
    fn admit<'a>(&'a self, asks: Asks<'a>) -> BoxFuture<'a, Result<Arc<dyn Visitor>, Refusal>> {
        let refused = |status, line: &str| Refusal {
            status,
            lines: vec![line.to_owned()],
        };
        let shown = asks.head.headers.get(header::AUTHORIZATION);
        let shown = shown.and_then(|value| value.to_str().ok());
        let admitted = match (shown, asks.service) {
            (Some(PUSHER), _) => Ok("pusher"),
            (Some(VIEWER), Service::Fetch) => Ok("viewer"),
            (Some(VIEWER), Service::Push) => Err(refused(
                StatusCode::FORBIDDEN,
                "pushing needs the role deployer",
            )),
            _ => Err(refused(StatusCode::UNAUTHORIZED, "no token")),
        };
        let ended = Arc::clone(&self.ended);
        Box::pin(async move {
            let name = admitted?.to_owned();
            Ok(Arc::new(FakeVisitor { name, ended }) as Arc<dyn Visitor>)
        })
    }
}

struct FakeVisitor {
    name: String,
    ended: Arc<Mutex<Vec<Outcome>>>,
}

impl Visitor for FakeVisitor {
    fn name(&self) -> String {
        self.name.clone()
    }
    fn key(&self) -> String {
        self.name.clone()
    }
    fn lost(&self) -> CancellationToken {
        CancellationToken::new()
    }
    fn begin(&self, push: &Push) -> Result<(), Vec<String>> {
        match push.options.iter().any(|option| option == "unrecorded") {
            true => Err(vec!["nothing may go unrecorded".to_owned()]),
            false => Ok(()),
        }
    }
    fn ended(&self, outcome: Outcome) {
        self.ended.lock().expect("whole").push(outcome);
    }
}

/// A git that is served.
pub struct Served {
    pub git: Git,
    pub fake: Arc<Fake>,
    pub ended: Arc<Mutex<Vec<Outcome>>>,
    pub address: SocketAddr,
    pub runtime: Runtime,
    pub folder: TempDir,
}

/// With these settings changed.
pub fn served(change: impl FnOnce(&mut Settings)) -> Served {
    let folder = tempfile::tempdir().expect("a folder");
    serve_in(folder, Arc::new(Fake::default()), change)
}

pub fn serve_in(folder: TempDir, fake: Arc<Fake>, change: impl FnOnce(&mut Settings)) -> Served {
    let exe = std::env::current_exe().expect("this binary");
    let at = |name: &str| folder.path().join(name);
    let mut settings = Settings::new(at("repositories"), at("run"), exe);
    settings.least_free = 1;
    change(&mut settings);
    let runtime = Runtime::new().expect("a runtime");
    let door = FakeDoor::default();
    let ended = Arc::clone(&door.ended);
    let (git, address) = runtime.block_on(async {
        let git = Git::open(settings, Arc::clone(&fake) as _, None).expect("opened");
        let router: Router = git.router(Arc::new(door));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("bound");
        let address = listener.local_addr().expect("known");
        let hooks = git.clone();
        tokio::spawn(async move { hooks.serve_hooks(CancellationToken::new()).await });
        tokio::spawn(async move { axum::serve(listener, router).await });
        (git, address)
    });
    Served {
        git,
        fake,
        ended,
        address,
        runtime,
        folder,
    }
}

impl Served {
    pub fn url(&self, who: &str, name: &str) -> String {
        format!("http://anna:{who}@{}/{name}.git", self.address)
    }

    /// A new working folder with a commit of these files on `main`.
    pub fn work(&self, files: &[(&str, &[u8])]) -> Work {
        let folder = tempfile::tempdir().expect("a folder");
        let work = Work {
            path: folder.path().to_owned(),
            _folder: folder,
        };
        work.git(&["init", "--quiet", "--initial-branch=main"]);
        work.git(&["remote", "add", "havre", &self.url("pusher", "shop")]);
        work.commit(files);
        work
    }

    pub fn objects(&self) -> Objects {
        self.git.repositories().objects(&name("shop"))
    }

    /// What `main` points to.
    pub fn main(&self) -> Option<String> {
        let objects = self.objects();
        let resolved = self.runtime.block_on(objects.resolve("refs/heads/main"));
        resolved.expect("read").map(|oid| oid.to_string())
    }
}

pub fn name(text: &str) -> Name {
    text.parse().expect("sound")
}

/// A client's working folder.
pub struct Work {
    pub path: PathBuf,
    _folder: TempDir,
}

impl Work {
    pub fn commit(&self, files: &[(&str, &[u8])]) {
        for (name, content) in files {
            let path = self.path.join(name);
            fs::create_dir_all(path.parent().expect("in a folder")).expect("made");
            fs::write(path, content).expect("written");
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "a change"]);
    }

    pub fn command(&self, args: &[&str]) -> Command {
        command(&self.path, args)
    }

    /// What must go well; what it printed.
    pub fn git(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert!(ran.0, "git {args:?}: {}", ran.1);
        ran.1.trim().to_owned()
    }

    /// Whether it went well, and all it said.
    pub fn run(&self, args: &[&str]) -> (bool, String) {
        said(&self.command(args).output().expect("git runs"))
    }

    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }
}

pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .env("NO_PROXY", "*")
        .envs([
            ("GIT_AUTHOR_NAME", "Anna"),
            ("GIT_AUTHOR_EMAIL", "anna@example.org"),
            ("GIT_COMMITTER_NAME", "Anna"),
            ("GIT_COMMITTER_EMAIL", "anna@example.org"),
        ])
        .stdin(Stdio::null());
    command
}

pub fn said(output: &Output) -> (bool, String) {
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    (output.status.success(), format!("{out}{err}"))
}

/// Waits until it is so.
pub fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
