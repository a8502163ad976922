//! `image` and `ca`.

use havre_api::*;
use havre_api::{Ca, ImageImport, ImagePrune, ImageRemove, Images};

use crate::fixtures::*;
use crate::program::World;

fn image() -> ImageSummary {
    ImageSummary {
        digest: "sha256:0123456789abcdef0123".into(),
        references: vec!["shop-web:latest".into(), "shop-web:1".into()],
        size_bytes: 123_456_789,
        created: Some(ago(7200)),
        used_by: vec!["shop/production".into()],
    }
}

#[test]
fn ls_has_a_row_per_name() {
    let nameless = ImageSummary {
        references: Vec::new(),
        used_by: Vec::new(),
        ..image()
    };
    let world = World::new(backend(1).call::<Images, _>(async |_| Ok(vec![image(), nameless])));
    insta::assert_snapshot!("image-ls", world.run(&["image", "ls"]).out);
}

#[test]
fn import_gives_the_daemon_an_absolute_path() {
    let world = World::new(backend(1).call::<ImageImport, _>(async |request| {
        assert!(request.path.is_absolute());
        assert_eq!(request.reference.as_deref(), Some("base:1"));
        Ok(ImageImportOutcome {
            images: vec![image()],
        })
    }));
    let ran = world.run(&["image", "import", "compose.yaml", "--tag", "base:1"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.err
            .contains("imported shop-web:latest, shop-web:1 (0123456789ab, 123 MB)")
    );
    assert_eq!(world.run(&["image", "import", "no-such-file"]).code, 6);
}

#[test]
fn removing_tells_what_stayed() {
    let world = World::new(
        backend(2)
            .call::<ImageRemove, _>(async |request| {
                assert_eq!(request.images, ["a", "b"]);
                Ok(ImageRemoveOutcome {
                    removed: vec!["a".into()],
                    freed_bytes: 5_000_000,
                    items: Vec::new(),
                    errors: vec!["b is used by shop/production".into()],
                })
            })
            .call::<ImagePrune, _>(async |request| {
                assert!(!request.all);
                Ok(ImageRemoveOutcome::default())
            }),
    );
    let ran = world.run(&["image", "rm", "a", "b"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "a\n"));
    assert!(
        ran.err.contains("caused by: b is used by shop/production"),
        "{}",
        ran.err
    );
    let ran = world.run(&["image", "prune"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, "freed 0 B\n"));
}

#[test]
fn the_certificate_is_data() {
    let pem = || {
        Ok(CaCertificate {
            pem: "-----BEGIN CERTIFICATE-----\n".into(),
        })
    };
    let world = World::new(
        backend(2)
            .call::<Ca, _>(async move |_| pem())
            .call::<Ca, _>(async move |_| pem()),
    );
    assert_eq!(
        world.run(&["ca", "export"]).out,
        "-----BEGIN CERTIFICATE-----\n"
    );
    let ran = world.run(&["ca", "export", "-o", "ca.pem"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    let written = std::fs::read_to_string(world.folder.path().join("ca.pem")).unwrap();
    assert_eq!(written, "-----BEGIN CERTIFICATE-----\n");
}

#[test]
fn a_dry_run_explains_each_item_and_removes_nothing() {
    let item = |what: &str, size_bytes, removed, why: &str| StoredItem {
        kind: StoredKind::Step,
        what: what.into(),
        size_bytes,
        used: Some(ago(7200)),
        removed,
        why: why.into(),
    };
    let outcome = move || ImageRemoveOutcome {
        items: vec![
            item("RUN small", 1000, false, "within the budget"),
            item(
                &"RUN x".repeat(30),
                2_000_000,
                true,
                "the build cache takes more than 1 MB",
            ),
        ],
        ..ImageRemoveOutcome::default()
    };
    let world = World::new(
        backend(2)
            .call::<ImagePrune, _>(async move |request| {
                assert!(request.dry_run && !request.all);
                Ok(outcome())
            })
            .call::<ImagePrune, _>(async move |request| {
                assert!(request.dry_run && request.all);
                Ok(outcome())
            }),
    );
    let ran = world.run(&["image", "prune", "--dry-run"]);
    insta::assert_snapshot!("image-prune-dry-run", ran.out);
    assert!(ran.err.contains("would free about 2 MB"), "{}", ran.err);
    let document = world
        .run(&["image", "prune", "--all", "--dry-run", "--json"])
        .json();
    assert_eq!(document["items"][0]["kind"], "step");
    assert_eq!(document["items"][1]["removed"], true);
}
