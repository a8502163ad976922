//! Trees from one folder to another, by pieces, over deaths and against liars.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use havre_sources::*;

const OWNER: &str = "shop.production";
const HOUR: Duration = Duration::from_secs(3600);

/// A folder with something of everything.
fn example(folder: &Path) {
    fs::create_dir_all(folder.join("src/deep")).unwrap();
    fs::write(folder.join("Dockerfile"), "FROM scratch\n").unwrap();
    fs::write(folder.join("src/deep/main.py"), vec![b'x'; 10_000]).unwrap();
    fs::write(folder.join("src/same.py"), vec![b'x'; 10_000]).unwrap();
    fs::write(folder.join("src/__init__.py"), "").unwrap();
    symlink("/etc/passwd", folder.join("absolute")).unwrap();
    symlink("src/same.py", folder.join("relative")).unwrap();
    let mode = |path: &str, mode| {
        fs::set_permissions(folder.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("src/same.py", 0o755);
    mode("src/deep", 0o500);
    mode("Dockerfile", 0o600);
}

fn offer(snapshot: &Snapshot) -> Vec<Offer> {
    vec![Offer {
        id: snapshot.tree.digest(),
        tree: Some(snapshot.tree.clone()),
    }]
}

/// Sends all that is lacking, in small pieces; says how many bytes that were.
fn send(store: &Store, owner: &str, snapshot: &Snapshot) -> u64 {
    let mut sent = 0;
    loop {
        let offered = store.offer(owner, offer(snapshot)).unwrap();
        assert_eq!(offered.unknown, []);
        if offered.lacking.is_empty() {
            return sent;
        }
        for file in offered.lacking {
            let found = snapshot.file(&file.digest).unwrap();
            let mut offset = file.have_bytes;
            while offset < found.size_bytes {
                let bytes = found.read(offset, 3000).unwrap();
                let digest = file.digest;
                let piece = Piece {
                    digest,
                    offset,
                    bytes: &bytes,
                };
                assert_eq!(
                    store.put(owner, &piece).unwrap(),
                    offset + bytes.len() as u64
                );
                offset += bytes.len() as u64;
                sent += bytes.len() as u64;
            }
        }
    }
}

/// All that a tree is to keep of a folder.
fn facts(folder: &Path) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let what = if found.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap())
        } else if found.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            format!("{:o}", found.mode())
        } else {
            format!("{:o} {:?}", found.mode(), fs::read(&path).unwrap())
        };
        let times = (found.mtime(), found.mtime_nsec());
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        facts.insert(name, format!("{what} {times:?}"));
    }
    facts
}

#[test]
fn a_tree_is_what_the_folder_was_and_is_sent_once() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    example(from.path());
    let store = Store::new(to.path().join("sources"));
    let snapshot = Snapshot::of_folder(from.path()).unwrap();
    let id = snapshot.tree.digest();
    let by_name = || vec![Offer { id, tree: None }];
    assert_eq!(store.offer(OWNER, by_name()).unwrap().unknown, [id]);
    // Content that is there twice is sent once.
    assert_eq!(send(&store, OWNER, &snapshot), 10_000 + 13);
    let made = store.path(OWNER, &id, "").unwrap();
    assert_eq!(facts(&made), facts(from.path()));
    assert_eq!(store.offer(OWNER, by_name()).unwrap(), Offered::default());
    assert_eq!(
        fs::read_dir(store.of(OWNER).join("parts")).unwrap().count(),
        0
    );
    // What has changed is sent, and nothing else.
    fs::write(from.path().join("src/new.py"), "print()").unwrap();
    let next = Snapshot::of_folder(from.path()).unwrap();
    assert_eq!(send(&store, OWNER, &next), 7);
    let made = store.path(OWNER, &next.tree.digest(), "").unwrap();
    assert_eq!(facts(&made), facts(from.path()));
    // Another environment has nothing of it.
    assert_eq!(
        store.offer("other.production", by_name()).unwrap().unknown,
        [id]
    );
    assert!(store.path("other.production", &id, "").is_err());
}

#[test]
fn an_upload_that_was_cut_goes_on_where_it_stopped() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(from.path().join("large"), vec![7; 10_000]).unwrap();
    let snapshot = Snapshot::of_folder(from.path()).unwrap();
    let folder = to.path().join("sources");
    let store = Store::new(folder.clone());
    let lacking = store.offer(OWNER, offer(&snapshot)).unwrap().lacking;
    let digest = lacking[0].digest;
    let put = |store: &Store, offset, bytes: &[u8]| {
        let piece = Piece {
            digest,
            offset,
            bytes,
        };
        store.put(OWNER, &piece)
    };
    assert_eq!(put(&store, 0, &[7; 4000]).unwrap(), 4000);
    // The daemon is another one now: it has the part, and awaits nothing yet.
    let store = Store::new(folder);
    let unawaited = put(&store, 4000, &[7; 10]);
    assert!(matches!(unawaited, Err(PutError::Unawaited { .. })));
    let lacking = store.offer(OWNER, offer(&snapshot)).unwrap().lacking;
    assert_eq!(lacking[0].have_bytes, 4000);
    assert!(matches!(
        put(&store, 0, &[7; 10]),
        Err(PutError::Elsewhere {
            have_bytes: 4000,
            ..
        })
    ));
    // A tree that was being made when somebody died is made anew.
    let id = snapshot.tree.digest();
    let trees = store.of(OWNER).join("trees");
    fs::create_dir_all(trees.join(format!("{id}.new/large"))).unwrap();
    fs::write(trees.join(format!("{id}.json")), "{").unwrap();
    assert_eq!(send(&store, OWNER, &snapshot), 6000);
    let made = store.path(OWNER, &id, "large").unwrap();
    assert_eq!(fs::read(made).unwrap(), vec![7; 10_000]);
}

#[test]
fn who_lies_gets_nothing_into_the_box_and_nothing_out() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    example(from.path());
    let store = Store::new(to.path().join("sources"));
    let snapshot = Snapshot::of_folder(from.path()).unwrap();
    let id = snapshot.tree.digest();
    // Called by another name.
    let mut misnamed = offer(&snapshot);
    misnamed[0].id = Digest::of(b"another");
    assert!(matches!(
        store.offer(OWNER, misnamed),
        Err(OfferError::Misnamed { .. })
    ));
    // A file below a link.
    let mut tree = snapshot.tree.clone();
    let mut escape = tree.entry("Dockerfile").unwrap().clone();
    escape.path = "absolute/escape".to_owned();
    tree.entries.push(escape);
    tree.sort();
    let hostile = Offer {
        id: tree.digest(),
        tree: Some(tree),
    };
    assert!(matches!(
        store.offer(OWNER, vec![hostile]),
        Err(OfferError::Tree(_))
    ));
    // Other bytes than were offered, and more of them.
    let lacking = store.offer(OWNER, offer(&snapshot)).unwrap().lacking;
    let file = lacking
        .iter()
        .find(|file| snapshot.file(&file.digest).unwrap().size_bytes == 13);
    let digest = file.unwrap().digest;
    let put = |bytes: &[u8]| {
        store.put(
            OWNER,
            &Piece {
                digest,
                offset: 0,
                bytes,
            },
        )
    };
    assert!(matches!(put(&[0; 14]), Err(PutError::Differs { .. })));
    assert!(matches!(put(&[0; 13]), Err(PutError::Differs { .. })));
    let stranger = Piece {
        digest: Digest::of(b"stranger"),
        offset: 0,
        bytes: b"stranger",
    };
    assert!(matches!(
        store.put(OWNER, &stranger),
        Err(PutError::Unawaited { .. })
    ));
    // Nothing of that is in the way.
    send(&store, OWNER, &snapshot);
    for path in [
        "absolute",
        "relative",
        "absolute/x",
        "../x",
        "/etc/passwd",
        "src/../..",
        "none",
    ] {
        assert!(store.path(OWNER, &id, path).is_err(), "{path}");
    }
    assert!(store.path(OWNER, &id, "src/deep/main.py").is_ok());
    // Somebody with the machine has changed a file: it is not taken for what it was.
    let same = store.path(OWNER, &id, "src/same.py").unwrap();
    let other = store.path(OWNER, &id, "src/deep/main.py").unwrap();
    for path in [same, other] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(path, vec![b'y'; 10_000]).unwrap();
    }
    fs::write(from.path().join("new"), "").unwrap();
    let next = Snapshot::of_folder(from.path()).unwrap();
    assert!(matches!(
        store.offer(OWNER, offer(&next)),
        Err(OfferError::Spoilt { .. })
    ));
}

#[test]
fn what_nothing_needs_goes_and_all_else_stays() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::new(to.path().join("sources"));
    let tree = |text: &str| {
        fs::write(from.path().join("file"), text).unwrap();
        let snapshot = Snapshot::of_folder(from.path()).unwrap();
        send(&store, OWNER, &snapshot);
        snapshot.tree.digest()
    };
    let (used, latest, old) = (tree("used"), tree("latest"), tree("old"));
    store.remember(OWNER, &BTreeSet::from([latest])).unwrap();
    let there = |id: &Digest| store.path(OWNER, id, "file").is_ok();
    let sweep = |known, later| {
        let errors = store.sweep(
            OWNER,
            &BTreeSet::from([used]),
            known,
            SystemTime::now() + later,
        );
        assert!(errors.is_empty(), "{errors:?}");
    };
    sweep(true, Duration::ZERO);
    assert!(there(&used) && there(&latest) && there(&old));
    let held = store.hold(OWNER);
    sweep(true, 2 * HOUR);
    assert!(there(&old));
    drop(held);
    let trees = store.of(OWNER).join("trees");
    fs::create_dir(trees.join(format!("{old}.new"))).unwrap();
    fs::write(store.of(OWNER).join("parts").join(old.to_string()), "x").unwrap();
    sweep(true, 2 * HOUR);
    assert!(there(&used) && there(&latest) && !there(&old));
    assert_eq!(fs::read_dir(&trees).unwrap().count(), 4);
    assert_eq!(
        fs::read_dir(store.of(OWNER).join("parts")).unwrap().count(),
        1
    );
    sweep(true, 25 * HOUR);
    assert_eq!(
        fs::read_dir(store.of(OWNER).join("parts")).unwrap().count(),
        0
    );
    // Its environment is gone.
    let errors = store.sweep(OWNER, &BTreeSet::new(), false, SystemTime::now() + 2 * HOUR);
    assert!(errors.is_empty(), "{errors:?}");
    assert!(!store.of(OWNER).exists());
    assert!(store.all().unwrap().is_empty());
}

#[test]
fn a_file_that_changes_meanwhile_is_not_taken_for_another() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("file"), "long enough").unwrap();
    let snapshot = Snapshot::of_folder(from.path()).unwrap();
    let digest = Digest::of(b"long enough");
    fs::write(from.path().join("file"), "short").unwrap();
    let read = snapshot.file(&digest).unwrap().read(0, 100);
    assert!(matches!(read, Err(SnapshotError::Changed { .. })));
}

#[test]
fn no_more_is_copied_than_was_said() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(from.path().join("large"), vec![7; 10_000]).unwrap();
    let store = Store::new(to.path().join("sources"));
    let snapshot = Snapshot::of_folder(from.path()).unwrap();
    let liar = |name: &str| {
        let mut tree = snapshot.tree.clone();
        tree.entries[1].path = name.to_owned();
        if let Node::File { size_bytes, .. } = &mut tree.entries[1].node {
            *size_bytes = 1;
        }
        let offer = Offer {
            id: tree.digest(),
            tree: Some(tree),
        };
        store.offer(OWNER, vec![offer])
    };
    send(&store, OWNER, &snapshot);
    let refused = liar("of-a-tree");
    assert!(
        matches!(refused, Err(OfferError::Spoilt { removed: false, .. })),
        "{refused:?}"
    );
    // Two trees of one offer.
    let mut other = snapshot.tree.clone();
    other.entries[1].path = "other".to_owned();
    let mut longer = snapshot.tree.clone();
    longer.entries[1].path = "longer".to_owned();
    if let Node::File { size_bytes, .. } = &mut longer.entries[1].node {
        *size_bytes += 1;
    }
    let offers = [other, longer].map(|tree| Offer {
        id: tree.digest(),
        tree: Some(tree),
    });
    let refused = store.offer(OWNER, offers.into());
    assert!(matches!(refused, Err(OfferError::Tree(_))), "{refused:?}");
    let made = store.path(OWNER, &snapshot.tree.digest(), "large").unwrap();
    assert_eq!(fs::read(made).unwrap(), vec![7; 10_000]);
}

#[test]
fn what_a_power_cut_leaves_of_a_file_is_sent_again() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(from.path().join("large"), vec![7; 10_000]).unwrap();
    let store = Store::new(to.path().join("sources"));
    let snapshot = Snapshot::of_folder(from.path()).unwrap();
    let lacking = store.offer(OWNER, offer(&snapshot)).unwrap().lacking;
    let digest = lacking[0].digest;
    let parts = store.of(OWNER).join("parts");
    let whole = parts.join(format!("{digest}.whole"));
    // It has its length and not its bytes.
    fs::write(&whole, vec![0; 10_000]).unwrap();
    let spoilt = store.offer(OWNER, offer(&snapshot));
    assert!(
        matches!(spoilt, Err(OfferError::Spoilt { removed: true, .. })),
        "{spoilt:?}"
    );
    assert!(!whole.exists());
    // Not even that.
    fs::write(&whole, "").unwrap();
    let lacking = store.offer(OWNER, offer(&snapshot)).unwrap().lacking;
    assert_eq!(lacking[0].have_bytes, 0);
    // All came, and nobody was there any more to look at it.
    for (content, sent) in [(vec![0; 10_000], 10_000), (vec![7; 10_000], 0)] {
        fs::write(parts.join(digest.to_string()), content).unwrap();
        assert_eq!(send(&store, OWNER, &snapshot), sent);
        fs::remove_dir_all(store.of(OWNER)).unwrap();
        store.offer(OWNER, Vec::new()).unwrap();
    }
}
