//! Streams of one HTTP/2 connection whose client does not take its answer.
//!
//! A window of zero costs the client nothing, and holds a request's memory and its connection to the
//! replica here. hyper waits for the window and asks the answer's body for nothing meanwhile, so it is
//! the task of the stream that is ended from outside.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::clients::Usage;
use crate::limits;
use crate::lock::lock;

tokio::task_local! {
    static STREAM: Arc<Stream>;
}

/// One stream.
#[derive(Debug, Default)]
pub struct Stream {
    blocked_since: Mutex<Option<Instant>>,
    cut_off: AtomicBool,
    task: OnceLock<AbortHandle>,
}

impl Stream {
    /// That of the task that asks.
    pub fn current() -> Option<Arc<Self>> {
        STREAM.try_with(Arc::clone).ok()
    }

    /// Its client has got some of the answer, or could have, and has not asked for more.
    pub fn set_blocked(&self, blocked: bool) {
        *lock(&self.blocked_since) = blocked.then(Instant::now);
    }

    /// Whether it was ended for its client's sake.
    pub fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Relaxed)
    }

    fn cut_off(&self) {
        self.cut_off.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// Starts the tasks of a connection's streams and knows them.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<Mutex<Vec<Weak<Stream>>>>);

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let stream = Arc::new(Stream::default());
        self.add(&stream);
        let task = tokio::spawn(STREAM.scope(Arc::clone(&stream), future));
        // Set once, here.
        stream.task.get_or_init(|| task.abort_handle());
    }
}

impl Streams {
    fn add(&self, stream: &Arc<Stream>) {
        let mut streams = lock(&self.0);
        if streams.len() >= 4 * limits::H2_STREAMS as usize {
            streams.retain(|stream| stream.strong_count() > 0);
        }
        streams.push(Arc::downgrade(stream));
    }

    /// Streams of which nothing was taken for [`limits::STALLED`], with how long; longest first.
    fn stalled(&self, now: Instant) -> Vec<(Duration, Arc<Stream>)> {
        let mut streams = lock(&self.0);
        streams.retain(|stream| stream.strong_count() > 0);
        let stalled = streams.iter().filter_map(|stream| {
            let stream = stream.upgrade()?;
            let since = (*lock(&stream.blocked_since))?;
            let time = now.duration_since(since);
            (time >= limits::STALLED && !stream.is_cut_off()).then_some((time, stream))
        });
        let mut stalled: Vec<_> = stalled.collect();
        stalled.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        stalled
    }
}

/// A connection's part in what its address has stalled.
#[derive(Debug)]
pub struct Watch {
    streams: Streams,
    usage: Arc<Usage>,
    counted: u32,
}

impl Watch {
    /// Over the streams of one connection of an address.
    pub fn new(streams: Streams, usage: Arc<Usage>) -> Self {
        Self {
            streams,
            usage,
            counted: 0,
        }
    }

    /// Ends streams that have stalled for longer than their address may leave them, and those that are
    /// too many for it, the longest first. To be called every now and then.
    pub fn look(&mut self) {
        let stalled = self.streams.stalled(Instant::now());
        self.count(stalled.len());
        let excess = self.usage.excess() as usize;
        let mut left = stalled.len();
        for (number, (time, stream)) in stalled.into_iter().enumerate() {
            if time >= self.usage.patience() || number < excess {
                stream.cut_off();
                left -= 1;
                self.count(left);
            }
        }
    }

    fn count(&mut self, now: usize) {
        let now = u32::try_from(now).unwrap_or(u32::MAX);
        self.usage.recount_stalled(self.counted, now);
        self.counted = now;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.count(0);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// A stream's task that has begun, blocked, and is told to go on by the sender.
    async fn blocked(streams: &Streams) -> (Arc<Stream>, oneshot::Sender<()>) {
        let (tell, told) = oneshot::channel();
        let (begun, has_begun) = oneshot::channel();
        streams.execute(async move {
            let stream = Stream::current().expect("its stream");
            stream.set_blocked(true);
            begun.send(stream).expect("somebody waits");
            told.await.unwrap_or_default();
        });
        (has_begun.await.expect("a stream"), tell)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_which_nothing_is_taken_ends() {
        let streams = Streams::default();
        let mut watch = Watch::new(streams.clone(), Arc::default());
        let (stalled, mut tell) = blocked(&streams).await;
        let (moving, other) = blocked(&streams).await;
        for _ in 0..12 {
            assert!(!stalled.is_cut_off());
            tokio::time::sleep(limits::CLIENT_PAUSE / 12).await;
            moving.set_blocked(true);
            watch.look();
        }
        tell.closed().await;
        assert!(stalled.is_cut_off());
        assert!(!moving.is_cut_off() && !other.is_closed());
    }

    /// Who opens no window on many streams holds memory; who pauses a download does not hold much.
    #[tokio::test(start_paused = true)]
    async fn an_address_may_pause_a_few_for_long() {
        let usage = Arc::new(Usage::default());
        let mut held = Vec::new();
        let mut watches = Vec::new();
        let most = limits::PAUSED_PER_ADDRESS as usize;
        for _ in 0..2 {
            let streams = Streams::default();
            for _ in 0..most {
                held.push(blocked(&streams).await);
            }
            watches.push(Watch::new(streams, Arc::clone(&usage)));
        }
        let left = |held: &[(Arc<Stream>, _)]| {
            let left = held.iter().filter(|(stream, _)| !stream.is_cut_off());
            left.count()
        };
        tokio::time::sleep(limits::STALLED).await;
        watches.iter_mut().for_each(Watch::look);
        assert_eq!(left(&held), 2 * most);
        tokio::time::sleep(limits::CLIENT_STALL).await;
        watches.iter_mut().for_each(Watch::look);
        assert_eq!(left(&held), most);
        tokio::time::sleep(limits::CLIENT_PAUSE).await;
        watches.iter_mut().for_each(Watch::look);
        assert_eq!(left(&held), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_may_have_so_many_stalled() {
        let most = limits::STALLED_PER_ADDRESS;
        let usage = Arc::new(Usage::default());
        let mut held = Vec::new();
        let mut watches = Vec::new();
        for _ in 0..4 {
            let streams = Streams::default();
            for _ in 0..most / 2 {
                held.push(blocked(&streams).await);
            }
            watches.push(Watch::new(streams, Arc::clone(&usage)));
        }
        tokio::time::sleep(limits::STALLED).await;
        watches.iter_mut().for_each(Watch::look);
        watches.iter_mut().for_each(Watch::look);
        let left = held.iter().filter(|(stream, _)| !stream.is_cut_off());
        assert_eq!(left.count(), most as usize);
        assert_eq!(usage.excess(), 0);
        drop(watches);
        usage.recount_stalled(0, most);
        assert_eq!(usage.excess(), 0, "who is gone does not count");
    }
}
