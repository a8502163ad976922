//! Header hygiene in both directions: what does not travel, what we say about the client.

mod framing;
mod trailers;

pub use framing::{Body, framing, settle_answer};
pub use trailers::{declare_trailers, safe_trailers, takes_trailers};

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version, request};

use crate::route;
use crate::trust::TrustedProxies;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// Names a request through all logs.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// CGI turns it into HTTP_PROXY.
const PROXY: HeaderName = HeaderName::from_static("proxy");

/// Of one connection only (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
];

/// Why a request is refused before it is routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// Framing that two readers may read in two ways.
    Framing(&'static str),
    /// Host header.
    Host(&'static str),
    /// More fields than [`crate::limits::HEADER_FIELDS`].
    TooManyFields,
    /// CONNECT, TRACE.
    Method,
}

/// What arrived, as far as the rewriting needs it.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    /// The connection's other end.
    pub peer: IpAddr,
    /// Arrived by TLS.
    pub https: bool,
    /// Port the client spoke to.
    pub port: u16,
    /// Authority as the client wrote it.
    pub authority: &'a str,
}

/// The authority that the request is for, after the checks that hyper leaves to its user.
pub fn check(head: &request::Parts) -> Result<String, BadRequest> {
    if head.headers.len() > crate::limits::HEADER_FIELDS {
        return Err(BadRequest::TooManyFields);
    }
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(BadRequest::Method);
    }
    check_framing(&head.headers, head.version)?;
    authority(head)
}

fn check_framing(headers: &HeaderMap, version: Version) -> Result<(), BadRequest> {
    let values = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    framing(
        values(header::TRANSFER_ENCODING),
        values(header::CONTENT_LENGTH),
        version == Version::HTTP_11,
    )
    .map(drop)
}

/// HTTP/2 names it in `:authority`, an absolute target in itself, others in Host; where there are
/// two they have to agree.
fn authority(head: &request::Parts) -> Result<String, BadRequest> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(BadRequest::Host("more than one Host header"));
    }
    let host = host
        .map(|host| {
            host.to_str()
                .map_err(|_| BadRequest::Host("Host is not a host name"))
        })
        .transpose()?;
    let Some(target) = head.uri.authority() else {
        return host
            .map(ToOwned::to_owned)
            .ok_or(BadRequest::Host("no Host header"));
    };
    let target = target.as_str();
    let default_port = head.uri.scheme().map(|scheme| match scheme.as_str() {
        "https" => 443,
        _ => 80,
    });
    match host {
        Some(host) if !same_authority(target, host, default_port) => {
            Err(BadRequest::Host("Host differs from the request's target"))
        }
        _ => Ok(target.to_owned()),
    }
}

/// Whether two authorities mean the same place, one of them perhaps without the scheme's port.
fn same_authority(one: &str, other: &str, default_port: Option<u16>) -> bool {
    let parts = |authority: &str| {
        let host = route::canonical_host(authority)?;
        Some((host, route::authority_port(authority).or(default_port)))
    };
    one.eq_ignore_ascii_case(other)
        || parts(one).is_some_and(|one| parts(other).is_some_and(|other| one == other))
}

/// Whether the client asks for a WebSocket, in the one form that is let through.
pub fn is_websocket(head: &request::Parts) -> Result<bool, BadRequest> {
    let asks = head.version == Version::HTTP_11
        && lists_token(&head.headers, &header::CONNECTION, "upgrade")
        && single(&head.headers, &header::UPGRADE)
            .is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !asks {
        return Ok(false);
    }
    let has_body = head.headers.contains_key(header::TRANSFER_ENCODING)
        || head
            .headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    if head.method != Method::GET || has_body {
        return Err(BadRequest::Framing(
            "a WebSocket begins with a GET without a body",
        ));
    }
    Ok(true)
}

/// Whether the replica agreed to a WebSocket.
pub fn agrees_to_websocket(headers: &HeaderMap) -> bool {
    lists_token(headers, &header::CONNECTION, "upgrade")
        && single(headers, &header::UPGRADE)
            .is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

fn lists_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

/// Removes what belongs to one connection, the names listed in Connection included.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Framing and routing are ours to set; nobody may take them away.
        .filter(|name: &HeaderName| name != header::CONTENT_LENGTH && name != header::HOST)
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Turns a request's headers into those that the replica gets.
pub fn to_replica(
    headers: &mut HeaderMap,
    origin: &Origin<'_>,
    trusted: &TrustedProxies,
    websocket: bool,
    request_id: &HeaderValue,
) {
    let trailers = takes_trailers(headers);
    strip_hop_by_hop(headers);
    declare_trailers(headers, true);
    drop_ambiguous_names(headers);
    headers.remove(PROXY);
    // The body is read, and the client told to go on, as soon as the replica's connection takes it.
    headers.remove(header::EXPECT);
    join_cookies(headers);
    set_forwarding(headers, origin, trusted);
    set(headers, header::HOST, origin.authority);
    headers.insert(X_REQUEST_ID, request_id.clone());
    if websocket {
        set_websocket(headers);
    } else if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
}

/// The two headers of a WebSocket handshake that are stripped as hop-by-hop.
pub fn set_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Takes away what HTTP/2 does not know: it names the host in `:authority` and frames bodies itself.
pub fn to_http2(headers: &mut HeaderMap) {
    for name in [
        header::HOST,
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Tells the replica which prefix was removed from the path, if one was.
pub fn set_prefix(headers: &mut HeaderMap, prefix: &str) {
    if !prefix.is_empty() {
        set(headers, X_FORWARDED_PREFIX, prefix);
    }
}

/// CGI and WSGI make `X-Forwarded-For` and `X_Forwarded_For` one variable.
fn drop_ambiguous_names(headers: &mut HeaderMap) {
    let ambiguous: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().contains('_'))
        .cloned()
        .collect();
    for name in ambiguous {
        headers.remove(name);
    }
}

/// HTTP/2 splits cookies into crumbs (RFC 9113 §8.2.3); HTTP/1 servers expect one field.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let mut joined = Vec::new();
    for crumb in headers.get_all(header::COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        Ok(joined) => headers.insert(header::COOKIE, joined),
        Err(_) => headers.remove(header::COOKIE),
    };
}

fn set_forwarding(headers: &mut HeaderMap, origin: &Origin<'_>, trusted: &TrustedProxies) {
    let believed = trusted.contains(origin.peer);
    let chain = if believed {
        forwarded_for(headers)
    } else {
        String::new()
    };
    if !believed {
        drop_claims(headers);
    }
    let peer = origin.peer.to_canonical().to_string();
    let hops: Vec<&str> = chain
        .split(',')
        .map(str::trim)
        .filter(|hop| !hop.is_empty())
        .collect();
    let client = trusted.client(origin.peer, &hops).to_string();
    let chain = if chain.is_empty() {
        peer
    } else {
        format!("{chain}, {peer}")
    };
    let proto = if origin.https { "https" } else { "http" };
    set(headers, X_FORWARDED_FOR, &chain);
    set(headers, X_REAL_IP, &client);
    set_unless(headers, X_FORWARDED_PROTO, proto, believed);
    set_unless(headers, X_FORWARDED_HOST, origin.authority, believed);
    set_unless(
        headers,
        X_FORWARDED_PORT,
        &origin.port.to_string(),
        believed,
    );
    if !believed {
        let node = match origin.peer.to_canonical() {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("\"[{v6}]\""),
        };
        let forwarded = format!("for={node};host=\"{}\";proto={proto}", origin.authority);
        set(headers, header::FORWARDED, &forwarded);
    }
}

/// X-Forwarded-For as one list.
fn forwarded_for(headers: &HeaderMap) -> String {
    let values = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(", ")
}

/// The client's address, for the log.
pub fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &TrustedProxies) -> IpAddr {
    let hops: Vec<&str> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    trusted.client(peer, &hops)
}

/// Whether a trusted proxy says that its client came by TLS.
pub fn claims_https(headers: &HeaderMap) -> bool {
    headers
        .get(X_FORWARDED_PROTO)
        .is_some_and(|proto| proto.as_bytes() == b"https")
}

fn drop_claims(headers: &mut HeaderMap) {
    let claims: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-forwarded-"))
        .cloned()
        .chain([header::FORWARDED, X_REAL_IP])
        .collect();
    for name in claims {
        headers.remove(name);
    }
}

fn set_unless(headers: &mut HeaderMap, name: HeaderName, value: &str, keep: bool) {
    if !(keep && headers.contains_key(&name)) {
        set(headers, name, value);
    }
}

/// A value that is no header value leaves no header rather than an old one.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => headers.insert(name, value),
        Err(_) => headers.remove(name),
    };
}

/// Turns a replica's headers into those that the client gets, which may take trailers.
pub fn to_client(headers: &mut HeaderMap, hsts: bool, trailers: bool, request_id: &HeaderValue) {
    strip_hop_by_hop(headers);
    declare_trailers(headers, trailers);
    if hsts && !headers.contains_key(header::STRICT_TRANSPORT_SECURITY) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    headers.insert(X_REQUEST_ID, request_id.clone());
}

/// A year, this host only.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Whether a browser should remember that this host is HTTPS only: not for names that are never
/// public, since there a new local CA would lock their users out.
pub fn wants_hsts(host: &str) -> bool {
    const PRIVATE: [&str; 7] = [
        "localhost",
        "local",
        "test",
        "internal",
        "example",
        "invalid",
        "lan",
    ];
    let last = host.rsplit('.').next().unwrap_or(host);
    let is_address = host.starts_with('[') || last.bytes().all(|byte| byte.is_ascii_digit());
    !is_address && !PRIVATE.contains(&last) && !host.ends_with(".home.arpa") && host.contains('.')
}

/// A request id from a trusted proxy, if it is fit for logs.
pub fn usable_request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = single(headers, &X_REQUEST_ID)?;
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    ((8..=128).contains(&id.len()) && id.as_bytes().iter().all(legal)).then(|| id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                name.parse::<HeaderName>().expect("a name"),
                value.parse().expect("a value"),
            );
        }
        headers
    }

    fn head(method: &str, uri: &str, version: Version, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = http::Request::new(());
        *request.method_mut() = method.parse().expect("a method");
        *request.uri_mut() = uri.parse().expect("a target");
        *request.version_mut() = version;
        *request.headers_mut() = map(fields);
        request.into_parts().0
    }

    fn rewritten(peer: &str, fields: &[(&str, &str)]) -> HeaderMap {
        let trusted = TrustedProxies::parse(&["10.0.0.0/8".to_owned()], &mut Vec::new());
        let mut headers = map(fields);
        let origin = Origin {
            peer: peer.parse().expect("an address"),
            https: true,
            port: 443,
            authority: "a.test",
        };
        let id = HeaderValue::from_static("id");
        to_replica(&mut headers, &origin, &trusted, false, &id);
        headers
    }

    fn shown(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        lines.sort();
        lines
    }

    const OURS: [&str; 8] = [
        "forwarded: for=1.1.1.1;host=\"a.test\";proto=https",
        "host: a.test",
        "x-forwarded-for: 1.1.1.1",
        "x-forwarded-host: a.test",
        "x-forwarded-port: 443",
        "x-forwarded-proto: https",
        "x-real-ip: 1.1.1.1",
        "x-request-id: id",
    ];

    #[test]
    fn a_strangers_claims_are_replaced() {
        let headers = rewritten(
            "1.1.1.1",
            &[
                ("host", "evil"),
                ("x-forwarded-for", "9.9.9.9"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-server", "x"),
                ("x_forwarded_for", "9.9.9.9"),
                ("x-real-ip", "9.9.9.9"),
                ("forwarded", "for=9.9.9.9"),
                ("proxy", "http://evil"),
                ("x-request-id", "theirs"),
                (
                    "connection",
                    "x-forwarded-for, x-secret, host, content-length",
                ),
                ("x-secret", "1"),
                ("te", "trailers"),
                ("keep-alive", "5"),
                ("upgrade", "h2c"),
                ("transfer-encoding", "chunked"),
                ("expect", "100-continue"),
            ],
        );
        let mut expected: Vec<&str> = OURS.into();
        expected.extend(["connection: te", "te: trailers"]);
        expected.sort_unstable();
        assert_eq!(shown(&headers), expected);
    }

    #[test]
    fn a_trusted_proxys_claims_are_kept_and_extended() {
        let headers = rewritten(
            "10.0.0.9",
            &[
                ("x-forwarded-for", "9.9.9.9"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "outer.test"),
                ("forwarded", "for=9.9.9.9"),
            ],
        );
        assert_eq!(
            shown(&headers),
            [
                "forwarded: for=9.9.9.9",
                "host: a.test",
                "x-forwarded-for: 9.9.9.9, 10.0.0.9",
                "x-forwarded-host: outer.test",
                "x-forwarded-port: 443",
                "x-forwarded-proto: http",
                "x-real-ip: 9.9.9.9",
                "x-request-id: id",
            ]
        );
    }

    #[test]
    fn cookie_crumbs_are_joined() {
        let headers = rewritten("1.1.1.1", &[("cookie", "a=1"), ("cookie", "b=2")]);
        assert_eq!(headers.get_all("cookie").iter().count(), 1);
        assert_eq!(headers["cookie"], "a=1; b=2");
    }

    #[test]
    fn framing_must_be_unambiguous() {
        for (version, fields, legal) in [
            (
                Version::HTTP_11,
                vec![("transfer-encoding", "chunked")],
                true,
            ),
            (Version::HTTP_11, vec![("content-length", "12")], true),
            (
                Version::HTTP_11,
                vec![("transfer-encoding", "gzip, chunked")],
                false,
            ),
            (
                Version::HTTP_11,
                vec![("transfer-encoding", "chunked, chunked")],
                false,
            ),
            (
                Version::HTTP_11,
                vec![
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                false,
            ),
            (
                Version::HTTP_11,
                vec![("transfer-encoding", "chunked"), ("content-length", "1")],
                false,
            ),
            (
                Version::HTTP_10,
                vec![("transfer-encoding", "chunked")],
                false,
            ),
            (
                Version::HTTP_2,
                vec![("transfer-encoding", "chunked")],
                false,
            ),
            (Version::HTTP_11, vec![("content-length", "+1")], false),
            (Version::HTTP_11, vec![("content-length", "1,1")], false),
            (Version::HTTP_11, vec![("content-length", "")], false),
            (
                Version::HTTP_11,
                vec![("content-length", "1"), ("content-length", "1")],
                false,
            ),
        ] {
            let mut all = vec![("host", "a")];
            all.extend(&fields);
            let result = check(&head("POST", "/", version, &all));
            assert_eq!(result.is_ok(), legal, "{version:?} {fields:?}: {result:?}");
        }
    }

    #[test]
    fn there_is_one_authority() {
        for (uri, fields, expected) in [
            ("/", vec![("host", "a.test:8443")], Some("a.test:8443")),
            ("http://a.test/x", vec![], Some("a.test")),
            ("http://a.test/x", vec![("host", "A.test")], Some("a.test")),
            ("http://a.test/x", vec![("host", "b.test")], None),
            (
                "http://a.test:80/x",
                vec![("host", "a.test")],
                Some("a.test:80"),
            ),
            (
                "http://a.test/x",
                vec![("host", "a.test:80")],
                Some("a.test"),
            ),
            ("http://a.test/x", vec![("host", "a.test:81")], None),
            (
                "https://a.test/x",
                vec![("host", "a.test.:443")],
                Some("a.test"),
            ),
            ("/", vec![("host", "a"), ("host", "a")], None),
            ("/", vec![], None),
        ] {
            let result = check(&head("GET", uri, Version::HTTP_11, &fields));
            assert_eq!(result.as_deref().ok(), expected, "{uri} {fields:?}");
        }
    }

    #[test]
    fn only_a_clean_websocket_handshake_is_one() {
        let upgrade = ("upgrade", "WebSocket");
        let connection = ("connection", "keep-alive, Upgrade");
        for (method, fields, expected) in [
            ("GET", vec![upgrade, connection], Ok(true)),
            ("GET", vec![upgrade], Ok(false)),
            ("GET", vec![("upgrade", "h2c"), connection], Ok(false)),
            ("GET", vec![upgrade, upgrade, connection], Ok(false)),
            ("POST", vec![upgrade, connection], Err(())),
            (
                "GET",
                vec![upgrade, connection, ("content-length", "3")],
                Err(()),
            ),
            (
                "GET",
                vec![upgrade, connection, ("transfer-encoding", "chunked")],
                Err(()),
            ),
        ] {
            let result = is_websocket(&head(method, "/", Version::HTTP_11, &fields));
            assert_eq!(result.map_err(|_| ()), expected, "{method} {fields:?}");
        }
        let old = head("GET", "/", Version::HTTP_10, &[upgrade, connection]);
        assert_eq!(is_websocket(&old), Ok(false));
    }

    #[test]
    fn hsts_is_for_public_names() {
        for (host, expected) in [
            ("app.example.org", true),
            ("example.org", true),
            ("localhost", false),
            ("app.localhost", false),
            ("app.test", false),
            ("127.0.0.1", false),
            ("[::1]", false),
            ("nas.home.arpa", false),
            ("intranet", false),
        ] {
            assert_eq!(wants_hsts(host), expected, "{host}");
        }
    }

    #[test]
    fn request_ids_must_be_fit_for_logs() {
        for (id, usable) in [
            ("0123456789abcdef", true),
            ("short", false),
            ("a b c d e f g", false),
        ] {
            assert_eq!(
                usable_request_id(&map(&[("x-request-id", id)])).is_some(),
                usable,
                "{id}"
            );
        }
    }
}
