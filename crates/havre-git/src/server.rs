//! Git as the daemon has it: opened, listening for hooks, recovered, kept in order, ended.

use std::io;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bounds::Bounds;
use crate::hooks::{self, Hooks};
use crate::journal::Journal;
use crate::process::Processes;
use crate::push::Receiver;
use crate::pushes::Pushes;
use crate::repositories::Repositories;
use crate::room::Rooms;
use crate::settings::Settings;
use crate::view::View;

/// Hooks that are answered at once; as many as there may be pushes, and some that nobody knows.
const MOST_HOOKS: usize = 64;

/// Why repositories cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempt}")]
pub struct OpenError {
    attempt: &'static str,
    source: io::Error,
}

/// Git as the daemon has it. Cheap to clone.
#[derive(Clone)]
pub struct Git(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) processes: Processes,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) rooms: Arc<Rooms>,
    /// Of exchanges.
    pub(crate) tasks: TaskTracker,
    pub(crate) end: CancellationToken,
    view: View,
}

impl Git {
    /// Opens the repositories, and removes what a daemon that died has left unfinished. Blocks.
    pub fn open(
        settings: Settings,
        receiver: Arc<dyn Receiver>,
        bounds: Option<Arc<dyn Bounds>>,
    ) -> Result<Self, OpenError> {
        let failed = |attempt| move |source| OpenError { attempt, source };
        let view = View::create(&settings.run, &settings.exe)
            .map_err(failed("make the folder that git sees"))?;
        let processes = Processes::new(Some(view.clone()), bounds, settings.most_repository);
        let repositories = Repositories::open(&settings, processes.clone())
            .map_err(failed("open the repositories"))?;
        repositories
            .recover()
            .map_err(failed("remove what broken pushes left"))?;
        let journal =
            Journal::open(repositories.folder()).map_err(failed("open the journal of pushes"))?;
        let hooks = Arc::new(Hooks {
            pushes: Arc::new(Pushes::default()),
            repositories,
            receiver,
            journal,
            check: settings.check,
            tasks: TaskTracker::new(),
        });
        Ok(Self(Arc::new(Inner {
            rooms: Arc::new(Rooms::new(settings.most_each, settings.most_at_once)),
            settings,
            processes,
            hooks,
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
            view,
        })))
    }

    /// The repositories.
    pub fn repositories(&self) -> &Repositories {
        &self.0.hooks.repositories
    }

    /// Answers hooks until `end`, in tasks; at most once. Needs a tokio runtime.
    pub async fn serve_hooks(&self, end: CancellationToken) -> io::Result<()> {
        let socket = self.0.view.socket();
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = hooks::listen(&socket)?;
        tokio::select! {
            served = self.accept(listener) => served,
            () = end.cancelled() => Ok(()),
        }
    }

    async fn accept(&self, listener: UnixListener) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(MOST_HOOKS));
        loop {
            let permit = Arc::clone(&room).acquire_owned().await;
            let permit = permit.map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            let hooks = Arc::clone(&self.0.hooks);
            self.0.tasks.spawn(async move {
                hooks.answer(stream).await;
                drop(permit);
            });
        }
    }

    /// Goes on with pushes that were accepted by a daemon that died. To be called once, when the receiver can be
    /// asked.
    pub async fn resume(&self) -> io::Result<()> {
        for push in havre_base::in_place(|| self.0.hooks.journal.all())? {
            self.0.hooks.settle(push).await;
        }
        Ok(())
    }

    /// Ends what is under way: pushes that are not accepted yet are broken off, others are no longer followed. What
    /// the receiver has begun is waited for as long as whoever calls this waits.
    pub async fn drain(&self) {
        self.0.end.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.hooks.tasks.close();
        self.0.hooks.tasks.wait().await;
    }
}
