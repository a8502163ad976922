//! What several tests share: a store of their own and hand-made layers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use havre_image::manifest::media;
use havre_image::{Entry, EntryKind, Image, ImageConfig, ImageRef, Images, Layer, TarWriter};
use havre_store::Store;
use tempfile::TempDir;

/// A store in a folder of its own.
pub struct Fixture {
    pub dir: TempDir,
    pub images: Images,
    pub store: Arc<Store>,
}

impl Fixture {
    /// Images are still there, but no name stands for one.
    pub fn forget_names(&self) {
        let forgotten = self
            .store
            .run("forget names", |db| db.execute("DELETE FROM images", []));
        assert!(forgotten.unwrap() > 0);
    }

    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store =
            Arc::new(Store::open(&dir.path().join("state.db"), &[havre_image::SCHEMA]).unwrap());
        let images = Images::open(&dir.path().join("images"), store.clone()).unwrap();
        Self { dir, images, store }
    }

    /// Closes and opens the store again, as after a restart of the daemon.
    pub fn reopen(self) -> Self {
        let Self { dir, images, store } = self;
        drop(images);
        let images = Images::open(&dir.path().join("images"), store.clone()).unwrap();
        Self { dir, images, store }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("images").join(below)
    }

    /// An image of uncompressed layers, stored as blobs and not unpacked.
    pub fn image(&self, name: &str, layers: &[Vec<u8>]) -> Image {
        let mut below = None;
        let layers: Vec<Layer> = layers
            .iter()
            .map(|tar| {
                let (digest, size) = self.images.write_blob(&mut tar.as_slice(), None).unwrap();
                let chain_id = havre_image::chain_id(below.as_ref(), &digest);
                below = Some(chain_id);
                Layer {
                    digest,
                    media_type: media::LAYER_TAR.to_owned(),
                    size,
                    diff_id: digest,
                    chain_id,
                }
            })
            .collect();
        self.images
            .commit_image(ImageConfig::for_this_machine(), &layers, &reference(name))
            .unwrap()
    }

    /// Names of what lies in a folder of the store.
    pub fn listing(&self, below: &str) -> Vec<String> {
        listing(&self.path(below))
    }
}

pub fn reference(name: &str) -> ImageRef {
    name.parse().unwrap()
}

pub fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A tar of these entries with their contents.
pub fn tar(entries: &[(Entry, &str)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        let mut entry = entry.clone();
        entry.size = content.len() as u64;
        writer.append(&entry, &mut content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

pub fn file(path: &str, content: &'static str) -> (Entry, &'static str) {
    (Entry::new(path, EntryKind::File, 0o644), content)
}

pub fn folder(path: &str) -> (Entry, &'static str) {
    (Entry::new(path, EntryKind::Directory, 0o755), "")
}

pub fn link(path: &str, target: &str) -> (Entry, &'static str) {
    let mut entry = Entry::new(path, EntryKind::Symlink, 0o777);
    entry.link = target.into();
    (entry, "")
}

pub fn hard_link(path: &str, target: &str) -> (Entry, &'static str) {
    let mut entry = Entry::new(path, EntryKind::HardLink, 0o644);
    entry.link = target.into();
    (entry, "")
}

pub fn node(path: &str, kind: EntryKind) -> (Entry, &'static str) {
    (Entry::new(path, kind, 0o666), "")
}

/// Whether `program` is there; says so when not, for CI to count.
pub fn needs(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        println!("skipped: needs {program}");
    }
    found
}

/// Runs a program that must succeed; returns its output.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = std::process::Command::new(program)
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// An error with all its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        text.push_str(": ");
        text.push_str(&current.to_string());
        cause = current.source();
    }
    text
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} took too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}
