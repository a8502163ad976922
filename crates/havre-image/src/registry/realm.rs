//! Whom a login may be shown to.
//!
//! A registry names the service that gives out its tokens. A login that was stored for the registry
//! goes there only where both belong to the same people, or any server could ask for it: the same
//! authority, or the same registrable domain by the Public Suffix List (`registry.example.com` and
//! `auth.example.com`, but not two names below `github.io`). Addresses and names of one label belong
//! to no domain. This is the rule by which the reference registry answered CVE-2026-33540.

use std::net::IpAddr;

use http::Uri;
use http::uri::Authority;

/// A scheme and an authority, as they are compared.
#[derive(PartialEq, Eq)]
struct Site {
    scheme: String,
    /// Lower case; an IPv6 address without brackets.
    host: String,
    port: u16,
}

impl Site {
    /// `None` where a user stands before the host: nobody needs it, and it misleads.
    fn new(scheme: &str, authority: &Authority) -> Option<Self> {
        if authority.as_str().contains('@') {
            return None;
        }
        let default = if scheme == "http" { 80 } else { 443 };
        Some(Self {
            scheme: scheme.to_owned(),
            host: plain_host(authority.host()),
            port: authority.port_u16().unwrap_or(default),
        })
    }
}

fn plain_host(host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// Whether `realm` may be sent the login of the registry at `authority`.
pub(super) fn may_see_login(scheme: &str, authority: &str, realm: &Uri) -> bool {
    let own = authority.parse::<Authority>().ok();
    let own = own.and_then(|authority| Site::new(scheme, &authority));
    let named = realm
        .authority()
        .and_then(|authority| Site::new(realm.scheme_str().unwrap_or_default(), authority));
    match (own, named) {
        (Some(own), Some(named)) if own == named => true,
        (Some(own), Some(named)) => {
            // Never from TLS to plain HTTP.
            let as_safe = named.scheme == "https" || named.scheme == own.scheme;
            let domain = registrable(&own.host);
            as_safe && domain.is_some() && domain == registrable(&named.host)
        }
        _ => false,
    }
}

/// The part of a name that somebody registered; `None` for addresses, single labels and public
/// suffixes themselves.
fn registrable(host: &str) -> Option<&str> {
    let name = host.parse::<IpAddr>().is_err() && !looks_like_address(host);
    let local = host == "localhost" || host.ends_with(".localhost");
    (name && !local).then(|| psl::domain_str(host)).flatten()
}

/// `10.1` and `0x7f.1` are addresses to some resolvers: no name ends in a number.
fn looks_like_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::may_see_login;

    #[test]
    fn a_login_goes_to_the_registry_and_its_own_domain() {
        for (registry, realm) in [
            ("registry-1.docker.io", "https://auth.docker.io/token"),
            ("registry.gitlab.com", "https://gitlab.com/jwt/auth"),
            ("ghcr.io", "https://ghcr.io/token"),
            ("r.example.co.uk", "https://auth.example.co.uk/token"),
            ("r.example.com:5000", "https://AUTH.Example.com./token"),
            ("r.example.com", "https://r.example.com:443/token"),
            ("127.0.0.1:5000", "https://127.0.0.1:5000/token"),
            ("localhost:5000", "https://localhost:5000/token"),
            ("[::1]:5000", "https://[::1]:5000/token"),
        ] {
            let uri = realm.parse().unwrap();
            assert!(may_see_login("https", registry, &uri), "{registry} {realm}");
        }
    }

    #[test]
    fn a_login_goes_to_nobody_else() {
        for (registry, realm) in [
            ("r.example.com", "https://evil.test/token"),
            ("r.example.com", "https://example.com.evil.test/token"),
            ("r.example.com", "https://evilexample.com/token"),
            ("r.example.com", "https://r.example.com@evil.test/token"),
            ("r.example.com", "https://user@r.example.com/token"),
            ("r.example.com", "http://r.example.com/token"),
            ("r.example.com", "http://auth.example.com/token"),
            // Two owners below one public suffix.
            ("a.co.uk", "https://b.co.uk/token"),
            ("a.github.io", "https://b.github.io/token"),
            ("a.s3.amazonaws.com", "https://b.s3.amazonaws.com/token"),
            // Addresses and machines have no domain.
            ("127.0.0.1:5000", "https://127.0.0.1:5001/token"),
            ("127.0.0.1:5000", "https://127.0.0.2:5000/token"),
            ("10.0.0.1", "https://20.0.0.1/token"),
            ("1.1", "https://2.1.1/token"),
            ("[::1]:5000", "https://[::1]:5001/token"),
            ("localhost:5000", "https://localhost:5001/token"),
            ("a.localhost", "https://b.localhost/token"),
            ("registry", "https://auth/token"),
            ("registry:5000", "https://registry:5001/token"),
        ] {
            let uri = realm.parse().unwrap();
            let allowed = may_see_login("https", registry, &uri);
            assert!(!allowed, "{registry} {realm}");
        }
        let plain = "http://auth.example.com/token".parse().unwrap();
        assert!(may_see_login("http", "r.example.com", &plain));
    }
}
