//! What waits for an open seal.

use std::fs;

use havre_api::{EnvironmentId, ErrorCode};
use havre_model::{EnvironmentName, ProjectName};
use havre_secrets::{ChangeError, LockReason, Scope, SealedError, SecretError};
use havre_store::rusqlite::{OptionalExtension as _, params};

use super::*;
use crate::contents::Contents;
use crate::fake::Stage;

/// One of all that is sealed, read as it lies.
const SEALED: [&str; 4] = [
    "SELECT keys FROM secret_scopes",
    "SELECT key FROM acme_certificates",
    "SELECT credentials FROM acme_accounts",
    "SELECT sealed FROM audit_key",
];

fn rows(stage: &Stage) -> Vec<Vec<u8>> {
    let row = |query: &'static str| {
        let read = stage.store.run("look", move |db| {
            db.query_row(query, params![], |row| row.get(0)).optional()
        });
        read.unwrap().unwrap()
    };
    SEALED.map(row).to_vec()
}

/// An installation that has one of all that is sealed, and the file of its content.
fn filled(stage: &Stage) -> std::path::PathBuf {
    let platform = &stage.daemon.platform;
    let seal = &platform.seal;
    let name = "key".parse().unwrap();
    let set = platform
        .secrets
        .set(&Scope::Machine, &name, b"value", "", "set");
    set.unwrap();
    let key = seal.seal("certificate/k.1", b"a key").unwrap();
    let account = seal.seal("acme/account/https://ca", b"another").unwrap();
    let put = stage.store.run("fill", move |db| {
        db.execute(
            "INSERT INTO acme_certificates VALUES ('a.dev', NULL, 'k.1', '', ?1, 1, 2, 3, NULL, 4)",
            [key],
        )?;
        db.execute(
            "INSERT INTO acme_accounts VALUES ('https://ca', 'https://ca/1', ?1, 1)",
            [account],
        )
    });
    put.unwrap();
    audit::give_key(&platform.trail, seal);
    let kept = platform.contents.keep(&Scope::Machine, b"content").unwrap();
    platform.root.state_dir().join("contents").join(kept)
}

#[test]
fn after_a_rekeying_that_was_killed_all_comes_under_the_newest_key() {
    let stage = Stage::new();
    let platform = &stage.daemon.platform;
    let file = filled(&stage);
    let all = || {
        let mut all = rows(&stage);
        all.push(fs::read(&file).unwrap());
        all
    };
    platform.seal.rekey(1).unwrap();
    let outdated = |sealed: &Vec<u8>| platform.seal.is_outdated(sealed).unwrap();
    assert!(all().iter().all(outdated));

    let resumed = resume(platform);
    assert_eq!(resumed.undone, Vec::<String>::new());
    assert_eq!(all().iter().position(outdated), None);
    let [_, key, account, _, _] = &all()[..] else {
        panic!("five are sealed")
    };
    let opened = |context, sealed| platform.seal.open(context, sealed).unwrap().to_vec();
    assert_eq!(opened("certificate/k.1", key), b"a key");
    assert_eq!(opened("acme/account/https://ca", account), b"another");
    // What is done is not done again.
    let before = all();
    assert_eq!(resume(platform).undone, Vec::<String>::new());
    assert_eq!(all(), before);
}

#[test]
fn what_cannot_be_sealed_anew_is_told_and_holds_up_nothing() {
    let stage = Stage::new();
    let platform = &stage.daemon.platform;
    let file = filled(&stage);
    let contents = file.parent().unwrap();
    // A folder where a content should be, and one that was cut off.
    fs::create_dir(contents.join("0".repeat(64))).unwrap();
    fs::write(contents.join("1".repeat(64)), "cut off").unwrap();
    let edited = stage.store.run("edit", |db| {
        db.execute("UPDATE secret_scopes SET keys = x'00'", params![])
    });
    edited.unwrap();
    platform.seal.rekey(1).unwrap();
    let resumed = resume(platform);
    assert_eq!(resumed.damaged, ["the keys of this machine"]);
    let [undone] = &resumed.undone[..] else {
        panic!("{:?}", resumed.undone)
    };
    assert!(undone.contains(&"0".repeat(64)), "{undone}");
    let left: Vec<_> = rows(&stage)
        .iter()
        .map(|sealed| platform.seal.is_outdated(sealed).unwrap())
        .collect();
    assert_eq!(left, [false; 4]);
    assert!(!platform.seal.is_outdated(&fs::read(file).unwrap()).unwrap());
}

#[test]
fn a_locked_seal_leaves_all_as_it_lies() {
    let stage = Stage::new();
    let platform = &stage.daemon.platform;
    filled(&stage);
    let before = rows(&stage);
    platform.seal.rekey(1).unwrap();
    let etc = platform.root.etc_dir();
    fs::rename(etc, etc.with_extension("away")).unwrap();
    let (seal, secrets) = open(&platform.root, &stage.store).unwrap();
    assert!(seal.locked().is_some());
    assert!(secrets.renew().is_err());
    let contents = Contents::new(platform.root.state_dir().join("contents"), seal, secrets);
    assert_eq!(contents.renew().len(), 1);
    assert_eq!(rows(&stage), before);
}

#[test]
fn locked_secrets_are_one_kind_of_failure_whatever_needs_them() {
    let reason = || Arc::new(LockReason::NoMachineSlot);
    let sealed = SecretError::Sealed(SealedError::Locked { reason: reason() });
    let of_secret = words::refusal(sealed);
    let of_slot = slots::not_changed(ChangeError::Locked { reason: reason() });
    assert_eq!(of_secret.code, ErrorCode::Failed);
    assert_eq!(
        (of_slot.code, of_slot.hint),
        (of_secret.code, of_secret.hint)
    );
}

#[test]
fn a_use_tells_a_secret_that_is_missing_from_one_that_cannot_be_had() {
    let stage = Stage::new();
    let platform = &stage.daemon.platform;
    filled(&stage);
    let next = |name: &str| {
        let using = uses::Using {
            environment: EnvironmentId {
                project: ProjectName::new("shop"),
                environment: EnvironmentName::new("production"),
            },
            release: 1,
            own: false,
            services: Vec::new(),
            version: 1,
            scope: Scope::Machine,
            contents: std::collections::BTreeSet::new(),
            differing: Vec::new(),
        };
        let used = calls::used(platform, &name.parse().unwrap(), using);
        (used.next, used.problem)
    };
    assert_eq!(next("key"), (Some(1), None));
    assert_eq!(next("other"), (None, None));
    let edited = stage.store.run("edit", |db| {
        db.execute("UPDATE secrets SET current = 2", params![])
    });
    edited.unwrap();
    let (none, problem) = next("key");
    assert_eq!(none, None);
    assert!(problem.unwrap().contains("edited, swapped or cut off"));
}
