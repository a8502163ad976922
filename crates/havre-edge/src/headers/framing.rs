//! How long a message's body is: one statement, or none that counts.

use http::header::{self, HeaderMap, HeaderValue};

use super::BadRequest;

/// The framing of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes; 0: none.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// What the values of Transfer-Encoding and Content-Length say together.
pub fn framing<'a>(
    mut encodings: impl Iterator<Item = &'a [u8]>,
    mut lengths: impl Iterator<Item = &'a [u8]>,
    is_http11: bool,
) -> Result<Body, BadRequest> {
    let encoding = encodings.next();
    let length = lengths.next();
    if let Some(encoding) = encoding {
        if !is_http11 {
            return Err(BadRequest::Framing("Transfer-Encoding is of HTTP/1.1 only"));
        }
        if encodings.next().is_some() || !encoding.eq_ignore_ascii_case(b"chunked") {
            return Err(BadRequest::Framing(
                "the only Transfer-Encoding is a single `chunked`",
            ));
        }
        if length.is_some() {
            return Err(BadRequest::Framing(
                "both Content-Length and Transfer-Encoding",
            ));
        }
        return Ok(Body::Chunked);
    }
    let Some(length) = length else {
        return Ok(Body::Length(0));
    };
    let number = decimal(length).filter(|_| lengths.next().is_none());
    number.map(Body::Length).ok_or(BadRequest::Framing(
        "Content-Length is not one decimal number",
    ))
}

fn decimal(text: &[u8]) -> Option<u64> {
    // `parse` takes a sign.
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Leaves one statement in a replica's answer. Transfer-Encoding overrides Content-Length (RFC 9112
/// §6.3), and equal lengths are one; anything else is not understood.
pub fn settle_answer(headers: &mut HeaderMap) -> Result<(), &'static str> {
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next() {
        let is_plain = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if encodings.next().is_some() || !is_plain {
            return Err("its Transfer-Encoding is not a single `chunked`");
        }
        headers.remove(header::CONTENT_LENGTH);
        return Ok(());
    }
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for said in value.as_bytes().split(|byte| *byte == b',') {
            let said = decimal(said.trim_ascii()).filter(|said| length.unwrap_or(*said) == *said);
            length = Some(said.ok_or("its Content-Length is not one decimal number")?);
        }
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_one_length() {
        for (fields, expected) in [
            (&[][..], Ok(None)),
            (&[("content-length", "5")], Ok(Some("5"))),
            (
                &[("content-length", "5"), ("content-length", "05")],
                Ok(Some("5")),
            ),
            (&[("content-length", "5, 5")], Ok(Some("5"))),
            (&[("content-length", "5, 6")], Err(())),
            (&[("content-length", "5"), ("content-length", "6")], Err(())),
            (&[("content-length", "+5")], Err(())),
            (&[("content-length", "")], Err(())),
            (
                &[("transfer-encoding", "chunked"), ("content-length", "5")],
                Ok(None),
            ),
            (&[("transfer-encoding", "Chunked")], Ok(None)),
            (&[("transfer-encoding", "gzip, chunked")], Err(())),
            (&[("transfer-encoding", "identity")], Err(())),
            (
                &[
                    ("transfer-encoding", "gzip"),
                    ("transfer-encoding", "chunked"),
                ],
                Err(()),
            ),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let settled = settle_answer(&mut headers).map_err(|_| ());
            let length = settled.map(|()| {
                let mut lengths = headers.get_all("content-length").iter();
                let length = lengths.next().and_then(|value| value.to_str().ok());
                assert!(lengths.next().is_none());
                length
            });
            assert_eq!(length, expected, "{fields:?}");
        }
    }
}
