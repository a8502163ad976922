//! Every bound and deadline of the edge in one place, with its reason.

use std::time::Duration;

/// Header fields of one request, cookie crumbs included; more are answered with 431.
pub const HEADER_FIELDS: usize = 128;

/// Bytes of one request or response head.
pub const HEAD_BYTES: usize = 64 * 1024;

/// Bytes of a request's target: less than a head, so that it is told from one with many fields.
pub const TARGET_BYTES: usize = 48 * 1024;

/// From the first byte of a request's head to its last; of an HTTP/2 connection, from its beginning to
/// the end of the client's preface.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(15);

/// A client connection without a request. Longer than the 60 s for which load balancers in front of
/// us keep connections, so that it is they who close them.
pub const CLIENT_IDLE: Duration = Duration::from_secs(75);

/// TCP connection accepted until TLS is up.
pub const TLS_HANDSHAKE: Duration = Duration::from_secs(10);

/// No byte of a request body for this long while we wait for one.
pub const UPLOAD_STALL: Duration = Duration::from_secs(60);

/// Bytes sent to a client and not acknowledged, or a closed window, for this long: somebody may have
/// paused a download.
pub const CLIENT_PAUSE: Duration = Duration::from_secs(300);

/// The same of an HTTP/2 stream whose address has more than [`PAUSED_PER_ADDRESS`] of them.
pub const CLIENT_STALL: Duration = Duration::from_secs(60);

/// Answers that one address may leave for [`CLIENT_PAUSE`]: half a megabyte here, and as many
/// connections to replicas. Pausing is what people do with a few downloads.
pub const PAUSED_PER_ADDRESS: u32 = 16;

/// A connection to a replica: it is on this machine.
pub const CONNECT: Duration = Duration::from_secs(3);

/// End of the request's body until the response's head. Long, since reports and exports take their
/// time; a hung replica is found by its health check.
pub const RESPONSE_HEAD: Duration = Duration::from_secs(600);

/// Silence within a response body other than an event stream.
pub const RESPONSE_STALL: Duration = Duration::from_secs(600);

/// Idle connections to replicas. Node closes them after 5 s; one must not be chosen in that instant.
pub const UPSTREAM_IDLE: Duration = Duration::from_secs(4);

/// The same for requests that could not be sent a second time (some servers close after 2 s).
pub const UPSTREAM_IDLE_UNREPEATABLE: Duration = Duration::from_secs(1);

/// Idle connections kept for each replica by each thread, beside as many as were in use at once.
pub const UPSTREAM_IDLE_AT_LEAST: usize = 64;

/// Requests at once on one HTTP/2 connection to a replica, where it takes as many.
pub const UPSTREAM_H2_STREAMS: usize = 128;

/// Bytes that a replica may send ahead on one HTTP/2 stream …
pub const UPSTREAM_H2_STREAM_WINDOW: u32 = 64 * 1024;
/// … and on all of them: as many, so that a client that reads nothing holds up no other.
pub const UPSTREAM_H2_CONNECTION_WINDOW: u32 = 128 * UPSTREAM_H2_STREAM_WINDOW;

/// HTTP/2 connections to replicas without a request.
pub const UPSTREAM_H2_IDLE: Duration = Duration::from_secs(60);

/// A gRPC call that lasts longer counts as a stream.
pub const CALL: Duration = Duration::from_secs(10);

/// An interim answer (1xx) waits this long for its client, and is then left out.
pub const INTERIM: Duration = Duration::from_secs(5);

/// Replicas tried for one request when connections cannot be made.
pub const CONNECT_ATTEMPTS: usize = 4;

/// Pause between two rounds over replicas none of which accepts a connection.
pub const HOLD_RETRY: Duration = Duration::from_millis(100);

/// Requests held for one pool at a time.
pub const HELD_PER_POOL: usize = 1024;

/// Client connections from one address (an IPv6 /64 counts as one) where nothing else is configured.
pub const CONNECTIONS_PER_ADDRESS: u32 = 1024;

/// Requests under way for one address, by connection that it may have.
pub const REQUESTS_PER_CONNECTION: u32 = 4;

/// Answers of which one address has taken nothing for [`STALLED`]. Each holds some 30 kB and a
/// connection to a replica.
pub const STALLED_PER_ADDRESS: u32 = 256;

/// After this an answer that nobody takes counts as stalled. Less would be a slow network.
pub const STALLED: Duration = Duration::from_secs(10);

/// Between two looks at the streams of a connection.
pub const STALL_LOOK: Duration = Duration::from_secs(5);

/// Streams of one HTTP/2 connection.
pub const H2_STREAMS: u32 = 200;

/// Bytes of a request's fields over HTTP/2, each counted with 32 more (RFC 9113 §6.5.2).
pub const H2_HEADER_LIST: u32 = 64 * 1024;

/// Resets by the client of streams not yet accepted (CVE-2023-44487).
pub const H2_PENDING_RESETS: usize = 32;

/// Resets that a client provokes from us (CVE-2025-8671).
pub const H2_LOCAL_RESETS: usize = 128;

/// Bytes a client may send ahead on one HTTP/2 stream, and on all of them.
pub const H2_STREAM_WINDOW: u32 = 256 * 1024;
/// See [`H2_STREAM_WINDOW`].
pub const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes of a response kept for one HTTP/2 stream.
pub const H2_SEND_BUFFER: usize = 64 * 1024;

/// An HTTP/2 connection is probed after this much silence …
pub const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// … and closed without an answer within this.
pub const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// An HTTP/2 connection without a request stays open for this long after it was told to end.
pub const GOODBYE: Duration = Duration::from_secs(5);

/// How long a replica's answer is waited for when it has closed its connection during an upload.
pub const ANSWER_WAIT: Duration = Duration::from_millis(100);

/// A request body of known length up to this is read before a replica is chosen.
pub const GATHER_BYTES: u64 = 64 * 1024;

/// An unread request body is read to its end, to keep the connection, when it is no longer than this.
pub const DRAIN_BYTES: u64 = 256 * 1024;
/// … and arrives within this.
pub const DRAIN_TIME: Duration = Duration::from_secs(5);

/// After an early answer to an upload the connection stays half open until the client has been silent
/// this long, so that it reads the answer before it sees a reset …
pub const LINGER_SILENCE: Duration = Duration::from_secs(2);
/// … but no longer than this.
pub const LINGER: Duration = Duration::from_secs(10);

/// Streams of a replica that leaves need not be closed slower than one in this time.
pub const STREAM_PAUSE: Duration = Duration::from_millis(100);

/// A tunnel with one side closed.
pub const TUNNEL_HALF_CLOSED: Duration = Duration::from_secs(10);

/// A tunnel after a Close frame, for the answer to it.
pub const TUNNEL_GOODBYE: Duration = Duration::from_secs(2);

/// A stream that is to be closed waits this long for the end of the frame or event under way.
pub const STREAM_BOUNDARY: Duration = Duration::from_secs(2);

/// A body of a control request.
pub const CONTROL_BODY: usize = 32 * 1024 * 1024;

/// At a shutdown, idle HTTP/1 connections stay open this long (half the grace, if that is shorter): a
/// request that is on its way just then would be lost.
pub const STOP_IDLE: Duration = Duration::from_secs(5);

/// Clients that send datagrams, each with a socket towards its replica: of all ports …
pub const FLOWS: usize = 16 * 1024;
/// … and of one port on one thread, so that a flood at one port leaves the others theirs. One address may
/// have as many as connections.
pub const FLOWS_PER_SOCKET: usize = 4 * 1024;

/// Silence, both ways, after which a client that speaks datagrams is forgotten.
pub const FLOW_IDLE: Duration = Duration::from_secs(60);

/// The same for one that has asked once and not again, as resolvers do from a new port each time.
pub const FLOW_ONCE: Duration = Duration::from_secs(10);

/// Datagrams of a replica that takes no more of them are passed back while it is not silent for this
/// long …
pub const FLOW_LEAVING: Duration = Duration::from_millis(500);
/// … or this, while it owes an answer. Less than the daemon gives streams.
pub const FLOW_ANSWER: Duration = Duration::from_secs(3);

/// Datagrams taken in a row before other tasks of the thread have their turn.
pub const DATAGRAM_BATCH: usize = 64;

/// Grace at SIGTERM.
pub const TERM_GRACE: Duration = Duration::from_secs(10);
