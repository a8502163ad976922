//! Brings a state into force: sockets, certificates, routes, and the acknowledgement of every thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::Socket;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::listen::{Kind, ListenError, Listeners, Share, Wanted, wanted};
use crate::problem::Problem;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::state::{EdgeState, EdgeStatus, TakenPort};
use crate::store::Store;
use crate::thread::Command;

/// For all threads to acknowledge.
const ACKNOWLEDGE: Duration = Duration::from_secs(10);

/// Owner of the state. One at a time works with it.
#[derive(Debug)]
pub struct Manager {
    shared: Arc<Shared>,
    workers: Vec<mpsc::Sender<Command>>,
    store: Store,
    state: EdgeState,
    listeners: Listeners,
    problems: Problems,
    taken: Vec<TakenPort>,
    /// Process id of an edge that this one took over from, 0 when it has ended.
    predecessor: Arc<AtomicU32>,
    /// Told when a port could not be had, or the state not be saved.
    lacking: Arc<Notify>,
}

/// Sockets that a predecessor has opened, not yet accepted from.
#[derive(Debug)]
pub struct Inherited(Vec<Vec<Share>>);

/// By where they come from: each kind is replaced as a whole.
#[derive(Debug, Default)]
struct Problems {
    state: Vec<Problem>,
    listeners: Vec<Problem>,
    store: Vec<Problem>,
}

/// A state that is not put in force.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A newer one is.
    #[error("generation {offered} is older than {current}, which is in force")]
    Older {
        /// Pushed.
        offered: u64,
        /// In force.
        current: u64,
    },
    /// Two states under one number.
    #[error("generation {0} is in force already, with another content")]
    Different(u64),
    /// The edge is on its way out.
    #[error("the edge is shutting down")]
    Stopping,
    /// A thread does not answer.
    #[error("a thread of the edge did not acknowledge the state")]
    Threads,
}

impl Manager {
    /// With the empty state.
    pub fn new(shared: Arc<Shared>, workers: Vec<mpsc::Sender<Command>>, store: Store) -> Self {
        Self {
            shared,
            workers,
            store,
            state: EdgeState::default(),
            listeners: Listeners::default(),
            problems: Problems::default(),
            taken: Vec::new(),
            predecessor: Arc::default(),
            lacking: Arc::default(),
        }
    }

    /// Takes over the sockets of a predecessor. Nothing is accepted before a state is in force.
    pub fn inherit(&mut self, groups: Vec<(Wanted, Vec<Socket>)>) -> io::Result<Inherited> {
        self.listeners
            .adopt(groups, self.workers.len())
            .map(Inherited)
    }

    /// Accepts from inherited sockets.
    pub async fn accept_inherited(&self, inherited: Inherited) -> Result<(), Refused> {
        self.hand_out(inherited.0).await
    }

    /// Told when a port could not be had, to try again later.
    pub fn lacking(&self) -> &Arc<Notify> {
        &self.lacking
    }

    /// Where the process id of a predecessor is kept.
    pub fn predecessor(&self) -> &Arc<AtomicU32> {
        &self.predecessor
    }

    /// The sockets, for a successor.
    pub fn listeners(&self) -> io::Result<Vec<(Wanted, Vec<Socket>)>> {
        self.listeners.duplicates()
    }

    /// Puts the state on disk in force.
    pub async fn restore(&mut self) -> Result<(), Refused> {
        match self.store.load() {
            Ok(Some(state)) => self.put_in_force(state).await,
            Ok(None) => Ok(()),
            Err(error) => {
                self.problems.store = vec![havre_base::one_line(&error)];
                Ok(())
            }
        }
    }

    /// Puts a pushed state in force and on disk.
    pub async fn push(&mut self, state: EdgeState) -> Result<(), Refused> {
        let (offered, current) = (state.generation, self.state.generation);
        if self.shared.stopping.is_cancelled() {
            return Err(Refused::Stopping);
        }
        if offered < current {
            return Err(Refused::Older { offered, current });
        }
        if offered == current && current != 0 && state != self.state {
            return Err(Refused::Different(current));
        }
        // A full disk must not stop a release: the state is in force, and the problem is told.
        self.save(&state);
        self.put_in_force(state).await
    }

    fn save(&mut self, state: &EdgeState) {
        let saved = self.store.save(state);
        if saved.is_err() {
            self.lacking.notify_one();
        }
        self.problems.store = saved
            .err()
            .iter()
            .map(|error| havre_base::one_line(error))
            .collect();
    }

    async fn put_in_force(&mut self, state: EdgeState) -> Result<(), Refused> {
        let shares = self.open_listeners(&state).await;
        let mut problems = Vec::new();
        let before = self.shared.snapshot.load_full();
        let registry = &self.shared.registry;
        let mut snapshot = Snapshot::compile(&state, &before, registry, &mut problems);
        snapshot.https_port = self.https_port(&state);
        let replicas = state.pools.values().flat_map(|pool| {
            let canary = pool.canary.iter().flat_map(|canary| &canary.replicas);
            pool.replicas.iter().chain(canary)
        });
        let local = state.pools.values().flat_map(|pool| &pool.local);
        let named: Vec<_> = replicas
            .map(|replica| registry.upstream(replica))
            .chain(local.map(|server| registry.local(server)))
            .collect();
        let serving = snapshot.serving();
        self.shared.snapshot.store(Arc::new(snapshot));
        registry.retain(&named, &serving);
        self.shared.pushed.send_replace(state.generation);
        self.problems.state = problems;
        self.state = state;
        self.send_all(Command::Changed).await?;
        self.hand_out(shares).await
    }

    async fn open_listeners(&mut self, state: &EdgeState) -> Vec<Vec<Share>> {
        let wanted = wanted(state);
        self.listeners.close_unwanted(&wanted).await;
        let (shares, errors) = self.listeners.open_wanted(&wanted, self.workers.len());
        if !errors.is_empty() {
            self.lacking.notify_one();
        }
        (self.problems.listeners, self.taken) = Default::default();
        for error in errors {
            match error {
                ListenError::Taken(port) => self.taken.push(port),
                ListenError::Bind { .. } => {
                    self.problems.listeners.push(havre_base::one_line(&error));
                }
            }
        }
        shares
    }

    /// The port that redirects lead to. Without HTTPS in the state there are no redirects; with an
    /// HTTPS port that could not be had they still lead there.
    fn https_port(&self, state: &EdgeState) -> Option<u16> {
        let first = state.https.first()?;
        let actual = self.listeners.actual_of((*first, Kind::Https));
        Some(actual.unwrap_or(*first).port())
    }

    /// Tries again to open what could not be opened.
    pub async fn retry(&mut self) -> Result<(), Refused> {
        // Of a state on disk that cannot be read there is none in force: it is left as it is.
        if !self.problems.store.is_empty() && self.state.generation > 0 {
            let state = std::mem::take(&mut self.state);
            self.save(&state);
            self.state = state;
        }
        let lacks = !self.problems.listeners.is_empty() || !self.taken.is_empty();
        if !lacks || self.shared.stopping.is_cancelled() {
            return Ok(());
        }
        let state = self.state.clone();
        let shares = self.open_listeners(&state).await;
        self.hand_out(shares).await
    }

    async fn hand_out(&self, shares: Vec<Vec<Share>>) -> Result<(), Refused> {
        for (worker, shares) in self.workers.iter().zip(shares) {
            if !shares.is_empty() {
                self.send(worker, |done| Command::Listen(shares, done))
                    .await?;
            }
        }
        Ok(())
    }

    async fn send_all(
        &self,
        command: impl Fn(oneshot::Sender<()>) -> Command,
    ) -> Result<(), Refused> {
        for worker in &self.workers {
            self.send(worker, &command).await?;
        }
        Ok(())
    }

    async fn send(
        &self,
        worker: &mpsc::Sender<Command>,
        command: impl FnOnce(oneshot::Sender<()>) -> Command,
    ) -> Result<(), Refused> {
        let (done, acknowledged) = oneshot::channel();
        let exchange = async {
            worker
                .send(command(done))
                .await
                .map_err(|_| Refused::Threads)?;
            acknowledged.await.map_err(|_| Refused::Threads)
        };
        tokio::time::timeout(ACKNOWLEDGE, exchange)
            .await
            .map_err(|_| Refused::Threads)?
    }

    /// How things are.
    pub fn status(&self) -> EdgeStatus {
        let Problems {
            state,
            listeners,
            store,
        } = &self.problems;
        let problems = [state, listeners, store].into_iter().flatten().cloned();
        EdgeStatus {
            generation: self.state.generation,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            replicas: self.shared.registry.status(),
            pools: self.shared.snapshot.load().counted(),
            problems: problems.chain(self.shared.log.problem()).collect(),
            taken: self.taken.clone(),
            http: self.listeners.actual(Kind::Http),
            https: self.listeners.actual(Kind::Https),
            turned_away: self.shared.clients.turned_away(),
            crowds: self.shared.clients.crowds(),
            flows_refused: self.shared.flows.refused(),
            ports_changed: self.listeners.changes(),
            predecessor: match self.predecessor.load(Ordering::Acquire) {
                0 => None,
                pid => Some(pid),
            },
            stopping: self.shared.stopping.is_cancelled(),
        }
    }

    /// Closes a replica's streams, evenly over a time, or a shorter one where they are few. Returns
    /// their number at once.
    pub fn close_streams(&self, replica: &str, over: Duration) -> usize {
        let upstreams = self.shared.registry.by_id(replica);
        let streams: Vec<_> = upstreams
            .iter()
            .flat_map(|known| known.open_streams())
            .collect();
        let count = streams.len();
        let enough = u32::try_from(count).map_or(over, |few| limits::STREAM_PAUSE * few);
        let over = over.min(enough);
        tokio::spawn(close_paced(streams, over, self.shared.stopped.clone()));
        count
    }

    /// Takes no more connections; ends those open after their next answer, or when they stay idle,
    /// and streams evenly over `grace`.
    /// [`Shared::stopped`] is cancelled when every thread is done, or `grace` is over.
    pub fn stop(&mut self, grace: Duration) {
        if self.shared.stopping.is_cancelled() {
            return;
        }
        self.shared
            .idle_grace
            .get_or_init(|| (grace / 2).min(limits::STOP_IDLE));
        // First: a port that is closed meanwhile is not closed for good.
        self.shared.stopping.cancel();
        self.listeners.stop_all();
        tokio::spawn(close_all(Arc::clone(&self.shared), grace));
        let (workers, stopped) = (self.workers.clone(), self.shared.stopped.clone());
        tokio::spawn(async move {
            drop(tokio::time::timeout(grace, finish(workers)).await);
            stopped.cancel();
        });
    }
}

async fn finish(workers: Vec<mpsc::Sender<Command>>) {
    let mut acknowledged = Vec::new();
    for worker in workers {
        let (done, finished) = oneshot::channel();
        if worker.send(Command::Finish(done)).await.is_ok() {
            acknowledged.push(finished);
        }
    }
    for finished in acknowledged {
        // A thread that is gone is finished as well.
        drop(finished.await);
    }
}

/// Ends the streams of all replicas, and those that are opened meanwhile, in time for their goodbyes.
async fn close_all(shared: Arc<Shared>, grace: Duration) {
    const SWEEP: Duration = Duration::from_millis(250);
    let streams = shared.registry.all_streams();
    close_paced(streams, grace * 3 / 4, shared.stopped.clone()).await;
    while !shared.stopped.is_cancelled() {
        for late in shared.registry.all_streams() {
            late.cancel();
        }
        tokio::time::sleep(SWEEP).await;
    }
}

/// One after the other, so that their clients do not all come back at once.
async fn close_paced(streams: Vec<CancellationToken>, over: Duration, stopped: CancellationToken) {
    let count = u32::try_from(streams.len()).unwrap_or(u32::MAX).max(1);
    let pause = over / count;
    for stream in streams {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stream.cancelled() => {}
            () = stopped.cancelled() => {}
        }
        stream.cancel();
    }
}
