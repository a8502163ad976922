//! How it is proven that a name is ours. Pure.

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// A kind of challenge that we can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Method {
    /// The edge answers on port 80 (RFC 8555 §8.3).
    #[serde(rename = "http-01")]
    Http,
    /// The edge shows a certificate on port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
    /// The hook sets a record (RFC 8555 §8.4).
    #[serde(rename = "dns-01")]
    Dns,
    /// A record that a person has set once and for all (draft-ietf-acme-dns-persist).
    #[serde(rename = "dns-persist-01")]
    DnsPersist,
}

impl Method {
    /// As authorities call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http-01",
            Self::TlsAlpn => "tls-alpn-01",
            Self::Dns => "dns-01",
            Self::DnsPersist => "dns-persist-01",
        }
    }

    /// What an authority offers; `None`: nothing that we can answer.
    pub fn parse(kind: &str) -> Option<Self> {
        let all = [Self::Http, Self::TlsAlpn, Self::Dns, Self::DnsPersist];
        all.into_iter().find(|method| method.as_str() == kind)
    }
}

/// Which of the methods that are offered is used after so many failures: each that may work has its turn.
/// A pattern is proven by DNS alone. Where there is a hook for DNS, it comes last for other names: it is
/// slower. A lasting record is counted on only where nothing else is left.
pub fn choose(name: &Name, offered: &[Method], has_hook: bool, failures: u32) -> Option<Method> {
    let usable = |method: &Method| match method {
        Method::Http | Method::TlsAlpn => !name.is_wildcard(),
        Method::Dns => has_hook && name.address().is_none(),
        Method::DnsPersist => name.address().is_none(),
    };
    let order = [Method::Http, Method::TlsAlpn, Method::Dns];
    let mut usable: Vec<Method> = order
        .into_iter()
        .filter(|method| offered.contains(method) && usable(method))
        .collect();
    if usable.is_empty() && offered.contains(&Method::DnsPersist) && name.address().is_none() {
        usable.push(Method::DnsPersist);
    }
    let turn = usize::try_from(failures).unwrap_or_default();
    let turn = turn.checked_rem(usable.len())?;
    usable.get(turn).copied()
}

/// The lasting record by which an account may prove a name.
pub fn persist_record(name: &Name, issuer: &str, account: &str) -> (String, String) {
    let policy = if name.is_wildcard() {
        "; policy=wildcard"
    } else {
        ""
    };
    (
        format!("_validation-persist.{}", name.base()),
        format!("{issuer}; accounturi={account}{policy}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_that_may_work_has_its_turn() {
        use Method::{Dns, DnsPersist, Http, TlsAlpn};
        let all = [Dns, Http, DnsPersist, TlsAlpn];
        for (name, offered, hook, failures, expected) in [
            ("a.dev", &all[..], false, 0, Some(Http)),
            ("a.dev", &all, false, 1, Some(TlsAlpn)),
            ("a.dev", &all, false, 2, Some(Http)),
            ("a.dev", &all, true, 2, Some(Dns)),
            ("*.a.dev", &all, true, 5, Some(Dns)),
            ("*.a.dev", &all, false, 0, Some(DnsPersist)),
            ("*.a.dev", &[Http, Dns], false, 0, None),
            ("1.1.1.1", &all, true, 2, Some(Http)),
            ("1.1.1.1", &[Dns, DnsPersist], true, 0, None),
            ("a.dev", &[DnsPersist], false, 3, Some(DnsPersist)),
            ("a.dev", &[], true, 0, None),
        ] {
            let name = Name::parse(name).unwrap();
            assert_eq!(choose(&name, offered, hook, failures), expected, "{name}");
        }
    }

    #[test]
    fn the_lasting_record_names_the_account() {
        let name = Name::parse("*.a.dev").unwrap();
        let (record, value) = persist_record(&name, "ca.example", "https://ca.example/1");
        assert_eq!(record, "_validation-persist.a.dev");
        assert_eq!(
            value,
            "ca.example; accounturi=https://ca.example/1; policy=wildcard"
        );
    }
}
