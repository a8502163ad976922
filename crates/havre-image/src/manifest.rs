//! Manifests and indexes, of the OCI and of Docker; the two differ in media types only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Media types.
pub mod media {
    /// An OCI manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker's manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's index.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The configuration document.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker's name for the configuration document.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A layer, uncompressed.
    pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer, gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer, zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker's name for a gzip layer.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's name for an uncompressed layer.
    pub const DOCKER_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker's name for a zstd layer, as some builders write it.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

    /// The media type stands for an image.
    pub fn is_manifest(text: &str) -> bool {
        matches!(text, MANIFEST | DOCKER_MANIFEST)
    }

    /// The media type stands for a choice of images.
    pub fn is_index(text: &str) -> bool {
        matches!(text, INDEX | DOCKER_INDEX)
    }

    /// The media type stands for a layer this store can unpack.
    pub fn is_layer(text: &str) -> bool {
        matches!(
            text,
            LAYER_TAR
                | LAYER_GZIP
                | LAYER_ZSTD
                | DOCKER_LAYER_GZIP
                | DOCKER_LAYER_TAR
                | DOCKER_LAYER_ZSTD
        )
    }
}

/// Names a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its address.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// For which machine, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Remarks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Without platform and remarks.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// A kind of machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go names it: `amd64`.
    pub architecture: String,
    /// As Go names it: `linux`.
    pub os: String,
    /// Variant, e.g. `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The machine this runs on.
    pub fn of_this_machine() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: None,
        }
    }

    /// An image for `offered` runs where `self` is wanted.
    pub fn accepts(&self, offered: &Self) -> bool {
        self.architecture == offered.architecture
            && self.os == offered.os
            && (self.variant.is_none() || self.variant == offered.variant)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl std::str::FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
            _ => {
                return Err(PlatformError {
                    text: text.to_owned(),
                });
            }
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(PlatformError {
                text: text.to_owned(),
            });
        }
        Ok(Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant,
        })
    }
}

/// A text that names no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a platform (os/architecture[/variant], e.g. linux/amd64)")]
pub struct PlatformError {
    /// What was given.
    pub text: String,
}

/// A manifest: one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What it is; old OCI writers leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The configuration document.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(deserialize_with = "crate::limits::layers")]
    pub layers: Vec<Descriptor>,
    /// Remarks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An index: images for several machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// What it is; old OCI writers leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The choice.
    #[serde(deserialize_with = "crate::limits::images")]
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// The entry for `platform`; an entry without a platform counts only when it is the only one.
    pub fn choose(&self, platform: &Platform) -> Option<&Descriptor> {
        let images: Vec<&Descriptor> = self
            .manifests
            .iter()
            .filter(|entry| media::is_manifest(&entry.media_type))
            .collect();
        images
            .iter()
            .find(|entry| entry.platform.as_ref().is_some_and(|p| platform.accepts(p)))
            .copied()
            .or(match images[..] {
                [only] if only.platform.is_none() => Some(only),
                _ => None,
            })
    }

    /// The platforms on offer, for an error message.
    pub fn platforms(&self) -> Vec<String> {
        self.manifests
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .filter(|platform| platform.os != "unknown")
            .map(Platform::to_string)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(platform: Option<&str>) -> Descriptor {
        Descriptor {
            platform: platform.map(|text| text.parse().unwrap()),
            ..Descriptor::new(media::MANIFEST, Digest::of(b"x"), 1)
        }
    }

    fn choose(offered: &[Option<&str>], wanted: &str) -> Option<usize> {
        let index = Index {
            schema_version: 2,
            media_type: None,
            manifests: offered.iter().map(|platform| entry(*platform)).collect(),
        };
        let chosen = index.choose(&wanted.parse().unwrap())?.clone();
        index.manifests.iter().position(|entry| *entry == chosen)
    }

    #[test]
    fn the_entry_for_the_machine_is_chosen() {
        let offered = [
            Some("linux/arm64/v8"),
            Some("unknown/unknown"),
            Some("linux/amd64"),
        ];
        assert_eq!(choose(&offered, "linux/amd64"), Some(2));
        assert_eq!(choose(&offered, "linux/arm64"), Some(0));
        assert_eq!(choose(&offered, "linux/s390x"), None);
        assert_eq!(choose(&[None], "linux/amd64"), Some(0));
        assert_eq!(choose(&[None, None], "linux/amd64"), None);
    }
}
