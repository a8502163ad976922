//! Reading requests: how much, how fast, and as JSON.

use std::pin::pin;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use havre_base::body::Gathered;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use super::room::{Place, Room};
use crate::call::{LARGE_DEADLINE, SLOWEST_BYTES_PER_S, at_slowest};
use crate::*;

mod measure;
mod sound;

/// How long a client may take to send what it asks, where that is small.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// How long it may be silent, beside what its bytes may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what is refused is taken, and how long while nothing comes.
const DISCARD_DEADLINE: Duration = Duration::from_secs(10);
const DISCARD_SILENCE: Duration = Duration::from_secs(1);

/// Reads a request body of at most so many bytes and finds that its names are sound.
pub(super) async fn read<T: DeserializeOwned + Check>(
    room: &Room,
    asked: &Asked,
    body: Body,
    most_bytes: usize,
) -> Result<T, ApiError> {
    let deadline = match most_bytes <= MAX_SMALL_BYTES {
        true => REQUEST_DEADLINE,
        false => LARGE_DEADLINE,
    };
    let announced = body.size_hint().exact();
    let announced = announced.map_or(most_bytes, |bytes| {
        usize::try_from(bytes).unwrap_or(usize::MAX)
    });
    if announced > most_bytes {
        discard(body, most_bytes).await;
        let why = format!("it has {announced} bytes, above the limit of {most_bytes}");
        return Err(unreadable(why));
    }
    let (bytes, _place) = gather(room, asked, body, announced, deadline).await?;
    decode(&bytes)
}

/// Takes a body of at most so many bytes, and the place that it has until it is no longer needed.
pub(super) async fn gather<'r, B>(
    room: &'r Room,
    asked: &Asked,
    body: B,
    most_bytes: usize,
    deadline: Duration,
) -> Result<(Bytes, Place<'r>), ApiError>
where
    B: HttpBody<Data = Bytes, Error: std::fmt::Display>,
{
    let until = Instant::now() + deadline;
    let seconds = deadline.as_secs();
    let crowded = |_| {
        let message = format!("there was no room for the request within {seconds} s");
        ApiError::new(ErrorCode::TooMany, message).with_hint("try again when less is sent at once")
    };
    let unsound = |error: &dyn std::fmt::Display| unreadable(error.to_string());
    let mut body = pin!(body);
    let mut gathered = Gathered::new(most_bytes);
    // How long it was waited for what the client sends, and not for room.
    let mut silent = Duration::ZERO;
    let entered = timeout_at(until, room.enter(asked, most_bytes)).await;
    let mut place = entered.map_err(crowded)?;
    loop {
        let begun = Instant::now();
        let patience = patience(gathered.len()).saturating_sub(silent);
        let next = timeout_at(until.min(begun + patience), body.frame()).await;
        silent += begun.elapsed();
        let frame = match next {
            Ok(Some(frame)) => frame.map_err(|error| unsound(&error))?,
            Ok(None) => return Ok((gathered.into_bytes(), place)),
            Err(_) if Instant::now() < until => {
                return Err(unreadable(format!(
                    "it came with less than {} kB/s",
                    SLOWEST_BYTES_PER_S / 1000
                )));
            }
            Err(_) => return Err(unreadable(format!("it did not come within {seconds} s"))),
        };
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        let size = gathered.size_with(piece.len());
        let size = size.map_err(|error| unsound(&error))?;
        timeout_at(until, place.grow(size)).await.map_err(crowded)?;
        gathered.add(piece).map_err(|error| unsound(&error))?;
    }
}

/// How long a client may be silent in all that has sent so many bytes.
fn patience(bytes: usize) -> Duration {
    PATIENCE + at_slowest(bytes)
}

/// Takes what a client sends who is refused, and keeps nothing of it: who still sends when the connection ends may not
/// see the answer.
pub(super) async fn discard(mut body: Body, most_bytes: usize) {
    let taking = async {
        let mut left = most_bytes;
        while let Ok(Some(Ok(frame))) = timeout(DISCARD_SILENCE, body.frame()).await {
            let bytes = frame.data_ref().map_or(0, bytes::Bytes::len);
            left = match left.checked_sub(bytes) {
                Some(left) => left,
                None => return,
            };
        }
    };
    if timeout(DISCARD_DEADLINE, taking).await.is_err() {
        tracing::debug!("a client that is refused sends on");
    }
}

/// Finds the same of what was read.
pub(super) fn decode<T: DeserializeOwned + Check>(bytes: &[u8]) -> Result<T, ApiError> {
    // Before anything is made of it.
    measure::document(bytes).map_err(|error| unreadable(error.to_string()))?;
    let value: T = serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
    value.check()?;
    Ok(value)
}

fn unreadable(why: String) -> ApiError {
    let mut error = ApiError::new(ErrorCode::Invalid, "cannot read the request");
    error.causes.push(why);
    error
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::super::room::tests::asked_by;
    use super::*;

    fn silent() -> Body {
        Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())
    }

    fn of(bytes: usize) -> Body {
        let mut text = b"{}".to_vec();
        text.resize(bytes, b' ');
        Body::from(text)
    }

    /// Pieces of so many bytes, one each second.
    fn slow(bytes: usize) -> Body {
        let pieces = stream::unfold((), move |()| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, Infallible>(Bytes::from(vec![b' '; bytes])), ()))
        });
        Body::from_stream(pieces)
    }

    async fn why(room: &Room, body: Body, most_bytes: usize) -> Option<String> {
        why_of("anna", room, body, most_bytes).await
    }

    async fn why_of(by: &str, room: &Room, body: Body, most_bytes: usize) -> Option<String> {
        let read = read::<MachineQuery>(room, &asked_by(by), body, most_bytes).await;
        read.err()
            .map(|error| format!("{} {}", error.message, error.causes.join(" ")))
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_comes_in_time_or_not_at_all() {
        let room = Room::new();
        let too_slow = "cannot read the request it came with less than 32 kB/s";
        let too_late = "cannot read the request it did not come within 120 s";
        for (body, most, why_not, within) in [
            (silent(), MAX_SMALL_BYTES, too_slow, 5..=5),
            (silent(), MAX_DOCUMENT_BYTES, too_slow, 5..=5),
            (slow(1), MAX_DOCUMENT_BYTES, too_slow, 5..=6),
            (slow(16_000), MAX_DOCUMENT_BYTES, too_slow, 9..=11),
            (slow(33_000), MAX_DOCUMENT_BYTES, too_late, 120..=120),
        ] {
            let begun = Instant::now();
            assert_eq!(why(&room, body, most).await.as_deref(), Some(why_not));
            let seconds = begun.elapsed().as_secs();
            assert!(within.contains(&seconds), "{seconds} s: {within:?}");
        }
        let begun = Instant::now();
        discard(silent(), MAX_SMALL_BYTES).await;
        assert_eq!(begun.elapsed(), DISCARD_SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_much_is_read_of_one_and_of_all_at_a_time() {
        let room = Room::new();
        assert_eq!(why(&room, of(MAX_SMALL_BYTES), MAX_SMALL_BYTES).await, None);
        let why_not = why(&room, of(MAX_SMALL_BYTES + 1), MAX_SMALL_BYTES).await;
        assert!(why_not.expect("refused").contains("limit"));
        let pieces = Body::from_stream(stream::iter(
            [0; 2].map(|_| Ok::<_, Infallible>(Bytes::from(vec![b' '; MAX_SMALL_BYTES]))),
        ));
        let why_not = why(&room, pieces, MAX_SMALL_BYTES).await;
        assert!(why_not.expect("refused").contains("limit"));
        // Small ones wait for no large ones.
        let all = room.enter(&asked_by("anna"), MAX_DOCUMENT_BYTES).await;
        assert_eq!(why(&room, of(10), MAX_DOCUMENT_BYTES).await, None);
        let large = of(2 * MAX_SMALL_BYTES);
        let why_not = why(&room, large, MAX_DOCUMENT_BYTES).await;
        assert!(why_not.expect("refused").contains("no room"));
        // Nor do another's.
        let large = of(2 * MAX_SMALL_BYTES);
        assert_eq!(why_of("bert", &room, large, MAX_DOCUMENT_BYTES).await, None);
        drop(all);
        let large = of(2 * MAX_SMALL_BYTES);
        assert_eq!(why(&room, large, MAX_DOCUMENT_BYTES).await, None);
    }

    /// As one who had five requests of 33 MB said, and sent a byte now and then.
    #[tokio::test(start_paused = true)]
    async fn who_sends_slowly_is_in_nobody_s_way() {
        let room = Room::new();
        let slow = (0..5).map(|_| why(&room, silent(), MAX_DOCUMENT_BYTES));
        let mut slow = std::pin::pin!(futures_util::future::join_all(slow));
        let waiting = timeout(Duration::from_millis(1), &mut slow).await;
        assert!(waiting.is_err());
        let begun = Instant::now();
        let large = of(2 * MAX_SMALL_BYTES);
        assert_eq!(why_of("bert", &room, large, MAX_DOCUMENT_BYTES).await, None);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        // Each is waited for, and then the next.
        assert!(slow.await.iter().all(Option::is_some));
        assert!(begun.elapsed() < Duration::from_secs(26));
    }
}
