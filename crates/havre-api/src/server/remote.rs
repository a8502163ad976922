//! The same calls for those who come from elsewhere, through the edge.
//!
//! Who asks is told by a bearer token alone: there are no cookies, so that a page in a browser can make no call
//! of its user's. The edge says where somebody comes from, and is the only one who can reach this router.

use std::net::IpAddr;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use tower_service::Service as _;

use super::refusal;
use crate::*;

/// Set by the edge, whatever a client says.
const ADDRESS: &str = "x-real-ip";
/// Longest token that is looked at.
const MAX_BEARER_BYTES: usize = 4096;

/// Answers what is asked of `host` and of no other.
pub(super) fn router(calls: Router, host: String) -> Router {
    let answer = async move |request: Request<Body>| {
        let mut response = match admitted(request, &host) {
            Ok(request) => match calls.clone().call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            Err(refused) => refused,
        };
        let status = response.status();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"havre\"");
            let told = headers.entry(header::WWW_AUTHENTICATE);
            told.or_insert(scheme);
        }
        response
    };
    Router::new().fallback(answer)
}

/// Answers whoever reaches it, with a token, as one who comes from `address`.
pub(super) fn boxed(calls: Router, address: IpAddr) -> Router {
    let answer = async move |mut request: Request<Body>| {
        let bearer = bearer(request.headers());
        request
            .extensions_mut()
            .insert(RemotePeer { address, bearer });
        match calls.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    Router::new().fallback(answer)
}

/// The request with who asks, as far as its head tells.
fn admitted(mut request: Request<Body>, host: &str) -> Result<Request<Body>, Response> {
    let headers = request.headers();
    if !is_for(headers, host) {
        let error = ApiError::new(ErrorCode::Invalid, "this host is not the API's");
        let mut response = refusal(&error);
        *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
        return Err(response);
    }
    // Browsers say which page asks. None of ours does, and no other has any business here.
    if headers.contains_key(header::ORIGIN) {
        let error = ApiError::new(
            ErrorCode::Forbidden,
            "the API is not for pages in a browser",
        );
        return Err(refusal(&error));
    }
    let address = headers.get(ADDRESS).and_then(|value| value.to_str().ok());
    let address = address.and_then(|text| text.parse::<IpAddr>().ok());
    let Some(address) = address else {
        let message = "the edge does not say where a call comes from";
        return Err(refusal(&ApiError::new(ErrorCode::Internal, message)));
    };
    let bearer = match is_of_git(request.uri().path()) {
        true => password(headers).or_else(|| bearer(headers)),
        false => bearer(headers),
    };
    // It counts before all else that is known of the connection.
    let remote = RemotePeer { address, bearer };
    request.extensions_mut().insert(remote);
    Ok(request)
}

/// A name that leads here by somebody else's DNS is not ours (DNS rebinding).
fn is_for(headers: &HeaderMap, host: &str) -> bool {
    let mut values = headers.get_all(header::HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let Ok(value) = value.to_str() else {
        return false;
    };
    let name = match value.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => value,
    };
    name.eq_ignore_ascii_case(host)
}

/// Whether a path is a repository's: git knows users and passwords, and no bearers.
fn is_of_git(path: &str) -> bool {
    let mut parts = path.trim_start_matches('/').split('/');
    parts.next().is_some_and(|name| name.ends_with(".git"))
}

/// A token that is shown as a password, whoever's.
fn password(headers: &HeaderMap) -> Option<String> {
    let packed = shown(headers, "basic")?;
    let pair = BASE64.decode(packed.as_bytes()).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (_, password) = pair.split_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    shown(headers, "bearer")
}

/// What follows the scheme in the one `Authorization` field there may be.
fn shown(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() || value.len() > MAX_BEARER_BYTES {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case(wanted) && !token.is_empty()).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_the_api_s_own_host_is_answered() {
        let is_ours = |fields: &[_]| is_for(&headers(fields), "havre.example.org");
        assert!(is_ours(&[("host", "havre.example.org")]));
        assert!(is_ours(&[("host", "Havre.Example.org:8443")]));
        for host in [
            "evil.example.org",
            "havre.example.org.evil",
            "127.0.0.1",
            "",
            "x:havre.example.org",
        ] {
            let mut fields = HeaderMap::new();
            fields.insert("host", HeaderValue::from_static(host));
            assert!(!is_for(&fields, "havre.example.org"), "{host}");
        }
        assert!(!is_ours(&[]));
        assert!(!is_ours(&[
            ("host", "havre.example.org"),
            ("host", "havre.example.org")
        ]));
    }

    #[test]
    fn a_bearer_is_one_token_and_nothing_else() {
        let of = |fields: &[_]| bearer(&headers(fields));
        assert_eq!(
            of(&[("authorization", "Bearer abc")]).as_deref(),
            Some("abc")
        );
        assert_eq!(
            of(&[("authorization", "bearer  abc ")]).as_deref(),
            Some("abc")
        );
        assert_eq!(of(&[("authorization", "Basic abc")]), None);
        assert_eq!(of(&[("authorization", "Bearer ")]), None);
        assert_eq!(of(&[("cookie", "token=abc")]), None);
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
        assert_eq!(of(&twice), None);
    }

    #[test]
    fn git_shows_a_token_as_a_password() {
        let of = |fields: &[_]| password(&headers(fields));
        // anna:secret:more
        let shown = [("authorization", "Basic YW5uYTpzZWNyZXQ6bW9yZQ==")];
        assert_eq!(of(&shown).as_deref(), Some("secret:more"));
        for bad in ["Basic YW5uYQ==", "Basic YW5uYTo=", "Basic !", "Bearer abc"] {
            assert_eq!(of(&[("authorization", bad)]), None, "{bad}");
        }
        assert!(is_of_git("/shop.git/info/refs"));
        for other in ["/v1/up", "/v1/shop.git", "/", ""] {
            assert!(!is_of_git(other), "{other}");
        }
    }
}
