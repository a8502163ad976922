//! What is wanted of a build, however it was asked for: by an action's inputs or by a command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use havre_job::images::{Answer, Ask, Build, Image};
use serde_json::Value;

use super::client::{Client, Context, Hear, dockerfile};
use super::deliver;
use crate::failure::{Failure, refused};
use crate::glob::normal;

/// A build, and where its image goes.
pub(crate) struct Wanted {
    /// Where relative paths begin.
    pub(crate) folder: PathBuf,
    /// A folder.
    pub(crate) context: PathBuf,
    /// The Dockerfile.
    pub(crate) file: Option<PathBuf>,
    /// Without its Dockerfile.
    pub(crate) build: Build,
    /// To the registries that its tags name.
    pub(crate) push: bool,
    /// Files.
    pub(crate) files: Vec<PathBuf>,
    /// Logins, as `auths` of Docker's configuration.
    pub(crate) logins: Value,
}

/// A build of nothing in particular.
pub(crate) fn nothing() -> Build {
    Build {
        dockerfile: String::new(),
        text: None,
        target: None,
        tags: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        args: BTreeMap::new(),
        secrets: BTreeMap::new(),
        pull: false,
        no_cache: false,
        offline: false,
        hosts: BTreeMap::new(),
        shm_bytes: None,
        contexts: BTreeMap::new(),
        logins: String::new(),
    }
}

impl Wanted {
    /// Has it built, and delivers it.
    pub(crate) fn carry_out(
        self,
        client: &Client,
        hear: Hear<'_>,
        say: &(dyn Fn(&str) + Sync),
    ) -> Result<Image, Failure> {
        let folder = normal(&self.folder.join(&self.context));
        if !folder.is_dir() {
            return refused(format!(
                "there is no folder {}; `actions/checkout` must come before",
                folder.display()
            ));
        }
        let file = match &self.file {
            Some(file) => normal(&self.folder.join(file)),
            None => folder.join("Dockerfile"),
        };
        if !file.is_file() {
            return refused(format!(
                "there is no {}; `actions/checkout` must come before",
                file.display()
            ));
        }
        if self.push && self.build.tags.is_empty() {
            return refused("an image that is pushed needs a name: `tags`, or `--tag`");
        }
        for tag in &self.build.tags {
            let reference = deliver::reference(tag)?;
            if reference.digest().is_some() {
                return refused(format!(
                    "the name {tag:?} has a digest, which is what comes of it"
                ));
            }
        }
        let context = Context {
            folder,
            dockerfile: file,
        };
        let shown = self.shown(&context.dockerfile);
        let (name, text) = dockerfile(&context, &shown)?;
        let build = Build {
            dockerfile: name.clone(),
            text,
            logins: serde_json::json!({"auths": self.logins}).to_string(),
            ..self.build
        };
        let tags = build.tags.clone();
        let built = client.image(&Ask::Build(Box::new(build)), Some(&context), hear);
        let image = built.map_err(|failure| match failure {
            Failure::Built {
                why,
                place: Some((file, line)),
                instruction,
                log,
            } => {
                let file = match file == name {
                    true => shown.to_string_lossy().into_owned(),
                    false => file,
                };
                Failure::Built {
                    why,
                    place: Some((file, line)),
                    instruction,
                    log,
                }
            }
            other => other,
        })?;
        say(&format!("Built {} ({})", image.digest, image.id));
        for path in &self.files {
            let path = self.folder.join(path);
            deliver::save(client, &image.digest, &tags, &path)?;
            say(&format!("Wrote {}", path.display()));
        }
        if self.push {
            deliver::push(client, &image.digest, &tags, &self.logins, say)?;
        }
        Ok(image)
    }

    /// A path as people of the repository know it.
    fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.folder).unwrap_or(path).to_owned()
    }
}

/// Hears lines as they are; warnings by `warn`.
pub(crate) fn hearing<'a>(say: &'a dyn Fn(&str), warn: &'a dyn Fn(&str)) -> impl Fn(&Answer) + 'a {
    move |answer| match answer {
        Answer::Line(text) | Answer::ErrorLine(text) => say(text),
        Answer::Warning(text) => warn(text),
        Answer::Image(_) | Answer::Bytes(_) | Answer::Exited { .. } | Answer::Failed(_) => {}
    }
}

/// `key=value,key=value`; a part without `=` is kept under an empty key.
pub(crate) fn parts(text: &str) -> BTreeMap<String, String> {
    let each = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    each.map(|part| match part.split_once('=') {
        Some((key, value)) => (key.trim().to_lowercase(), value.trim().to_owned()),
        None => (String::new(), part.to_owned()),
    })
    .collect()
}

/// What becomes of one of `outputs`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// To registries.
    Push,
    /// For later steps.
    Load,
    /// As a file.
    File(PathBuf),
}

/// Reads one of `outputs`; what it also names goes to `tags`.
pub(crate) fn output(text: &str, tags: &mut Vec<String>) -> Result<Output, Failure> {
    let mut parts = parts(text);
    let mut take = |key: &str| parts.remove(key);
    let kind = take("type").unwrap_or_default();
    let (name, push, dest) = (take("name"), take("push"), take("dest"));
    // How layers are packed does not change what an image is.
    let unsupported = [
        "compression",
        "force-compression",
        "oci-mediatypes",
        "annotation",
        "unpack",
        "store",
        "tar",
        "compression-level",
    ];
    if let Some(key) = parts.keys().find(|key| unsupported.contains(&key.as_str())) {
        return refused(format!(
            "`{key}` of an output is not supported; leave it out"
        ));
    }
    if let Some(key) = parts.keys().next() {
        return refused(format!("an output has no `{key}`: `{text}`"));
    }
    for name in name.iter().flat_map(|names| names.split(',')) {
        if !tags.iter().any(|tag| tag == name) {
            tags.push(name.to_owned());
        }
    }
    match (kind.as_str(), dest) {
        ("registry", None) => Ok(Output::Push),
        ("image", None) => match push.as_deref() {
            Some("true") => Ok(Output::Push),
            _ => Ok(Output::Load),
        },
        ("docker" | "oci", Some(path)) if path != "-" => Ok(Output::File(path.into())),
        ("docker" | "cacheonly", None) => Ok(Output::Load),
        ("docker" | "oci", _) => {
            refused(format!("an output to a file needs `dest=PATH`: `{text}`"))
        }
        ("local" | "tar", _) => refused(format!(
            "`type={kind}` of an output is not supported: build the files in a step, or take the image as a file, \
             by `type=oci,dest=image.tar`"
        )),
        _ => refused(format!(
            "`{text}` is no output: there are type=registry, image, docker, oci and cacheonly"
        )),
    }
}

/// What is to be said of one of `cache-from` and `cache-to`; an error for what is none.
pub(crate) fn cache(input: &str, text: &str) -> Result<Option<String>, Failure> {
    let parts = parts(text);
    let kind = match parts.get("type") {
        Some(kind) => kind.as_str(),
        // A name alone is an image in a registry.
        None if parts.contains_key("") => "registry",
        None => return refused(format!("`{input}: {text}` does not say its `type`")),
    };
    match kind {
        // It is the builder's own, by the same rules: what a branch leaves others than itself find only from the default
        // branch.
        "gha" => Ok(None),
        "inline" | "registry" | "local" | "s3" | "azblob" => Ok(Some(format!(
            "`{input}: {text}` has no effect: the builder keeps its cache on this machine"
        ))),
        _ => refused(format!("`{input}` has the unknown type {kind:?}")),
    }
}

/// `host:ip` or `host=ip`.
pub(crate) fn host(text: &str) -> Result<(String, String), Failure> {
    let found = text.split_once('=').or_else(|| text.split_once(':'));
    match found {
        Some((host, address)) if !host.is_empty() && !address.is_empty() => Ok((
            host.trim().to_owned(),
            address.trim().trim_matches(['[', ']']).to_owned(),
        )),
        _ => refused(format!("`{text}` is not HOST:ADDRESS")),
    }
}

/// `64m`, `1g`, bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, Failure> {
    let lower = text.trim().to_lowercase();
    let lower = lower.trim_end_matches('b').trim_end_matches('i');
    let (digits, factor) = match lower.chars().last() {
        Some('k') => (&lower[..lower.len() - 1], 1 << 10),
        Some('m') => (&lower[..lower.len() - 1], 1 << 20),
        Some('g') => (&lower[..lower.len() - 1], 1 << 30),
        _ => (lower, 1),
    };
    let number: Option<u64> = digits.trim().parse().ok();
    match number.and_then(|number| number.checked_mul(factor)) {
        Some(bytes) => Ok(bytes),
        None => refused(format!("`{text}` is no size; write 64m or 1g")),
    }
}

/// A context of another name: `docker-image://NAME`.
pub(crate) fn named_context(text: &str) -> Result<(String, String), Failure> {
    let Some((name, place)) = text.split_once('=') else {
        return refused(format!("`{text}` is not NAME=docker-image://IMAGE"));
    };
    match place.trim().strip_prefix("docker-image://") {
        Some(image) => Ok((name.trim().to_owned(), image.to_owned())),
        None => refused(format!(
            "the context `{text}` is not an image (docker-image://IMAGE): copy further folders into the build context"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_carried_out_or_refused() {
        let read = |text: &str| {
            let mut tags = Vec::new();
            let output = output(text, &mut tags).map_err(|error| error.to_string());
            (output, tags)
        };
        assert_eq!(read("type=registry"), (Ok(Output::Push), Vec::new()));
        let named = read("type=image,name=r.example/a,push=true");
        assert_eq!(named, (Ok(Output::Push), vec!["r.example/a".to_owned()]));
        assert_eq!(read("type=image").0, Ok(Output::Load));
        assert_eq!(read("type=docker").0, Ok(Output::Load));
        let file = read("type=oci,dest=out/image.tar").0;
        assert_eq!(file, Ok(Output::File("out/image.tar".into())));
        for (text, expected) in [
            ("type=local,dest=out", "`type=local` of an output"),
            ("type=oci", "needs `dest=PATH`"),
            ("type=docker,dest=-", "needs `dest=PATH`"),
            ("out", "an output has no ``"),
            (
                "type=registry,compression=zstd",
                "`compression` of an output",
            ),
            ("type=image,colour=red", "has no `colour`"),
            ("type=x", "is no output"),
        ] {
            let why = read(text).0.expect_err(text);
            assert!(why.contains(expected), "{text}: {why}");
        }
    }

    #[test]
    fn caches_are_understood() {
        let read = |text: &str| cache("cache-from", text).map_err(|error| error.to_string());
        assert_eq!(read("type=gha,scope=web,mode=max"), Ok(None));
        assert!(matches!(read("user/app:cache"), Ok(Some(_))));
        assert!(matches!(read("type=registry,ref=a/b:c"), Ok(Some(_))));
        assert!(read("type=tape").is_err());
        assert!(read("scope=x").is_err());
    }

    #[test]
    fn sizes_and_hosts() {
        assert_eq!(bytes("64m").ok(), Some(64 << 20));
        assert_eq!(bytes("1GiB").ok(), Some(1 << 30));
        assert_eq!(bytes("512").ok(), Some(512));
        assert!(bytes("many").is_err() && bytes("99999999999999g").is_err());
        let pair = |host: &str, address: &str| Some((host.to_owned(), address.to_owned()));
        assert_eq!(host("db:10.0.0.1").ok(), pair("db", "10.0.0.1"));
        assert_eq!(host("db=[::1]").ok(), pair("db", "::1"));
        assert!(host("db").is_err());
    }
}
