//! Requests that wait for a replica: woken by a push, bounded in number and time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::watch;

use crate::limits;
use crate::page::Cause;
use crate::record::Record;
use crate::snapshot::LiveRoute;

/// The waiting of one request.
#[derive(Debug, Default)]
pub struct Hold {
    since: Option<Instant>,
    pushed: Option<watch::Receiver<u64>>,
    place: Option<HeldPlace>,
}

#[derive(Debug)]
struct HeldPlace(Arc<AtomicUsize>);

impl HeldPlace {
    fn take(held: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(held));
        (held.fetch_add(1, Ordering::AcqRel) < limits::HELD_PER_POOL).then_some(place)
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Hold {
    /// Returns when it is worth another try; fails with `cause` when the time is up. The first time
    /// it only begins to listen for pushes: one may have come since the route was looked up.
    pub async fn wait(
        &mut self,
        route: &LiveRoute,
        cause: Cause,
        pushes: &watch::Sender<u64>,
        record: &mut Record,
    ) -> Result<(), Cause> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let left = route.pool.hold.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Err(cause);
        }
        let Some(pushed) = &mut self.pushed else {
            self.pushed = Some(pushes.subscribe());
            return Ok(());
        };
        if self.place.is_none() {
            let place = HeldPlace::take(&route.pool.held).ok_or_else(|| Cause::HoldFull {
                route: route.id.clone(),
            })?;
            self.place = Some(place);
        }
        // With replicas that refuse connections, one may be about to listen.
        let pause = if route.pool.serving.is_empty() {
            left
        } else {
            left.min(limits::HOLD_RETRY)
        };
        // Woken or not, the next try tells.
        drop(tokio::time::timeout(pause, pushed.changed()).await);
        record.held = Some(since.elapsed());
        Ok(())
    }
}
