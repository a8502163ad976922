//! Challenges of registries and credentials from Docker's `config.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::{BASE64, BASE64_NOPAD};
use serde::Deserialize;

/// Under this name Docker keeps the credentials of its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// A user and a password; neither is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password or access token.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

impl Login {
    /// Value of an `Authorization` header.
    pub(crate) fn basic(&self) -> String {
        let pair = format!("{}:{}", self.user, self.password);
        format!("Basic {}", BASE64.encode(pair.as_bytes()))
    }
}

/// Where credentials come from.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Nowhere.
    #[default]
    Anonymous,
    /// The caller.
    Login(Login),
    /// The caller, as Docker's `config.json` has it.
    Docker(DockerLogins),
    /// Docker's `config.json`; a file that is not there holds none.
    DockerConfig(PathBuf),
}

/// The text of a `config.json`; it is not shown.
#[derive(Clone)]
pub struct DockerLogins(Arc<str>);

impl DockerLogins {
    /// Of a document with `auths`.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Whether it has a login for a registry, as in names of images.
    pub fn has(&self, host: &str) -> bool {
        let found = find(self.0.as_bytes(), host, Path::new("the logins given"));
        !matches!(found, Ok(Found::Nothing))
    }
}

impl fmt::Debug for DockerLogins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DockerLogins")
    }
}

/// Why credentials could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file is not readable.
    #[error("cannot read credentials from {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is not what Docker writes.
    #[error("{path} is not a configuration file of Docker", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// The entry of a registry is not what Docker writes.
    #[error("the credentials for {host} in {path} are malformed", path = path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The registry.
        host: String,
    },
}

/// What is known for one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Login(Login),
    /// A helper program keeps them; it is not run.
    Helper(String),
}

impl Credentials {
    /// What is known for `host`, as in names of images. Blocks.
    pub(crate) fn find(&self, host: &str) -> Result<Found, CredentialsError> {
        match self {
            Self::Anonymous => Ok(Found::Nothing),
            Self::Login(login) => Ok(Found::Login(login.clone())),
            Self::Docker(logins) => find(logins.0.as_bytes(), host, Path::new("the logins given")),
            Self::DockerConfig(path) => match std::fs::read(path) {
                Ok(bytes) => find(&bytes, host, path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
                Err(source) => Err(CredentialsError::Read {
                    path: path.clone(),
                    source,
                }),
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
    #[serde(default)]
    creds_store: String,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerAuth {
    auth: String,
    username: String,
    password: String,
}

fn find(bytes: &[u8], host: &str, path: &Path) -> Result<Found, CredentialsError> {
    let config: DockerConfig =
        serde_json::from_slice(bytes).map_err(|source| CredentialsError::Parse {
            path: path.to_owned(),
            source,
        })?;
    let keys = match host {
        "docker.io" => vec![DOCKER_HUB.to_owned(), "docker.io".to_owned()],
        host => vec![
            host.to_owned(),
            format!("https://{host}"),
            format!("https://{host}/v1/"),
            format!("https://{host}/v2/"),
        ],
    };
    for key in &keys {
        let Some(entry) = config.auths.get(key) else {
            continue;
        };
        if !entry.username.is_empty() {
            return Ok(Found::Login(Login {
                user: entry.username.clone(),
                password: entry.password.clone(),
            }));
        }
        if !entry.auth.is_empty() {
            return decode(&entry.auth)
                .map(Found::Login)
                .ok_or_else(|| CredentialsError::Entry {
                    path: path.to_owned(),
                    host: host.to_owned(),
                });
        }
    }
    let helper = keys.iter().find_map(|key| config.cred_helpers.get(key));
    Ok(match helper {
        Some(helper) => Found::Helper(helper.clone()),
        None if !config.creds_store.is_empty() => Found::Helper(config.creds_store),
        None => Found::Nothing,
    })
}

/// `base64(user:password)`, with or without padding.
fn decode(text: &str) -> Option<Login> {
    let text = text.trim().trim_end_matches('=');
    let bytes = BASE64_NOPAD.decode(text.as_bytes()).ok()?;
    let pair = String::from_utf8(bytes).ok()?;
    let (user, password) = pair.trim_end_matches('\0').split_once(':')?;
    Some(Login {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

/// How a registry wants to be convinced; the later variant is preferred.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads one `WWW-Authenticate` header; `None` for schemes that are not supported.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let header = header.trim();
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut parameters = parameters(rest);
        Some(Self::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
            scope: parameters.remove("scope"),
        })
    }

    /// Where to get a token.
    pub(crate) fn token_url(&self, default_scope: &str) -> Option<String> {
        let Self::Bearer {
            realm,
            service,
            scope,
        } = self
        else {
            return None;
        };
        let mut url = realm.clone();
        url.push(if url.contains('?') { '&' } else { '?' });
        if let Some(service) = service {
            url.push_str(&format!("service={}&", escape(service)));
        }
        let scope = scope.as_deref().unwrap_or(default_scope);
        url.push_str(&format!("scope={}", escape(scope)));
        Some(url)
    }
}

/// `name="value", name=value`; commas may stand inside quotes.
fn parameters(mut text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while let Some((name, rest)) = text.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => match quoted.split_once('"') {
                Some(split) => split,
                None => return found,
            },
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        found.insert(name, value.trim().to_owned());
        text = rest;
    }
    found
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(json: &str, host: &str) -> Found {
        find(json.as_bytes(), host, Path::new("config.json")).unwrap()
    }

    fn login(user: &str, password: &str) -> Found {
        Found::Login(Login {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    #[test]
    fn credentials_are_found_as_docker_keeps_them() {
        let json = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpw"},
            "r.example:5000": {"auth": "YTpiOmM="},
            "https://old.example/v1/": {"username": "x", "password": "y"},
            "helped.example": {}
        }, "credHelpers": {"helped.example": "pass"}, "HttpHeaders": {}}"#;
        assert_eq!(known(json, "docker.io"), login("u", "p"));
        assert_eq!(known(json, "r.example:5000"), login("a", "b:c"));
        assert_eq!(known(json, "old.example"), login("x", "y"));
        assert_eq!(
            known(json, "helped.example"),
            Found::Helper("pass".to_owned())
        );
        assert_eq!(known(json, "other.example"), Found::Nothing);
        let stored = r#"{"auths": {"r.example": {}}, "credsStore": "desktop"}"#;
        assert_eq!(
            known(stored, "r.example"),
            Found::Helper("desktop".to_owned())
        );
        assert!(find(br#"{"auths":{"r":{"auth":"%"}}}"#, "r", Path::new("c")).is_err());
        assert!(find(b"[", "r", Path::new("c")).is_err());
    }

    #[test]
    fn a_login_does_not_show_its_password() {
        let shown = format!("{:?}", login("u", "secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn challenges_are_read() {
        let parsed = Challenge::parse(
            r#"Bearer realm="https://auth.example/token?a=b",service="registry,1",scope="repository:a/b:pull,push""#,
        );
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token?a=b".to_owned(),
            service: Some("registry,1".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
        };
        assert_eq!(parsed, Some(expected.clone()));
        assert_eq!(
            expected.token_url("x").unwrap(),
            "https://auth.example/token?a=b&service=registry%2C1&scope=repository%3Aa%2Fb%3Apull%2Cpush"
        );
        assert_eq!(Challenge::parse("basic realm=x"), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Basic"), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer service=x"), None);
        assert_eq!(Challenge::parse(r#"Bearer realm="x"#), None);
        assert!(expected > Challenge::Basic);
    }
}
