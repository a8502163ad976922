//! Names of images as Docker reads them: `[registry/]repository[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Digest;

/// The registry of a name that gives none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The folder of a one-part name on that registry.
const OFFICIAL: &str = "library/";
/// Longest repository, its registry included.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A name of an image. `Display` is the short form a person writes (`debian:bookworm`);
/// [`ImageRef::canonical`] is the full one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef(Arc<Parts>);

/// Behind a pointer, because every error of an image names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Parts {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a name of an image: {reason}")]
pub struct RefError {
    /// What was given; cut where it is far too long.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl ImageRef {
    /// Host and port of the registry, e.g. `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.0.registry
    }

    /// The repository within the registry, e.g. `library/debian`.
    pub fn repository(&self) -> &str {
        &self.0.repository
    }

    /// The tag; `latest` where neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.0.tag.as_deref()
    }

    /// The digest that pins the manifest.
    pub fn digest(&self) -> Option<Digest> {
        self.0.digest
    }

    /// The full form under which the store keeps the name. A digest outweighs the tag beside it.
    pub fn canonical(&self) -> String {
        let parts = &*self.0;
        match (&parts.digest, &parts.tag) {
            (Some(digest), _) => format!("{}/{}@{digest}", parts.registry, parts.repository),
            (None, tag) => format!(
                "{}/{}:{}",
                parts.registry,
                parts.repository,
                tag.as_deref().unwrap_or("latest")
            ),
        }
    }

    /// The same repository, pinned to `digest`.
    pub fn pinned(&self, digest: Digest) -> Self {
        Self(Arc::new(Parts {
            digest: Some(digest),
            ..Parts::clone(&self.0)
        }))
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &*self.0;
        let repository = if parts.registry == DEFAULT_REGISTRY {
            parts
                .repository
                .strip_prefix(OFFICIAL)
                .unwrap_or(&parts.repository)
        } else {
            write!(f, "{}/", parts.registry)?;
            &parts.repository
        };
        f.write_str(repository)?;
        if let Some(tag) = &parts.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &parts.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageRef {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, RefError> {
        parse(text).map_err(|reason| RefError {
            text: crate::dockerfile::excerpt(text),
            reason,
        })
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

fn parse(text: &str) -> Result<ImageRef, &'static str> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest = digest
                .parse()
                .map_err(|_| "what follows @ is not a sha256 digest")?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    let (name, tag) = split_tag(rest);
    if tag.is_some_and(|tag| !valid_tag(tag)) {
        return Err("the tag may hold letters, digits, '_', '.' and '-', at most 128");
    }
    let (registry, path) = split_registry(name);
    if !valid_registry(registry) {
        return Err("the registry is not host[:port]");
    }
    if path.is_empty() {
        return Err("the repository is missing");
    }
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err("the repository must be lower case");
    }
    if !path.split('/').all(valid_component) {
        return Err("parts of the repository hold a-z, 0-9 and single separators '.', '_', '-'");
    }
    let registry = match registry {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        other => other,
    };
    let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
        format!("{OFFICIAL}{path}")
    } else {
        path.to_owned()
    };
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err("it is longer than 255 characters");
    }
    let tag = match (tag, digest) {
        (None, None) => Some("latest".to_owned()),
        (tag, _) => tag.map(str::to_owned),
    };
    Ok(ImageRef(Arc::new(Parts {
        registry: registry.to_owned(),
        repository,
        tag,
        digest,
    })))
}

/// A colon after the last slash starts the tag; one before it is a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rfind(':') {
        Some(colon) if !text[colon..].contains('/') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    }
}

/// The first part is a registry when it could not be a folder of Docker Hub.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn valid_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match rest.strip_prefix(':') {
                Some(port) => ("", Some(port)),
                None if rest.is_empty() => ("", None),
                None => return false,
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let host_ok = text.starts_with('[')
        || host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        });
    host_ok && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn valid_tag(tag: &str) -> bool {
    (1..=MAX_TAG).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// Letters and digits, between them one `.`, one or two `_`, or any number of `-`.
fn valid_component(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(alphanumeric)
        && part.ends_with(alphanumeric)
        && part
            .split(alphanumeric)
            .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.chars().all(|c| c == '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn check(text: &str, canonical: &str, short: &str) {
        let reference: ImageRef = text.parse().unwrap();
        assert_eq!(reference.canonical(), canonical);
        assert_eq!(reference.to_string(), short);
        assert_eq!(
            reference
                .canonical()
                .parse::<ImageRef>()
                .unwrap()
                .canonical(),
            canonical
        );
    }

    #[test]
    fn names_are_read_as_docker_does() {
        check("debian", "docker.io/library/debian:latest", "debian:latest");
        check(
            "debian:bookworm-slim",
            "docker.io/library/debian:bookworm-slim",
            "debian:bookworm-slim",
        );
        check("a/b", "docker.io/a/b:latest", "a/b:latest");
        check(
            "index.docker.io/a",
            "docker.io/library/a:latest",
            "a:latest",
        );
        check("localhost/a", "localhost/a:latest", "localhost/a:latest");
        check(
            "localhost:5000/a/b:1",
            "localhost:5000/a/b:1",
            "localhost:5000/a/b:1",
        );
        check("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest");
        check(
            "ghcr.io/o/r-x__y.z:v1.0_a",
            "ghcr.io/o/r-x__y.z:v1.0_a",
            "ghcr.io/o/r-x__y.z:v1.0_a",
        );
        check(
            &format!("debian@{D}"),
            &format!("docker.io/library/debian@{D}"),
            &format!("debian@{D}"),
        );
        check(
            &format!("r.example/a:1@{D}"),
            &format!("r.example/a@{D}"),
            &format!("r.example/a:1@{D}"),
        );
    }

    #[test]
    fn what_names_nothing_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "missing"),
            ("Debian", "lower case"),
            ("a:", "tag"),
            ("a:-x", "tag"),
            ("a@sha256:1", "digest"),
            ("r.example/", "missing"),
            ("a//b", "parts"),
            ("../a", "registry"),
            ("a/../b", "parts"),
            ("a_-b", "parts"),
            ("-r.example/a", "registry"),
            ("localhost:0/a", "registry"),
            ("localhost:99999/a", "registry"),
            ("[::g]:1/a", "registry"),
        ] {
            let error = text.parse::<ImageRef>().unwrap_err();
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
        assert!("a".repeat(300).parse::<ImageRef>().is_err());
    }
}
