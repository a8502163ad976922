//! From layers to overlays and back.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use havre_image::manifest::media;
use havre_image::overlay::{Overlay, Writable};
use havre_image::{Digest, Entry, EntryKind, ImageConfig, Images, Layer, LayerError};

use crate::support::{
    Fixture, file, folder, hard_link, link, listing, node, reference, tar, wait_until,
};

/// Runs `change` in a shell whose working folder is an overlay of `lower` with a fresh upper;
/// the mount lives in a namespace of its own. Returns the upper.
fn change(images: &Images, lower: Vec<PathBuf>, change: &str) -> PathBuf {
    let scratch = images.scratch().unwrap().keep();
    let writable = Writable {
        upper: scratch.join("upper"),
        work: scratch.join("work"),
    };
    let target = scratch.join("merged");
    for dir in [&writable.upper, &writable.work, &target] {
        fs::create_dir(dir).unwrap();
    }
    let upper = writable.upper.clone();
    let overlay = Overlay {
        lower,
        upper: Some(writable),
    };
    let change = change.to_owned();
    apart(move || {
        overlay.mount(&target).unwrap();
        let status = Command::new("sh")
            .args(["-ec", &change])
            .current_dir(&target)
            .status()
            .unwrap();
        assert!(status.success(), "{change}");
    });
    upper
}

/// Runs `work` in a mount namespace of its own, which goes away with all its mounts.
fn apart(work: impl FnOnce() + Send + 'static) {
    // unshare(2) is for the calling thread only.
    std::thread::spawn(move || {
        // SAFETY: a mount namespace of its own concerns no memory; the thread ends below.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        rustix::mount::mount_change(
            "/",
            rustix::mount::MountPropagationFlags::PRIVATE
                | rustix::mount::MountPropagationFlags::REC,
        )
        .unwrap();
        work();
    })
    .join()
    .unwrap();
}

/// What a container on these layers sees, as `find` tells it.
fn view(images: &Images, lower: Vec<PathBuf>) -> String {
    let list = images.scratch().unwrap();
    let out = list.path().join("list");
    let command = format!(
        "find . -mindepth 1 -printf '%p %y %m %U:%G %l\\n' | sort > {}",
        out.display()
    );
    change(images, lower, &command);
    fs::read_to_string(out).unwrap()
}

fn base(fixture: &Fixture) -> (Vec<PathBuf>, Vec<Layer>) {
    let bytes = tar(&[
        folder("./"),
        folder("etc/"),
        file("etc/motd", "hello"),
        folder("var/"),
        folder("var/log/"),
        file("var/log/a", "1"),
        file("var/log/b", "2"),
    ]);
    let image = fixture.image("base", &[bytes]);
    (
        fixture.images.ensure_unpacked(&image).unwrap(),
        image.layers,
    )
}

#[test]
fn what_a_step_changed_travels_and_looks_the_same_elsewhere() {
    let here = Fixture::new();
    let (lower, layers) = base(&here);
    let upper = change(
        &here.images,
        lower,
        "rm etc/motd; rm -r var/log; mkdir var/log; echo 3 > var/log/c; ln var/log/c var/log/d; \
         ln -s /etc/x l; mkfifo p; echo long > $(printf 'n%.0s' $(seq 180)); \
         chown 9:8 var/log/c; chmod 4711 var/log/c; mkdir -p 'ü/ß'; touch -d @5 'ü/ß'",
    );
    let top = here
        .images
        .layer_from_upper(&upper, Some(layers[0].chain_id))
        .unwrap();
    assert!(!upper.exists(), "the upper is moved, not copied");
    let layers = [layers, vec![top.clone()]].concat();
    let image = here
        .images
        .commit_image(Default::default(), &layers, &reference("changed"))
        .unwrap();
    let seen_here = view(&here.images, here.images.ensure_unpacked(&image).unwrap());
    assert!(
        !here.images.has_blob(&top.digest),
        "nothing is written until somebody asks"
    );

    let there = Fixture::new();
    for layer in &image.layers {
        let mut travelling = here.images.open_layer(layer).unwrap();
        there
            .images
            .write_blob(&mut travelling, Some(&layer.digest))
            .unwrap();
    }
    let seen_there = view(&there.images, there.images.ensure_unpacked(&image).unwrap());
    assert_eq!(seen_here, seen_there);
    assert!(seen_here.contains("./var/log/c f 4711 9:8"), "{seen_here}");
    assert!(seen_here.contains("./l l 777 0:0 /etc/x"), "{seen_here}");
    assert!(
        !seen_here.contains("motd") && !seen_here.contains("log/a"),
        "{seen_here}"
    );
    let c = fs::metadata(
        there
            .path("layers")
            .join(top.chain_id.hex())
            .join("fs/var/log/c"),
    );
    assert_eq!(c.unwrap().nlink(), 2);
}

#[test]
fn the_same_change_makes_the_same_layer() {
    let digests: Vec<Digest> = (0..2)
        .map(|_| {
            let fixture = Fixture::new();
            let (lower, layers) = base(&fixture);
            let upper = change(
                &fixture.images,
                lower,
                "rm etc/motd; for i in z y x a; do echo $i > $i; done; \
                 touch -d @1000 z y x a etc .",
            );
            let parent = Some(layers[0].chain_id);
            fixture
                .images
                .layer_from_upper(&upper, parent)
                .unwrap()
                .digest
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn gnu_tar_reads_our_layers() {
    let fixture = Fixture::new();
    let (lower, layers) = base(&fixture);
    let upper = change(
        &fixture.images,
        lower,
        "rm etc/motd; echo x > $(printf 'n%.0s' $(seq 150)); touch -d @-5 before",
    );
    let layer = fixture
        .images
        .layer_from_upper(&upper, Some(layers[0].chain_id))
        .unwrap();
    drop(fixture.images.open_layer(&layer).unwrap());
    let output = Command::new("tar")
        .arg("tf")
        .arg(fixture.images.blob_path(&layer.digest))
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let listed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        listed,
        format!("before\netc/\netc/.wh.motd\n{}\n", "n".repeat(150))
    );
}

#[test]
fn a_change_that_was_made_before_is_one_layer() {
    let fixture = Fixture::new();
    let (lower, layers) = base(&fixture);
    let parent = Some(layers[0].chain_id);
    let make = || {
        let upper = change(&fixture.images, lower.clone(), "echo 1 > n; touch -d @9 n");
        fixture.images.layer_from_upper(&upper, parent).unwrap()
    };
    assert_eq!(make(), make());
    assert_eq!(fixture.listing("layers").len(), 2);
}

#[test]
fn an_upper_that_a_layer_cannot_say_is_refused() {
    let fixture = Fixture::new();
    for command in ["mknod sda b 8 0", "touch .wh.x"] {
        let upper = change(&fixture.images, base(&fixture).0, command);
        let error = fixture.images.layer_from_upper(&upper, None).unwrap_err();
        assert!(
            matches!(error, LayerError::Diff { .. }),
            "{command}: {error}"
        );
    }
    let error = fixture
        .images
        .layer_from_upper(Path::new("/nowhere"), Some(Digest::of(b"?")))
        .unwrap_err();
    assert!(matches!(error, LayerError::Missing { .. }), "{error}");
}

#[test]
fn upper_layers_hide_what_they_remove() {
    let fixture = Fixture::new();
    let image = fixture.image(
        "layers",
        &[
            tar(&[
                folder("a"),
                file("a/1", "1"),
                file("b", "b"),
                folder("c"),
                file("c/1", "1"),
            ]),
            tar(&[
                file("a/.wh..wh..opq", ""),
                file("a/2", "2"),
                file(".wh.b", ""),
                file(".wh.c", ""),
            ]),
            tar(&[
                folder("c"),
                file("c/2", "2"),
                link("l", "a"),
                hard_link("h", "c/2"),
            ]),
            tar(&[node("f", EntryKind::Fifo)]),
        ],
    );
    let lower = fixture.images.ensure_unpacked(&image).unwrap();
    assert_eq!(lower.len(), 4);
    let seen = view(&fixture.images, lower);
    let paths: Vec<&str> = seen
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(paths, ["./a", "./a/2", "./c", "./c/2", "./f", "./h", "./l"]);
}

#[test]
fn a_single_layer_can_be_mounted_read_only() {
    let fixture = Fixture::new();
    let overlay = Overlay {
        lower: base(&fixture).0,
        upper: None,
    };
    let target = fixture.images.scratch().unwrap().keep();
    apart(move || {
        overlay.mount(&target).unwrap();
        assert_eq!(
            fs::read_to_string(target.join("etc/motd")).unwrap(),
            "hello"
        );
        let error = fs::write(target.join("new"), "").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    });
}

#[test]
fn an_image_without_layers_has_an_empty_one() {
    let fixture = Fixture::new();
    let image = fixture.image("scratch", &[]);
    let lower = fixture.images.ensure_unpacked(&image).unwrap();
    assert_eq!(view(&fixture.images, lower), "");
}

#[test]
fn content_that_is_not_what_the_configuration_says_is_not_kept() {
    let fixture = Fixture::new();
    let mut image = fixture.image("liar", &[tar(&[file("a", "1")])]);
    image.layers[0].diff_id = Digest::of(b"other");
    image.layers[0].chain_id = Digest::of(b"other");
    let error = fixture.images.ensure_unpacked(&image).unwrap_err();
    assert!(matches!(error, LayerError::DiffId { .. }), "{error}");
    assert!(fixture.listing("layers").is_empty());
    assert!(fixture.listing("tmp").is_empty());
}

#[test]
fn a_blob_that_was_damaged_on_disk_is_not_unpacked() {
    let fixture = Fixture::new();
    let image = fixture.image("damaged", &[tar(&[file("a", "1")])]);
    let path = fixture.images.blob_path(&image.layers[0].digest);
    let mut bytes = fs::read(&path).unwrap();
    bytes[512] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = fixture.images.ensure_unpacked(&image).unwrap_err();
    assert!(matches!(error, LayerError::Blob { .. }), "{error}");
    assert!(fixture.listing("layers").is_empty());
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let mount = tempfile::tempdir().unwrap();
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
        .arg(mount.path())
        .status()
        .unwrap();
    assert!(status.success());
    let result = std::panic::catch_unwind(|| {
        let store = std::sync::Arc::new(
            havre_store::Store::open(&mount.path().join("state.db"), &[havre_image::SCHEMA])
                .unwrap(),
        );
        let images = Images::open(mount.path(), store).unwrap();
        let mut big = std::io::Read::take(std::io::repeat(7), 16 << 20);
        let error = images.write_blob(&mut big, None).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("No space left"), "{error}: {cause}");
        assert!(listing(&mount.path().join("tmp")).is_empty());

        // A small blob that unpacks to more than there is room for.
        let bytes = tar(&[(
            Entry::new("big", EntryKind::File, 0o644),
            &"7".repeat(16 << 20),
        )]);
        let packed = zstd::encode_all(&bytes[..], 1).unwrap();
        let (digest, size) = images.write_blob(&mut &packed[..], None).unwrap();
        let diff_id = Digest::of(&bytes);
        let layer = Layer {
            digest,
            size,
            media_type: media::LAYER_ZSTD.to_owned(),
            diff_id,
            chain_id: diff_id,
        };
        let config = ImageConfig::for_this_machine();
        let image = images
            .commit_image(config, &[layer], &reference("big"))
            .unwrap();
        let error = images.ensure_unpacked(&image).unwrap_err();
        let text = crate::support::chain(&error);
        assert!(
            text.contains("No space left") && text.contains("\"big\""),
            "{text}"
        );
        assert!(listing(&mount.path().join("tmp")).is_empty());
        assert!(listing(&mount.path().join("layers")).is_empty());
        // What was written counts until a process that another test forks lets go of it.
        let removed = || images.remove(&reference("big")).is_ok();
        wait_until("room for a change", removed);
        assert!(listing(&mount.path().join("blobs/sha256")).is_empty());
    });
    let status = Command::new("umount")
        .arg("-l")
        .arg(mount.path())
        .status()
        .unwrap();
    assert!(status.success());
    result.unwrap();
}
