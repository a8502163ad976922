//! A repository elsewhere: its address, and who we are there. Pure.

use std::fmt;
use std::net::IpAddr;

use data_encoding::BASE64;
use zeroize::Zeroizing;

/// Longest address.
const MOST_ADDRESS_BYTES: usize = 1000;
/// Longest user, and longest token.
const MOST_WORD_BYTES: usize = 4096;

/// Variables of the daemon that say how the network is to be used.
const OF_THE_NETWORK: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "GIT_SSL_CAINFO",
];

/// A repository elsewhere.
#[derive(Clone)]
pub struct Remote {
    url: String,
    scheme: &'static str,
    /// Scheme, host and port.
    site: String,
    authorization: Option<Zeroizing<String>>,
    is_here: bool,
}

/// Why nothing is asked of an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRemote {
    /// It is not one that git is let ask.
    #[error(
        "`{0}` is not of the form https://HOST[:PORT]/PATH, without user, password, `?` and `#`"
    )]
    Address(String),
    /// A token would cross a network in clear.
    #[error("a token is sent over https alone, and `{0}` is not")]
    Clear(String),
    /// No header can hold it.
    #[error("the {0} is empty, too long, or has characters that no password has")]
    Word(&'static str),
}

impl Remote {
    /// Somebody's there, or nobody's: of `user` with `token`.
    pub fn new(url: &str, identity: Option<(&str, &str)>) -> Result<Self, InvalidRemote> {
        let wrong = || {
            let start = havre_base::clipped(url, MOST_ADDRESS_BYTES);
            // It may hold a password.
            let start = start.rsplit_once('@').map_or(start, |(_, rest)| rest);
            InvalidRemote::Address(crate::plain(start))
        };
        let (scheme, rest) = match url.split_once("://") {
            Some(("https", rest)) => ("https", rest),
            Some(("http", rest)) => ("http", rest),
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_once('/').ok_or_else(wrong)?;
        let of_path = |c: char| c.is_ascii_alphanumeric() || "/-._~+%,:=".contains(c);
        let is_sound = url.len() <= MOST_ADDRESS_BYTES
            && !path.is_empty()
            && path.chars().all(of_path)
            && !path.split('/').any(|part| part == "..");
        let host = host(authority).filter(|_| is_sound).ok_or_else(wrong)?;
        if scheme == "http" && identity.is_some() && !is_here(host) {
            return Err(InvalidRemote::Clear(url.to_owned()));
        }
        let authorization = identity
            .map(|(user, token)| authorization(user, token))
            .transpose()?;
        Ok(Self {
            url: url.to_owned(),
            scheme,
            site: format!("{scheme}://{authority}"),
            authorization,
            is_here: is_here(host),
        })
    }

    /// Its address; there is nothing secret in it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What git is told of it by its environment, which no list of processes shows to others.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("GIT_ALLOW_PROTOCOL", self.scheme.to_owned())];
        if let Some(authorization) = &self.authorization {
            let header = format!("Authorization: Basic {}", authorization.as_str());
            all.push(("GIT_CONFIG_COUNT", "1".to_owned()));
            all.push((
                "GIT_CONFIG_KEY_0",
                format!("http.{}/.extraHeader", self.site),
            ));
            all.push(("GIT_CONFIG_VALUE_0", header));
        }
        // No proxy is told what does not leave the machine.
        let network = OF_THE_NETWORK.into_iter().filter(|_| !self.is_here);
        all.extend(network.filter_map(|name| Some((name, std::env::var(name).ok()?))));
        all
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

fn authorization(user: &str, token: &str) -> Result<Zeroizing<String>, InvalidRemote> {
    let is_sound = |text: &str| {
        !text.is_empty()
            && text.len() <= MOST_WORD_BYTES
            && text.chars().all(|c| c.is_ascii_graphic())
    };
    if !is_sound(user) || user.contains(':') {
        return Err(InvalidRemote::Word("user"));
    }
    if !is_sound(token) {
        return Err(InvalidRemote::Word("token"));
    }
    let pair = Zeroizing::new(format!("{user}:{token}"));
    Ok(Zeroizing::new(BASE64.encode(pair.as_bytes())))
}

/// The host of an authority; nothing that two programs read in two ways.
fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.:".contains(c);
    let is_port = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok() && !port.starts_with('+'),
        None => port.is_empty(),
    };
    let is_host = !host.is_empty() && host.chars().all(plain) && !host.starts_with('-');
    (is_port && is_host).then_some(host)
}

fn is_here(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_web_are_asked() {
        for good in [
            "https://github.com/acme/shop.git",
            "https://git.example.org:8443/a/b",
            "http://10.0.0.1:3000/a",
            "https://[2001:db8::1]/a",
        ] {
            assert!(Remote::new(good, None).is_ok(), "{good}");
        }
        for bad in [
            "",
            "github.com/acme/shop",
            "git@github.com:acme/shop.git",
            "ssh://git@github.com/acme/shop",
            "file:///etc",
            "ext::sh -c true",
            "https::https://example.org/a",
            "HTTPS://example.org/a",
            "https://u:secret@example.org/a",
            "https://example.org",
            "https://example.org/",
            "https://example.org/a?b",
            "https://example.org/a#b",
            "https://example.org/../a",
            "https://example.org/a\nb",
            "https://-x/a",
            "https://example.org:+80/a",
            "https://example.org:80:80/a",
            "https://[127.0.0.1]/a",
        ] {
            let refused = Remote::new(bad, None).expect_err(bad);
            assert!(!refused.to_string().contains("secret"), "{refused}");
        }
    }

    #[test]
    fn a_token_does_not_cross_a_network_in_clear() {
        let as_anna = |url| Remote::new(url, Some(("anna", "t0ken")));
        assert!(matches!(
            as_anna("http://example.org/a"),
            Err(InvalidRemote::Clear(_))
        ));
        assert!(as_anna("http://127.0.0.1:9/a").is_ok());
        let remote = as_anna("https://example.org:444/a").expect("sound");
        assert!(!format!("{remote:?}").contains("t0ken"));
        let told = remote.environment();
        let value = |name: &str| {
            let found = told.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("GIT_ALLOW_PROTOCOL"), Some("https"));
        let key = "http.https://example.org:444/.extraHeader";
        assert_eq!(value("GIT_CONFIG_KEY_0"), Some(key));
        let header = "Authorization: Basic YW5uYTp0MGtlbg==";
        assert_eq!(value("GIT_CONFIG_VALUE_0"), Some(header));
        for (user, token) in [("", "t"), ("a:b", "t"), ("a", ""), ("a", "t\r\nX: y")] {
            assert!(Remote::new("https://example.org/a", Some((user, token))).is_err());
        }
    }
}
