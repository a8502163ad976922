//! Fields after a body: those that say something of the message pass, those that could be taken for
//! fields of its head do not.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Whether a request's sender takes trailers.
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    super::lists_token(headers, &header::TE, "trailers")
}

/// Leaves the names that may follow in `Trailer`: none where trailers do not pass.
pub fn declare_trailers(headers: &mut HeaderMap, pass: bool) {
    if !headers.contains_key(header::TRAILER) {
        return;
    }
    let names: Vec<HeaderName> = headers
        .get_all(header::TRAILER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(is_safe)
        .collect();
    headers.remove(header::TRAILER);
    if !pass || names.is_empty() {
        return;
    }
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
        headers.insert(header::TRAILER, names);
    }
}

/// The trailers that pass; `None` where none does.
pub fn safe_trailers(trailers: HeaderMap) -> Option<HeaderMap> {
    let mut safe = HeaderMap::with_capacity(trailers.len());
    let mut name = None;
    for (next, value) in trailers {
        name = next.or(name);
        if let Some(name) = name.as_ref().filter(|name| is_safe(name)) {
            safe.append(name.clone(), value);
        }
    }
    (!safe.is_empty()).then_some(safe)
}

/// Framing, routing, who the client is and what it may do, how content is to be read and kept: all
/// that belongs into the head (RFC 9110 §6.5.1), and names that CGI makes one with those.
fn is_safe(name: &HeaderName) -> bool {
    const NOT: [&str; 35] = [
        "accept-ranges",
        "age",
        "authorization",
        "cache-control",
        "connection",
        "content-disposition",
        "content-encoding",
        "content-length",
        "content-location",
        "content-range",
        "content-security-policy",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "forwarded",
        "host",
        "keep-alive",
        "location",
        "max-forwards",
        "pragma",
        "proxy",
        "range",
        "retry-after",
        "set-cookie",
        "strict-transport-security",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "www-authenticate",
        "x-real-ip",
        "x-request-id",
    ];
    let name = name.as_str();
    !name.contains('_')
        && !NOT.contains(&name)
        && !["access-control-", "if-", "proxy-", "sec-", "x-forwarded-"]
            .iter()
            .any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn only_what_says_something_of_the_message_passes() {
        let trailers = map(&[
            ("grpc-status", "0"),
            ("server-timing", "db;dur=1"),
            ("content-length", "9"),
            ("host", "evil"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("set-cookie", "a=b"),
        ]);
        let safe = safe_trailers(trailers).expect("two");
        let names: Vec<&str> = safe.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["grpc-status", "server-timing"]);
        assert_eq!(safe_trailers(map(&[("te", "x")])), None);
    }

    #[test]
    fn names_are_declared_where_trailers_pass() {
        for (pass, said, expected) in [
            (true, "X-T, Content-Length, x-u", Some("x-t, x-u")),
            (true, "Host", None),
            (false, "X-T", None),
        ] {
            let mut headers = map(&[("trailer", said)]);
            declare_trailers(&mut headers, pass);
            let declared = headers.get("trailer").and_then(|value| value.to_str().ok());
            assert_eq!(declared, expected, "{said}");
        }
    }
}
