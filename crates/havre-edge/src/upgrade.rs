//! A request that became a WebSocket: from the two 101s to the end of the tunnel.

use std::sync::atomic::Ordering;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::record::Record;
use crate::replica::{InFlight, Outcome};
use crate::tunnel::{self, Ended, Traffic};

/// Waits until both connections have become byte streams, and runs the tunnel to its end.
pub async fn run(
    on_client: OnUpgrade,
    on_replica: OnUpgrade,
    end: CancellationToken,
    in_flight: InFlight,
    mut record: Box<Record>,
) {
    let both = async { tokio::try_join!(on_client, on_replica) };
    let Ok(Ok((client, replica))) = tokio::time::timeout(limits::TLS_HANDSHAKE, both).await else {
        "the WebSocket broke off in its handshake".clone_into(&mut record.cause);
        in_flight.finish(Outcome::Abandoned);
        return;
    };
    let traffic = Traffic::default();
    let ended = tunnel::run(TokioIo::new(client), TokioIo::new(replica), &end, &traffic).await;
    record.bytes = traffic.to_client.load(Ordering::Relaxed);
    record.bytes_in = traffic.to_replica.load(Ordering::Relaxed);
    record.upload = None;
    let (cause, outcome) = match ended {
        Ended::ByPeers => (
            "",
            Outcome::Answered {
                server_error: false,
            },
        ),
        Ended::Broken => ("a connection broke", Outcome::Abandoned),
        Ended::ClosedByUs => ("closed as the replica drains", Outcome::Abandoned),
        Ended::Cut => ("cut as the replica drains", Outcome::Abandoned),
    };
    cause.clone_into(&mut record.cause);
    in_flight.finish(outcome);
}
