//! Contents under a real seal, and the way here from files in clear.

use std::os::unix::fs::MetadataExt as _;

use havre_api::EnvironmentId;
use havre_model::{EnvironmentName, ProjectName};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::environment::tables::{NewRelease, Tables};
use crate::fake::Stage;
use crate::secrets::scope::scope_of;

fn id() -> EnvironmentId {
    EnvironmentId {
        project: ProjectName::new("shop"),
        environment: EnvironmentName::new("production"),
    }
}

fn digest(content: &str) -> String {
    let digest = Sha256::digest(content.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether any file below holds this text.
fn is_below(dir: &Path, text: &str) -> bool {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            if about.is_dir() {
                folders.push(path);
            } else if about.is_file() {
                let bytes = fs::read(&path).unwrap();
                if bytes
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
                {
                    return true;
                }
            }
        }
    }
    false
}

#[test]
fn contents_are_sealed_and_known_by_no_digest() {
    let stage = Stage::new();
    let platform = &stage.daemon.platform;
    let (contents, scope) = (&platform.contents, scope_of(Some(&id())));
    let fingerprint = contents.keep(&scope, b"a-secret-content").unwrap();
    assert_eq!(
        contents.keep(&scope, b"a-secret-content").unwrap(),
        fingerprint
    );
    assert_ne!(fingerprint, digest("a-secret-content"));
    assert_eq!(
        *contents.open(&scope, &fingerprint).unwrap(),
        b"a-secret-content"
    );
    assert!(!is_below(platform.root.state_dir(), "a-secret-content"));
    let path = contents.path(&fingerprint);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o400);
    // One that was cut off is not used, and mended where it is kept again.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "cut off").unwrap();
    contents.open(&scope, &fingerprint).unwrap_err();
    contents.keep(&scope, b"a-secret-content").unwrap();
    assert_eq!(
        *contents.open(&scope, &fingerprint).unwrap(),
        b"a-secret-content"
    );
    // One is not another's.
    let other = contents.keep(&scope, b"another-content").unwrap();
    fs::copy(contents.path(&other), platform.root.state_dir().join("x")).unwrap();
    fs::rename(platform.root.state_dir().join("x"), &path).unwrap();
    contents.open(&scope, &fingerprint).unwrap_err();
}

#[test]
fn another_environments_content_is_not_opened_and_nothing_that_is_none() {
    let stage = Stage::new();
    let platform = &stage.daemon.platform;
    let (contents, own) = (&platform.contents, scope_of(Some(&id())));
    let other = scope_of(Some(&EnvironmentId {
        environment: EnvironmentName::new("staging"),
        ..id()
    }));
    let fingerprint = contents.keep(&own, b"a-secret-content").unwrap();
    let refused = |fingerprint: &str| {
        let error = contents.open(&other, fingerprint).unwrap_err();
        assert!(!error.is_missing());
        assert!(matches!(error, ContentsError::Foreign { .. }), "{error}");
    };
    // Whether that one has keys or not.
    refused(&fingerprint);
    contents.keep(&other, b"another").unwrap();
    refused(&fingerprint);
    assert!(contents.open(&own, &fingerprint).is_ok());
    // No name leads out of the folder.
    refused(&format!("../contents/{fingerprint}"));
    refused("/dev/zero");
}

#[test]
fn contents_are_under_the_newest_key_after_a_rekeying() {
    let stage = Stage::new();
    let platform = &stage.daemon.platform;
    let (contents, scope) = (&platform.contents, scope_of(Some(&id())));
    let fingerprint = contents.keep(&scope, b"content").unwrap();
    platform.seal.rekey(1).unwrap();
    let sealed = || fs::read(contents.path(&fingerprint)).unwrap();
    assert!(platform.seal.is_outdated(&sealed()).unwrap());
    assert!(contents.renew().is_empty());
    assert!(!platform.seal.is_outdated(&sealed()).unwrap());
    assert_eq!(*contents.open(&scope, &fingerprint).unwrap(), b"content");
}

#[test]
fn nothing_goes_while_somebody_is_about_to_need_it() {
    let stage = Stage::new();
    let contents = &stage.daemon.platform.contents;
    let first = contents.hold();
    let fingerprint = contents.keep(&scope_of(Some(&id())), b"a secret").unwrap();
    let second = contents.hold();
    drop(first);
    assert!(contents.sweep().is_none());
    drop(second);
    let used = BTreeSet::from([fingerprint.clone()]);
    contents.sweep().unwrap().prune(&used).unwrap();
    assert!(contents.has(&fingerprint));
    contents.sweep().unwrap().prune(&BTreeSet::new()).unwrap();
    assert!(!contents.has(&fingerprint));
}

/// An installation of before: a release whose secret lies in clear.
struct Before {
    stage: Stage,
    clear: PathBuf,
}

impl Before {
    fn new() -> Self {
        let stage = Stage::new();
        let clear = stage.daemon.platform.root.state_dir().join("secrets");
        fs::create_dir_all(&clear).unwrap();
        for content in ["in-clear-one", "in-clear-two"] {
            fs::write(clear.join(digest(content)), content).unwrap();
        }
        let content = serde_json::json!({"services": {"web": {"files": {
            "/run/secrets/a": digest("in-clear-one"), "/b": digest("in-clear-two"), "/c": "gone"}}}});
        let made = NewRelease {
            number: 1,
            content: content.to_string(),
            record: "{}".to_owned(),
        };
        let tables = &stage.daemon.platform.tables;
        tables
            .environment_put("shop", "production", "{}", Some(&made), &[])
            .unwrap();
        Self { stage, clear }
    }

    fn take_over(&self) {
        let platform = &self.stage.daemon.platform;
        let run = platform.root.run_dir();
        take_over(&self.clear, run, &platform.contents, &platform.tables).unwrap();
    }

    fn check(&self) {
        let platform = &self.stage.daemon.platform;
        let tables: &Tables = &platform.tables;
        let row = tables.release("shop", "production", 1).unwrap().unwrap();
        let release: serde_json::Value = serde_json::from_str(&row.content).unwrap();
        let files = &release["services"]["web"]["files"];
        for (target, content) in [("/run/secrets/a", "in-clear-one"), ("/b", "in-clear-two")] {
            let fingerprint = files[target].as_str().unwrap();
            assert_ne!(fingerprint, digest(content));
            assert_eq!(
                *platform
                    .contents
                    .open(&scope_of(Some(&id())), fingerprint)
                    .unwrap(),
                content.as_bytes()
            );
            // A shim that starts its program again reads it where it was.
            assert_eq!(
                fs::read_to_string(self.clear.join(digest(content))).unwrap(),
                content
            );
            assert!(!is_below(platform.root.state_dir(), content), "{content}");
        }
        assert_eq!(files["/c"], "gone");
    }
}

#[test]
fn what_lay_in_clear_is_sealed_and_wiped() {
    let before = Before::new();
    before.take_over();
    before.check();
    before.take_over();
    before.check();
    // After a reboot there is nothing left of it.
    fs::remove_dir_all(before.stage.daemon.platform.root.run_dir()).unwrap();
    before.take_over();
    assert!(!before.clear.exists());
}

#[test]
fn one_that_was_killed_anywhere_is_finished() {
    let going = |name: &str| format!("{}.going", digest(name));
    // Records changed, and nothing wiped; a file set aside, with and without its link; half of them done.
    for step in 0..4 {
        let before = Before::new();
        let platform = &before.stage.daemon.platform;
        let at = |name: String| before.clear.join(name);
        let one = "in-clear-one";
        before.take_over();
        let kept = platform
            .root
            .run_dir()
            .join("secrets-before")
            .join(digest(one));
        let undo = |name: &str| {
            fs::remove_file(at(digest(name))).unwrap();
            fs::write(at(digest(name)), name).unwrap();
        };
        match step {
            0 => ["in-clear-one", "in-clear-two"]
                .iter()
                .for_each(|name| undo(name)),
            1 => {
                fs::remove_file(at(digest(one))).unwrap();
                fs::write(at(going(one)), one).unwrap();
            }
            2 => fs::write(at(going(one)), one).unwrap(),
            _ => {
                undo(one);
                fs::remove_file(&kept).unwrap();
            }
        }
        before.take_over();
        before.check();
        assert!(!at(going(one)).exists(), "{step}");
    }
}
