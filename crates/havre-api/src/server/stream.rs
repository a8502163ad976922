//! Answers of one JSON document per line.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, stream};
use http::header;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::admission::{Underway, rights_lost};
use super::shares::{Asker, Shares};
use crate::*;

/// Proxies take a longer silence for an end: ours after 600 s, others after 60 s.
const SILENCE: Duration = Duration::from_secs(45);

/// Items that may wait for a slow reader. Few, as a line of output may have 256 KiB: of one that nobody reads
/// 4 MiB are kept.
pub(super) const ITEMS_AHEAD: usize = 16;

/// Feeds that one principal may have at once.
const MOST_FEEDS: usize = 32;

/// The feeds that there are of each who asks. Root's are not counted.
#[derive(Debug)]
pub(super) struct Feeds(Shares);

/// One of them, until it is dropped.
pub(super) type OneFeed = Option<OwnedSemaphorePermit>;

impl Feeds {
    pub(super) fn new() -> Self {
        Self(Shares::new(MOST_FEEDS))
    }

    /// One more, or why not.
    pub(super) fn enter(&self, asked: &Asked) -> Result<OneFeed, ApiError> {
        let who = Asker::of(asked);
        if who == Asker::Owner {
            return Ok(None);
        }
        let one = self.0.of(who).try_acquire_owned();
        one.map(Some).map_err(|_| {
            let message = format!("{MOST_FEEDS} such answers are under way for you already");
            let error = ApiError::new(ErrorCode::TooMany, message);
            error.with_hint("end one of them, as a `logs -f`")
        })
    }
}

/// The answer whose body is `chunks`, each one or more whole lines.
pub(super) fn lines(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let chunks = kept_alive(Box::pin(chunks), SILENCE);
    let body = Body::from_stream(futures_util::StreamExt::map(chunks, Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// The same with an empty line where nothing was said for so long.
fn kept_alive(
    chunks: impl Stream<Item = Bytes> + Send + Unpin,
    silence: Duration,
) -> impl Stream<Item = Bytes> + Send {
    stream::unfold(chunks, move |mut chunks| async move {
        let next = futures_util::StreamExt::next(&mut chunks);
        match tokio::time::timeout(silence, next).await {
            Ok(chunk) => chunk.map(|chunk| (chunk, chunks)),
            Err(_) => Some((Bytes::from_static(b"\n"), chunks)),
        }
    })
}

/// Events as they come, then the outcome. What was reported before the outcome is sent before it. None of it is for
/// one who has lost the right to it; the operation goes on.
pub(super) fn operation<O: Serialize + Send + 'static>(
    source: EventSource,
    outcome: oneshot::Receiver<Result<O, ApiError>>,
    lost: CancellationToken,
) -> impl Stream<Item = Bytes> + Send {
    enum State<O> {
        Running(EventSource, oneshot::Receiver<Result<O, ApiError>>),
        Ending(EventSource, Result<O, ApiError>),
        Over,
    }
    let start = (State::Running(source, outcome), lost);
    stream::unfold(start, |(mut state, lost)| async move {
        loop {
            if lost.is_cancelled() && !matches!(state, State::Over) {
                let end = last_item::<Event, O>(Err(rights_lost()));
                return Some((line(&end), (State::Over, lost)));
            }
            state = match state {
                State::Running(mut source, mut outcome) => tokio::select! {
                    biased;
                    () = lost.cancelled() => State::Running(source, outcome),
                    Some(event) = source.next() => {
                        let line = line(&StreamItem::<_, O>::Event(event));
                        return Some((line, (State::Running(source, outcome), lost)));
                    }
                    result = &mut outcome => State::Ending(source, result.unwrap_or_else(|_| {
                        Err(ApiError::new(ErrorCode::Internal, "the operation broke off")
                            .with_hint("see the daemon's log"))
                    })),
                },
                State::Ending(mut source, result) => {
                    return Some(match source.try_next() {
                        Some(event) => {
                            let line = line(&StreamItem::<_, O>::Event(event));
                            (line, (State::Ending(source, result), lost))
                        }
                        None => (line(&last_item::<Event, O>(result)), (State::Over, lost)),
                    });
                }
                State::Over => return None,
            }
        }
    })
}

/// The same, which keeps `held` until nobody has them any more.
pub(super) fn holding(
    held: impl Send + 'static,
    chunks: impl Stream<Item = Bytes> + Send,
) -> impl Stream<Item = Bytes> + Send {
    futures_util::StreamExt::map(chunks, move |chunk| {
        let _ = &held;
        chunk
    })
}

/// Items until `sending` ends, `stop`, or who asks has lost the right to them; dropping the stream ends
/// `sending`.
pub(super) fn feed<T: Serialize + Send + 'static>(
    sending: impl Future<Output = Result<(), ApiError>> + Send + 'static,
    items: mpsc::Receiver<T>,
    stop: CancellationToken,
    underway: Underway,
) -> impl Stream<Item = Bytes> + Send {
    type Sending = Pin<Box<dyn Future<Output = Result<(), ApiError>> + Send>>;
    enum State<T> {
        Running(Sending, mpsc::Receiver<T>, CancellationToken, Underway),
        Ending(mpsc::Receiver<T>, Result<(), ApiError>, Underway),
        Over,
    }
    let start = State::Running(Box::pin(sending), items, stop, underway);
    stream::unfold(start, |mut state| async move {
        let mut batch = Vec::new();
        loop {
            state = match state {
                State::Running(mut sending, mut items, stop, underway) => {
                    let lost = underway.lost();
                    tokio::select! {
                        () = lost.cancelled() => State::Ending(items, Err(rights_lost()), underway),
                        count = items.recv_many(&mut batch, ITEMS_AHEAD) => match count {
                            // The sink is gone, so the handler is about to end.
                            0 => State::Ending(items, sending.await, underway),
                            _ => return Some((
                                many(batch),
                                State::Running(sending, items, stop, underway),
                            )),
                        },
                        result = &mut sending => State::Ending(items, result, underway),
                        () = stop.cancelled() => State::Ending(items, Err(ApiError::new(
                            ErrorCode::Unavailable,
                            "the daemon is shutting down",
                        )), underway),
                    }
                }
                State::Ending(mut items, result, underway) => {
                    // Nothing more is for one who has lost the right to it.
                    while !underway.lost().is_cancelled()
                        && let Ok(item) = items.try_recv()
                    {
                        batch.push(item);
                    }
                    if batch.is_empty() {
                        underway.end(Outcome::of(&result));
                        let end = last_item::<T, Empty>(result.map(|()| Empty {}));
                        return Some((line(&end), State::Over));
                    }
                    return Some((many(batch), State::Ending(items, result, underway)));
                }
                State::Over => return None,
            }
        }
    })
}

fn last_item<E, O>(result: Result<O, ApiError>) -> StreamItem<E, O> {
    match result {
        Ok(outcome) => StreamItem::Done(outcome),
        Err(error) => StreamItem::Error(error),
    }
}

fn many<T: Serialize>(batch: Vec<T>) -> Bytes {
    let mut out = BytesMut::new();
    for item in batch {
        out.extend_from_slice(&line(&StreamItem::<_, Empty>::Event(item)));
    }
    out.freeze()
}

fn line(item: &impl Serialize) -> Bytes {
    let mut out = BytesMut::new().writer();
    match serde_json::to_writer(&mut out, item) {
        Ok(()) => {
            out.get_mut().put_u8(b'\n');
            out.into_inner().freeze()
        }
        Err(error) => {
            // The wire types are plain data: this would be a fault of theirs.
            tracing::error!(%error, "cannot encode an event");
            Bytes::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::tests::{asked, root};
    use super::*;

    #[test]
    fn a_principal_has_so_many_feeds_and_no_more() {
        let feeds = Feeds::new();
        let enter = |id: usize, subject: &str| {
            let login = Who::Login {
                id: id.to_string(),
                issuer: "company".to_owned(),
                subject: subject.to_owned(),
            };
            feeds.enter(&asked(login, None))
        };
        let anna = (0..MOST_FEEDS).map(|n| enter(n, "anna"));
        let mut anna: Vec<OneFeed> = anna.collect::<Result<_, _>>().expect("few");
        let refused = enter(100, "anna").expect_err("too many");
        assert_eq!(refused.code, ErrorCode::TooMany);
        enter(101, "bob").expect("another");
        anna.pop();
        anna.push(enter(102, "anna").expect("one has ended"));
        enter(103, "anna").expect_err("as many again");
        let all: Result<Vec<_>, _> = (0..1000).map(|_| feeds.enter(&root())).collect();
        all.expect("root's are not counted");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_by_an_empty_line() {
        let late = stream::once(async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            Bytes::from_static(b"{}\n")
        });
        let chunks = kept_alive(Box::pin(late), SILENCE);
        let all: Vec<Bytes> = futures_util::StreamExt::collect(chunks).await;
        assert_eq!(all, [&b"\n"[..], b"\n", b"{}\n"]);
    }
}
