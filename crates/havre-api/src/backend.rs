//! What the server needs of the daemon: the trait, and the ends of the streams handed to it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::*;

/// The daemon as the API sees it. Every answer is complete when the future ends; dropping a
/// future never happens for an operation, only for queries whose client went away.
pub trait Backend: Send + Sync + 'static {
    /// Who answers.
    fn info(&self) -> impl Future<Output = Result<DaemonInfo, ApiError>> + Send;

    /// Environments and their services.
    fn status(
        &self,
        query: StatusQuery,
    ) -> impl Future<Output = Result<Vec<EnvironmentStatus>, ApiError>> + Send;

    /// Replicas.
    fn replicas(
        &self,
        query: ReplicaQuery,
    ) -> impl Future<Output = Result<Vec<ReplicaStatus>, ApiError>> + Send;

    /// What `up` would do.
    fn plan(
        &self,
        request: PlanRequest,
    ) -> impl Future<Output = Result<PlanOutcome, ApiError>> + Send;

    /// Brings an environment to what the project says. When `events.cancellation()` is cancelled it goes back to
    /// the release before and answers `Cancelled`; when a rollout fails it sends
    /// [`Event::Failure`], goes back and answers `RolledBack`.
    fn up(
        &self,
        request: UpRequest,
        events: EventSink,
    ) -> impl Future<Output = Result<UpOutcome, ApiError>> + Send;

    /// The releases of an environment, the newest first.
    fn releases(
        &self,
        query: ReleasesQuery,
    ) -> impl Future<Output = Result<Vec<ReleaseStatus>, ApiError>> + Send;

    /// Why a service is as it is.
    fn why(&self, query: WhyQuery) -> impl Future<Output = Result<WhyReport, ApiError>> + Send;

    /// Goes back to an earlier release, as [`Backend::up`] goes to a new one.
    fn rollback(
        &self,
        request: RollbackRequest,
        events: EventSink,
    ) -> impl Future<Output = Result<UpOutcome, ApiError>> + Send;

    /// Pauses, resumes or gives up the rollout under way.
    fn steer(
        &self,
        request: SteerRequest,
    ) -> impl Future<Output = Result<SteerOutcome, ApiError>> + Send;

    /// Takes an environment down.
    fn down(
        &self,
        request: DownRequest,
        events: EventSink,
    ) -> impl Future<Output = Result<DownOutcome, ApiError>> + Send;

    /// Replaces replicas by new ones of the same release.
    fn restart(
        &self,
        request: RestartRequest,
        events: EventSink,
    ) -> impl Future<Output = Result<ChangeOutcome, ApiError>> + Send;

    /// Changes the number of replicas.
    fn scale(
        &self,
        request: ScaleRequest,
        events: EventSink,
    ) -> impl Future<Output = Result<ChangeOutcome, ApiError>> + Send;

    /// Sends the output of replicas, oldest first; with `follow` until `lines.closed()`.
    fn logs(
        &self,
        query: LogQuery,
        lines: LogSink,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Runs a command in a replica and answers with its exit code (128 + signal where a signal
    /// ended it). Once the client is gone the command must be ended.
    fn exec(
        &self,
        request: ExecRequest,
        session: ExecSession,
    ) -> impl Future<Output = Result<i32, ApiError>> + Send;

    /// Stored images.
    fn images(&self) -> impl Future<Output = Result<Vec<ImageSummary>, ApiError>> + Send;

    /// Reads images from an archive.
    fn image_import(
        &self,
        request: ImageImportRequest,
    ) -> impl Future<Output = Result<ImageImportOutcome, ApiError>> + Send;

    /// Removes images by name.
    fn image_remove(
        &self,
        request: ImageRemoveRequest,
    ) -> impl Future<Output = Result<ImageRemoveOutcome, ApiError>> + Send;

    /// Removes images that nothing needs.
    fn image_prune(
        &self,
        request: ImagePruneRequest,
    ) -> impl Future<Output = Result<ImageRemoveOutcome, ApiError>> + Send;

    /// Networks that environments share.
    fn networks(&self) -> impl Future<Output = Result<Vec<SharedNetwork>, ApiError>> + Send;

    /// Makes one; `Conflict` where there is one of that name.
    fn network_create(
        &self,
        request: NetworkCreateRequest,
    ) -> impl Future<Output = Result<SharedNetwork, ApiError>> + Send;

    /// Removes one; `Conflict` where environments are on it.
    fn network_remove(
        &self,
        request: NetworkRemoveRequest,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// The certificate of the machine's CA, made when there is none yet.
    fn ca_certificate(&self) -> impl Future<Output = Result<CaCertificate, ApiError>> + Send;

    /// Asks the daemon and the edge to end; answers once that is decided, the daemon then cancels
    /// the token given to [`serve`].
    fn shutdown(
        &self,
        request: ShutdownRequest,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;
}

/// Where an operation reports. A slow or absent reader never holds an operation up: events that
/// do not fit are counted and left out.
#[derive(Clone, Debug)]
pub struct EventSink {
    events: mpsc::Sender<Event>,
    missed: Arc<AtomicU64>,
    cancel: CancellationToken,
}

impl EventSink {
    /// Events that may wait for a slow reader.
    pub const CAPACITY: usize = 1024;

    /// A sink and the end that reads it. `cancel` is what `cancelled` listens to.
    pub fn new(cancel: CancellationToken) -> (Self, EventSource) {
        let (sender, receiver) = mpsc::channel(Self::CAPACITY);
        let missed = Arc::new(AtomicU64::new(0));
        let sink = Self {
            events: sender,
            missed: Arc::clone(&missed),
            cancel,
        };
        (
            sink,
            EventSource {
                events: receiver,
                missed,
            },
        )
    }

    /// Reports; never waits.
    pub fn emit(&self, event: Event) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A user asked to stop. The operation undoes what it did and ends; further requests are
    /// ignored.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancel
    }
}

/// The reading end of an [`EventSink`].
#[derive(Debug)]
pub struct EventSource {
    events: mpsc::Receiver<Event>,
    missed: Arc<AtomicU64>,
}

impl EventSource {
    /// The next event; `None` once every sink is gone. What was left out is told first.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        event.or_else(|| self.take_missed())
    }

    /// An event that is already there.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok().or_else(|| self.take_missed())
    }

    /// The note about events that were left out since the last one.
    fn take_missed(&self) -> Option<Event> {
        let count = self.missed.swap(0, Ordering::Relaxed);
        (count > 0).then_some(Event::Missed { count })
    }
}

/// Where lines of output go. A slow reader holds the sender back.
#[derive(Clone, Debug)]
pub struct LogSink(mpsc::Sender<LogLine>);

impl LogSink {
    /// A sink and the end that reads it.
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<LogLine>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self(sender), receiver)
    }

    /// Hands a line over, waiting for room; `Err` when the reader is gone.
    pub async fn send(&self, line: LogLine) -> Result<(), Closed> {
        self.0.send(line).await.map_err(|_| Closed)
    }

    /// Hands a line over from a thread that may block; `Err` when the reader is gone.
    pub fn blocking_send(&self, line: LogLine) -> Result<(), Closed> {
        self.0.blocking_send(line).map_err(|_| Closed)
    }

    /// Ends when the reader is gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// The reader is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader is gone")]
pub struct Closed;

/// The client's end of a command. The client is gone (or the daemon stops) when
/// `output.closed()`; the end of standard input alone is [`ExecInput::StdinClosed`]. Drop `output` once the command has printed all.
#[derive(Debug)]
pub struct ExecSession {
    /// What the client sends.
    pub input: mpsc::Receiver<ExecInput>,
    /// What the client gets; waits for a slow client.
    pub output: mpsc::Sender<ExecOutput>,
}
