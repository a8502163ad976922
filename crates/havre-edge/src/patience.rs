//! How long the head of an answer is waited for.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::replica::{Clock, InFlight};
use crate::upload::UploadProgress;

/// Why no answer is waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfPatience {
    /// [`limits::RESPONSE_HEAD`].
    Slow,
    /// A call, and its replica is told to end what it has.
    Leaving,
}

/// The waiting for one answer. It may be given up and taken up again.
#[derive(Debug)]
pub struct Patience {
    clock: Clock,
    begun_ms: u64,
    /// Of gRPC: some begin to answer when there is something to say.
    is_call: bool,
    told: Option<CancellationToken>,
}

impl Patience {
    /// Begins now.
    pub fn new(clock: Clock, is_call: bool) -> Self {
        Self {
            clock,
            begun_ms: clock.now_ms(),
            is_call,
            told: None,
        }
    }

    /// Waits as long as it is worth waiting.
    pub async fn wait(
        &mut self,
        progress: &UploadProgress,
        in_flight: &mut InFlight,
    ) -> OutOfPatience {
        if self.is_call {
            let told = self.become_stream(in_flight).await;
            told.cancelled().await;
            return OutOfPatience::Leaving;
        }
        loop {
            // The answer may come long after the last byte of a long upload, not of its first.
            let last = progress.last_ms().max(self.begun_ms);
            let left = left(limits::RESPONSE_HEAD, self.clock, last);
            if left.is_zero() {
                return OutOfPatience::Slow;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// A call that lasts is a stream.
    async fn become_stream(&mut self, in_flight: &mut InFlight) -> &CancellationToken {
        if self.told.is_none() {
            tokio::time::sleep(left(limits::CALL, self.clock, self.begun_ms)).await;
        }
        self.told.get_or_insert_with(|| in_flight.become_stream())
    }
}

fn left(most: Duration, clock: Clock, since_ms: u64) -> Duration {
    let waited = clock.now_ms().saturating_sub(since_ms);
    most.saturating_sub(Duration::from_millis(waited))
}
