//! A FAKE daemon: the real API server over a temporary socket, with answers from a script.
//!
//! It is strict: a call that the test did not script fails, and a script that ran out fails.

use std::collections::VecDeque;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use havre_api::*;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

type Reply<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send>>;

macro_rules! fake {
    ($($(#[$doc:meta])* $method:ident / $on:ident
        ($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        /// The answers, by call, in order. FAKE.
        #[derive(Default)]
        pub struct FakeBackend {
            calls: Mutex<Vec<String>>,
            $($method: Mutex<VecDeque<
                Box<dyn FnOnce($($kind),*) -> Reply<$answer> + Send>
            >>,)*
        }

        impl FakeBackend {
            $(
                /// Scripts the answer to the next call of that name.
                #[must_use]
                pub fn $on<R>(
                    self,
                    answer: impl FnOnce($($kind),*) -> R + Send + 'static,
                ) -> Self
                where
                    R: Future<Output = Result<$answer, ApiError>> + Send + 'static,
                {
                    let answer = move |$($argument),*| -> Reply<$answer> {
                        Box::pin(answer($($argument),*))
                    };
                    lock(&self.$method).push_back(Box::new(answer));
                    self
                }
            )*
        }

        impl Backend for FakeBackend {
            $(
                async fn $method(&self, $($argument: $kind),*) -> Result<$answer, ApiError> {
                    lock(&self.calls).push(stringify!($method).to_owned());
                    let answer = lock(&self.$method).pop_front();
                    match answer {
                        Some(answer) => answer($($argument),*).await,
                        None => Err(ApiError::new(
                            ErrorCode::Internal,
                            concat!("FAKE: ", stringify!($method), " was not scripted"),
                        )),
                    }
                }
            )*
        }
    };
}

fake! {
    info / on_info() -> DaemonInfo;
    status / on_status(query: StatusQuery) -> Vec<EnvironmentStatus>;
    replicas / on_replicas(query: ReplicaQuery) -> Vec<ReplicaStatus>;
    plan / on_plan(request: PlanRequest) -> PlanOutcome;
    up / on_up(request: UpRequest, events: EventSink) -> UpOutcome;
    why / on_why(query: WhyQuery) -> WhyReport;
    releases / on_releases(query: ReleasesQuery) -> Vec<ReleaseStatus>;
    rollback / on_rollback(request: RollbackRequest, events: EventSink) -> UpOutcome;
    steer / on_steer(request: SteerRequest) -> SteerOutcome;
    down / on_down(request: DownRequest, events: EventSink) -> DownOutcome;
    restart / on_restart(request: RestartRequest, events: EventSink) -> ChangeOutcome;
    scale / on_scale(request: ScaleRequest, events: EventSink) -> ChangeOutcome;
    logs / on_logs(query: LogQuery, lines: LogSink) -> ();
    exec / on_exec(request: ExecRequest, session: ExecSession) -> i32;
    images / on_images() -> Vec<ImageSummary>;
    image_import / on_image_import(request: ImageImportRequest) -> ImageImportOutcome;
    image_remove / on_image_remove(request: ImageRemoveRequest) -> ImageRemoveOutcome;
    image_prune / on_image_prune(request: ImagePruneRequest) -> ImageRemoveOutcome;
    networks / on_networks() -> Vec<SharedNetwork>;
    network_create / on_network_create(request: NetworkCreateRequest) -> SharedNetwork;
    network_remove / on_network_remove(request: NetworkRemoveRequest) -> ();
    ca_certificate / on_ca_certificate() -> CaCertificate;
    shutdown / on_shutdown(request: ShutdownRequest) -> ();
}

fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A FAKE daemon that runs until it is dropped: then it ends at once, as by SIGKILL.
pub struct FakeDaemon {
    backend: Arc<FakeBackend>,
    root: TempDir,
    stop: CancellationToken,
    kill: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FakeDaemon {
    /// Serves `backend` at `<root>/run/api.sock` of a temporary root.
    ///
    /// # Panics
    /// When the machine has no temporary folder or refuses a thread.
    pub fn start(backend: FakeBackend) -> Self {
        let root = TempDir::new().expect("a temporary folder");
        let run = root.path().join("run");
        std::fs::create_dir(&run).expect("a folder for the socket");
        let backend = Arc::new(backend);
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a tokio runtime");
        let listener = {
            let _inside = runtime.enter();
            bind(&run.join("api.sock")).expect("the socket")
        };
        let serving = serve(listener, Arc::clone(&backend), stop.clone());
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
            backend,
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
    pub fn calls(&self) -> Vec<String> {
        lock(&self.backend.calls).clone()
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
