//! What the codes of findings mean that come from reading files; [`crate::rules`] has the others.

/// Code and meaning of every finding of the reader, in the order of the codes.
pub const CODES: &[(&str, &str)] = &[
    (
        "compose/condition",
        "A condition of depends_on that can never hold",
    ),
    ("compose/conflict", "Two things that exclude each other"),
    ("compose/cycle", "Services that wait for each other"),
    (
        "compose/decimal-mode",
        "Permission bits that are probably meant to be octal",
    ),
    ("compose/duplicate-port", "A port that is published twice"),
    (
        "compose/duplicate-target",
        "Two mounts or files at one path",
    ),
    (
        "compose/env-file",
        "A line of an env file that cannot be read",
    ),
    (
        "compose/external-network",
        "A network of other projects, which this machine does not have: the environment's own",
    ),
    ("compose/failed", "The project cannot be loaded"),
    ("compose/healthcheck", "A health check in no known form"),
    ("compose/ignored", "A key without effect here"),
    ("compose/image-clash", "Two builds under one image name"),
    (
        "compose/interpolation",
        "A variable that is not written as one",
    ),
    (
        "compose/lone-dollar",
        "A dollar sign that begins no variable",
    ),
    (
        "compose/missing-file",
        "A file or folder that does not exist: Dockerfile, build context, env file, secret, mount",
    ),
    ("compose/missing-key", "A key that is needed and not there"),
    ("compose/more", "More findings than are shown"),
    (
        "compose/name",
        "A name with characters that it may not have",
    ),
    ("compose/no-file", "A folder without a compose file"),
    ("compose/no-services", "A project without a service to run"),
    (
        "compose/not-passed-on",
        "A variable that is taken from the environment, which does not have it",
    ),
    ("compose/port", "A port that cannot be read"),
    ("compose/port-clash", "Two services that publish one port"),
    (
        "compose/port-unchosen",
        "A published port without a number on the machine",
    ),
    (
        "compose/profile",
        "A need for a service that no profile enables",
    ),
    (
        "compose/required-variable",
        "A variable that is required by `:?` and not set",
    ),
    (
        "compose/several-files",
        "Several compose files, of which one is taken",
    ),
    (
        "compose/shell-operator",
        "A shell's operator where no shell runs",
    ),
    (
        "compose/too-deep",
        "Services that extend one another without end",
    ),
    ("compose/too-large", "More than any project needs"),
    ("compose/type", "A value of the wrong kind"),
    ("compose/undefined", "A reference to what is not defined"),
    (
        "compose/unencrypted",
        "A build context that anybody on the way can change",
    ),
    (
        "compose/unknown-key",
        "A key that the specification does not have",
    ),
    (
        "compose/unset-variable",
        "A variable that is not set and has no default",
    ),
    (
        "compose/unsupported",
        "A key or value that cannot be honoured here",
    ),
    ("compose/value", "A value that is not valid"),
    ("compose/volume", "A mount that cannot be read"),
    (
        "havre/allow-unused",
        "Something of the machine is allowed that no service asks for",
    ),
    (
        "havre/allowed",
        "What a service has of the machine because havre.yaml allows it",
    ),
    ("havre/ambiguous-routes", "Routes that have to be written"),
    (
        "havre/conflict",
        "Two keys of havre.yaml that exclude each other",
    ),
    (
        "havre/docker-socket",
        "A mount of Docker's socket, which is left out",
    ),
    ("havre/duplicate", "A domain that is given twice"),
    (
        "havre/environment",
        "An environment that havre.yaml does not have",
    ),
    (
        "havre/gateway",
        "A gateway whose place Havre's own proxy takes",
    ),
    (
        "havre/label",
        "A label for Traefik that says no route Havre has",
    ),
    (
        "havre/labels-as-routes",
        "Labels for Traefik that are read as routes",
    ),
    (
        "havre/missing-key",
        "A key of havre.yaml that is needed and not there",
    ),
    (
        "havre/network",
        "Settings of havre.yaml for a network that is not there",
    ),
    ("havre/no-routes", "A project that no request reaches"),
    (
        "havre/not-allowed",
        "Something that endangers the machine, and that havre.yaml does not allow",
    ),
    (
        "havre/only-read",
        "A writable mount of what containers only read, which is made read-only",
    ),
    (
        "havre/own-instead",
        "A mount of what a container has of its own, which is left out",
    ),
    (
        "havre/proxy-port",
        "A published port that the proxy listens on",
    ),
    (
        "havre/reload",
        "Secrets that a service cannot reload: it is restarted when they change",
    ),
    ("havre/route", "A route that leads nowhere"),
    (
        "havre/secret",
        "A variable is to hold a secret that the compose file does not have.",
    ),
    (
        "havre/service",
        "Settings of havre.yaml for a service that is not there",
    ),
    ("havre/type", "A value of havre.yaml of the wrong kind"),
    ("havre/unknown-key", "A key that havre.yaml does not have"),
    (
        "havre/unsupported",
        "A key of havre.yaml that has no meaning yet",
    ),
    ("havre/value", "A value of havre.yaml that is not valid"),
    (
        "havre/writable-settings",
        "A mount by which a container can change havre.yaml",
    ),
    (
        "target/unsupported",
        "A key or value that the environment's target, where it runs, cannot honour",
    ),
    ("yaml/alias", "An alias without its anchor"),
    ("yaml/duplicate-key", "A key that is written twice"),
    ("yaml/key", "A key that is no text"),
    (
        "yaml/merge-key",
        "A merge key with something that is no mapping",
    ),
    ("yaml/syntax", "Not valid YAML"),
    (
        "yaml/tag",
        "A value that is not of the kind its tag says (in workflow files)",
    ),
    ("yaml/too-deep", "Nested deeper than any project needs"),
    ("yaml/too-large", "Larger than any project needs"),
    ("yaml/unknown-tag", "A tag that compose files do not have"),
];

/// What a code means.
pub fn meaning(code: &str) -> Option<&'static str> {
    let found = CODES.iter().find(|(known, _)| *known == code);
    found.map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if !path.ends_with("codes.rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_code_has_a_meaning() {
        let mut files = Vec::new();
        for folder in ["src", "../havre-yaml/src"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            sources(&folder, &mut files);
        }
        let mut used = BTreeSet::new();
        for file in files {
            let text = std::fs::read_to_string(file).unwrap();
            for word in text.split('"') {
                let code = word.split_once('/').is_some_and(|(area, name)| {
                    let plain = |c: char| c.is_ascii_lowercase() || c == '-';
                    matches!(area, "compose" | "havre" | "target" | "yaml")
                        && !name.is_empty()
                        && name.chars().all(plain)
                });
                if code {
                    used.insert(word.to_owned());
                }
            }
        }
        let known: BTreeSet<String> = CODES.iter().map(|(code, _)| (*code).to_owned()).collect();
        let without: Vec<_> = used.difference(&known).collect();
        let unused: Vec<_> = known.difference(&used).collect();
        assert!(
            without.is_empty() && unused.is_empty(),
            "without a meaning {without:?}, unused {unused:?}"
        );
        assert!(CODES.is_sorted_by_key(|(code, _)| *code));
    }
}
