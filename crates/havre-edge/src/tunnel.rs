//! A WebSocket once both sides have agreed: bytes both ways until one side ends, or until we are
//! told to end it, which happens between two frames and with a Close that makes clients come back.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::frames::{CLOSE_TO_CLIENT, FrameTracker};
use crate::limits;

/// Bytes kept for each direction.
const BUFFER: usize = 4096;

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// One of the two closed it.
    ByPeers,
    /// A connection broke.
    Broken,
    /// We did, as told, with a Close frame.
    ClosedByUs,
    /// We did, as told, without one: a frame was under way.
    Cut,
}

/// Bytes passed, readable while the tunnel runs.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the replica.
    pub to_client: AtomicU64,
    /// From the client.
    pub to_replica: AtomicU64,
}

/// Runs a tunnel to its end.
pub async fn run<C, R>(client: C, replica: R, end: &CancellationToken, traffic: &Traffic) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut replica_read, mut replica_write) = tokio::io::split(replica);
    let upwards = copy(&mut client_read, &mut replica_write, &traffic.to_replica);
    let mut tracker = FrameTracker::default();
    let downwards = copy_tracked(
        &mut replica_read,
        &mut client_write,
        &traffic.to_client,
        &mut tracker,
        end,
    );
    tokio::pin!(upwards);
    let ended = {
        tokio::pin!(downwards);
        tokio::select! {
            result = &mut upwards => match result {
                Ok(()) => after_half(downwards.as_mut()).await,
                Err(_) => Ended::Broken,
            },
            result = &mut downwards => match result {
                Ok(Down::Eof { closed }) => {
                    let patience =
                        if closed { limits::TUNNEL_GOODBYE } else { limits::TUNNEL_HALF_CLOSED };
                    match timeout(patience, &mut upwards).await {
                        Ok(Err(_)) if !closed => Ended::Broken,
                        _ => Ended::ByPeers,
                    }
                }
                Ok(Down::Told { at_boundary: true }) => Ended::ClosedByUs,
                Ok(Down::Told { at_boundary: false }) => Ended::Cut,
                Err(_) => Ended::Broken,
            },
        }
    };
    if ended == Ended::ClosedByUs {
        say_goodbye(&mut client_write, upwards.as_mut()).await;
    }
    ended
}

/// The client's side is closed; what the replica still has to say is passed on.
async fn after_half(
    downwards: std::pin::Pin<&mut impl Future<Output = io::Result<Down>>>,
) -> Ended {
    match timeout(limits::TUNNEL_HALF_CLOSED, downwards).await {
        Ok(Err(_)) => Ended::Broken,
        _ => Ended::ByPeers,
    }
}

/// Sends Close to the client and lets it answer; its answer, passed on, closes the replica's side.
async fn say_goodbye<W: AsyncWrite + Unpin>(
    client: &mut W,
    upwards: std::pin::Pin<&mut impl Future<Output = io::Result<()>>>,
) {
    let goodbye = async {
        client.write_all(&CLOSE_TO_CLIENT).await?;
        client.flush().await?;
        upwards.await
    };
    // Past the deadline, or after an error, both connections are dropped anyway.
    drop(timeout(limits::TUNNEL_GOODBYE, goodbye).await);
}

enum Down {
    /// After a Close frame, or without one.
    Eof {
        closed: bool,
    },
    Told {
        at_boundary: bool,
    },
}

async fn copy<R, W>(from: &mut R, to: &mut W, passed: &AtomicU64) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
        passed.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
    }
}

async fn copy_tracked<R, W>(
    from: &mut R,
    to: &mut W,
    passed: &AtomicU64,
    tracker: &mut FrameTracker,
    end: &CancellationToken,
) -> io::Result<Down>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    let mut cut_at: Option<Instant> = None;
    loop {
        let read = match cut_at {
            None => tokio::select! {
                read = from.read(&mut buffer) => Some(read),
                () = end.cancelled() => None,
            },
            Some(deadline) => match timeout_at(deadline, from.read(&mut buffer)).await {
                Ok(read) => Some(read),
                Err(_) => return Ok(Down::Told { at_boundary: false }),
            },
        };
        if let Some(read) = read {
            let count = read?;
            if count == 0 {
                to.shutdown().await?;
                return Ok(Down::Eof {
                    closed: tracker.is_closed(),
                });
            }
            tracker.feed(&buffer[..count]);
            to.write_all(&buffer[..count]).await?;
            to.flush().await?;
            passed.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
        }
        if end.is_cancelled() {
            if tracker.may_insert_close() {
                return Ok(Down::Told { at_boundary: true });
            }
            cut_at.get_or_insert_with(|| Instant::now() + limits::STREAM_BOUNDARY);
        }
    }
}
