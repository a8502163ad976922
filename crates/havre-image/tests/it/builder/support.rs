//! A store with a base image, a context folder, and one call that builds.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use havre_image::builder::{
    self, BaseImages, BuildError, BuildEvent, BuildRequest, DockerfileSource, FetchFuture,
};
use havre_image::overlay::Overlay;
use havre_image::{Image, ImageConfig, ImageRef, Images, Layer};
use havre_store::Store;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::UnshareFlags;
use tokio_util::sync::CancellationToken;

use super::runner::ChrootRunner;

/// Everything one test needs; gone with it.
pub struct Bench {
    pub images: Images,
    pub runner: ChrootRunner,
    pub context: PathBuf,
    pub cancel: CancellationToken,
    pub events: Mutex<Vec<BuildEvent>>,
    pub dir: tempfile::TempDir,
}

/// A registry that has nothing: a strict fake.
pub struct NoRegistry;

impl BaseImages for NoRegistry {
    fn fetch<'a>(&'a self, reference: &'a ImageRef, _: &'a CancellationToken) -> FetchFuture<'a> {
        Box::pin(async move {
            let host = reference.registry();
            Err(std::io::Error::other(format!("{host} is out of reach (fake)")).into())
        })
    }
}

impl Bench {
    /// An empty store and an empty context.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        Self::in_dir(dir)
    }

    pub fn in_dir(dir: tempfile::TempDir) -> Self {
        let store =
            Store::open(&dir.path().join("state.db"), &[havre_image::SCHEMA]).expect("a database");
        let images = Images::open(&dir.path().join("images"), Arc::new(store)).expect("a store");
        let context = dir.path().join("context");
        fs::create_dir_all(&context).expect("a folder");
        Self {
            images,
            runner: ChrootRunner::default(),
            context,
            cancel: CancellationToken::new(),
            events: Mutex::default(),
            dir,
        }
    }

    /// The same with the image `base:1`: busybox and a user.
    pub fn with_base() -> Self {
        let bench = Self::new();
        bench.make_base(ImageConfig::for_this_machine());
        bench
    }

    pub fn make_base(&self, config: ImageConfig) {
        let layer = self.busybox();
        let name = "base:1".parse().expect("a name");
        self.images
            .commit_image(config, &[layer], &name)
            .expect("an image");
    }

    /// An image whose lowest layer is that of `base:1`.
    pub fn image_of_layers(&self, name: &str, count: usize) {
        let mut layers = vec![self.busybox()];
        for number in 1..count {
            let scratch = self.images.scratch().expect("a folder");
            let root = scratch.path().join("root");
            fs::create_dir_all(root.join(format!("l{number}"))).expect("a folder");
            let below = layers.last().map(|layer: &Layer| layer.chain_id);
            let layer = self.images.layer_from_upper(&root, below);
            layers.push(layer.expect("a layer"));
        }
        let name = name.parse().expect("a name");
        self.images
            .commit_image(ImageConfig::for_this_machine(), &layers, &name)
            .expect("an image");
    }

    fn busybox(&self) -> Layer {
        let scratch = self.images.scratch().expect("a folder");
        let root = scratch.path().join("root");
        for folder in ["bin", "etc", "tmp", "root", "usr/share"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("busybox (apt-get install busybox-static)");
        for name in [
            "sh", "cat", "ls", "echo", "mkdir", "touch", "id", "sleep", "rm", "env", "wc",
        ] {
            symlink("busybox", root.join("bin").join(name)).expect("a link");
        }
        let passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n";
        fs::write(root.join("etc/passwd"), passwd).expect("a file");
        fs::write(
            root.join("etc/group"),
            "root:x:0:\napp:x:1001:\nweb:x:33:\n",
        )
        .expect("a file");
        self.images.layer_from_upper(&root, None).expect("a layer")
    }

    pub fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.context.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its mode");
        self
    }

    pub fn mode(&self, path: &str, mode: u32) -> &Self {
        let path = self.context.join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
        self
    }

    pub fn request(&self, dockerfile: &str) -> BuildRequest {
        BuildRequest {
            context: self.context.clone(),
            dockerfile: DockerfileSource::Inline(dockerfile.to_owned()),
            target: None,
            args: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            tags: vec!["built:1".parse().expect("a name")],
            names: havre_image::NameRights::everything(),
            no_cache: false,
            pull: false,
            host_ca: None,
            secrets: BTreeMap::new(),
            contexts: BTreeMap::new(),
            steps: builder::StepSettings::default(),
            reach: builder::Reach::everything(),
        }
    }

    pub fn try_request(&self, request: &BuildRequest) -> Result<Image, BuildError> {
        self.events.lock().expect("no panic").clear();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(builder::build(
            &self.images,
            &NoRegistry,
            &self.runner,
            request,
            &|event| self.events.lock().expect("no panic").push(event),
            &self.cancel,
        ))
    }

    pub fn try_build(&self, dockerfile: &str) -> Result<Image, BuildError> {
        self.try_request(&self.request(dockerfile))
    }

    pub fn build(&self, dockerfile: &str) -> Image {
        self.try_build(dockerfile)
            .unwrap_or_else(|error| panic!("{}", report(&error)))
    }

    /// How many commands ran so far.
    pub fn ran(&self) -> u32 {
        self.runner.ran.load(Ordering::SeqCst)
    }

    /// For every instruction of the last build: whether it came from the cache.
    pub fn cached(&self) -> Vec<bool> {
        let events = self.events.lock().expect("no panic");
        let done = events.iter().filter_map(|event| match event {
            BuildEvent::StepDone { cached, .. } => Some(*cached),
            _ => None,
        });
        done.collect()
    }

    pub fn output(&self) -> Vec<String> {
        let events = self.events.lock().expect("no panic");
        let lines = events.iter().filter_map(|event| match event {
            BuildEvent::StepOutput { text, .. } => Some(text.clone()),
            _ => None,
        });
        lines.collect()
    }

    pub fn warnings(&self) -> Vec<String> {
        let events = self.events.lock().expect("no panic");
        let lines = events.iter().filter_map(|event| match event {
            BuildEvent::Warning { message, .. } => Some(message.clone()),
            _ => None,
        });
        lines.collect()
    }

    /// What a container of the image would see, one line per file: `path mode uid:gid what`.
    pub fn tree(&self, image: &Image) -> Vec<String> {
        self.look(image, |root| {
            let mut lines = Vec::new();
            list(root, Path::new(""), &mut lines);
            lines
        })
    }

    /// The text of a file of the image.
    pub fn text(&self, image: &Image, path: &str) -> String {
        self.look(image, |root| {
            fs::read_to_string(root.join(path)).unwrap_or_else(|error| format!("{path}: {error}"))
        })
    }

    /// Names in the uppermost layer.
    pub fn top_layer(&self, image: &Image) -> Vec<String> {
        let lower = self.images.ensure_unpacked(image).expect("its layers");
        let mut lines = Vec::new();
        list(&lower[0], Path::new(""), &mut lines);
        lines
            .into_iter()
            .map(|line| line.split(' ').next().unwrap_or("").to_owned())
            .collect()
    }

    fn look<T: Send>(&self, image: &Image, look: impl FnOnce(&Path) -> T + Send) -> T {
        let mut lower = self.images.ensure_unpacked(image).expect("its layers");
        let empty = tempfile::tempdir().expect("a folder");
        // A read-only overlay takes two layers at least.
        lower.push(empty.path().to_owned());
        let target = tempfile::tempdir().expect("a folder");
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                // SAFETY: this thread was made for the mount and shares no descriptor table anew.
                unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
                    .expect("a namespace");
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                mount_change("/", private).expect("a private tree");
                Overlay { lower, upper: None }
                    .mount(target.path())
                    .expect("a mount");
                let seen = look(target.path());
                unmount(target.path(), UnmountFlags::empty()).expect("it is unmounted");
                seen
            });
            worker.join().expect("no panic")
        })
    }
}

fn list(root: &Path, folder: &Path, lines: &mut Vec<String>) {
    let mut names: Vec<_> = fs::read_dir(root.join(folder))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    for name in names {
        let path = folder.join(name);
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).expect("its metadata");
        let what = if meta.is_dir() {
            "/".to_owned()
        } else if meta.is_symlink() {
            format!("-> {}", fs::read_link(&full).expect("a link").display())
        } else if meta.is_file() && meta.len() < 100 {
            format!("{:?}", fs::read_to_string(&full).expect("text"))
        } else {
            "…".to_owned()
        };
        lines.push(format!(
            "{} {:o} {}:{} {what}",
            path.display(),
            meta.mode() & 0o7777,
            meta.uid(),
            meta.gid()
        ));
        if meta.is_dir() {
            list(root, &path, lines);
        }
    }
}

/// An error with all that is below it.
pub fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
