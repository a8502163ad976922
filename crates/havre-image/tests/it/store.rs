//! Names, leases, pruning, and what a killed process leaves.

use std::fs;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::Duration;

use havre_image::{Digest, Image, Images, OpenError, PruneError, PrunePolicy};

use crate::support::{Fixture, file, reference, tar};

const NOW: PrunePolicy = PrunePolicy {
    older_than: Duration::ZERO,
    keep_build_cache: true,
    unused_names: false,
    budget: None,
};

fn unpacked(fixture: &Fixture, name: &str, layers: &[Vec<u8>]) -> Image {
    let image = fixture.image(name, layers);
    fixture.images.ensure_unpacked(&image).unwrap();
    image
}

fn a() -> Vec<u8> {
    tar(&[file("a", "1")])
}

fn b() -> Vec<u8> {
    tar(&[file("b", "2")])
}

#[test]
fn names_move_and_are_listed() {
    let fixture = Fixture::new();
    let one = fixture.image("app:1", &[a()]);
    let two = fixture.image("app:2", &[a(), b()]);
    assert_ne!(one.manifest_digest, two.manifest_digest);
    fixture
        .images
        .tag(&reference("app:1"), two.manifest_digest)
        .unwrap();
    let found = fixture
        .images
        .resolve(&reference("docker.io/library/app:1"))
        .unwrap();
    assert_eq!(found, Some(two));
    assert_eq!(fixture.images.resolve(&reference("app:3")).unwrap(), None);
    let names: Vec<String> = fixture
        .images
        .list()
        .unwrap()
        .iter()
        .map(|named| named.reference.to_string())
        .collect();
    assert_eq!(names, ["app:1", "app:2"]);
}

#[test]
fn the_same_image_has_the_same_digest() {
    let one = Fixture::new().image("x", &[a(), b()]);
    let two = Fixture::new().image("y", &[a(), b()]);
    assert_eq!(one, two);
}

#[test]
fn a_name_is_given_to_complete_images_only() {
    let fixture = Fixture::new();
    let image = fixture.image("app", &[a()]);
    fs::remove_file(fixture.images.blob_path(&image.layers[0].digest)).unwrap();
    let error = fixture
        .images
        .tag(&reference("other"), image.manifest_digest)
        .unwrap_err();
    assert!(error.to_string().contains("cannot read image"), "{error}");
    assert_eq!(fixture.images.resolve(&reference("other")).unwrap(), None);
}

#[test]
fn removing_a_name_frees_what_nothing_else_needs() {
    let fixture = Fixture::new();
    unpacked(&fixture, "one", &[a()]);
    let two = unpacked(&fixture, "two", &[a(), b()]);
    let freed = fixture.images.remove(&reference("two")).unwrap();
    // Manifest, configuration, one layer; the other layer is shared.
    assert_eq!((freed.blobs, freed.layers), (3, 1));
    assert!(freed.bytes > 0);
    assert!(fixture.images.has_blob(&two.layers[0].digest));
    assert!(!fixture.images.has_blob(&two.layers[1].digest));
    let error = fixture.images.remove(&reference("two")).unwrap_err();
    assert!(matches!(error, PruneError::NoSuchName { .. }), "{error}");
    fixture.images.remove(&reference("one")).unwrap();
    assert!(fixture.listing("blobs/sha256").is_empty());
    assert!(fixture.listing("layers").is_empty());
    assert!(fixture.listing("tmp").is_empty());
}

#[test]
fn a_lease_outweighs_removal_and_survives_a_restart() {
    let fixture = Fixture::new();
    let image = unpacked(&fixture, "app", &[a(), b()]);
    fixture.images.lease("container-1", &[&image]).unwrap();
    let fixture = fixture.reopen();
    fixture.images.remove(&reference("app")).unwrap();
    fixture.images.prune(&NOW).unwrap();
    let holders = fixture.images.holders(&image.manifest_digest).unwrap();
    assert_eq!(holders, ["container-1"]);
    assert_eq!(fixture.images.image(image.manifest_digest).unwrap(), image);
    assert_eq!(fixture.listing("layers").len(), 2);
    fixture.images.release("container-1").unwrap();
    let freed = fixture.images.prune(&NOW).unwrap();
    assert_eq!((freed.blobs, freed.layers), (4, 2));
}

#[test]
fn what_is_said_of_an_image_lies_beside_it_and_goes_with_it() {
    const KIND: &str = "application/vnd.in-toto+json";
    let fixture = Fixture::new();
    let image = unpacked(&fixture, "app", &[a()]);
    let digest = image.manifest_digest;
    let notes = [("a".to_owned(), "b".to_owned())].into();
    let said = fixture
        .images
        .attest(&digest, KIND, b"{\"x\": 1}", &notes)
        .unwrap();
    let again = fixture
        .images
        .attest(&digest, KIND, b"{\"x\": 1}", &notes)
        .unwrap();
    assert_eq!(said, again, "the same is kept once");
    let fixture = fixture.reopen();
    fixture.images.prune(&NOW).unwrap();
    let known = fixture.images.attestations(&digest).unwrap();
    assert_eq!(known, std::slice::from_ref(&said));
    let held = fixture.images.attested(&said).unwrap();
    assert_eq!(held, b"{\"x\": 1}");
    let manifest: serde_json::Value = fixture.images.read_json(&said.manifest, "it").unwrap();
    assert_eq!(manifest["artifactType"], KIND);
    assert_eq!(manifest["subject"]["digest"], digest.to_string());
    assert_eq!(manifest["layers"][0]["digest"], said.document.to_string());
    fixture.images.remove(&reference("app")).unwrap();
    fixture.images.prune(&NOW).unwrap();
    assert!(fixture.listing("blobs/sha256").is_empty());
    fixture.images.prune(&NOW).unwrap();
    assert!(fixture.images.attestations(&digest).unwrap().is_empty());
    let gone = fixture.images.attest(&digest, KIND, b"{}", &notes);
    assert!(gone.is_err(), "of what is not there nothing is said");
}

#[test]
fn a_held_image_that_cannot_be_read_keeps_its_layers() {
    let fixture = Fixture::new();
    let image = unpacked(&fixture, "app", &[a(), b()]);
    fixture.images.lease("container-1", &[&image]).unwrap();
    let path = fixture.images.blob_path(&image.manifest_digest);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, "{}").unwrap();
    assert!(fixture.images.remove(&reference("app")).is_err());
    for _ in 0..2 {
        let error = fixture.images.prune(&NOW).unwrap_err();
        assert!(matches!(error, PruneError::Mark(_)));
        assert_eq!(fixture.listing("layers").len(), 2);
    }
    fs::write(&path, whole).unwrap();
    fixture.images.prune(&NOW).unwrap();
    assert_eq!(fixture.images.image(image.manifest_digest).unwrap(), image);
    // One that is not there has nothing that could be kept by it.
    fs::remove_file(&path).unwrap();
    fixture.images.prune(&NOW).unwrap();
    assert!(fixture.listing("layers").is_empty());
}

#[test]
fn pruning_keeps_the_young_and_what_work_under_way_relies_on() {
    let fixture = Fixture::new();
    let image = unpacked(&fixture, "app", &[a()]);
    fixture.forget_names();
    let patient = PrunePolicy {
        older_than: Duration::from_secs(600),
        ..NOW
    };
    assert_eq!(fixture.images.prune(&patient).unwrap().blobs, 0);
    let hold = fixture.images.hold();
    // Relying on a layer that is there marks it as used.
    assert!(fixture.images.layer_paths(&image.layers).unwrap().is_some());
    assert_eq!(fixture.images.prune(&NOW).unwrap().layers, 0);
    drop(hold);
    let freed = fixture.images.prune(&NOW).unwrap();
    assert_eq!((freed.blobs, freed.layers), (3, 1));
}

#[test]
fn the_build_cache_holds_its_layers_until_it_is_dropped() {
    let fixture = Fixture::new();
    let image = unpacked(&fixture, "app", &[a(), b()]);
    let value = serde_json::to_string(&image.layers[1]).unwrap();
    let cached = fixture.store.run("cache a step", move |db| {
        db.execute("INSERT INTO build_cache VALUES ('step', ?1, 0, 0)", [value])
    });
    assert_eq!(cached.unwrap(), 1);
    fixture.forget_names();
    fixture.images.prune(&NOW).unwrap();
    assert_eq!(
        fixture.listing("layers").len(),
        2,
        "the layer below is needed too"
    );
    let all = PrunePolicy {
        keep_build_cache: false,
        ..NOW
    };
    // The clock of the cache counts whole seconds.
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    let mut dropped = 0;
    while dropped == 0 && std::time::Instant::now() < deadline {
        dropped = fixture.images.prune(&all).unwrap().cache_entries;
    }
    assert_eq!(dropped, 1);
    assert!(fixture.listing("layers").is_empty());
}

#[test]
fn names_nobody_runs_go_when_asked() {
    let fixture = Fixture::new();
    let held = fixture.image("held", &[a()]);
    fixture.image("idle", &[b()]);
    fixture.images.lease("c", &[&held]).unwrap();
    let all = PrunePolicy {
        unused_names: true,
        ..NOW
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    let mut names = Vec::new();
    while names.is_empty() && std::time::Instant::now() < deadline {
        names = fixture.images.prune(&all).unwrap().names;
    }
    assert_eq!(names, [reference("idle")]);
    assert!(
        fixture
            .images
            .resolve(&reference("held"))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_damaged_image_is_shown_can_be_removed_and_stops_pruning() {
    let fixture = Fixture::new();
    let image = fixture.image("damaged", &[a()]);
    fs::write(fixture.images.blob_path(&image.config_digest), "{}").unwrap();
    let listed = fixture.images.list().unwrap();
    assert!(listed[0].image.is_err());
    assert!(matches!(
        fixture.images.prune(&NOW).unwrap_err(),
        PruneError::Mark(_)
    ));
    fixture.images.remove(&reference("damaged")).unwrap();
    fixture.images.prune(&NOW).unwrap();
    assert!(fixture.listing("blobs/sha256").is_empty());
}

#[test]
fn what_a_killed_process_left_is_out_of_the_way_at_open() {
    let fixture = Fixture::new();
    let half = fixture.path("tmp/layer-half/fs/deep");
    fs::create_dir_all(&half).unwrap();
    fs::write(fixture.path("tmp/blob-half"), "x").unwrap();
    let fixture = fixture.reopen();
    assert!(fixture.listing("tmp").is_empty());
    assert_eq!(fixture.listing("leftovers").len(), 2);
    assert!(havre_image::remove_all_in(&fixture.images.set_aside()).is_empty());
    assert!(fixture.listing("leftovers").is_empty());
}

#[test]
fn one_process_at_a_time() {
    let fixture = Fixture::new();
    let error = Images::open(&fixture.path(""), fixture.store.clone()).err();
    assert!(matches!(error, Some(OpenError::InUse { .. })), "{error:?}");
}

/// Folder of the store that the child of the next test works in.
const CRASH_DIR: &str = "HAVRE_IMAGE_TEST_CRASH_DIR";

/// Not a test of its own: the process that `killed_at_any_instant` kills.
#[test]
fn crash_child() {
    let Some(dir) = std::env::var_os(CRASH_DIR) else {
        return;
    };
    let dir = std::path::PathBuf::from(dir);
    let store =
        Arc::new(havre_store::Store::open(&dir.join("state.db"), &[havre_image::SCHEMA]).unwrap());
    let images = Images::open(&dir.join("images"), store).unwrap();
    println!("ready");
    for round in 0_u32.. {
        let upper = images.scratch().unwrap().keep();
        for n in 0..20 {
            fs::write(upper.join(format!("f{n}")), format!("{round} {n}")).unwrap();
        }
        let layer = images.layer_from_upper(&upper, None).unwrap();
        let mut config = havre_image::ImageConfig::for_this_machine();
        config.author = Some(round.to_string());
        let name = reference(&format!("app:{}", round % 5));
        let image = images.commit_image(config, &[layer], &name).unwrap();
        let out = fs::File::create(dir.join("out.tar")).unwrap();
        images
            .export(&name, havre_image::ExportFormat::Oci, out)
            .unwrap();
        images.remove(&name).unwrap();
        images
            .import(
                &dir.join("out.tar"),
                None,
                &havre_image::progress::silent,
                &Default::default(),
            )
            .unwrap();
        images.lease(&format!("c{}", round % 3), &[&image]).unwrap();
        images.prune(&NOW).unwrap();
        println!("done");
    }
}

#[test]
fn killed_at_any_instant() {
    let dir = tempfile::tempdir().unwrap();
    let (mut blobs, mut layers, mut images_left) = (0, 0, 0);
    for round in 0..12_u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::crash_child", "--nocapture"])
            .env(CRASH_DIR, dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // From the first things it makes, and among others that it has made.
        let from = if round % 2 == 0 { "ready" } else { "done" };
        assert!(lines.any(|line| line.unwrap().contains(from)));
        // Not a wait for anything: the instant is what varies.
        std::thread::sleep(Duration::from_millis(20 + 13 * round));
        child.kill().unwrap();
        child.wait().unwrap();

        let store = Arc::new(
            havre_store::Store::open(&dir.path().join("state.db"), &[havre_image::SCHEMA]).unwrap(),
        );
        let images = Images::open(&dir.path().join("images"), store).unwrap();
        for path in fs::read_dir(dir.path().join("images/blobs/sha256")).unwrap() {
            let path = path.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(Digest::of(&fs::read(&path).unwrap()).hex(), name);
            blobs += 1;
        }
        for path in fs::read_dir(dir.path().join("images/layers")).unwrap() {
            layers += 1;
            let tree = path.unwrap().path().join("fs");
            assert_eq!(
                fs::read_dir(&tree).unwrap().count(),
                20,
                "{}",
                tree.display()
            );
        }
        for named in images.list().unwrap() {
            let image = named.image.unwrap();
            images.ensure_unpacked(&image).unwrap();
            images.open_layer(&image.layers[0]).unwrap();
            images_left += 1;
        }
        images.prune(&NOW).unwrap();
    }
    let seen = [blobs, layers, images_left];
    assert!(
        seen.iter().all(|count| *count > 0),
        "nothing to look at: {seen:?}"
    );
}
