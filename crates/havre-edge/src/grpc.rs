//! What gRPC means beyond HTTP/2: calls that are silent for any time, messages within a body, and a
//! status in the trailers.

use http::header::{self, HeaderMap, HeaderValue};

/// Code of UNAVAILABLE: the client may try again.
const UNAVAILABLE: HeaderValue = HeaderValue::from_static("14");

/// The trailers of every call.
pub const TRAILERS: HeaderValue =
    HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin");

/// Whether a message is of gRPC proper: gRPC-Web is plain HTTP to a proxy.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        let (name, rest) = kind.split_at(kind.len().min(16));
        name.eq_ignore_ascii_case(b"application/grpc")
            && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

/// Whether a status is the server's failure: UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS.
pub fn is_failure(fields: &HeaderMap) -> bool {
    fields
        .get("grpc-status")
        .is_some_and(|status| matches!(status.as_bytes(), b"2" | b"13" | b"14" | b"15"))
}

/// The end of a call whose replica leaves.
pub fn draining_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", UNAVAILABLE);
    let message = HeaderValue::from_static("the replica drains");
    trailers.insert("grpc-message", message);
    trailers
}

/// Where in a body's messages we are: each is a flag, its length in four bytes, and its bytes.
#[derive(Debug, Default)]
pub struct Messages {
    prefix: [u8; 5],
    /// Bytes of the prefix that are here.
    known: usize,
    /// Bytes of the message to come.
    left: u64,
}

impl Messages {
    /// Bytes that passed.
    pub fn note(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.left > 0 {
                let here = u64::try_from(data.len()).unwrap_or(u64::MAX);
                let count = self.left.min(here);
                self.left -= count;
                data = &data[usize::try_from(count).unwrap_or(data.len())..];
                continue;
            }
            self.prefix[self.known] = data[0];
            self.known += 1;
            data = &data[1..];
            if self.known == self.prefix.len() {
                let [_, a, b, c, d] = self.prefix;
                self.left = u64::from(u32::from_be_bytes([a, b, c, d]));
                self.known = 0;
            }
        }
    }

    /// No message is under way.
    pub fn at_boundary(&self) -> bool {
        self.known == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_from_its_relatives() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC; x=y", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("a", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_grpc(&headers), expected, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn messages_are_told_apart_however_they_arrive() {
        let body = b"\0\0\0\0\x03abc\x01\0\0\0\0\0\0\0\0\x01z";
        for size in 1..=body.len() {
            let mut messages = Messages::default();
            let mut ends = 0;
            let mut passed = 0;
            for piece in body.chunks(size) {
                messages.note(piece);
                passed += piece.len();
                let is_end = [8, 13, 19].contains(&passed);
                assert_eq!(messages.at_boundary(), is_end, "{size} {passed}");
                ends += usize::from(is_end);
            }
            assert!(ends > 0);
        }
    }
}
