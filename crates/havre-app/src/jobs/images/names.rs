//! What a job calls its images; kept beside the box's note, so that a daemon that follows knows them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use havre_base::Durability;
use havre_image::builder::NamedContext;
use havre_image::{Digest, ImageRef};
use havre_job::images::MAX_NAMES;
use serde::{Deserialize, Serialize};

const FILE: &str = "images.json";
const MAX_FILE: u64 = 4 << 20;

/// All images of a job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// By their full names: the manifest's digest.
    names: BTreeMap<String, String>,
    /// Digests of manifests, the oldest first.
    all: Vec<String>,
}

/// The names of a job's images.
pub(super) struct Names {
    folder: PathBuf,
    kept: Mutex<Kept>,
}

impl Names {
    pub(super) fn open(folder: PathBuf) -> Self {
        // There is none before the first image; one that is damaged is as good as none.
        let text = havre_base::read_small(&folder.join(FILE), MAX_FILE).unwrap_or_default();
        Self {
            folder,
            kept: Mutex::new(serde_json::from_str(&text).unwrap_or_default()),
        }
    }

    /// Keeps an image under names; returns all that are held.
    pub(super) fn give(&self, names: &[ImageRef], digest: Digest) -> io::Result<Vec<Digest>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = kept.clone();
        let digest = digest.to_string();
        let named = names.iter().map(|name| (name.canonical(), digest.clone()));
        next.names.extend(named);
        next.all.retain(|known| *known != digest);
        next.all.push(digest);
        if next.names.len() > MAX_NAMES || next.all.len() > MAX_NAMES {
            return Err(io::Error::other(format!(
                "this job has {MAX_NAMES} images already, which is the most"
            )));
        }
        let text = serde_json::to_vec(&next)?;
        let path = self.folder.join(FILE);
        havre_base::replace(&path, &text, 0o600, Durability::UntilReboot)?;
        *kept = next;
        Ok(kept.all.iter().filter_map(|it| it.parse().ok()).collect())
    }

    /// The image that a name or a digest stands for.
    pub(super) fn find(&self, text: &str) -> Option<Digest> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.all.iter().any(|known| known == text) {
            return text.parse().ok();
        }
        let reference: ImageRef = text.parse().ok()?;
        kept.names.get(&reference.canonical())?.parse().ok()
    }

    /// As FROM may name them, in full and in short.
    pub(super) fn contexts(&self) -> BTreeMap<String, NamedContext> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut contexts = BTreeMap::new();
        for (name, digest) in &kept.names {
            let (Ok(reference), Ok(digest)) = (name.parse::<ImageRef>(), digest.parse()) else {
                continue;
            };
            for form in forms(&reference) {
                contexts.insert(form, NamedContext::Stored(digest));
            }
        }
        contexts
    }
}

/// All ways to write a name with a tag.
fn forms(reference: &ImageRef) -> Vec<String> {
    let full = reference.canonical();
    let short = reference.to_string();
    let mut forms = vec![full, short];
    for form in forms.clone() {
        forms.extend(form.strip_suffix(":latest").map(str::to_owned));
    }
    forms.sort();
    forms.dedup();
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_and_found_in_every_form() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = Names::open(folder.path().to_owned());
        let digest = Digest::of(b"one");
        let reference = |text: &str| text.parse::<ImageRef>().expect("a name");
        let held = names.give(&[reference("app"), reference("r.example/a:1")], digest);
        assert_eq!(held.expect("kept"), [digest]);
        let again = Names::open(folder.path().to_owned());
        for text in [
            "app",
            "app:latest",
            "docker.io/library/app",
            "r.example/a:1",
        ] {
            assert_eq!(again.find(text), Some(digest), "{text}");
        }
        assert_eq!(again.find(&digest.to_string()), Some(digest));
        assert_eq!(again.find("r.example/a"), None);
        let contexts = again.contexts();
        for text in [
            "app",
            "app:latest",
            "docker.io/library/app",
            "r.example/a:1",
        ] {
            assert!(contexts.contains_key(text), "{text}: {contexts:?}");
        }
        let other = Digest::of(b"two");
        names.give(&[reference("app")], other).expect("moved");
        assert_eq!(names.find("app"), Some(other));
        assert_eq!(names.find(&digest.to_string()), Some(digest));
    }

    #[test]
    fn a_job_has_so_many_images_and_no_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = Names::open(folder.path().to_owned());
        for number in 0..MAX_NAMES {
            let digest = Digest::of(number.to_string().as_bytes());
            names.give(&[], digest).expect("kept");
        }
        let refused = names.give(&[], Digest::of(b"more")).expect_err("too many");
        assert!(refused.to_string().contains("256 images"), "{refused}");
    }
}
