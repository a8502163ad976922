//! Ports that are passed on: a connection to the machine becomes one to a replica, byte for byte.
//!
//! A connection counts as a stream of its replica: when that drains, it is closed in its turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::clients::ConnectionPermit;
use crate::listen::Kind;
use crate::replica::{InFlight, Outcome, Upstream};
use crate::snapshot::LivePool;
use crate::upstream_stream::UpstreamStream;
use crate::worker::Worker;
use crate::{balance, limits};

/// Serves one connection that was made to `listen`. Without a replica it waits for one, as
/// requests do.
pub async fn serve(
    worker: Arc<Worker>,
    mut client: TcpStream,
    listen: SocketAddr,
    permit: ConnectionPermit,
) {
    if let Some((mut replica, mut in_flight)) = connect(&worker, listen).await {
        let end = in_flight.become_stream();
        tokio::select! {
            // How it ended is between the two.
            result = copy_bidirectional(&mut client, &mut replica) => drop(result),
            () = end.cancelled() => {}
        }
        in_flight.finish(Outcome::Answered {
            server_error: false,
        });
    }
    drop(permit);
}

/// A connection to a replica, counted there; `None` where none could be had in time.
async fn connect(worker: &Worker, listen: SocketAddr) -> Option<(UpstreamStream, InFlight)> {
    let begun = Instant::now();
    // Before the first look: a push in between must not be missed.
    let mut pushed = worker.shared.pushed.subscribe();
    loop {
        let pool = worker
            .shared
            .snapshot
            .load_full()
            .forward((listen, Kind::Tcp))?;
        if let Some(connected) = try_pool(worker, &pool).await {
            return Some(connected);
        }
        let left = pool.hold.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return None;
        }
        let pause = match pool.serving.is_empty() {
            true => left,
            // It may be about to listen.
            false => left.min(limits::HOLD_RETRY),
        };
        wait(&mut pushed, pause).await;
    }
}

/// Woken or not, the next try tells.
async fn wait(pushed: &mut watch::Receiver<u64>, pause: std::time::Duration) {
    drop(tokio::time::timeout(pause, pushed.changed()).await);
}

async fn try_pool(worker: &Worker, pool: &LivePool) -> Option<(UpstreamStream, InFlight)> {
    let mut tried: Vec<Arc<Upstream>> = Vec::new();
    while tried.len() < limits::CONNECT_ATTEMPTS {
        let candidates: Vec<balance::Candidate> = pool
            .serving
            .iter()
            .map(|upstream| {
                let tried = tried.iter().any(|other| Arc::ptr_eq(other, upstream));
                upstream.candidate(true, tried)
            })
            .collect();
        let now = worker.shared.clock.now_ms();
        let chosen = balance::choose(&candidates, now, worker.turn())?;
        let upstream = Arc::clone(&pool.serving[chosen]);
        let in_flight = InFlight::new(Arc::clone(&upstream), &pool.counters);
        match UpstreamStream::connect(&upstream.address).await {
            Ok(stream) => {
                upstream.connected();
                return Some((stream, in_flight));
            }
            Err(_) => {
                in_flight.finish(Outcome::Failed);
                upstream.refused(worker.shared.clock.now_ms());
                tried.push(upstream);
            }
        }
    }
    None
}
