//! The thread that has the connection. Statements wait in a bounded queue, in order.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use havre_base::in_place;
use rusqlite::Connection;

/// Statements that may wait.
const WAITING: usize = 64;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// The thread; ends, and closes the database, when this is dropped.
#[derive(Debug)]
pub(crate) struct StoreThread {
    work: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl StoreThread {
    pub(crate) fn start(mut connection: Connection) -> io::Result<Self> {
        let (work, queue) = sync_channel::<Work>(WAITING);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                for work in queue {
                    work(&mut connection);
                }
            })?;
        Ok(Self {
            work: Some(work),
            thread: Some(thread),
        })
    }

    /// Has `work` done and hands over what comes of it; `None` when the thread has panicked, in
    /// this work or before it.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Option<T> {
        let (done, wait) = sync_channel(1);
        let work: Work = Box::new(move |connection| {
            // Whoever asked waits for it.
            drop(done.send(work(connection)));
        });
        self.work.as_ref()?.send(work).ok()?;
        in_place(|| wait.recv()).ok()
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            // What panicked there was reported where it was asked for.
            drop(thread.join());
        }
    }
}
