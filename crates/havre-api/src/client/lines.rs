//! One JSON document per line, out of an answer's body.

use bytes::BytesMut;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::{Reply, decode, garbled};
use crate::{ClientError, MAX_DOCUMENT_BYTES};

pub(super) struct Lines {
    path: &'static str,
    reply: Reply,
    buffer: BytesMut,
    /// Bytes of `buffer` known to hold no line end, so that a long line is searched once.
    searched: usize,
}

impl Lines {
    pub(super) fn new(path: &'static str, reply: Reply) -> Self {
        Self {
            path,
            reply,
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// The next document; `None` at the end of the body. Cancel-safe: all state is in `self`.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.buffer[self.searched..]
                .iter()
                .position(|b| *b == b'\n')
            {
                let line = self.buffer.split_to(self.searched + end + 1);
                self.searched = 0;
                // Said so that nobody in between takes silence for an end.
                if line == b"\n"[..] {
                    continue;
                }
                return decode(self.path, &line).map(Some);
            }
            self.searched = self.buffer.len();
            if self.searched > MAX_DOCUMENT_BYTES {
                return Err(garbled(self.path, "a line is too long"));
            }
            match self.reply.response.body_mut().frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(source)) => return Err(ClientError::Lost { source }),
                None => return Ok(None),
            }
        }
    }
}
