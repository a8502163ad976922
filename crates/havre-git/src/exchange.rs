//! Bytes between a client and git, as long as both are there.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStdin;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::process::{Running, last_line, last_words};
use crate::push::Outcome;
use crate::pushes::Pending;

/// Read of git at once.
const PIECE: usize = 64 * 1024;
/// How long git has to end by itself, when its client has left and it is not to be ended.
const ALONE: Duration = Duration::from_secs(60);

/// What a client sends.
pub(crate) struct Input {
    pub(crate) stream: BoxStream<'static, io::Result<Bytes>>,
    /// Bytes that are taken of it.
    pub(crate) most: u64,
    /// All of it comes before the client reads anything: what git does not want is still taken from it.
    pub(crate) is_whole: bool,
}

/// What both have.
pub(crate) struct Exchange {
    pub(crate) input: Input,
    /// To the client, who has left when it is closed.
    pub(crate) output: mpsc::Sender<Bytes>,
    /// Of a push.
    pub(crate) push: Option<Arc<Pending>>,
    /// They may no longer, or the daemon ends.
    pub(crate) lost: CancellationToken,
    pub(crate) end: CancellationToken,
    pub(crate) idle: Duration,
    pub(crate) longest: Duration,
}

impl Exchange {
    /// Passes bytes on until git has ended.
    pub(crate) async fn run(self, mut running: Running) -> Outcome {
        let Self {
            input,
            output,
            push,
            lost,
            end,
            idle,
            longest,
        } = self;
        let (stdin, stdout, stderr) = (
            running.child.stdin.take(),
            running.child.stdout.take(),
            running.child.stderr.take(),
        );
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            running.end().await;
            return Outcome::Failed;
        };
        let stalled = CancellationToken::new();
        let is_whole = input.is_whole;
        let passing = async {
            let feeding = feed(input, stdin, idle);
            let pumping = pump(stdout, &output, idle, &stalled);
            let words = last_words(stderr);
            let pumped = async { tokio::join!(pumping, words).1 };
            match is_whole {
                true => tokio::join!(pumped, feeding).0,
                false => {
                    tokio::pin!(pumped);
                    tokio::select! {
                        said = &mut pumped => said,
                        () = feeding => pumped.await,
                    }
                }
            }
        };
        tokio::pin!(passing);
        let said = tokio::select! {
            said = &mut passing => Some(said),
            () = output.closed() => None,
            () = stalled.cancelled() => None,
            () = lost.cancelled() => None,
            () = end.cancelled() => None,
            () = sleep(longest) => None,
        };
        let said = match said {
            Some(said) => said,
            None => {
                let may_end = push.as_ref().is_none_or(|push| push.leave());
                // Its references may move, and then what they lead to is to begin: it has its time.
                if may_end || timeout(ALONE, &mut passing).await.is_err() {
                    running.end().await;
                }
                return Outcome::Left;
            }
        };
        match timeout(ALONE, running.child.wait()).await {
            Ok(Ok(status)) if status.success() => Outcome::Done,
            Ok(status) => {
                let said = last_line(&said);
                tracing::debug!(?status, said, "git failed");
                Outcome::Failed
            }
            Err(_) => {
                running.end().await;
                Outcome::Failed
            }
        }
    }
}

/// To git.
async fn feed(mut input: Input, stdin: ChildStdin, idle: Duration) {
    let mut stdin = Some(stdin);
    let mut left = input.most;
    loop {
        let piece = match timeout(idle, input.stream.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(None) => return,
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "a client broke off");
                return;
            }
            Err(_) => {
                tracing::debug!("a client sent nothing for too long");
                return;
            }
        };
        let Some(after) = left.checked_sub(piece.len() as u64) else {
            tracing::debug!(most = input.most, "a client sends more than may be");
            return;
        };
        left = after;
        let Some(to) = &mut stdin else {
            continue;
        };
        if let Err(error) = to.write_all(&piece).await {
            tracing::debug!(%error, "git reads no more");
            stdin = None;
            if !input.is_whole {
                return;
            }
        }
    }
}

/// From git; what nobody takes is read all the same.
async fn pump(
    mut stdout: impl AsyncRead + Unpin,
    output: &mpsc::Sender<Bytes>,
    idle: Duration,
    stalled: &CancellationToken,
) {
    let mut piece = vec![0; PIECE];
    let mut is_taken = true;
    loop {
        let count = match stdout.read(&mut piece).await {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) => {
                tracing::debug!(%error, "git cannot be read");
                return;
            }
        };
        if !is_taken {
            continue;
        }
        let sending = output.send(Bytes::copy_from_slice(&piece[..count]));
        match timeout(idle, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => is_taken = false,
            Err(_) => {
                is_taken = false;
                stalled.cancel();
            }
        }
    }
}
