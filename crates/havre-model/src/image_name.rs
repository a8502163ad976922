//! Names of images, as far as advice needs them; what pulls or builds reads them in earnest.

/// Parts of tags that are given to one version after another.
const MOVING: [&str; 8] = [
    "edge", "latest", "lts", "main", "mainline", "master", "nightly", "stable",
];
/// Parts of tags that say how an image is made, not which version it is.
const VARIANTS: [&str; 4] = ["alpine", "apache", "fpm", "slim"];

/// A name without what may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageName<'a> {
    /// `nginx` for `docker.io/library/nginx:1@sha256:…`.
    pub path: &'a str,
    pub tag: Option<&'a str>,
    pub digest: Option<&'a str>,
}

impl<'a> ImageName<'a> {
    pub fn new(text: &'a str) -> Self {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash is a registry's port.
        let (path, tag) = match name.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (name, None),
        };
        let path = path.strip_prefix("docker.io/").unwrap_or(path);
        let path = path.strip_prefix("library/").unwrap_or(path);
        Self { path, tag, digest }
    }

    /// Which version it means may change: no tag, or one that moves, and no digest.
    pub fn is_unversioned(self) -> bool {
        let tag = self.tag.unwrap_or("latest");
        let moves = tag.split('-').any(|part| MOVING.contains(&part))
            || tag.split('-').all(|part| VARIANTS.contains(&part));
        self.digest.is_none() && moves
    }

    /// The same for every way to write it.
    pub fn in_full(self) -> (&'a str, &'a str) {
        (self.path, self.digest.or(self.tag).unwrap_or("latest"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_left_out_makes_no_difference() {
        for (text, path, version, moves) in [
            ("nginx", "nginx", "latest", true),
            ("docker.io/library/nginx:latest", "nginx", "latest", true),
            ("docker.io/ours/app:1", "ours/app", "1", false),
            (
                "registry.test:5000/a",
                "registry.test:5000/a",
                "latest",
                true,
            ),
            ("registry.test:5000/a:2", "registry.test:5000/a", "2", false),
            ("a:1@sha256:00", "a", "sha256:00", false),
            ("node:lts-alpine", "node", "lts-alpine", true),
            ("redis:alpine", "redis", "alpine", true),
            ("debian:bookworm-slim", "debian", "bookworm-slim", false),
            ("a:7-alpine", "a", "7-alpine", false),
        ] {
            let name = ImageName::new(text);
            assert_eq!(
                (name.in_full(), name.is_unversioned()),
                ((path, version), moves),
                "{text}"
            );
        }
    }
}
