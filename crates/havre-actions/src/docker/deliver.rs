//! Where images go: to registries, and into files.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use havre_image::{
    Credentials, Digest, DockerLogins, Entry, EntryKind, ImageRef, PushOptions, Pushable, TarWriter,
};
use serde_json::{Value, json};

use super::client::{Blobs, Client};
use crate::failure::{Failure, refused};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes an image to all registries that names say; `say` hears of it.
pub(crate) fn push(
    client: &Client,
    digest: &str,
    names: &[String],
    logins: &Value,
    say: &(dyn Fn(&str) + Sync),
) -> Result<(), Failure> {
    let manifest = client.document(digest, digest)?;
    let pushable = Pushable::read(manifest)
        .map_err(|error| Failure::Refused(format!("the manifest of {digest}: {error}")))?;
    if pushable.digest().to_string() != digest {
        return refused(format!("the builder gave another image than {digest}"));
    }
    let source = Blobs {
        client: client.clone(),
        image: digest.to_owned(),
    };
    let options = PushOptions {
        credentials: Credentials::Docker(DockerLogins::new(json!({"auths": logins}).to_string())),
        certificates: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Failure::io("set up HTTP"))?;
    for name in names {
        let reference = reference(name)?;
        let sent = AtomicU64::new(0);
        let tell = |_: &Digest, bytes: u64| {
            sent.fetch_add(bytes, Ordering::Relaxed);
        };
        let pushing = pushable.push(&source, &reference, &options, &tell);
        runtime.block_on(pushing).map_err(|error| {
            let hint = error
                .hint()
                .map_or_else(String::new, |hint| format!("; {hint}"));
            Failure::Refused(format!("{}{hint}", havre_base::one_line(&error)))
        })?;
        let kib = sent.into_inner().div_ceil(1024);
        say(&format!("Pushed {name}@{digest} ({kib} KiB sent)"));
    }
    Ok(())
}

/// A name of an image.
pub(crate) fn reference(name: &str) -> Result<ImageRef, Failure> {
    name.parse().map_err(|error| {
        Failure::Refused(format!(
            "the name {name:?}: {}",
            havre_base::one_line(&error)
        ))
    })
}

/// Writes an image as a file that `docker load`, skopeo and `havre image import` read.
pub(crate) fn save(
    client: &Client,
    digest: &str,
    names: &[String],
    path: &Path,
) -> Result<(), Failure> {
    let doing = || Failure::io(format!("write {}", path.display()));
    let manifest = client.document(digest, digest)?;
    let parsed: Value = serde_json::from_slice(&manifest)
        .map_err(|error| Failure::Refused(format!("the manifest of {digest}: {error}")))?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(doing())?;
    }
    let file = File::create(path).map_err(doing())?;
    let mut tar = TarWriter::new(BufWriter::new(file));
    let mut tags = Vec::new();
    for name in names {
        tags.push(reference(name)?.canonical());
    }
    let entries: Vec<Value> = match tags.is_empty() {
        true => vec![described(digest, &parsed, &manifest, None)],
        false => tags
            .iter()
            .map(|tag| described(digest, &parsed, &manifest, Some(tag)))
            .collect(),
    };
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    tar.append_bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
        .and_then(|()| tar.append_bytes("index.json", index.to_string().as_bytes()))
        .and_then(|()| tar.append_bytes(&blob_path(digest), &manifest))
        .map_err(doing())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let layers = parsed["layers"].as_array().cloned().unwrap_or_default();
    let layers: Vec<String> = layers.iter().map(|layer| text(&layer["digest"])).collect();
    let config = text(&parsed["config"]["digest"]);
    let mut written: Vec<&String> = Vec::new();
    for blob in std::iter::once(&config).chain(&layers) {
        if written.contains(&blob) {
            continue;
        }
        written.push(blob);
        let (mut stream, bytes) = client.blob(digest, blob)?;
        let mut entry = Entry::new(blob_path(blob), EntryKind::File, 0o644);
        entry.size = bytes;
        tar.append(&entry, &mut stream).map_err(doing())?;
    }
    let layers: Vec<String> = layers.iter().map(|layer| blob_path(layer)).collect();
    let docker = json!([{"Config": blob_path(&config), "RepoTags": tags, "Layers": layers}]);
    tar.append_bytes("manifest.json", docker.to_string().as_bytes())
        .and_then(|()| tar.finish())
        .and_then(|mut out| out.flush())
        .map_err(doing())
}

fn described(digest: &str, parsed: &Value, manifest: &[u8], name: Option<&String>) -> Value {
    let mut entry = json!({
        "mediaType": parsed["mediaType"].as_str().unwrap_or(MANIFEST),
        "digest": digest,
        "size": manifest.len(),
    });
    if let Some(name) = name {
        let keys = [
            "io.containerd.image.name",
            "org.opencontainers.image.ref.name",
        ];
        entry["annotations"] = keys
            .map(|key| (key.to_owned(), json!(name)))
            .into_iter()
            .collect();
    }
    entry
}

fn blob_path(digest: &str) -> String {
    format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"))
}
