//! Lines of the access log for what the HTTP/2 parser refuses by itself.

use std::sync::Arc;

use http::{StatusCode, Version};

use crate::client::Client;
use crate::gate::FirstLine;
use crate::http2::{FrameEvent, reason};
use crate::page::Cause;
use crate::record::Record;
use crate::worker::Worker;

/// Of one connection.
#[derive(Debug)]
pub struct Witness {
    worker: Arc<Worker>,
    client: Arc<Client>,
}

impl Witness {
    /// For the requests of `client`.
    pub fn new(worker: &Arc<Worker>, client: &Arc<Client>) -> Self {
        Self {
            worker: Arc::clone(worker),
            client: Arc::clone(client),
        }
    }

    /// The parser has written a frame.
    pub fn saw(&self, frame: FrameEvent) {
        let asides = &self.client.phase.asides;
        match frame {
            // The one answer that it gives by itself.
            FrameEvent::Answer(stream) => {
                if let Some(line) = asides.take_line(stream) {
                    let cause = Cause::HeadTooLong;
                    self.refused(line, cause.status(), cause.sentence());
                }
            }
            FrameEvent::Reset(stream, code) => {
                if let Some(line) = asides.take_line(stream) {
                    let cause = format!("bad request: HTTP/2 {}", reason(code));
                    self.refused(line, StatusCode::BAD_REQUEST, cause);
                }
            }
            FrameEvent::End(0) => {}
            FrameEvent::End(code) => {
                let line = asides.take_last_line().unwrap_or_default();
                let cause = format!("the connection was ended: HTTP/2 {}", reason(code));
                self.refused(line, StatusCode::BAD_REQUEST, cause);
            }
        }
    }

    /// We end the connection: a header block has no end.
    pub fn cut(&self) {
        let line = self.client.phase.asides.take_last_line();
        let cause = Cause::HeadTooLong;
        self.refused(line.unwrap_or_default(), cause.status(), cause.sentence());
    }

    fn refused(&self, line: FirstLine, status: StatusCode, cause: String) {
        let (lines, peer) = (&self.worker.lines, self.client.peer.ip());
        let peer = peer.to_canonical();
        let mut record = Record::of_line(lines, line, Version::HTTP_2, self.client.https, peer);
        let id = self.worker.ids.next();
        record.request_id = id.to_str().unwrap_or_default().to_owned();
        record.status = status.as_u16();
        record.cause = cause;
        // It is written as it goes.
        drop(record);
    }
}
