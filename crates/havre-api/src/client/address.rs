//! Where a daemon is: `https://host[:port]`, `ssh://[user@]host[:port]`, `unix:///path` of a job, or a socket of this
//! machine.
//!
//! What an address holds ends up on the command line of `ssh` and in the heads of requests, so that
//! only what can do no harm there is an address.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Most bytes of a host's or user's name.
const MAX_NAME_BYTES: usize = 253;

/// Where a daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Its socket, on this machine.
    Socket(PathBuf),
    /// Its socket, through `ssh`.
    Ssh(SshAddress),
    /// Its API on a host of its own.
    Https(HttpsAddress),
    /// What a job of a pipeline reaches of it: a socket in its box, absolute. A token shows who asks.
    Unix(PathBuf),
}

/// `ssh://[user@]host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SshAddress {
    /// `None`: as `ssh` is configured.
    pub user: Option<String>,
    /// A name, an alias of `ssh`'s configuration, or an address.
    pub host: String,
    /// `None`: as `ssh` is configured.
    pub port: Option<u16>,
}

/// `https://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpsAddress {
    /// A name, or an address without brackets.
    pub host: String,
    /// 443 where none is written.
    pub port: u16,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address of a daemon: {reason}")]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

impl HttpsAddress {
    /// As a `Host` header has it.
    pub fn authority(&self) -> String {
        match self.port {
            443 => bracketed(&self.host),
            port => format!("{}:{port}", bracketed(&self.host)),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = |reason| AddressError {
            text: text.to_owned(),
            reason,
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(error("it begins with https:// or ssh://"));
        };
        if scheme.eq_ignore_ascii_case("unix") {
            return match is_path(rest) {
                true => Ok(Self::Unix(rest.into())),
                false => Err(error("behind unix:// stands the whole path of a socket")),
            };
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(error("nothing comes behind the host and its port"));
        }
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let (host, port) = host_and_port(place).map_err(error)?;
        if user.is_some_and(|user| user.contains(':')) {
            return Err(error("a password does not belong there"));
        }
        match scheme.to_ascii_lowercase().as_str() {
            "https" if user.is_some() => {
                Err(error("who you are is said by a token: `havre login`"))
            }
            "https" => Ok(Self::Https(HttpsAddress {
                host: host.to_ascii_lowercase(),
                port: port.unwrap_or(443),
            })),
            "ssh" => {
                if user.is_some_and(|user| !is_name(user)) {
                    return Err(error("its user's name has letters that none has"));
                }
                Ok(Self::Ssh(SshAddress {
                    user: user.map(str::to_owned),
                    host: host.to_owned(),
                    port,
                }))
            }
            "http" => Err(error("without TLS anybody on the way reads the token")),
            _ => Err(error("it begins with https:// or ssh://")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Https(address) => write!(f, "https://{}", address.authority()),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Ssh(address) => {
                f.write_str("ssh://")?;
                if let Some(user) = &address.user {
                    write!(f, "{user}@")?;
                }
                f.write_str(&bracketed(&address.host))?;
                match address.port {
                    Some(port) => write!(f, ":{port}"),
                    None => Ok(()),
                }
            }
        }
    }
}

fn host_and_port(place: &str) -> Result<(&str, Option<u16>), &'static str> {
    const NO_PORT: &str = "its port is no number from 1 to 65535";
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(port)),
        _ => Err(NO_PORT),
    };
    if let Some(rest) = place.strip_prefix('[') {
        let (host, behind) = rest.split_once(']').ok_or("its `[` is not closed")?;
        let is_address = host.parse::<std::net::Ipv6Addr>().is_ok();
        return match (is_address, behind.strip_prefix(':')) {
            (false, _) => Err("in brackets stands an address of IPv6"),
            (true, Some(number)) => Ok((host, port(number)?)),
            (true, None) if behind.is_empty() => Ok((host, None)),
            (true, None) => Err(NO_PORT),
        };
    }
    let (host, port) = match place.split_once(':') {
        Some((host, number)) => (host, port(number)?),
        None => (place, None),
    };
    match is_name(host) {
        true => Ok((host, port)),
        false => Err("its host's name has letters that none has, or none at all"),
    }
}

/// Letters that no shell, no option of a program and no head of a request takes for its own.
fn is_name(text: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty()
        && text.len() <= MAX_NAME_BYTES
        && !text.starts_with(['-', '.'])
        && text.chars().all(sound)
}

/// An absolute path without anything that is not shown as it is.
fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.len() <= MAX_NAME_BYTES && text.chars().all(|c| !c.is_control())
}

fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_shown() {
        for text in [
            "https://havre.example.org",
            "https://havre.example.org:8443",
            "https://[2001:db8::1]:8443",
            "ssh://root@example.org",
            "ssh://example.org:2222",
            "ssh://deploy-er@box_1:22",
            "ssh://root@[2001:db8::1]",
            "unix:///run/havre/results/results.sock",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let same: Address = "https://Example.ORG:443/".parse().unwrap();
        assert_eq!(same.to_string(), "https://example.org");
    }

    #[test]
    fn what_could_be_an_option_or_a_command_is_no_address() {
        for text in [
            "",
            "example.org",
            "http://example.org",
            "ftp://example.org",
            "https://",
            "https://example.org/api",
            "https://example.org?x",
            "https://me@example.org",
            "https://example.org:0",
            "https://example.org:65536",
            "https://example.org:+22",
            "https://exa mple.org",
            "https://example.org\r\nx: y",
            "ssh://-oProxyCommand=touch",
            "ssh://-l@example.org",
            "ssh://root@-oProxyCommand=x",
            "ssh://root:secret@example.org",
            "ssh://a b@example.org",
            "ssh://$(id)@example.org",
            "ssh://example.org;id",
            "ssh://`id`",
            "ssh://[-oProxyCommand=x]",
            "ssh://[fe80::1%25-x]",
            "ssh://[::1",
            "ssh://[::1]x",
            "ssh://%h",
            "unix://run/havre/results/results.sock",
            "unix:///run/\n",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("is no address"), "{error}");
        }
    }
}
