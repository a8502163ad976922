//! The store on a real database, edited as by somebody without a key.

use std::time::{Duration, Instant};

use havre_store::rusqlite::params;
use tempfile::TempDir;

use super::*;
use crate::seal::Place;

struct World {
    folder: TempDir,
    store: Arc<Store>,
    secrets: Secrets,
}

fn place(folder: &TempDir) -> Place {
    Place {
        state: folder.path().join("seal"),
        machine: folder.path().join("etc"),
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("state.db"), &[SCHEMA]).unwrap());
        let seal = Seal::start(place(&folder), false, 1);
        let secrets = Secrets::new(Arc::clone(&store), seal);
        Self {
            folder,
            store,
            secrets,
        }
    }

    fn set(&self, scope: &Scope, name: &str, value: &[u8]) -> Set {
        let name = name.parse().unwrap();
        self.secrets
            .set(scope, &name, value, "tester", "set")
            .unwrap()
    }

    fn get(&self, scope: &Scope, name: &str) -> Vec<u8> {
        self.secrets
            .get(scope, &name.parse().unwrap(), None)
            .unwrap()
            .plain
            .to_vec()
    }

    /// How many scopes have keys under an older key of the seal.
    fn outdated(&self) -> usize {
        let scopes = self.store.run("look", |db| rows::all_scopes(db)).unwrap();
        let keys = scopes.iter().map(|(_, keys)| keys);
        keys.filter(|keys| self.secrets.seal.is_outdated(keys).unwrap())
            .count()
    }

    /// Edits the database as somebody does who has no key.
    fn edit(&self, statement: &'static str) {
        let changed = self
            .store
            .run("edit", move |db| db.execute(statement, params![]));
        assert!(changed.unwrap() > 0, "{statement}");
    }
}

fn name(name: &str) -> SecretName {
    name.parse().unwrap()
}

fn shop(environment: &str) -> Scope {
    Scope::Environment {
        project: "shop".to_owned(),
        environment: environment.to_owned(),
    }
}

#[test]
fn an_environment_has_its_own_secrets_and_those_of_the_machine() {
    let world = World::new();
    world.set(&Scope::Machine, "smtp/password", b"base");
    world.set(&shop("production"), "smtp/password", b"own");
    let resolved = |environment: &str| {
        let value = world
            .secrets
            .resolve(&shop(environment), &name("smtp/password"));
        let value = value.unwrap();
        (value.scope, value.plain.to_vec())
    };
    assert_eq!(
        resolved("production"),
        (shop("production"), b"own".to_vec())
    );
    assert_eq!(resolved("staging"), (Scope::Machine, b"base".to_vec()));
    let error = world
        .secrets
        .resolve(&shop("staging"), &name("none"))
        .unwrap_err();
    assert_eq!(error.to_string(), "shop/staging has no secret `none`");
    world
        .secrets
        .remove(&shop("production"), &name("smtp/password"))
        .unwrap();
    assert_eq!(resolved("production"), (Scope::Machine, b"base".to_vec()));
}

#[test]
fn every_value_is_a_version_that_can_be_gone_back_to() {
    let world = World::new();
    let scope = shop("production");
    for (value, version, unchanged) in [
        ("one", 1, false),
        ("two", 2, false),
        ("two", 2, true),
        ("three", 3, false),
    ] {
        let set = world.set(&scope, "key", value.as_bytes());
        assert_eq!(set, Set { version, unchanged });
    }
    let key = name("key");
    assert_eq!(world.secrets.rollback(&scope, &key, None).unwrap(), 2);
    assert_eq!(world.secrets.rollback(&scope, &key, Some(1)).unwrap(), 1);
    assert_eq!(world.get(&scope, "key"), b"one");
    let versions = world.secrets.history(&scope, &key).unwrap();
    let told: Vec<_> = versions
        .iter()
        .map(|one| (one.version, one.current, one.size))
        .collect();
    assert_eq!(told, [(1, true, 3), (2, false, 3), (3, false, 5)]);
    assert_eq!(versions[0].set_by, "tester");
    // There is none before the first, and numbers are not used again.
    assert!(matches!(
        world.secrets.rollback(&scope, &key, None),
        Err(SecretError::NoVersion { .. })
    ));
    assert!(world.secrets.rollback(&scope, &key, Some(9)).is_err());
    assert_eq!(world.set(&scope, "key", b"four").version, 4);
    let old = world.secrets.get(&scope, &key, Some(3)).unwrap();
    assert_eq!(**old.plain, *b"three");
}

#[test]
fn one_that_was_removed_and_is_set_again_goes_on_counting() {
    let world = World::new();
    let scope = shop("production");
    let remove = |name: &str| world.secrets.remove(&scope, &name.parse().unwrap());
    for value in [b"one", b"two"] {
        world.set(&scope, "key", value);
    }
    world.set(&scope, "other", b"one");
    remove("key").unwrap();
    remove("other").unwrap();
    assert_eq!(world.set(&Scope::Machine, "key", b"two").version, 1);
    assert_eq!(world.set(&scope, "other", b"two").version, 2);
    assert_eq!(world.set(&scope, "key", b"two").version, 3);
    assert_eq!(world.set(&scope, "key", b"four").version, 4);
    remove("key").unwrap();
    assert!(remove("key").is_err());
    world.edit("UPDATE secrets_removed SET newest = 9223372036854775807");
    world.set(&scope, "key", b"five");
    world.set(&scope, "key", b"six");
    assert_eq!(world.get(&scope, "key"), b"six");
}

#[test]
fn names_that_were_removed_are_remembered_up_to_a_number() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.set(&Scope::Machine, name, b"one");
        let key = Scope::Machine.key();
        let remove = move |db: &mut Connection| rows::remove(db, &key, name, 2);
        assert!(world.store.run("remove", remove).unwrap());
    }
    let again = ["a", "b", "c"].map(|name| world.set(&Scope::Machine, name, b"two").version);
    assert_eq!(again, [1, 2, 2]);
}

#[test]
fn values_are_any_bytes_up_to_a_mebibyte() {
    let world = World::new();
    let binary: Vec<u8> = (0..=255).cycle().take(MOST_VALUE_BYTES).collect();
    world.set(&Scope::Machine, "schlüssel/鍵", &binary);
    assert_eq!(world.get(&Scope::Machine, "schlüssel/鍵"), binary);
    let set = |value: &[u8]| {
        world
            .secrets
            .set(&Scope::Machine, &name("x"), value, "", "set")
    };
    assert!(matches!(set(b""), Err(SecretError::Empty)));
    let over = vec![0; MOST_VALUE_BYTES + 1];
    assert!(matches!(set(&over), Err(SecretError::TooLarge { .. })));
}

#[test]
fn the_oldest_versions_go() {
    let world = World::new();
    for number in 0..MOST_VERSIONS + 5 {
        world.set(&Scope::Machine, "key", number.to_string().as_bytes());
    }
    let versions = world
        .secrets
        .history(&Scope::Machine, &name("key"))
        .unwrap();
    assert_eq!(versions.len(), MOST_VERSIONS as usize);
    assert_eq!(versions[0].version, 6);
}

#[test]
fn rows_that_were_edited_swapped_or_cut_off_are_named_and_not_used() {
    let edits = [
        // One value for another, of the same scope and of another.
        (
            "UPDATE secret_versions SET (data_key, content) = (SELECT data_key, content FROM secret_versions \
          WHERE name = 'other' AND scope = 'shop/production') WHERE name = 'key'",
            "version 2 of",
        ),
        (
            "UPDATE secret_versions SET (data_key, content) = (SELECT data_key, content FROM secret_versions \
          WHERE name = 'key' AND scope = '') WHERE name = 'key' AND scope <> ''",
            "version 2 of",
        ),
        // An older one for the newer.
        (
            "UPDATE secret_versions SET (data_key, content) = (SELECT data_key, content FROM secret_versions \
          WHERE name = 'key' AND version = 1 AND scope <> '') WHERE name = 'key' AND version = 2",
            "version 2 of",
        ),
        (
            "UPDATE secrets SET current = 1 WHERE name = 'key' AND scope <> ''",
            "the version in use of",
        ),
        (
            "UPDATE secrets SET newest = 1 WHERE name = 'key' AND scope <> ''",
            "the version in use of",
        ),
        (
            "UPDATE secret_versions SET content = substr(content, 1, 30) WHERE name = 'key'",
            "version 2 of",
        ),
        (
            "UPDATE secret_versions SET content = x'' WHERE name = 'key'",
            "version 2 of",
        ),
        (
            "UPDATE secret_versions SET set_by = 'nobody' WHERE name = 'key'",
            "version 2 of",
        ),
        (
            "UPDATE secret_versions SET set_at = 7 WHERE name = 'key'",
            "version 2 of",
        ),
    ];
    let scope = shop("production");
    for (edit, what) in edits {
        let world = World::new();
        world.set(&scope, "key", b"one");
        world.set(&scope, "key", b"two");
        world.set(&scope, "other", b"else");
        world.set(&Scope::Machine, "key", b"the machine's");
        world.edit(edit);
        let error = world
            .secrets
            .get(&scope, &name("key"), None)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(what) && error.contains("`key` of shop/production"),
            "{edit}: {error}"
        );
        let resolved = world.secrets.resolve(&scope, &name("key"));
        assert!(resolved.is_err(), "the machine's does not stand in: {edit}");
        let listed = world.secrets.list(|one| *one == scope).unwrap();
        let told: Vec<_> = listed
            .iter()
            .map(|one| (one.name.as_str(), one.current.is_ok()))
            .collect();
        assert_eq!(told, [("key", false), ("other", true)], "{edit}");
        assert_eq!(world.get(&scope, "other"), b"else");
    }
}

#[test]
fn a_row_that_is_older_than_the_newest_version_is_named() {
    let world = World::new();
    let scope = shop("production");
    world.set(&scope, "key", b"one");
    let copied = world.store.run("copy", |db| {
        db.execute_batch("CREATE TABLE older AS SELECT * FROM secrets")
    });
    copied.unwrap();
    world.set(&scope, "key", b"two");
    world.edit(
        "UPDATE secrets SET (current, newest, mac) = (SELECT current, newest, mac FROM older)",
    );
    let named = |error: SecretError| {
        let error = error.to_string();
        assert!(
            error.contains("the version in use of secret `key`"),
            "{error}"
        );
    };
    let key = name("key");
    named(world.secrets.get(&scope, &key, None).unwrap_err());
    named(world.secrets.history(&scope, &key).unwrap_err());
    named(
        world
            .secrets
            .set(&scope, &key, b"three", "", "set")
            .unwrap_err(),
    );
    assert!(world.secrets.list(|_| true).unwrap()[0].current.is_err());
    world.secrets.remove(&scope, &key).unwrap();
    world.set(&scope, "key", b"three");
    assert_eq!(world.get(&scope, "key"), b"three");
}

#[test]
fn no_value_is_read_for_a_list() {
    let world = World::new();
    let scope = shop("production");
    world.set(&scope, "key", b"one");
    world.set(&shop("staging"), "key", b"two");
    world.edit("UPDATE secret_scopes SET keys = x'00' WHERE scope = 'shop/staging'");
    world.edit("UPDATE secret_versions SET content = zeroblob(length(content))");
    let listed = world.secrets.list(|one| *one == scope).unwrap();
    let sizes = listed.iter().map(|one| one.current.as_ref().unwrap().size);
    let sizes: Vec<_> = sizes.collect();
    assert_eq!(sizes, [3]);
    let history = world.secrets.history(&scope, &name("key")).unwrap();
    assert_eq!(history.len(), 1);
    let error = world.secrets.get(&scope, &name("key"), None).unwrap_err();
    assert!(error.to_string().starts_with("version 1 of"), "{error}");
}

#[test]
fn a_version_whose_key_was_bound_to_its_place_alone_is_as_any_other() {
    let world = World::new();
    let scope = shop("production");
    world.set(&scope, "key", b"one");
    let keys = world.secrets.keys(&scope).unwrap().unwrap();
    let mut head = world
        .store
        .run("look", |db| rows::heads(db, "shop/production", None))
        .unwrap()
        .remove(0);
    keys.bind_to_place(&mut head);
    world
        .store
        .run("put", move |db| rows::put_data_key(db, &head))
        .unwrap();
    let is_listed = || {
        let listed = world.secrets.list(|_| true).unwrap();
        let history = world.secrets.history(&scope, &name("key"));
        assert_eq!(listed[0].current.is_ok(), history.is_ok());
        history.is_ok()
    };
    for _ in 0..2 {
        assert!(is_listed());
        assert_eq!(world.get(&scope, "key"), b"one");
        world.secrets.seal.rekey(2).unwrap();
        assert_eq!(world.secrets.renew().unwrap(), Vec::<String>::new());
    }
    world.edit("UPDATE secret_versions SET set_by = 'nobody'");
    assert!(!is_listed());
}

#[test]
fn keys_of_one_scope_do_not_open_another() {
    let world = World::new();
    world.set(&shop("production"), "key", b"one");
    world.set(&shop("staging"), "key", b"two");
    world.edit(
        "UPDATE secret_scopes SET keys = (SELECT keys FROM secret_scopes WHERE scope = 'shop/staging')",
    );
    let error = world
        .secrets
        .get(&shop("production"), &name("key"), None)
        .unwrap_err();
    assert!(
        error.to_string().contains("secrets/shop/production"),
        "{error}"
    );
}

#[test]
fn a_database_that_was_copied_elsewhere_opens_nothing() {
    let world = World::new();
    world.set(&Scope::Machine, "key", b"value-of-the-key");
    let other = tempfile::tempdir().unwrap();
    let seal = Seal::start(place(&other), false, 1);
    let there = Secrets::new(Arc::clone(&world.store), seal);
    let error = there.get(&Scope::Machine, &name("key"), None).unwrap_err();
    assert!(
        error.to_string().contains("comes from another machine"),
        "{error}"
    );
    let listed = there.list(|_| true).unwrap();
    assert!(
        listed[0]
            .current
            .as_ref()
            .unwrap_err()
            .contains("another machine")
    );
    there
        .set(&Scope::Machine, &name("key"), b"x", "", "set")
        .unwrap_err();
    assert_eq!(world.get(&Scope::Machine, "key"), b"value-of-the-key");
}

#[test]
fn no_value_is_in_the_files() {
    let world = World::new();
    world.set(&shop("production"), "key", b"value-of-the-key");
    world
        .secrets
        .fingerprint(&shop("production"), b"value-of-the-key")
        .unwrap();
    let mut looked_at = 0;
    for file in ["state.db", "state.db-wal", "seal/seal.json"] {
        let bytes = std::fs::read(world.folder.path().join(file)).unwrap();
        looked_at += bytes.len();
        assert!(
            !bytes.windows(16).any(|part| part == b"value-of-the-key"),
            "{file}"
        );
    }
    assert!(looked_at > 1000);
}

#[test]
fn new_keys_are_for_all_versions_and_fingerprints_stay() {
    let world = World::new();
    let scope = shop("production");
    world.set(&scope, "key", b"one");
    world.set(&scope, "key", b"two");
    world.set(&Scope::Machine, "base", b"three");
    let fingerprint = world.secrets.fingerprint(&scope, b"content").unwrap();
    let before = world.store.run("look", |db| rows::all_scopes(db)).unwrap();
    world.secrets.seal.rekey(2).unwrap();
    assert_eq!(world.outdated(), 2);
    assert_eq!(world.secrets.renew().unwrap(), Vec::<String>::new());
    assert_eq!(world.outdated(), 0);
    let after = world.store.run("look", |db| rows::all_scopes(db)).unwrap();
    // What is done is not done again.
    assert_eq!(world.secrets.renew().unwrap(), Vec::<String>::new());
    let again = world.store.run("look", |db| rows::all_scopes(db)).unwrap();
    assert_eq!(again, after);
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before.1 != after.1)
    );
    assert_eq!(world.get(&scope, "key"), b"two");
    assert_eq!(
        world.secrets.history(&scope, &name("key")).unwrap().len(),
        2
    );
    assert_eq!(world.get(&Scope::Machine, "base"), b"three");
    assert_eq!(
        world.secrets.fingerprint(&scope, b"content").unwrap(),
        fingerprint
    );
    // The keys of before are of no use with what is there now.
    for (scope, keys) in before {
        world
            .store
            .run("go back", move |db| rows::put_scope(db, &scope, &keys))
            .unwrap();
    }
    assert!(world.secrets.get(&scope, &name("key"), None).is_err());
}

#[test]
fn who_reads_while_keys_are_made_anew_finds_nothing_edited() {
    let world = World::new();
    for number in 0..150 {
        world.set(&shop("production"), &format!("s{number}"), b"a-value");
    }
    for number in 0..50 {
        let (name, by) = (name(&format!("s{number}")), ("tester", "set"));
        let secrets = &world.secrets;
        let begun = secrets.begin_rotation(&shop("production"), &name, b"another", by, false);
        begun.unwrap();
    }
    let (secrets, shop) = (&world.secrets, shop("production"));
    let until = Instant::now() + Duration::from_millis(500);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while Instant::now() < until {
                secrets.seal.rekey(1).unwrap();
                assert_eq!(secrets.renew().unwrap(), Vec::<String>::new());
            }
        });
        threads.spawn(|| {
            while Instant::now() < until {
                for one in secrets.rotations_under_way(&shop).unwrap() {
                    one.unwrap();
                }
            }
        });
        while Instant::now() < until {
            for one in secrets.list(|_| true).unwrap() {
                assert_eq!(one.current.map(|version| version.version), Ok(1));
            }
            secrets.get(&shop, &name("s7"), None).unwrap();
            secrets.history(&shop, &name("s8")).unwrap();
            secrets.rotations(&shop, &name("s9")).unwrap();
        }
    });
}

#[test]
fn what_is_damaged_stays_so_with_new_keys() {
    let world = World::new();
    world.set(&Scope::Machine, "good", b"one");
    world.set(&Scope::Machine, "bad", b"two");
    world.edit("UPDATE secret_versions SET data_key = x'00' WHERE name = 'bad'");
    world.edit("UPDATE secrets SET current = 5 WHERE name = 'bad'");
    world.secrets.seal.rekey(2).unwrap();
    let broken = world.secrets.renew().unwrap();
    assert_eq!(
        broken,
        [
            "`bad` of this machine",
            "version 1 of `bad` of this machine"
        ]
    );
    assert_eq!(world.get(&Scope::Machine, "good"), b"one");
    assert!(
        world
            .secrets
            .get(&Scope::Machine, &name("bad"), None)
            .is_err()
    );
    // Another value mends it, if the row that counts versions is removed first.
    world.edit("UPDATE secrets SET newest = -1 WHERE name = 'bad'");
    world.secrets.remove(&Scope::Machine, &name("bad")).unwrap();
    world.set(&Scope::Machine, "bad", b"three");
    assert_eq!(world.get(&Scope::Machine, "bad"), b"three");
}

#[test]
fn fingerprints_are_equal_in_one_scope_only() {
    let world = World::new();
    let of = |scope: &Scope, content: &[u8]| world.secrets.fingerprint(scope, content).unwrap();
    assert_eq!(of(&shop("a"), b"x"), of(&shop("a"), b"x"));
    assert_ne!(of(&shop("a"), b"x"), of(&shop("a"), b"y"));
    assert_ne!(of(&shop("a"), b"x"), of(&shop("b"), b"x"));
    let is = |scope: &str, content: &[u8]| {
        let fingerprint = of(&shop("a"), b"x");
        let is = world
            .secrets
            .is_fingerprint(&shop(scope), content, &fingerprint);
        is.unwrap()
    };
    assert!(is("a", b"x") && !is("a", b"y") && !is("b", b"x"));
    // Who asks makes no keys.
    assert!(!is("new", b"x"));
    assert!(world.secrets.keys(&shop("new")).unwrap().is_none());
    let seal = Seal::start(place(&world.folder), true, 2);
    let again = Secrets::new(Arc::clone(&world.store), seal);
    assert_eq!(
        again.fingerprint(&shop("a"), b"x").unwrap(),
        of(&shop("a"), b"x")
    );
}

#[test]
fn keys_of_one_scope_that_are_lost_hold_up_no_other() {
    let world = World::new();
    for environment in ["cut", "edited", "production"] {
        world.set(&shop(environment), "key", b"one");
    }
    world.edit("UPDATE secret_scopes SET keys = x'00' WHERE scope = 'shop/cut'");
    world.edit(
        "UPDATE secret_scopes SET keys = (SELECT keys FROM secret_scopes WHERE scope = 'shop/production') \
         WHERE scope = 'shop/edited'",
    );
    world.secrets.seal.rekey(2).unwrap();
    let before = world.outdated();
    assert_eq!(
        world.secrets.renew().unwrap(),
        ["the keys of shop/cut", "the keys of shop/edited"]
    );
    assert_eq!((before, world.outdated()), (2, 1));
    assert_eq!(world.get(&shop("production"), "key"), b"one");
}

#[test]
fn a_scope_has_so_many_bytes_and_old_versions_make_room() {
    let mut world = World::new();
    world.secrets.most_bytes = 10_000;
    let scope = shop("production");
    for round in 0..9 {
        world.set(&scope, "key", &[round; 2000]);
    }
    let versions = world.secrets.history(&scope, &name("key")).unwrap();
    let kept: Vec<_> = versions.iter().map(|one| one.version).collect();
    assert_eq!(kept, [6, 7, 8, 9]);
    // What is in use has to fit beside the others, whatever old versions it has.
    world.set(&scope, "small", b"x");
    let key = name("other");
    let set = |value: &[u8]| world.secrets.set(&scope, &key, value, "", "set");
    assert!(matches!(set(&[0; 2000]), Err(SecretError::NoRoom { .. })));
    world.set(&scope, "key", &[10; 9000]);
    assert_eq!(
        world.secrets.history(&scope, &name("key")).unwrap().len(),
        1
    );
    world.set(&scope, "key", &[11; 9000]);
    assert_eq!(world.get(&scope, "key"), [11; 9000]);
    // Another scope has its own room.
    world.set(&Scope::Machine, "key", &[0; 9000]);
}
