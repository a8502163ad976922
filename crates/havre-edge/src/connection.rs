//! A client's connection from accept to close.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::client::Client;
use crate::clients::ConnectionPermit;
use crate::forward;
use crate::handshake;
use crate::io::ClientIo;
use crate::limits;
use crate::phase::{ConnectionActivity, Verdict};
use crate::stall::{Streams, Watch};
use crate::witness::Witness;
use crate::worker::Worker;

/// Serves plain HTTP.
pub async fn serve_http(
    worker: Arc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    permit: ConnectionPermit,
) {
    let client = Arc::new(Client::plain(&stream, peer, &permit));
    let io = ClientIo::plain(stream, Arc::clone(&client.phase));
    serve_http1(worker, client, io).await;
    drop(permit);
}

/// Serves HTTPS.
pub async fn serve_https(
    worker: Arc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    permit: ConnectionPermit,
) {
    let acceptor = TlsAcceptor::from(Arc::clone(&worker.shared.tls));
    let accepted = tokio::time::timeout(limits::TLS_HANDSHAKE, acceptor.accept(stream));
    let accepted = tokio::select! {
        accepted = accepted => accepted,
        () = worker.shared.stopped.cancelled() => return,
    };
    // Scanners and clients that do not trust us end here; the alert has told them.
    let Ok(Ok(stream)) = accepted else { return };
    if stream.get_ref().1.alpn_protocol() == Some(handshake::ACME) {
        return;
    }
    let client = {
        let snapshot = worker.shared.snapshot.load();
        Arc::new(Client::tls(&stream, peer, &permit, &snapshot))
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let witness = Witness::new(&worker, &client);
        let io = ClientIo::http2(stream, Arc::clone(&client.phase), witness);
        serve_http2(worker, client, io).await;
    } else {
        let io = ClientIo::tls(stream, Arc::clone(&client.phase));
        serve_http1(worker, client, io).await;
    }
    drop(permit);
}

async fn serve_http1(worker: Arc<Worker>, client: Arc<Client>, io: ClientIo) {
    let shared = Arc::clone(&worker.shared);
    let service = service_fn(move |request: Request<Incoming>| {
        let (worker, client) = (Arc::clone(&worker), Arc::clone(&client));
        async move { Ok::<_, Infallible>(forward::handle(worker, client, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::CLIENT_IDLE)
        .max_headers(limits::HEADER_FIELDS + 1)
        .max_buf_size(limits::HEAD_BYTES)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let last_call = async {
        shared.stopping.cancelled().await;
        tokio::time::sleep(shared.idle_grace.get().copied().unwrap_or_default()).await;
    };
    // How a connection ends is in its requests' records.
    tokio::select! {
        result = connection.as_mut() => return drop(result),
        () = last_call => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        result = connection.as_mut() => drop(result),
        () = shared.stopped.cancelled() => {}
    }
}

async fn serve_http2(worker: Arc<Worker>, client: Arc<Client>, io: ClientIo) {
    let shared = Arc::clone(&worker.shared);
    let requests = Arc::clone(&client);
    let service = service_fn(move |request: Request<Incoming>| {
        let (worker, client) = (Arc::clone(&worker), Arc::clone(&requests));
        async move { Ok::<_, Infallible>(forward::handle(worker, client, request).await) }
    });
    let streams = Streams::default();
    let mut stalls = Watch::new(streams.clone(), Arc::clone(&client.phase.usage));
    let connection = http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::H2_STREAMS)
        .max_pending_accept_reset_streams(limits::H2_PENDING_RESETS)
        .max_local_error_reset_streams(limits::H2_LOCAL_RESETS)
        .initial_stream_window_size(limits::H2_STREAM_WINDOW)
        .initial_connection_window_size(limits::H2_CONNECTION_WINDOW)
        .max_send_buf_size(limits::H2_SEND_BUFFER)
        .max_header_list_size(limits::H2_HEADER_LIST)
        .keep_alive_interval(limits::H2_PING_INTERVAL)
        .keep_alive_timeout(limits::H2_PING_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return drop(result),
        () = shared.stopping.cancelled() => connection.as_mut().graceful_shutdown(),
        verdict = watch(&client.phase, &mut stalls) => match verdict {
            Verdict::Stalled => return,
            Verdict::Idle | Verdict::Alive => connection.as_mut().graceful_shutdown(),
        },
    }
    tokio::select! {
        result = connection.as_mut() => drop(result),
        () = is_over(&client.phase, &mut stalls) => {}
        () = shared.stopped.cancelled() => {}
    }
}

/// Ends when a connection that was told to end has had no request for [`limits::GOODBYE`]: its client
/// may not read, or never have spoken HTTP/2 at all.
async fn is_over(phase: &ConnectionActivity, stalls: &mut Watch) {
    loop {
        let before = phase.glance();
        tokio::time::sleep(limits::GOODBYE).await;
        stalls.look();
        if phase.glance().since(before) == Verdict::Idle {
            return;
        }
    }
}

/// Ends when an HTTP/2 connection has had no request for [`limits::CLIENT_IDLE`], or a client that takes
/// nothing of any of its answers for [`limits::CLIENT_PAUSE`]. Ends single streams meanwhile of which
/// nothing is taken.
async fn watch(phase: &ConnectionActivity, stalls: &mut Watch) -> Verdict {
    let (mut before, mut since) = (phase.glance(), Instant::now());
    loop {
        tokio::time::sleep(limits::STALL_LOOK).await;
        stalls.look();
        let now = phase.glance();
        match now.since(before) {
            Verdict::Alive => (before, since) = (now, Instant::now()),
            verdict => {
                let most = match verdict {
                    Verdict::Stalled => limits::CLIENT_PAUSE,
                    Verdict::Idle | Verdict::Alive => limits::CLIENT_IDLE,
                };
                if since.elapsed() >= most {
                    return verdict;
                }
            }
        }
    }
}
