//! One request head: whether it is sound, where it ends, and which body follows.

use httparse::{EMPTY_HEADER, Error, Request, Status};

use super::FirstLine;
use crate::headers::{self, BadRequest, Body};
use crate::limits;
use crate::page::Cause;
use crate::target;

/// What is logged of a part of a request that was not understood.
const SHOWN: usize = 256;

/// What bytes at the beginning of a request are.
#[derive(Debug)]
pub enum Head {
    /// Not all of it is here.
    Partial,
    /// It is sound.
    Whole(Whole),
    /// It is not.
    Refused(Cause),
}

/// A sound head.
#[derive(Debug)]
pub struct Whole {
    /// Its bytes.
    pub length: usize,
    /// What follows.
    pub body: Body,
    /// It asks for another protocol.
    pub asks_for_upgrade: bool,
    /// The form in which the parser takes it, where that is another one.
    pub rewritten: Option<Vec<u8>>,
}

/// Whether an empty line may be among the bytes from `seen` on: cheaper than parsing again for each
/// piece of a slow head.
pub fn may_end(bytes: &[u8], seen: usize) -> bool {
    let from = seen.saturating_sub(3).min(bytes.len());
    let fresh = &bytes[from..];
    fresh.windows(2).any(|two| two == b"\n\n") || fresh.windows(3).any(|three| three == b"\n\r\n")
}

/// Reads a head from its first byte.
pub fn read(bytes: &[u8]) -> Head {
    match parse(bytes) {
        Head::Refused(cause) => read_encoded(bytes).unwrap_or(Head::Refused(cause)),
        sound => sound,
    }
}

/// Reads a head that was refused, in a form in which its target is text, where it was none.
fn read_encoded(bytes: &[u8]) -> Option<Head> {
    let start = bytes.iter().position(|byte| *byte == b' ')? + 1;
    let length = bytes[start..]
        .iter()
        .position(|byte| matches!(byte, b' ' | b'\r' | b'\n'))?;
    let target = &bytes[start..start + length];
    if std::str::from_utf8(target).is_ok() {
        return None;
    }
    let encoded = target::encoded(target)?;
    let more = encoded.len() - target.len();
    let end = start + length;
    let mut whole = [&bytes[..start], encoded.as_bytes(), &bytes[end..]].concat();
    let mut head = parse(&whole);
    if let Head::Whole(sound) = &mut head {
        whole.truncate(sound.length);
        sound.length -= more;
        sound.rewritten = Some(whole);
    }
    Some(head)
}

fn parse(bytes: &[u8]) -> Head {
    let mut fields = [EMPTY_HEADER; limits::HEADER_FIELDS];
    let mut request = Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(Status::Complete(length)) if length > limits::HEAD_BYTES => too_long(bytes),
        Ok(Status::Complete(length)) => match check(&request, &bytes[..length]) {
            Ok(whole) => Head::Whole(whole),
            Err(cause) => Head::Refused(cause),
        },
        Ok(Status::Partial) if bytes.len() > limits::HEAD_BYTES => too_long(bytes),
        Ok(Status::Partial) => Head::Partial,
        Err(error) => Head::Refused(refused_by_parser(error, &request)),
    }
}

fn too_long(bytes: &[u8]) -> Head {
    let first_line_ends = bytes
        .iter()
        .take(limits::HEAD_BYTES)
        .any(|byte| *byte == b'\n');
    Head::Refused(if first_line_ends {
        Cause::HeadTooLong
    } else {
        Cause::TargetTooLong
    })
}

fn refused_by_parser(error: Error, request: &Request<'_, '_>) -> Cause {
    match error {
        Error::TooManyHeaders => Cause::TooManyFields,
        Error::HeaderName => Cause::BadRequest("a header name is not one"),
        Error::HeaderValue => Cause::BadRequest("a header value is not one"),
        Error::NewLine => Cause::BadRequest("a line does not end as it has to"),
        Error::Version => Cause::BadRequest("the protocol is not HTTP/1"),
        Error::Token | Error::Status if request.method.is_none() => {
            Cause::BadRequest("the method is not one")
        }
        Error::Token | Error::Status => Cause::BadRequest("the target is not a path"),
    }
}

fn check(request: &Request<'_, '_>, bytes: &[u8]) -> Result<Whole, Cause> {
    let (method, path) = (
        request.method.unwrap_or_default(),
        request.path.unwrap_or_default(),
    );
    if method == "CONNECT" {
        return Err(Cause::Method);
    }
    http::Method::from_bytes(method.as_bytes())
        .map_err(|_| Cause::BadRequest("the method is not one"))?;
    let is_http11 = request.version == Some(1);
    let values = |name: &'static str| {
        request
            .headers
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    };
    let body = headers::framing(
        values("transfer-encoding"),
        values("content-length"),
        is_http11,
    )
    .map_err(|bad| match bad {
        BadRequest::Framing(what) | BadRequest::Host(what) => Cause::BadRequest(what),
        BadRequest::TooManyFields => Cause::TooManyFields,
        BadRequest::Method => Cause::Method,
    })?;
    let encoded = target::encoded(path.as_bytes());
    let wanted = encoded.as_deref().unwrap_or(path);
    // What the parser calls too long, it answers by itself.
    if wanted.len() >= limits::TARGET_BYTES {
        return Err(Cause::TargetTooLong);
    }
    http::Uri::try_from(wanted).map_err(|_| Cause::BadRequest("the target is not a path"))?;
    let rewritten = encoded
        .as_deref()
        .map(|wanted| rewrite(bytes, path, wanted));
    if rewritten
        .as_ref()
        .is_some_and(|head| head.len() > limits::HEAD_BYTES)
    {
        return Err(Cause::TargetTooLong);
    }
    Ok(Whole {
        length: bytes.len(),
        body,
        asks_for_upgrade: is_http11 && values("upgrade").next().is_some(),
        rewritten,
    })
}

/// The head with another target.
fn rewrite(head: &[u8], target: &str, wanted: &str) -> Vec<u8> {
    let start = target.as_ptr().addr() - head.as_ptr().addr();
    let end = start + target.len();
    [&head[..start], wanted.as_bytes(), &head[end..]].concat()
}

/// What a head that is refused says of itself.
pub fn first_line(head: &[u8]) -> FirstLine {
    let shown = |bytes: &[u8]| {
        let bytes = &bytes[..bytes.len().min(SHOWN)];
        String::from_utf8_lossy(bytes).trim().to_owned()
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(|byte| *byte == b' ');
    let method = shown(words.next().unwrap_or_default());
    // The query may carry secrets.
    let target = words.next().unwrap_or_default();
    let path = shown(
        target
            .split(|byte| *byte == b'?')
            .next()
            .unwrap_or_default(),
    );
    let mut line = FirstLine {
        method,
        path,
        ..FirstLine::default()
    };
    for field in lines.take(limits::HEADER_FIELDS) {
        let mut parts = field.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        let Some(value) = value else { continue };
        if name.eq_ignore_ascii_case(b"host") && line.host.is_empty() {
            line.host = shown(value).to_ascii_lowercase();
        } else if name.eq_ignore_ascii_case(b"user-agent") {
            line.user_agent = shown(value);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(head: &str) -> Option<Cause> {
        match read(head.as_bytes()) {
            Head::Refused(cause) => Some(cause),
            Head::Whole(_) => None,
            Head::Partial => panic!("{head}: partial"),
        }
    }

    #[test]
    fn what_two_readers_may_read_in_two_ways_is_refused() {
        for (fields, sound) in [
            ("Content-Length: 5", true),
            ("Transfer-Encoding: chunked", true),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5", false),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", false),
            ("Content-Length: 5\r\nContent-Length: 5", false),
            ("Content-Length: 5\r\nContent-Length: 6", false),
            ("content-length: 5\r\nCONTENT-LENGTH: 5", false),
            ("Content-Length: 5, 5", false),
            ("Content-Length: +5", false),
            ("Content-Length: ", false),
            ("Content-Length: 99999999999999999999", false),
            ("Transfer-Encoding: gzip, chunked", false),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                false,
            ),
            ("X : y", false),
            (" X: y", false),
            ("X: a\0b", false),
        ] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
            assert_eq!(cause(&head).is_none(), sound, "{fields}");
        }
        assert!(cause("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_some());
        assert_eq!(cause("CONNECT a:1 HTTP/1.1\r\n\r\n"), Some(Cause::Method));
        assert!(
            cause("GET first HTTP/1.1\r\n\r\n").is_none(),
            "the route decides"
        );
        assert!(cause("GET http://[x/ HTTP/1.1\r\n\r\n").is_some());
        assert!(cause("\x16\x03\x01\x02\r\n\r\n").is_some());
    }

    #[test]
    fn what_is_refused_is_named() {
        let line = first_line(
            b"GET /a?token=x HTTP/1.1\r\nX : y\r\nHost: A.test\r\nUser-Agent: u\r\n\r\n",
        );
        assert_eq!((line.method.as_str(), line.path.as_str()), ("GET", "/a"));
        assert_eq!(
            (line.host.as_str(), line.user_agent.as_str()),
            ("a.test", "u")
        );
        let long = first_line(&vec![b'x'; 10_000]);
        assert_eq!(long.method.len(), SHOWN);
    }
}
