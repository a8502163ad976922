//! The trail of a daemon that starts.

use std::fs;
use std::time::SystemTime;

use havre_access::{Holder, NewToken};
use havre_api::{Grant, Role};
use havre_audit::{Key, Verdict};
use havre_secrets::Scope;
use havre_secrets::age::Identity;

use super::*;
use crate::fake::Stage;

fn verdict(platform: &Platform) -> Verdict {
    platform.trail.verify(&[]).unwrap()
}

fn faults(platform: &Platform) -> Vec<String> {
    let faults = verdict(platform).faults;
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn a_first_start_is_whole_and_the_seal_knows_the_key() {
    let stage = Stage::new();
    let platform = &stage.daemon.platform;
    start(platform);
    assert_eq!(faults(platform), [""; 0]);
    let key = platform.trail.key_id();
    assert!(key.is_some());
    assert_eq!(platform.seal.trail(), key);
    // The same for the next root key.
    platform.seal.rekey(1).unwrap();
    assert_eq!(platform.seal.trail(), key);
}

#[test]
fn an_empty_trail_is_told_beside_what_was_written_to_one() {
    type Leave = fn(&Platform);
    let left: [(Leave, &[&str]); 3] = [
        (
            |platform| {
                let name = "key".parse().unwrap();
                let secrets = &platform.secrets;
                secrets
                    .set(&Scope::Machine, &name, b"value", "", "set")
                    .unwrap();
            },
            &["before record 1 was written, there was no record, but there are secrets"],
        ),
        (
            |platform| {
                let new = NewToken {
                    name: "ci".into(),
                    holder: Holder::Token,
                    grant: Grant {
                        role: Role::Viewer,
                        environments: Vec::new(),
                    },
                    created_by: "anna".into(),
                    lifetime: None,
                };
                platform
                    .door
                    .register
                    .create(new, SystemTime::now())
                    .unwrap();
            },
            &["before record 1 was written, there was no record, but there are tokens"],
        ),
        (
            |platform| {
                platform.seal.note_trail(Key::new(&[1; 32]).id()).unwrap();
            },
            &[
                "before record 1 was written, there was no record, but the seal knows one that key KEY signs",
                "before record 2 was written, it was signed with a key that is gone",
            ],
        ),
    ];
    for (leave, told) in left {
        let stage = Stage::new();
        let platform = &stage.daemon.platform;
        leave(platform);
        start(platform);
        let key = Key::new(&[1; 32]).id();
        let told: Vec<_> = told.iter().map(|told| told.replace("KEY", &key)).collect();
        assert_eq!(faults(platform), told);
    }
}

#[test]
fn a_trail_is_signed_from_the_unlocking_on() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::generate().unwrap();
    // A machine that lost its own slot.
    let root = Root::new(Some(folder.path().to_owned()));
    fs::create_dir_all(root.state_dir()).unwrap();
    let schemas = crate::app::schemas();
    let store = Arc::new(Store::open(&root.state_dir().join("state.db"), &schemas).unwrap());
    let (seal, _) = crate::secrets::open(&root, &store).unwrap();
    seal.add_age(&identity.recipient(), 1).unwrap();
    drop((seal, store));
    fs::remove_dir_all(root.etc_dir()).unwrap();

    let stage = Stage::of(folder);
    let platform = &stage.daemon.platform;
    assert!(platform.seal.locked().is_some());
    start(platform);
    assert_eq!(verdict(platform).key, None);
    platform.seal.unlock(&identity.secret_text(), 2).unwrap();
    let resumed = crate::secrets::resume(platform);
    assert_eq!(resumed.undone, [""; 0]);
    let verdict = verdict(platform);
    assert_eq!((verdict.faults, verdict.records), (vec![], 2));
    assert_eq!(verdict.key, platform.trail.key_id());
    assert_eq!(verdict.notes, ["records 1 to 1 are older than the key"]);
    assert!(platform.trail.is_copied());
    assert_eq!(platform.seal.trail(), verdict.key);
}
