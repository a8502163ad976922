//! What is said of an image, beside it: a document, and a manifest whose `subject` is the image's (OCI image specification
//! 1.1, referrers). It is found by the image's digest, and goes with the image.

use std::collections::BTreeMap;

use havre_store::StoreError;
use serde::Serialize;

use crate::Digest;
use crate::blobs::BlobError;
use crate::images::{ImageError, Images};
use crate::manifest::{Descriptor, media};
use crate::tables::Attestation;

/// Documents of one image; the oldest go.
const MOST: usize = 50;
/// Most bytes of one.
const MAX_DOCUMENT: usize = 1 << 20;
/// The configuration of what needs none.
const EMPTY: &[u8] = b"{}";
const EMPTY_MEDIA: &str = "application/vnd.oci.empty.v1+json";

/// Why nothing is kept.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// The image is not there.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A file.
    #[error("cannot keep a document about {subject}")]
    Blob {
        /// The image.
        subject: Digest,
        /// The reason.
        source: BlobError,
    },
    /// The database.
    #[error("cannot keep a document about an image")]
    Store(#[from] StoreError),
    /// It is too large.
    #[error("a document about an image has at most {MAX_DOCUMENT} bytes")]
    TooLarge,
}

/// A manifest that refers to another.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Referrer<'a> {
    schema_version: u32,
    media_type: &'static str,
    artifact_type: &'a str,
    config: Descriptor,
    layers: [Descriptor; 1],
    subject: Descriptor,
    annotations: &'a BTreeMap<String, String>,
}

impl Images {
    /// Keeps a document about an image for as long as the image is there. The same document is kept once. Blocks.
    pub fn attest(
        &self,
        image: &Digest,
        kind: &str,
        document: &[u8],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Attestation, AttestError> {
        if document.len() > MAX_DOCUMENT {
            return Err(AttestError::TooLarge);
        }
        let _hold = self.hold();
        // One that is gone has nothing that could be said of it.
        self.image(*image)?;
        let kept = |source| AttestError::Blob {
            subject: *image,
            source,
        };
        let blobs = &self.inner.blobs;
        let told = blobs.put(document).map_err(kept)?;
        let empty = blobs.put(EMPTY).map_err(kept)?;
        let size = |digest: &Digest| blobs.size(digest).unwrap_or_default();
        let subject = blobs.document(image).map_err(kept)?;
        let subject_media = serde_json::from_slice::<serde_json::Value>(&subject)
            .ok()
            .and_then(|manifest| manifest["mediaType"].as_str().map(str::to_owned));
        let subject_media = subject_media.unwrap_or_else(|| media::MANIFEST.to_owned());
        let referrer = Referrer {
            schema_version: 2,
            media_type: media::MANIFEST,
            artifact_type: kind,
            config: Descriptor::new(EMPTY_MEDIA, empty, EMPTY.len() as u64),
            layers: [Descriptor::new(kind, told, document.len() as u64)],
            subject: Descriptor::new(&subject_media, *image, size(image)),
            annotations,
        };
        // Serialising it cannot fail: keys are texts.
        let text = serde_json::to_vec(&referrer).unwrap_or_default();
        let manifest = blobs.put(&text).map_err(kept)?;
        let row = Attestation {
            manifest,
            document: told,
            kind: kind.to_owned(),
        };
        self.inner
            .tables
            .attestation_put(&image.to_string(), &row, MOST)?;
        Ok(row)
    }

    /// What is said of an image, the newest first. Blocks.
    pub fn attestations(&self, image: &Digest) -> Result<Vec<Attestation>, ImageError> {
        Ok(self.inner.tables.attestations(&image.to_string())?)
    }

    /// A document about an image. Blocks.
    pub fn attested(&self, attestation: &Attestation) -> Result<Vec<u8>, BlobError> {
        self.inner.blobs.document(&attestation.document)
    }

    /// Blobs of what is said of images that stay; what is said of others is forgotten with them.
    pub(crate) fn attesting(
        &self,
        stays: impl Fn(&Digest) -> bool,
    ) -> Result<Vec<Digest>, StoreError> {
        let mut found = Vec::new();
        for (subject, row) in self.inner.tables.all_attestations()? {
            if subject.parse().is_ok_and(|digest| stays(&digest)) {
                found.extend([row.manifest, row.document, Digest::of(EMPTY)]);
            }
        }
        Ok(found)
    }

    /// Forgets what was said of images that are gone.
    pub(crate) fn forget_attested(&self) -> Result<(), StoreError> {
        for (subject, _) in self.inner.tables.all_attestations()? {
            let is_gone = subject
                .parse()
                .is_ok_and(|digest| self.inner.blobs.is_gone(&digest));
            if is_gone {
                self.inner.tables.attestations_remove(&subject)?;
            }
        }
        Ok(())
    }
}
