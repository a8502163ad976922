//! Answers before the answer (1xx: 103 Early Hints, 102 Processing), on their way from a replica to a
//! client. The parsers pass none on, so they are written beside them ([`crate::asides`]).

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

use crate::headers;
use crate::phase::ConnectionActivity;
use crate::{http2, limits};

/// Interim answers of one request that wait for the client's connection.
const QUEUE: usize = 8;

/// Bytes of one.
const BYTES: usize = 8 * 1024;

/// How they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As a head.
    Http1,
    /// As a frame.
    Http2 {
        /// Of the request.
        stream: u32,
    },
}

/// Takes the interim answers to one request.
#[derive(Debug)]
pub struct InterimAnswers {
    phase: Arc<ConnectionActivity>,
    queue: mpsc::Receiver<Vec<u8>>,
    passed: bool,
}

impl InterimAnswers {
    /// Those that come back to `request`, for the client of `phase`.
    pub fn of<B>(
        request: &mut http::Request<B>,
        form: Form,
        phase: &Arc<ConnectionActivity>,
    ) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        hyper::ext::on_informational(request, move |answer| {
            if let Some(bytes) = message(form, answer.status(), answer.headers()) {
                // They are hints: one too many is left out.
                drop(sender.try_send(bytes));
            }
        });
        Self {
            phase: Arc::clone(phase),
            queue,
            passed: false,
        }
    }

    /// Passes the next one on; never ends when there will be none.
    pub async fn pass_one(&mut self) {
        match self.queue.recv().await {
            Some(bytes) => self.pass(&bytes),
            None => std::future::pending().await,
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.passed = true;
        self.phase.asides.push_interim(bytes);
    }

    /// Passes on what came before the final answer, and waits until it has left.
    pub async fn pass_rest(mut self) {
        while let Ok(bytes) = self.queue.try_recv() {
            self.pass(&bytes);
        }
        if !self.passed {
            return;
        }
        let asides = &self.phase.asides;
        let written = std::future::poll_fn(|cx| asides.poll_interim_done(cx));
        if tokio::time::timeout(limits::INTERIM, written)
            .await
            .is_err()
        {
            asides.drop_interim();
        }
    }
}

/// As written to the client. `None` for 100, which was asked for by nobody but us, and 101.
fn message(form: Form, status: StatusCode, from_replica: &HeaderMap) -> Option<Vec<u8>> {
    let passes = status.is_informational()
        && status != StatusCode::CONTINUE
        && status != StatusCode::SWITCHING_PROTOCOLS;
    if !passes {
        return None;
    }
    let mut fields = from_replica.clone();
    headers::strip_hop_by_hop(&mut fields);
    fields.remove(http::header::CONTENT_LENGTH);
    let bytes = match form {
        Form::Http1 => head(status, &fields),
        Form::Http2 { stream } => http2::interim(stream, status.as_u16(), &fields),
    };
    (bytes.len() <= BYTES).then_some(bytes)
}

fn head(status: StatusCode, fields: &HeaderMap) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or("Interim");
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in fields {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
