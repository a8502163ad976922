//! A FAKE daemon: the real API server over a temporary socket, with answers from a script.
//!
//! It is strict: a call that the test did not script fails, and a script that ran out fails.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use havre_api::*;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

type Reply<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send>>;
type Answer<A, T> = Box<dyn FnOnce(A) -> Reply<T> + Send>;

/// The answers, by call, in order. FAKE.
#[derive(Default)]
pub struct Script {
    calls: Mutex<Vec<&'static str>>,
    /// By path: boxed [`Answer`]s of the call's own types.
    answers: Mutex<BTreeMap<&'static str, VecDeque<Box<dyn Any + Send>>>>,
}

impl Script {
    /// Scripts the answer to the next call of this kind.
    #[must_use]
    pub fn call<C: Call, R>(self, answer: impl FnOnce(C::Request) -> R + Send + 'static) -> Self
    where
        R: Future<Output = Result<C::Answer, ApiError>> + Send + 'static,
    {
        self.push(C::PATH, answer)
    }

    /// Scripts what the next operation of this kind does.
    #[must_use]
    pub fn operation<O: Operation, R>(
        self,
        run: impl FnOnce(O::Request, EventSink) -> R + Send + 'static,
    ) -> Self
    where
        R: Future<Output = Result<O::Outcome, ApiError>> + Send + 'static,
    {
        self.push(O::PATH, |(request, events)| run(request, events))
    }

    /// Scripts what the next query of this kind is sent.
    #[must_use]
    pub fn feed<F: Feed, R>(
        self,
        send: impl FnOnce(F::Request, ItemSink<F::Item>) -> R + Send + 'static,
    ) -> Self
    where
        R: Future<Output = Result<(), ApiError>> + Send + 'static,
    {
        self.push(F::PATH, |(query, items)| send(query, items))
    }

    /// Scripts what the next command does.
    #[must_use]
    pub fn exec<R>(self, run: impl FnOnce(ExecRequest, ExecSession) -> R + Send + 'static) -> Self
    where
        R: Future<Output = Result<i32, ApiError>> + Send + 'static,
    {
        self.push(EXEC_PATH, |(request, session)| run(request, session))
    }

    fn push<A: 'static, T: 'static, R>(
        self,
        path: &'static str,
        answer: impl FnOnce(A) -> R + Send + 'static,
    ) -> Self
    where
        R: Future<Output = Result<T, ApiError>> + Send + 'static,
    {
        let answer: Answer<A, T> = Box::new(move |asked| Box::pin(answer(asked)));
        lock(&self.answers)
            .entry(path)
            .or_default()
            .push_back(Box::new(answer));
        self
    }

    /// What the test has written for this call.
    async fn play<A: 'static, T: 'static>(
        self: Arc<Self>,
        path: &'static str,
        asked: A,
    ) -> Result<T, ApiError> {
        let name = path.trim_start_matches("/v1/");
        lock(&self.calls).push(name);
        let answer = lock(&self.answers)
            .get_mut(path)
            .and_then(VecDeque::pop_front);
        let answer = answer.and_then(|answer| answer.downcast::<Answer<A, T>>().ok());
        match answer {
            Some(answer) => answer(asked).await,
            None => {
                let message = format!("FAKE: {name} was not scripted");
                Err(ApiError::new(ErrorCode::Internal, message))
            }
        }
    }
}

/// Answers every declared call from a script.
struct Played(Option<Routes<Arc<Script>>>);

impl Played {
    fn routes(script: &Arc<Script>) -> Routes<Arc<Script>> {
        let exec = Routes::new(Arc::clone(script)).exec(
            async |script: Arc<Script>, _, request, session| {
                script.play(EXEC_PATH, (request, session)).await
            },
        );
        let mut played = Self(Some(exec));
        declared(&mut played);
        played.0.expect("put back by each")
    }

    fn add(&mut self, add: impl FnOnce(Routes<Arc<Script>>) -> Routes<Arc<Script>>) {
        self.0 = self.0.take().map(add);
    }
}

impl Declared for Played {
    fn call<C: Call>(&mut self) {
        self.add(|routes| {
            routes.call::<C, _>(async |script: Arc<Script>, _, request| {
                script.play(C::PATH, request).await
            })
        });
    }

    fn operation<O: Operation>(&mut self) {
        self.add(|routes| {
            routes.operation::<O, _>(async |script: Arc<Script>, _, request, events| {
                script.play(O::PATH, (request, events)).await
            })
        });
    }

    fn feed<F: Feed>(&mut self) {
        self.add(|routes| {
            routes.feed::<F, _>(async |script: Arc<Script>, _, query, items| {
                script.play(F::PATH, (query, items)).await
            })
        });
    }
}

fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who asks may do everything, whoever it is. FAKE.
pub struct LetsAllIn;

impl Guard for LetsAllIn {
    fn authenticate(&self, credential: &Credential) -> Result<Principal, ApiError> {
        match credential {
            Credential::Local(peer) => Ok(Principal {
                who: Who::Local(peer.clone()),
                grant: Grant::everywhere(Role::Admin),
            }),
            Credential::Remote(_) => {
                let message = "FAKE: nobody comes from elsewhere";
                Err(ApiError::new(ErrorCode::Unauthenticated, message))
            }
        }
    }

    fn hear(&self, asked: &Asked) -> Result<(), ApiError> {
        permit_somewhere(asked)
    }

    fn admit(&self, asked: &Asked) -> Result<Admission, ApiError> {
        permit(asked).map(|()| Admission::default())
    }

    fn ended(&self, _: &Asked, _: Ended) {}
}

/// A FAKE daemon that runs until it is dropped: then it ends at once, as by SIGKILL.
pub struct FakeDaemon {
    script: Arc<Script>,
    root: TempDir,
    stop: CancellationToken,
    kill: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FakeDaemon {
    /// Plays `script` at `<root>/run/api.sock` of a temporary root.
    ///
    /// # Panics
    /// When the machine has no temporary folder or refuses a thread.
    pub fn start(script: Script) -> Self {
        let root = TempDir::new().expect("a temporary folder");
        let run = root.path().join("run");
        std::fs::create_dir(&run).expect("a folder for the socket");
        let script = Arc::new(script);
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a tokio runtime");
        let listener = {
            let _inside = runtime.enter();
            bind(&run.join("api.sock"), None).expect("the socket")
        };
        let server = Server::new(Played::routes(&script), Arc::new(LetsAllIn), stop.clone());
        let serving = server.serve(listener);
        let kill = CancellationToken::new();
        let killed = kill.clone().cancelled_owned();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    ended = serving => ended.expect("the server ends well"),
                    () = killed => {}
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        Self {
            script,
            root,
            stop,
            kill,
            thread: Some(thread),
        }
    }

    /// The root to give to `--root`.
    pub fn root(&self) -> PathBuf {
        self.root.path().to_owned()
    }

    /// The socket it listens on.
    pub fn socket(&self) -> PathBuf {
        self.root.path().join("run/api.sock")
    }

    /// Names of the calls so far, in order.
    pub fn calls(&self) -> Vec<&'static str> {
        lock(&self.script.calls).clone()
    }

    /// Tells the server to stop, as the daemon does on SIGTERM.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.kill.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the fake daemon panicked");
        }
    }
}
