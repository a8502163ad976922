//! The trail in a real database, whole and tampered with.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use havre_store::rusqlite::params;
use tempfile::TempDir;

use super::*;
use crate::chain::link;
use crate::verify::Fault;
use crate::{Kind, SCHEMA};

struct Scene {
    folder: TempDir,
    key: Option<Key>,
    /// The key that the seal knows of.
    noted: RefCell<Option<String>>,
}

impl Scene {
    fn new(key: Option<[u8; 32]>) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            key: key.map(|bytes| Key::new(&bytes)),
            noted: RefCell::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As a daemon does at its start.
    fn open(&self) -> Trail {
        let trail = self.closed();
        self.give_key(&trail, self.noted.borrow().clone());
        if trail.is_copied() {
            *self.noted.borrow_mut() = trail.key_id();
        }
        trail.resume();
        trail
    }

    /// As if the file of heads had never been written with the key.
    fn without_copy(&self) {
        std::fs::remove_file(self.path("audit.head")).unwrap();
        self.noted.take();
    }

    /// The file of heads as earlier versions wrote it, up to a record.
    fn write_as_before(&self, until: u64) {
        let mut text = String::new();
        for Signed { head, mac } in (1..=until).map(|sequence| self.head_of(sequence)) {
            writeln!(text, "{head} {}", mac.unwrap()).unwrap();
        }
        std::fs::write(self.path("audit.head"), text).unwrap();
        self.noted.take();
    }

    /// Without its key.
    fn closed(&self) -> Trail {
        let store = Arc::new(Store::open(&self.path("state.db"), &[SCHEMA]).unwrap());
        Trail::new(store, self.path("audit.head"))
    }

    fn give_key(&self, trail: &Trail, noted: Option<String>) {
        let Some(key) = self.key.clone() else { return };
        match trail.sealed_key().unwrap() {
            None => trail.adopt_key(key, b"sealed".to_vec(), noted).unwrap(),
            Some(sealed) => {
                assert_eq!(sealed, b"sealed");
                trail.use_key(key, noted).unwrap();
            }
        }
    }

    /// The newest record by the database's word.
    fn head_of(&self, sequence: u64) -> Signed {
        let db = Connection::open(self.path("state.db")).unwrap();
        let hash = tables::row_hash(&db, sequence).unwrap().unwrap();
        let head = Head { sequence, hash };
        let key = self.key.as_ref();
        let mac = key.map(|key| key.sign(Purpose::Head, sequence, &hash));
        Signed { head, mac }
    }

    fn put_head(&self, Signed { head, mac }: Signed) {
        let db = Connection::open(self.path("state.db")).unwrap();
        let put = "UPDATE audit_head SET sequence = ?1, hash = ?2, mac = ?3";
        db.execute(
            put,
            params![head.sequence, head.hash.0, mac.map(|mac| mac.0)],
        )
        .unwrap();
    }

    fn tamper(&self, sql: &str) {
        let db = Connection::open(self.path("state.db")).unwrap();
        db.execute_batch(sql).unwrap();
    }

    /// Makes every hash from a record on fit again, as who has the database alone can.
    fn rehash(&self, from: u64) {
        let db = Connection::open(self.path("state.db")).unwrap();
        let rows = tables::rows(&db, 0, u64::MAX >> 1, u32::MAX).unwrap();
        let mut before = Hash::START;
        for row in rows {
            let hash = match row.sequence >= from {
                true => link(&before, &row.record),
                false => row.hash,
            };
            let update = "UPDATE audit SET hash = ?2 WHERE sequence = ?1";
            db.execute(update, params![row.sequence, hash.0]).unwrap();
            let update = "UPDATE audit_head SET hash = ?2 WHERE sequence = ?1";
            db.execute(update, params![row.sequence, hash.0]).unwrap();
            before = hash;
        }
    }
}

fn entry(action: &str) -> Entry {
    let principal = Principal {
        id: Some("0".into()),
        kind: Kind::Local,
        name: "anna".into(),
    };
    Entry {
        project: Some("shop".into()),
        environment: Some("production".into()),
        ..Entry::new(principal, action, Outcome::Ok)
    }
}

/// A trail of ten records, the first of which may be about the key.
fn ten(scene: &Scene) -> Trail {
    let trail = scene.open();
    while trail.append(entry("up")).unwrap().unwrap() < 10 {}
    trail
}

fn faults(trail: &Trail) -> Vec<Fault> {
    trail.verify(&[]).unwrap().faults
}

#[test]
fn a_trail_that_nobody_touched_is_whole_also_after_restarts() {
    for key in [None, Some([1; 32])] {
        let scene = Scene::new(key);
        assert_eq!(faults(&scene.open()), []);
        let head = ten(&scene).verify(&[]).unwrap().head;
        let trail = scene.open();
        trail.append(entry("down")).unwrap();
        let verdict = trail.verify(&[head]).unwrap();
        assert_eq!((verdict.faults, verdict.records), (vec![], 11));
        assert_eq!(verdict.notes.is_empty(), key.is_some());
    }
}

#[test]
fn an_edit_is_found_where_it_was_made() {
    let scene = Scene::new(Some([1; 32]));
    let trail = ten(&scene);
    scene.tamper("UPDATE audit SET record = replace(record, 'anna', 'otto') WHERE sequence = 4");
    assert_eq!(faults(&trail), [Fault::Altered { sequence: 4 }]);
    // Its hash alone is made to fit: the next one does not follow.
    let db = Connection::open(scene.path("state.db")).unwrap();
    let rows = tables::rows(&db, 2, 4, 2).unwrap();
    let hash = link(&rows[0].hash, &rows[1].record);
    db.execute("UPDATE audit SET hash = ?1 WHERE sequence = 4", [hash.0])
        .unwrap();
    assert_eq!(faults(&trail), [Fault::Altered { sequence: 5 }]);
    // All hashes are: the file has another.
    scene.rehash(4);
    let found = faults(&trail);
    assert!(
        matches!(found[0], Fault::Rewritten { sequence: 10, .. }),
        "{found:?}"
    );
    assert_eq!(found[1..], [Fault::ForgedHead]);
}

#[test]
fn a_chain_that_was_written_anew_is_not_signed() {
    let scene = Scene::new(Some([1; 32]));
    let trail = ten(&scene);
    scene.tamper("UPDATE audit SET record = replace(record, 'anna', 'otto') WHERE sequence = 4");
    scene.rehash(4);
    // The file as well, but without the key.
    std::fs::remove_file(scene.path("audit.head")).unwrap();
    let forged = Key::new(&[9; 32]);
    let newest = trail.verify(&[]).unwrap().head;
    Anchor::new(scene.path("audit.head"))
        .put(&newest, Some(&forged))
        .unwrap();
    assert_eq!(
        faults(&trail),
        [Fault::ForgedLine { line: 1 }, Fault::ForgedHead]
    );
    // What is written next does not make it right: by who knew the last record, and by who starts anew.
    trail.append(entry("up")).unwrap();
    drop(trail);
    let found = faults(&scene.open());
    assert!(
        matches!(found[..], [Fault::Gap { sequence: 11, .. }]),
        "{found:?}"
    );
}

#[test]
fn a_forged_chain_is_told_by_the_next_daemon() {
    let scene = Scene::new(Some([1; 32]));
    drop(ten(&scene));
    scene.tamper("UPDATE audit SET record = replace(record, 'anna', 'otto') WHERE sequence = 10");
    scene.rehash(10);
    std::fs::remove_file(scene.path("audit.head")).unwrap();
    let trail = scene.open();
    trail.append(entry("daemon/start")).unwrap();
    let found = faults(&trail);
    let signed = "this machine has not signed the newest record";
    assert!(
        matches!(&found[..], [Fault::Gap { sequence: 11, detail }, Fault::Gap { sequence: 12, .. }] if detail == signed),
        "{found:?}"
    );
}

/// What the next daemon says of a trail that was written anew and made to fit, without the key.
fn told_by_the_next_daemon(scene: &Scene) -> Vec<String> {
    let trail = scene.open();
    trail.append(entry("daemon/start")).unwrap();
    let faults = faults(&trail).into_iter();
    faults.map(|fault| fault.to_string()).collect()
}

#[test]
fn a_forged_chain_whose_signature_was_taken_away_is_told_by_the_next_daemon() {
    for has_anchor in [true, false] {
        let scene = Scene::new(Some([1; 32]));
        drop(ten(&scene));
        scene
            .tamper("UPDATE audit SET record = replace(record, 'anna', 'otto') WHERE sequence > 3");
        scene.rehash(4);
        scene.tamper("UPDATE audit_head SET mac = NULL");
        if !has_anchor {
            std::fs::remove_file(scene.path("audit.head")).unwrap();
        }
        let found = told_by_the_next_daemon(&scene);
        let gap = match has_anchor {
            true => {
                "before record 11 was written, record 10, the newest, is another than was written"
            }
            false => {
                "before record 11 was written, the newest record, 10, was not signed, and no line of audit.head is by \
                 the key"
            }
        };
        assert!(found.iter().any(|fault| fault == gap), "{found:?}");
    }
}

#[test]
fn a_key_that_was_taken_away_is_told_by_the_next_daemon() {
    for with in [
        "",
        "; UPDATE audit_head SET mac = NULL",
        "; DELETE FROM audit WHERE action = 'audit/key'",
    ] {
        for has_anchor in [true, false] {
            let mut scene = Scene::new(Some([1; 32]));
            drop(ten(&scene));
            scene.tamper(&format!("DELETE FROM audit_key{with}"));
            scene.noted.take();
            if !has_anchor {
                std::fs::remove_file(scene.path("audit.head")).unwrap();
            }
            scene.key = Some(Key::new(&[2; 32]));
            let found = told_by_the_next_daemon(&scene);
            assert!(
                found
                    .iter()
                    .any(|fault| fault.ends_with("it was signed with a key that is gone")),
                "{with} {found:?}"
            );
        }
    }
}

#[test]
fn what_is_removed_in_the_middle_or_moved_is_found() {
    let scene = Scene::new(Some([1; 32]));
    let trail = ten(&scene);
    scene.tamper("DELETE FROM audit WHERE sequence IN (5, 6)");
    assert_eq!(faults(&trail), [Fault::Missing { from: 5, to: 6 }]);
    // The others are given their numbers.
    scene.tamper(
        "UPDATE audit SET sequence = sequence + 100 WHERE sequence > 6; \
         UPDATE audit SET sequence = sequence - 102 WHERE sequence > 100",
    );
    let found = faults(&trail);
    let misplaced = Fault::Misplaced {
        sequence: 5,
        says: Some(7),
    };
    assert!(found.contains(&misplaced) && found.contains(&Fault::Altered { sequence: 5 }));
    let truncated = Fault::Truncated { from: 9, to: 10 };
    assert!(found.contains(&truncated), "{found:?}");

    let scene = Scene::new(None);
    let trail = ten(&scene);
    scene.tamper(
        "UPDATE audit SET sequence = 99 WHERE sequence = 3; \
         UPDATE audit SET sequence = 3 WHERE sequence = 4; \
         UPDATE audit SET sequence = 4 WHERE sequence = 99",
    );
    let found = faults(&trail);
    for (sequence, says) in [(3, Some(4)), (4, Some(3))] {
        assert!(
            found.contains(&Fault::Misplaced { sequence, says }),
            "{found:?}"
        );
    }
}

#[test]
fn an_end_that_is_cut_off_is_found_by_the_head_and_by_its_copy() {
    let scene = Scene::new(Some([1; 32]));
    let trail = ten(&scene);
    let whole = trail.verify(&[]).unwrap().head;
    let truncated = Fault::Truncated { from: 8, to: 10 };
    scene.tamper("DELETE FROM audit WHERE sequence > 7");
    assert_eq!(faults(&trail), std::slice::from_ref(&truncated));
    // So does the head of the database, by who has one of before.
    let seventh = scene.head_of(7);
    scene.put_head(seventh);
    assert_eq!(faults(&trail), std::slice::from_ref(&truncated));
    // So does the file of before: only what was noted elsewhere tells.
    Anchor::new(scene.path("audit.head"))
        .put(&seventh.head, scene.key.as_ref())
        .unwrap();
    assert_eq!(faults(&trail), []);
    assert_eq!(trail.verify(&[whole]).unwrap().faults, [truncated]);
}

#[test]
fn a_trail_cannot_be_shortened_by_what_its_files_have() {
    type Edit = fn(&std::path::Path, Signed);
    let edits: [(Edit, &str); 4] = [
        (|_, _| {}, "the newest record is 7, and was 10"),
        (
            |path, _| std::fs::remove_file(path).unwrap(),
            "no line of audit.head was by the key, though the newest record was 7",
        ),
        // Its lines up to that record.
        (
            |path, _| {
                let text = std::fs::read_to_string(path).unwrap();
                let older =
                    |line: &&str| !matches!(line.split_once(':'), Some(("8" | "9" | "10", _)));
                let kept: String = text.split_inclusive('\n').filter(older).collect();
                std::fs::write(path, kept).unwrap();
            },
            "no line of audit.head was by the key, though the newest record was 7",
        ),
        // The word of the database.
        (
            |path, Signed { head, mac }| {
                std::fs::write(path, format!("{head} {}\n", mac.unwrap())).unwrap();
            },
            "no line of audit.head was by the key, though the newest record was 7",
        ),
    ];
    for (edit, told) in edits {
        let scene = Scene::new(Some([1; 32]));
        drop(ten(&scene));
        // As the database's journal may have it still.
        let seventh = scene.head_of(7);
        scene.tamper("DELETE FROM audit WHERE sequence > 7");
        scene.put_head(seventh);
        edit(&scene.path("audit.head"), seventh);
        let found = told_by_the_next_daemon(&scene);
        let told = format!("written, {told}");
        assert!(
            found.iter().any(|fault| fault.ends_with(&told)),
            "{found:?}"
        );
    }
}

#[test]
fn a_trail_that_was_emptied_is_told_where_something_else_tells_of_it() {
    let emptied = "DELETE FROM audit; DELETE FROM audit_head; DELETE FROM audit_cut";
    for (with, noted, told) in [
        (
            "; DELETE FROM audit_key",
            None,
            "there was no record, but there are tokens",
        ),
        (
            "; DELETE FROM audit_key",
            Some("01234567".to_owned()),
            "it was signed with a key that is gone",
        ),
        ("", None, "there was a key, and no record"),
    ] {
        let scene = Scene::new(Some([1; 32]));
        drop(ten(&scene));
        scene.tamper(&format!("{emptied}{with}"));
        std::fs::remove_file(scene.path("audit.head")).unwrap();
        let trail = scene.closed();
        trail.was_begun("there are tokens".to_owned());
        scene.give_key(&trail, noted);
        trail.resume();
        trail.append(entry("daemon/start")).unwrap();
        let found: Vec<_> = faults(&trail).iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|fault| fault.ends_with(told)), "{found:?}");
        // Said once.
        let trail = scene.closed();
        trail.was_begun("there are tokens".to_owned());
        scene.give_key(&trail, Some("01234567".to_owned()));
        trail.append(entry("daemon/start")).unwrap();
        assert_eq!(faults(&trail).len(), found.len());
    }
}

#[test]
fn an_older_database_that_is_put_back_is_told_and_its_numbers_are_not_given_twice() {
    let scene = Scene::new(Some([1; 32]));
    drop(ten(&scene));
    std::fs::copy(scene.path("state.db"), scene.path("backup")).unwrap();
    let trail = scene.open();
    while trail.append(entry("secret/get")).unwrap().unwrap() < 15 {}
    drop(trail);
    for more in ["state.db-wal", "state.db-shm"] {
        std::fs::remove_file(scene.path(more)).unwrap_or_default();
    }
    std::fs::rename(scene.path("backup"), scene.path("state.db")).unwrap();
    let trail = scene.open();
    assert_eq!(trail.append(entry("daemon/start")).unwrap(), Some(17));
    let found = faults(&trail);
    assert_eq!(found[0], Fault::Missing { from: 11, to: 15 });
    assert!(
        matches!(found[1], Fault::Gap { sequence: 16, .. }),
        "{found:?}"
    );
    assert_eq!(found.len(), 2);
}

#[test]
fn a_crash_between_database_and_copy_is_no_fault() {
    for key in [None, Some([1; 32])] {
        let scene = Scene::new(key);
        let path = scene.path("audit.head");
        let trail = scene.open();
        trail.append(entry("up")).unwrap();
        let mut before = std::fs::read_to_string(&path).unwrap();
        for _ in 0..5 {
            trail.append(entry("up")).unwrap();
            let after = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, &before).unwrap();
            let verdict = scene.open().verify(&[]).unwrap();
            assert_eq!(verdict.faults, []);
            let behind = "audit.head is 1 behind, as after a crash or on a full disk";
            assert!(verdict.notes.contains(&behind.to_owned()), "{verdict:?}");
            before = after;
        }
        let trail = scene.open();
        trail.append(entry("daemon/start")).unwrap();
        assert_eq!(faults(&trail), []);
        std::fs::remove_file(path).unwrap();
        assert_eq!(faults(&trail), [Fault::NoAnchor]);
    }
}

#[test]
fn a_crash_with_the_record_of_the_key_is_no_fault() {
    for written_before in [0, 3] {
        let scene = Scene::new(Some([1; 32]));
        let trail = scene.closed();
        for _ in 0..written_before {
            trail.append(entry("up")).unwrap();
        }
        drop(scene.open());
        scene.without_copy();
        let trail = scene.open();
        trail.append(entry("daemon/start")).unwrap();
        assert_eq!(faults(&trail), []);
        // Not so once there was a copy, of which the seal is told.
        drop(trail);
        drop(scene.open());
        scene.tamper(&format!(
            "DELETE FROM audit WHERE sequence > {}",
            written_before + 1
        ));
        scene.put_head(scene.head_of(written_before + 1));
        std::fs::remove_file(scene.path("audit.head")).unwrap();
        assert_eq!(told_by_the_next_daemon(&scene).len(), 1);
    }
}

#[test]
fn the_file_of_an_earlier_version_is_taken_over_once() {
    // Killed with the last record, it is one behind.
    for until in [10, 9] {
        let scene = Scene::new(Some([1; 32]));
        drop(ten(&scene));
        scene.write_as_before(until);
        let trail = scene.open();
        let verdict = trail.verify(&[]).unwrap();
        assert_eq!(verdict.faults, []);
        let told = format!(
            "record 11: audit.head was of an earlier version, and went up to record {until}"
        );
        assert!(verdict.notes.contains(&told), "{verdict:?}");
        drop(trail);
        let trail = scene.open();
        trail.append(entry("daemon/start")).unwrap();
        let verdict = trail.verify(&[]).unwrap();
        assert_eq!((verdict.faults, verdict.records), (vec![], 12));
    }
    // What an older file does not have cannot be cut off either.
    let scene = Scene::new(Some([1; 32]));
    drop(ten(&scene));
    scene.write_as_before(10);
    scene.tamper("DELETE FROM audit WHERE sequence > 7");
    scene.put_head(scene.head_of(7));
    let told = "before record 11 was written, the newest record is 7, and was 10";
    assert!(told_by_the_next_daemon(&scene).contains(&told.to_owned()));
    // Nor is a file of before believed after it was taken over.
    let scene = Scene::new(Some([1; 32]));
    drop(ten(&scene));
    let noted = scene.noted.borrow().clone();
    scene.write_as_before(10);
    scene.noted.replace(noted);
    let told = "before record 11 was written, no line of audit.head was by the key, though the newest record was 10";
    assert_eq!(told_by_the_next_daemon(&scene), [told]);
}

#[test]
fn the_long_file_of_an_earlier_version_is_taken_over_while_the_key_is_sealed() {
    let scene = Scene::new(Some([1; 32]));
    drop(ten(&scene));
    scene.write_as_before(10);
    // As long as they became, with the newest at the end.
    let path = scene.path("audit.head");
    let text = std::fs::read_to_string(&path).unwrap();
    let first = text.split_inclusive('\n').next().unwrap();
    let long = first.repeat((256 << 10) / first.len()) + &text;
    std::fs::write(&path, long).unwrap();
    let trail = scene.closed();
    trail.resume();
    trail.append(entry("daemon/start")).unwrap();
    assert_eq!(faults(&trail), []);
    scene.give_key(&trail, None);
    let verdict = trail.verify(&[]).unwrap();
    assert_eq!(verdict.faults, []);
    let told = "record 12: what follows record 10, up to 11, was written without the key";
    assert!(verdict.notes.iter().any(|note| note == told), "{verdict:?}");
    assert!(trail.is_copied());
}

#[test]
fn a_key_whose_record_cannot_be_written_is_not_taken() {
    let scene = Scene::new(Some([1; 32]));
    drop(ten(&scene));
    std::fs::remove_file(scene.path("audit.head")).unwrap();
    let refuse =
        "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'full'); END";
    scene.tamper(refuse);
    let trail = scene.closed();
    let noted = scene.noted.borrow().clone();
    let key = scene.key.clone().unwrap();
    trail.use_key(key.clone(), noted.clone()).unwrap_err();
    assert_eq!(trail.key_id(), None);
    scene.tamper("DROP TRIGGER full");
    trail.append(entry("up")).unwrap();
    trail.use_key(key, noted).unwrap();
    let found = faults(&trail);
    assert!(
        matches!(found[..], [Fault::Gap { sequence: 12, .. }]),
        "{found:?}"
    );
}

#[test]
fn what_is_written_while_the_key_is_sealed_is_told_from_a_forgery() {
    let mut scene = Scene::new(Some([1; 32]));
    drop(ten(&scene));
    let key = scene.key.take();
    let trail = scene.open();
    trail.append(entry("up")).unwrap();
    let verdict = trail.verify(&[]).unwrap();
    assert_eq!(verdict.faults, []);
    assert_eq!(
        verdict.notes,
        ["the newest records are not signed: the key is sealed"]
    );
    drop(trail);
    scene.key = key;
    let trail = scene.open();
    let verdict = trail.verify(&[]).unwrap();
    assert_eq!(verdict.faults, []);
    assert_eq!(
        verdict.notes,
        ["record 12: what follows record 10, up to 11, was written without the key"]
    );
    let shown = trail
        .shown(Query {
            limit: 1,
            ..Query::default()
        })
        .unwrap();
    assert_eq!(shown[0].record.action, KEY_ACTION);
}

#[test]
fn old_records_are_cut_by_a_signed_word_and_the_chain_goes_on() {
    for key in [None, Some([1; 32])] {
        let scene = Scene::new(key);
        let trail = ten(&scene);
        let noted = trail.verify(&[]).unwrap().head;
        let age = Duration::from_secs(86_400);
        let retention = Retention {
            age,
            bytes: 1 << 20,
        };
        let now = SystemTime::now();
        assert_eq!(trail.cut(retention, now).unwrap(), None);
        let cut = trail.cut(retention, now + age * 2).unwrap();
        assert_eq!(cut, Some(Cut { sequence: 10 }));
        trail.append(entry("up")).unwrap();
        let verdict = trail.verify(&[noted]).unwrap();
        assert_eq!(
            (verdict.faults, verdict.cut, verdict.records),
            (vec![], Some(10), 2)
        );
        // By size, and once more.
        while trail.append(entry("up")).unwrap().unwrap() < 30 {}
        let few = Retention {
            age: age * 400,
            bytes: 2000,
        };
        trail.tidy(few).unwrap().unwrap();
        let verdict = trail.verify(&[]).unwrap();
        assert_eq!(verdict.faults, []);
        assert!(verdict.records < 20);
        // A cut by somebody else.
        let db = Connection::open(scene.path("state.db")).unwrap();
        let hash = tables::row_hash(&db, 29).unwrap().unwrap();
        tables::put_cut(&db, Head { sequence: 29, hash }, Some(&Key::new(&[5; 32]))).unwrap();
        let found = trail.verify(&[]).unwrap().faults;
        assert!(found.contains(&Fault::UnrecordedCut), "{found:?}");
        assert_eq!(
            found.contains(&Fault::ForgedCut),
            key.is_some(),
            "{found:?}"
        );
    }
}

#[test]
fn a_full_disk_refuses_the_record_and_leaves_the_trail_whole() {
    let scene = Scene::new(Some([1; 32]));
    let trail = ten(&scene);
    scene.tamper(
        "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END",
    );
    trail.append(entry("up")).unwrap_err();
    assert_eq!(faults(&trail), []);
    scene.tamper("DROP TRIGGER full");
    assert_eq!(trail.append(entry("up")).unwrap(), Some(11));
    assert_eq!(faults(&trail), []);
}

#[test]
fn a_flood_of_what_is_in_vain_takes_little_and_is_counted() {
    let nobody = Principal {
        id: None,
        kind: Kind::Anonymous,
        name: "nobody".into(),
    };
    let refused = Entry {
        outcome: Outcome::Refused,
        ..entry("login")
    };
    let by_strangers = [Outcome::Refused, Outcome::Failed, Outcome::Cancelled]
        .map(|outcome| Entry::new(nobody.clone(), "login/oidc", outcome));
    for flood in by_strangers.into_iter().chain([refused]) {
        let scene = Scene::new(None);
        let trail = scene.open();
        let begun = trail.append(Entry {
            outcome: Outcome::Begun,
            ..entry("up")
        });
        for _ in 0..500 {
            trail.append(flood.clone()).unwrap();
        }
        let records = trail.verify(&[]).unwrap().records;
        assert!((100..120).contains(&records), "{records}");
        // Others are written all the same, and so is the end of what was begun.
        assert!(trail.append(entry("up")).unwrap().is_some());
        let failed = Entry {
            outcome: Outcome::Failed,
            ..entry("up")
        };
        assert!(trail.append(failed.clone()).unwrap().is_some());
        for outcome in [Outcome::Failed, Outcome::Refused] {
            let ended = Entry {
                of: begun.as_ref().unwrap().to_owned(),
                outcome,
                ..failed.clone()
            };
            assert!(trail.append(ended).unwrap().is_some());
        }
    }
}

#[test]
fn an_export_beside_a_cut_says_that_it_is_not_whole() {
    let now = SystemTime::now();
    let age = Duration::from_secs(86_400);
    let retention = Retention {
        age,
        bytes: 1 << 30,
    };
    let scene = Scene::new(None);
    let trail = scene.open();
    // More than are read at once.
    scene.tamper(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) \
         INSERT INTO audit (sequence, record, hash) \
         SELECT i, json_object('at', '2020-01-01T00:00:00.000Z', 'sequence', i), zeroblob(32) FROM n",
        PAGE * 2
    ));
    let mut taken = 0;
    let exported = trail.export(0, |_| {
        taken += 1;
        if taken == 1 {
            trail.cut(retention, now).unwrap().unwrap();
        }
        true
    });
    assert!(
        matches!(exported, Err(ExportError::Removed)),
        "{exported:?}"
    );
    assert_eq!(taken, PAGE);
    // A hole that nobody cut is shown as it is.
    for _ in 0..5 {
        trail.append(entry("up")).unwrap();
    }
    let hole = u64::from(PAGE) * 2 + 3;
    scene.tamper(&format!("DELETE FROM audit WHERE sequence = {hole}"));
    let mut shown = Vec::new();
    trail
        .export(0, |one| {
            shown.push(one.sequence);
            true
        })
        .unwrap();
    assert!(
        shown.contains(&(hole + 1)) && !shown.contains(&hole),
        "{shown:?}"
    );
}

#[test]
fn the_log_shows_an_event_with_what_came_of_it() {
    let scene = Scene::new(None);
    let trail = scene.open();
    let begun = |action| Entry {
        outcome: Outcome::Begun,
        ..entry(action)
    };
    let first = trail.append(begun("up")).unwrap();
    trail.append(begun("secret/get")).unwrap();
    let ended = Entry {
        of: first,
        outcome: Outcome::Failed,
        ..entry("up")
    };
    trail.append(ended).unwrap();
    trail
        .append(Entry::new(Principal::havre(), "heal", Outcome::Ok))
        .unwrap();
    let shown = |query: Query| -> Vec<(String, Option<Outcome>)> {
        let query = Query { limit: 10, ..query };
        let shown = trail.shown(query).unwrap().into_iter();
        shown
            .map(|one| (one.record.action, one.ended.map(|ended| ended.outcome)))
            .collect()
    };
    let (up, get, heal) = (
        ("up".to_owned(), Some(Outcome::Failed)),
        ("secret/get".to_owned(), None),
        ("heal".to_owned(), None),
    );
    assert_eq!(
        shown(Query::default()),
        [up.clone(), get.clone(), heal.clone()]
    );
    let by = |principal: &str| Query {
        principal: Some(principal.into()),
        ..Query::default()
    };
    assert_eq!(shown(by("local:anna")), [up.clone(), get.clone()]);
    assert_eq!(shown(by("havre")), std::slice::from_ref(&heal));
    assert_eq!(shown(by("otto")), []);
    let action = |action: &str| Query {
        action: Some(action.into()),
        ..Query::default()
    };
    assert_eq!(shown(action("secret")), std::slice::from_ref(&get));
    assert_eq!(shown(action("secret/get")), std::slice::from_ref(&get));
    assert_eq!(shown(action("sec")), []);
    let day = Duration::from_secs(86_400);
    let since = Query {
        since: Some(SystemTime::now() + day),
        ..Query::default()
    };
    assert_eq!(shown(since), []);
    let of_shop = Query {
        project: Some("shop".into()),
        environment: Some("production".into()),
        until: Some(SystemTime::now() + day),
        ..Query::default()
    };
    assert_eq!(shown(of_shop), [up, get]);
    let one = trail
        .shown(Query {
            limit: 1,
            ..Query::default()
        })
        .unwrap();
    assert_eq!(one[0].record.action, "heal");
}

#[test]
#[allow(clippy::disallowed_macros, reason = "its output is for a person")]
fn an_export_is_verified_by_another_program() {
    let scene = Scene::new(None);
    let trail = scene.open();
    for detail in ["plain", "paß\u{7f}\u{1}\"\\/\u{2028}", "\n\t𝄞"] {
        let entry = Entry {
            detail: Some(detail.into()),
            ..entry("secret/get")
        };
        trail.append(entry).unwrap();
    }
    let export = |from| {
        let mut lines = String::new();
        trail
            .export(from, |one| {
                let Chained {
                    record,
                    previous,
                    hash,
                    ..
                } = one;
                lines += &format!(
                    "{{\"hash\":\"{hash}\",\"previous\":\"{previous}\",\"record\":{record}}}\n"
                );
                true
            })
            .unwrap();
        lines
    };
    let (lines, path) = (export(0), scene.path("trail.jsonl"));
    assert_eq!(lines.lines().count(), 3);
    assert_eq!(
        lines.lines().skip(1).collect::<Vec<_>>(),
        export(2).lines().collect::<Vec<_>>()
    );
    let documented = include_str!("../../../../docs/audit.md");
    let program = documented
        .split("```python\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let judge = |lines: &str| {
        std::fs::write(&path, lines).unwrap();
        Command::new("python3")
            .args(["-c", program])
            .arg(&path)
            .output()
    };
    let output = match judge(&lines) {
        Ok(output) => output,
        Err(error) => return println!("skipped: needs python3 ({error})"),
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let newest = trail.verify(&[]).unwrap().head;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said.trim(), format!("3 records, the newest is {newest}"));
    let edited = judge(&lines.replacen("plain", "plane", 1)).unwrap();
    assert!(!edited.status.success());
}
