//! Which hosts get certificates of authorities. Pure.

use std::net::IpAddr;

use havre_acme::Name;
use havre_model::Tls;

/// Whether the certificate of a host comes from an authority. Where nothing is said of it, it does for names
/// that such an authority signs for.
pub(crate) fn signs_for(tls: &Tls, host: &str) -> bool {
    let Some(name) = Name::parse(host) else {
        return false;
    };
    match tls {
        Tls::Auto => name.is_public(),
        Tls::Acme => !is_of_this_machine(&name),
        Tls::LocalCa | Tls::Files { .. } => false,
    }
}

/// No authority can ever see it.
fn is_of_this_machine(name: &Name) -> bool {
    let base = name.base();
    let loopback = name.address().is_some_and(|address| match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback(),
    });
    loopback || base == "localhost" || base.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_sign_for_public_names_and_for_others_where_that_is_said() {
        for (host, auto, acme) in [
            ("shop.havre.dev", true, true),
            ("*.shop.havre.dev", true, true),
            ("shop.corp.internal", false, true),
            ("shop.localhost", false, false),
            ("localhost", false, false),
            ("127.0.0.1", false, false),
            ("[::1]", false, false),
            ("10.0.0.7", false, true),
        ] {
            assert_eq!(signs_for(&Tls::Auto, host), auto, "{host}");
            assert_eq!(signs_for(&Tls::Acme, host), acme, "{host}");
            assert!(!signs_for(&Tls::LocalCa, host), "{host}");
        }
    }
}
