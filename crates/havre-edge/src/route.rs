//! From a request's target to a route: one canonical path for matching and for forwarding.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// `.` or `..` as a segment, once percent-decoded.
    Dots,
    /// A NUL or another control character, once percent-decoded.
    Control,
    /// Not of the form `/…`.
    Form,
}

/// The path with percent-encoded unreserved characters decoded (RFC 3986 §6.2.2.2), everything else
/// (`%2F` above all) as it came. A path whose meaning depends on who decodes it is refused.
pub fn canonical_path(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') {
        return Err(BadPath::Form);
    }
    let canonical = decode_unreserved(path)?;
    if has_dot_segment(&canonical) {
        return Err(BadPath::Dots);
    }
    Ok(canonical)
}

fn decode_unreserved(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let start = bytes.len() - rest.len() + at;
        match decode_byte(&bytes[start..]) {
            Some(byte) if byte.is_ascii_control() => return Err(BadPath::Control),
            Some(byte) if is_unreserved(byte) => {
                out.push(char::from(byte));
                rest = &path[start + 3..];
            }
            _ => {
                out.push('%');
                rest = &path[start + 1..];
            }
        }
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// The byte that `%XX` at the start of `bytes` stands for.
fn decode_byte(bytes: &[u8]) -> Option<u8> {
    let high = char::from(*bytes.get(1)?).to_digit(16)?;
    let low = char::from(*bytes.get(2)?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Separators are `/`, `\`, and both of them encoded, since some application will decode them.
/// Segments may carry parameters: `..;x` is `..` to servlet containers.
fn has_dot_segment(path: &str) -> bool {
    let decoded: Cow<'_, str> = if path.contains('%') {
        Cow::Owned(
            path.replace("%2F", "/")
                .replace("%2f", "/")
                .replace("%5C", "\\")
                .replace("%5c", "\\"),
        )
    } else {
        Cow::Borrowed(path)
    };
    decoded.split(['/', '\\']).any(|segment| {
        let name = segment.split([';']).next().unwrap_or(segment);
        name == "." || name == ".."
    })
}

/// Whether `path` lies under `prefix`, by whole segments. `prefix` has no slash at its end.
pub fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `path` without `prefix`; never empty.
pub fn without_prefix<'a>(path: &'a str, prefix: &str) -> &'a str {
    match path.strip_prefix(prefix) {
        Some(rest) if rest.starts_with('/') => rest,
        Some("") => "/",
        _ => path,
    }
}

/// A host as it is matched: lower case, no port, no dot at the end. None for what is not a host name
/// or an address.
pub fn canonical_host(authority: &str) -> Option<String> {
    let (host, port) = split_port(authority)?;
    if let Some(port) = port
        && !port.is_empty()
        && parse_port(port).is_none()
    {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let legal = !host.is_empty()
        && host.len() <= 255
        && if host.starts_with('[') {
            host.trim_matches(['[', ']'])
                .parse::<std::net::Ipv6Addr>()
                .is_ok()
        } else {
            host.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        };
    legal.then(|| host.to_ascii_lowercase())
}

/// The port named in an authority.
pub fn authority_port(authority: &str) -> Option<u16> {
    parse_port(split_port(authority)?.1?)
}

/// Digits only: `parse` takes a sign as well.
fn parse_port(port: &str) -> Option<u16> {
    port.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| port.parse().ok())?
}

fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if authority.starts_with('[') {
        let end = authority.find(']')? + 1;
        let (host, rest) = authority.split_at(end);
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
    }
}

/// Whether the pattern (`example.org`, or `*.example.org` for one label) covers `host`.
pub fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_canonical_path() {
        for (path, expected) in [
            ("/", Ok("/")),
            ("/a/b", Ok("/a/b")),
            ("/%61pi/%7Euser", Ok("/api/~user")),
            ("/a%2Fb", Ok("/a%2Fb")),
            ("/a%2fb%20c", Ok("/a%2fb%20c")),
            ("/100%", Ok("/100%")),
            ("/%zz/%4", Ok("/%zz/%4")),
            ("/%2561", Ok("/%2561")),
            ("/é", Ok("/é")),
            ("//a", Ok("//a")),
            ("/a..b/...", Ok("/a..b/...")),
            ("/..", Err(BadPath::Dots)),
            ("/a/../b", Err(BadPath::Dots)),
            ("/a/./b", Err(BadPath::Dots)),
            ("/a/%2e%2E/b", Err(BadPath::Dots)),
            ("/a/.%2e", Err(BadPath::Dots)),
            ("/a%2F..%2Fb", Err(BadPath::Dots)),
            ("/a%5C..%5cb", Err(BadPath::Dots)),
            ("/a\\..\\b", Err(BadPath::Dots)),
            ("/a/..;x=1/b", Err(BadPath::Dots)),
            ("/a%00", Err(BadPath::Control)),
            ("/a%0d%0aX: y", Err(BadPath::Control)),
            ("*", Err(BadPath::Form)),
            ("", Err(BadPath::Form)),
        ] {
            assert_eq!(
                canonical_path(path).as_deref(),
                expected.as_ref().copied(),
                "{path}"
            );
        }
    }

    #[test]
    fn prefixes_are_whole_segments() {
        for (path, prefix, expected) in [
            ("/api", "/api", true),
            ("/api/x", "/api", true),
            ("/apix", "/api", false),
            ("/ap", "/api", false),
            ("/anything", "", true),
            ("/api%2Fx", "/api", false),
        ] {
            assert_eq!(is_under(path, prefix), expected, "{path} {prefix}");
        }
        assert_eq!(without_prefix("/api/x", "/api"), "/x");
        assert_eq!(without_prefix("/api", "/api"), "/");
        assert_eq!(without_prefix("/x", ""), "/x");
    }

    #[test]
    fn hosts_are_compared_in_one_form() {
        for (authority, expected) in [
            ("Example.ORG:8443", Some("example.org")),
            ("example.org.", Some("example.org")),
            ("[::1]:443", Some("[::1]")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("a_b.test", Some("a_b.test")),
            ("", None),
            (":80", None),
            ("a b", None),
            ("user@host", None),
            ("host:port", None),
            ("host:", Some("host")),
            ("host:+22", None),
            ("host:-1", None),
            ("host: 22", None),
            ("host:22:", None),
            ("[::1]:+22", None),
            ("host:99999", None),
            ("[::1", None),
            ("[::1]x", None),
            ("a/b", None),
        ] {
            assert_eq!(
                canonical_host(authority).as_deref(),
                expected,
                "{authority}"
            );
        }
    }

    #[test]
    fn a_wildcard_is_one_label() {
        assert!(host_matches("*.example.org", "a.example.org"));
        assert!(!host_matches("*.example.org", "a.b.example.org"));
        assert!(!host_matches("*.example.org", "example.org"));
        assert!(!host_matches("*.example.org", ".example.org"));
        assert!(host_matches("Example.org", "example.org"));
    }
}
