//! Pushes to Debian's docker-registry, and what it then has.

use std::fs::File;
use std::io;
use std::path::Path;

use havre_image::{
    BlobBytes, BlobSource, Credentials, Digest, Image, ImageConfig, Images, Login, PullOptions,
    PushError, PushOptions, Pushable,
};

use crate::registry::{Guard, Registry};
use crate::support::{Fixture, needs};

/// The store's blobs, but for one.
struct Blobs<'a> {
    images: &'a Images,
    image: &'a Image,
    lost: Option<Digest>,
}

impl BlobSource for Blobs<'_> {
    fn open(&self, digest: &Digest) -> io::Result<BlobBytes> {
        if self.lost == Some(*digest) {
            return Err(io::Error::other("it is lost"));
        }
        let layer = self.image.layers.iter().find(|it| it.digest == *digest);
        let file = match layer {
            Some(layer) => self.images.open_layer(layer).map_err(io::Error::other)?,
            None => File::open(self.images.blob_path(digest))?,
        };
        Ok(Box::new(tokio::fs::File::from_std(file)))
    }
}

/// An image of one layer, which was built here.
fn built(images: &Images, content: &str) -> Image {
    let scratch = images.scratch().unwrap();
    let upper = scratch.path().join("upper");
    std::fs::create_dir(&upper).unwrap();
    std::fs::write(upper.join("file"), content).unwrap();
    let layer = images.layer_from_upper(&upper, None).unwrap();
    let name = "built:1".parse().unwrap();
    let config = ImageConfig::for_this_machine();
    images.commit_image(config, &[layer], &name).unwrap()
}

async fn push(
    images: &Images,
    image: &Image,
    name: &str,
    options: &PushOptions,
    lost: Option<Digest>,
) -> (Result<(), PushError>, u64) {
    let document = std::fs::read(images.blob_path(&image.manifest_digest)).unwrap();
    let pushable = Pushable::read(document).unwrap();
    assert_eq!(pushable.digest(), image.manifest_digest);
    let source = Blobs {
        images,
        image,
        lost,
    };
    let sent = std::sync::atomic::AtomicU64::new(0);
    let tell = |_: &Digest, _: u64| {
        sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    };
    let reference = name.parse().unwrap();
    let pushed = pushable.push(&source, &reference, options, &tell).await;
    (pushed, sent.into_inner())
}

fn chain(error: &PushError) -> String {
    format!(
        "{}; {}",
        havre_base::one_line(error),
        error.hint().unwrap_or_default()
    )
}

#[tokio::test]
async fn what_was_pushed_is_what_was_built() {
    if !needs("docker-registry") {
        return;
    }
    let registry = Registry::start(Guard::Password);
    let (here, there) = (Fixture::new(), Fixture::new());
    // More than a buffer holds.
    let image = built(&here.images, &"content ".repeat(100_000));
    let name = format!("{}/acme/shop:1", registry.host);
    let options = |password: &str| PushOptions {
        credentials: Credentials::Login(Login {
            user: "u".to_owned(),
            password: password.to_owned(),
        }),
        certificates: Vec::new(),
    };
    let (refused, sent) = push(&here.images, &image, &name, &options("wrong"), None).await;
    let why = chain(&refused.unwrap_err());
    assert!(why.contains("the credentials of u are wrong"), "{why}");
    assert_eq!(sent, 0);
    let anonymous = push(&here.images, &image, &name, &PushOptions::default(), None).await;
    let why = chain(&anonymous.0.unwrap_err());
    assert!(why.contains("wants credentials"), "{why}");
    let (cut, _) = push(
        &here.images,
        &image,
        &name,
        &options("p"),
        Some(image.layers[0].digest),
    )
    .await;
    let why = chain(&cut.unwrap_err());
    assert!(why.contains("it is lost"), "{why}");
    let (pushed, sent) = push(&here.images, &image, &name, &options("p"), None).await;
    pushed.unwrap();
    assert!(sent >= 1, "{sent}");
    // All of it is there now: nothing is sent again, under another name either.
    let other = format!("{}/acme/shop:2", registry.host);
    let (pushed, sent) = push(&here.images, &image, &other, &options("p"), None).await;
    pushed.unwrap();
    assert_eq!(sent, 0);
    let pull = PullOptions {
        credentials: options("p").credentials,
        ..PullOptions::default()
    };
    let digest = image.manifest_digest;
    for name in [format!("{}/acme/shop@{digest}", registry.host), other] {
        let pulled = there.images.pull(&name.parse().unwrap(), &pull).await;
        let pulled = pulled.unwrap();
        assert_eq!(pulled.manifest_digest, digest);
        let layers = there.images.ensure_unpacked(&pulled).unwrap();
        assert_eq!(size(&layers[0].join("file")), 800_000);
    }
    let pinned = format!("{}/acme/shop@{digest}", registry.host);
    let (refused, _) = push(&here.images, &image, &pinned, &options("p"), None).await;
    let why = chain(&refused.unwrap_err());
    assert!(why.contains("has no digest"), "{why}");
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[tokio::test]
async fn an_image_that_is_fetched_without_a_name_has_none() {
    if !needs("docker-registry") {
        return;
    }
    let registry = Registry::start(Guard::None);
    let (here, there) = (Fixture::new(), Fixture::new());
    let image = built(&here.images, "x");
    let name = format!("{}/a/b:1", registry.host);
    let (pushed, _) = push(&here.images, &image, &name, &PushOptions::default(), None).await;
    pushed.unwrap();
    let options = PullOptions {
        named: false,
        ..PullOptions::default()
    };
    let reference = name.parse().unwrap();
    let pulled = there.images.pull(&reference, &options).await.unwrap();
    assert_eq!(pulled.manifest_digest, image.manifest_digest);
    assert!(there.images.resolve(&reference).unwrap().is_none());
}
