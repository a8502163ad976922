//! Request targets that clients send and other servers pass on, though they are no URI (RFC 3986): the
//! few bytes that our parser refuses are written as `%XX`, which every reader decodes to the same.

use std::fmt::Write as _;

/// The target with what the parser refuses percent-encoded; `None` where there is nothing to encode.
pub fn encoded(target: &[u8]) -> Option<String> {
    let start = path_start(target)?;
    let path_and_query = &target[start..];
    let end = path_and_query
        .iter()
        .position(|byte| *byte == b'#')
        .unwrap_or(path_and_query.len());
    let is_text = std::str::from_utf8(target).is_ok();
    let odd = |byte: u8, in_query: bool| match byte {
        b'<' | b'>' => true,
        b'"' => in_query,
        b'`' => !in_query,
        _ => !is_text && !byte.is_ascii(),
    };
    let query = path_and_query.iter().position(|byte| *byte == b'?');
    let in_query = |at: usize| query.is_some_and(|query| at > query);
    let part = &path_and_query[..end];
    if !part
        .iter()
        .enumerate()
        .any(|(at, byte)| odd(*byte, in_query(at)))
    {
        return None;
    }
    let mut out = String::with_capacity(target.len() + 32);
    out.push_str(std::str::from_utf8(&target[..start]).ok()?);
    if is_text {
        // Its characters are passed on whole.
        let part = std::str::from_utf8(part).ok()?;
        for (at, character) in part.char_indices() {
            match u8::try_from(character) {
                Ok(byte) if odd(byte, in_query(at)) => push_encoded(&mut out, byte),
                _ => out.push(character),
            }
        }
    } else {
        for (at, byte) in part.iter().enumerate() {
            if odd(*byte, in_query(at)) {
                push_encoded(&mut out, *byte);
            } else {
                out.push(char::from(*byte));
            }
        }
    }
    Some(out)
}

/// Where the path of `/path` or `scheme://host/path` begins.
fn path_start(target: &[u8]) -> Option<usize> {
    if target.first() == Some(&b'/') {
        return Some(0);
    }
    let after_scheme = target.windows(3).position(|three| three == b"://")? + 3;
    let rest = &target[after_scheme..];
    let path = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'))?;
    Some(after_scheme + path)
}

fn push_encoded(out: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    write!(out, "%{byte:02X}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_parser_refuses_is_encoded_and_nothing_else() {
        for (target, expected) in [
            (&b"/plain?a=b&c=%22"[..], None),
            (b"/{\"a\"}|^\\", None),
            (b"/q?f={\"a\":\"b\"}", Some("/q?f={%22a%22:%22b%22}")),
            (b"/a<b>`c?d<e>`\"", Some("/a%3Cb%3E%60c?d%3Ce%3E`%22")),
            ("/é<?é>".as_bytes(), Some("/é%3C?é%3E")),
            ("/é?é".as_bytes(), None),
            (b"/\xe9?\xff", Some("/%E9?%FF")),
            (b"/a#<", None),
            (b"http://a.test/<?\"", Some("http://a.test/%3C?%22")),
            (b"http://a.test?\"", Some("http://a.test?%22")),
            (b"http://a<b/", None),
            (b"*", None),
            (b"a.test:443", None),
            (b"", None),
        ] {
            assert_eq!(encoded(target).as_deref(), expected, "{target:?}");
            if let Some(expected) = expected {
                expected.parse::<http::Uri>().expect("a target");
            }
        }
    }
}
