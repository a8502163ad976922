//! The seal, through what users of it see.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::machine::MachineKind;
use super::passphrase::Cost;
use super::*;
use crate::age::Identity;

const PASSPHRASE: &str = "correct horse battery";
/// As little work as Argon2id does.
const QUICK: Cost = Cost {
    memory_kib: 8,
    passes: 1,
};

/// A machine: its state, and its part of the seal.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn place(&self) -> Place {
        Place {
            state: self.0.path().join("lib/seal"),
            machine: self.0.path().join("etc"),
        }
    }

    fn start(&self) -> Seal {
        Seal::start(self.place(), false, 1)
    }

    /// As it starts again with something sealed.
    fn restart(&self) -> Seal {
        Seal::start(self.place(), true, 2)
    }

    fn key_files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.place().machine).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn edit(&self, edit: impl FnOnce(&mut serde_json::Value)) {
        let path = self.place().record();
        let mut record = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut record);
        fs::write(path, serde_json::to_vec(&record).unwrap()).unwrap();
    }
}

fn with_passphrase(seal: &Seal) -> u32 {
    seal.add_passphrase_of(PASSPHRASE, PASSPHRASE, QUICK, 5)
        .unwrap()
}

fn reason(seal: &Seal) -> String {
    havre_base::one_line(&*seal.locked().expect("it is locked"))
}

#[test]
fn a_machine_opens_what_it_sealed_after_a_reboot_by_itself() {
    let machine = Machine::new();
    let sealed = machine.start().seal("acme/account/x", b"key").unwrap();
    let seal = machine.restart();
    assert_eq!(*seal.open("acme/account/x", &sealed).unwrap(), b"key");
    for other in ["acme/account/y", ""] {
        let error = seal.open(other, &sealed).unwrap_err();
        assert!(matches!(error, SealedError::Damaged { .. }), "{error}");
    }
    for at in 0..sealed.len() {
        let mut edited = sealed.clone();
        edited[at] ^= 1;
        seal.open("acme/account/x", &edited).unwrap_err();
        seal.open("acme/account/x", &sealed[..at]).unwrap_err();
    }
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let place = machine.place();
    assert_eq!(mode(&place.record()), 0o600);
    assert_eq!(mode(&place.machine.join("seal-1.key")), 0o400);
    assert_eq!(mode(&place.state), 0o700);
}

#[test]
fn a_copied_state_opens_nothing_without_the_machines_key() {
    let (machine, other) = (Machine::new(), Machine::new());
    let seal = machine.start();
    let sealed = seal.seal("a", b"secret").unwrap();
    with_passphrase(&seal);
    // The copy of the state alone, on a machine without a key, and on one with a key of its own.
    fs::create_dir_all(other.place().state).unwrap();
    fs::copy(machine.place().record(), other.place().record()).unwrap();
    other.edit(|record| {
        record["slots"][0]["opener"]["path"] = other
            .place()
            .machine
            .join("seal-1.key")
            .to_str()
            .unwrap()
            .into();
    });
    for own_key in [false, true] {
        if own_key {
            let third = Machine::new();
            third.start();
            fs::create_dir_all(other.place().machine).unwrap();
            let name = "seal-1.key";
            fs::copy(
                third.place().machine.join(name),
                other.place().machine.join(name),
            )
            .unwrap();
        }
        let seal = other.restart();
        let said = reason(&seal);
        assert_eq!(said.contains("that of another seal"), own_key, "{said}");
        assert_eq!(said.contains("No such file"), !own_key, "{said}");
        let error = seal.open("a", &sealed).unwrap_err();
        assert!(matches!(error, SealedError::Locked { .. }), "{error}");
        seal.seal("a", b"x").unwrap_err();
        assert!(matches!(seal.rekey(3), Err(ChangeError::Locked { .. })));
        let wrong = seal.unlock("incorrect horse", 3).unwrap_err();
        assert!(matches!(wrong, ChangeError::WrongSecret), "{wrong}");
        let opened = seal.unlock(PASSPHRASE, 3).unwrap();
        assert!(opened.was_locked);
        assert_eq!(*seal.open("a", &sealed).unwrap(), b"secret");
    }
    // From now on the other machine opens it by itself.
    let seal = other.restart();
    seal.unlock(PASSPHRASE, 3).unwrap();
    seal.add_machine(MachineKind::File, 4).unwrap();
    assert_eq!(*other.restart().open("a", &sealed).unwrap(), b"secret");
}

#[test]
fn what_another_seal_sealed_is_said_to_be_foreign() {
    let sealed = Machine::new().start().seal("a", b"x").unwrap();
    let error = Machine::new().start().open("a", &sealed).unwrap_err();
    assert!(matches!(error, SealedError::Foreign { .. }), "{error}");
}

#[test]
fn a_seal_that_is_gone_is_missed_and_no_other_made_in_its_place() {
    let machine = Machine::new();
    machine.start();
    fs::remove_file(machine.place().record()).unwrap();
    let seal = machine.restart();
    assert!(reason(&seal).contains("restore it"), "{}", reason(&seal));
    assert!(!machine.place().record().exists());
    let error = seal.unlock(PASSPHRASE, 1).unwrap_err();
    assert!(matches!(error, ChangeError::Unusable { .. }), "{error}");
}

#[test]
fn a_record_that_is_cut_off_or_edited_locks_and_says_so() {
    let machine = Machine::new();
    machine.start();
    let path = machine.place().record();
    let whole = fs::read(&path).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 3] {
        fs::write(&path, &whole[..length]).unwrap();
        let said = reason(&machine.restart());
        assert!(said.contains("cannot be used"), "{length}: {said}");
    }
    fs::write(&path, &whole).unwrap();
    machine.edit(|record| record["generations"][0]["id"] = "0011223344556677".into());
    assert!(reason(&machine.restart()).contains("0011223344556677"));
    fs::write(&path, &whole).unwrap();
    machine.edit(|record| record["version"] = 2.into());
    assert!(reason(&machine.restart()).contains("form 2"));
    fs::write(&path, &whole).unwrap();
    assert!(machine.restart().locked().is_none());
}

#[test]
fn set_up_is_not_done_before_a_second_slot_was_seen_to_open() {
    let machine = Machine::new();
    let seal = machine.start();
    assert!(!seal.status().is_set_up());
    let identity = Identity::generate().unwrap();
    let slot = seal.add_age(&identity.recipient(), 3).unwrap();
    assert!(!seal.status().is_set_up());
    assert!(matches!(
        seal.add_age(&identity.recipient(), 3),
        Err(ChangeError::Twice { number }) if number == slot
    ));
    let other = Identity::generate().unwrap();
    seal.unlock(&other.secret_text(), 4).unwrap_err();
    let opened = seal.unlock(&identity.secret_text(), 4).unwrap();
    assert_eq!(
        opened,
        Unlocked {
            slot,
            was_locked: false
        }
    );
    assert!(seal.status().is_set_up());
    assert!(machine.restart().status().is_set_up());
}

#[test]
fn a_passphrase_is_long_enough_and_opens_before_it_is_kept() {
    let seal = Machine::new().start();
    let add = |one: &str, two: &str| seal.add_passphrase_of(one, two, QUICK, 1);
    assert!(matches!(
        add("short", "short"),
        Err(ChangeError::Passphrase(_))
    ));
    assert!(matches!(
        add(&"x".repeat(2000), ""),
        Err(ChangeError::Passphrase(_))
    ));
    let error = add(PASSPHRASE, "correct horse batterie").unwrap_err();
    assert!(matches!(error, ChangeError::NotConfirmed), "{error}");
    assert_eq!(seal.status().slots.len(), 1);
    add("zwölf äöü é 日本", "zwölf äöü é 日本").unwrap();
    assert!(seal.status().is_set_up());
}

#[test]
fn the_last_slot_that_is_known_to_open_stays() {
    let machine = Machine::new();
    let seal = machine.start();
    let identity = Identity::generate().unwrap();
    let age = seal.add_age(&identity.recipient(), 3).unwrap();
    // Nobody has seen the other one open.
    assert!(matches!(
        seal.remove_slot(1),
        Err(ChangeError::LastSlot { number: 1 })
    ));
    assert!(matches!(
        seal.remove_slot(77),
        Err(ChangeError::NoSlot { number: 77 })
    ));
    seal.unlock(&identity.secret_text(), 4).unwrap();
    seal.remove_slot(1).unwrap();
    assert_eq!(machine.key_files(), Vec::<String>::new());
    let sealed = seal.seal("a", b"x").unwrap();
    let seal = machine.restart();
    assert!(
        reason(&seal).contains("no machine slot"),
        "{}",
        reason(&seal)
    );
    seal.unlock(&identity.secret_text(), 4).unwrap();
    assert_eq!(*seal.open("a", &sealed).unwrap(), b"x");
    assert!(matches!(
        seal.remove_slot(age),
        Err(ChangeError::LastSlot { .. })
    ));
}

#[test]
fn a_new_machine_slot_takes_the_place_of_the_one_before() {
    let machine = Machine::new();
    let seal = machine.start();
    let number = seal.add_machine(MachineKind::File, 3).unwrap();
    assert_eq!(machine.key_files(), [format!("seal-{number}.key")]);
    assert!(machine.restart().locked().is_none());
    fs::write(machine.place().machine.join("seal-77.key"), "stray").unwrap();
    let strays = seal.status().strays;
    assert_eq!(strays, [machine.place().machine.join("seal-77.key")]);
}

#[test]
fn a_start_that_was_killed_after_the_key_was_written_is_finished_with_it() {
    let machine = Machine::new();
    machine.start();
    let key = fs::read(machine.place().machine.join("seal-1.key")).unwrap();
    // Between the key and the record, and in the middle of the record.
    fs::remove_file(machine.place().record()).unwrap();
    fs::write(machine.place().state.join("seal.json.new"), "{\"vers").unwrap();
    let seal = machine.start();
    assert!(seal.locked().is_none());
    assert_eq!(
        fs::read(machine.place().machine.join("seal-1.key")).unwrap(),
        key
    );
    assert_eq!(machine.key_files().len(), 1);
}

#[test]
fn a_new_root_key_is_for_all_slots_and_opens_what_is_older() {
    let machine = Machine::new();
    let seal = machine.start();
    let identity = Identity::generate().unwrap();
    with_passphrase(&seal);
    seal.add_age(&identity.recipient(), 3).unwrap();
    let before = seal.seal("a", b"before").unwrap();
    let copy = fs::read(machine.place().record()).unwrap();
    assert_eq!(seal.rekey(6).unwrap(), Vec::<u32>::new());
    assert!(seal.is_outdated(&before).unwrap());
    let after = seal.seal("a", b"after").unwrap();
    assert!(!seal.is_outdated(&after).unwrap());
    let anew = seal.renewed("a", &before).unwrap().unwrap();
    assert_eq!(*seal.open("a", &anew).unwrap(), b"before");
    for (context, sealed) in [("a", &anew), ("b", &before), ("a", &b"cut off".to_vec())] {
        assert_eq!(seal.renewed(context, sealed).unwrap(), None);
    }
    for unlock in [
        None,
        Some(PASSPHRASE.to_owned()),
        Some(identity.secret_text().to_string()),
    ] {
        if unlock.is_some() {
            fs::rename(machine.place().machine, machine.0.path().join("away")).unwrap();
        }
        let seal = machine.restart();
        if let Some(secret) = unlock {
            assert!(seal.unlock(&secret, 7).unwrap().was_locked);
            fs::rename(machine.0.path().join("away"), machine.place().machine).unwrap();
        }
        assert_eq!(*seal.open("a", &before).unwrap(), b"before");
        assert_eq!(*seal.open("a", &after).unwrap(), b"after");
    }
    // The record of before has none of what came after.
    fs::write(machine.place().record(), copy).unwrap();
    let error = machine.restart().open("a", &after).unwrap_err();
    assert!(matches!(error, SealedError::Foreign { .. }), "{error}");
}

#[test]
fn a_slot_that_something_else_added_is_told_and_gets_no_new_root_key() {
    let machine = Machine::new();
    let seal = machine.start();
    let theirs = Identity::generate().unwrap();
    let number = seal.add_age(&theirs.recipient(), 3).unwrap();
    // An attacker has no root key for a MAC: he exchanges a recipient.
    let other = Identity::generate().unwrap().recipient().to_string();
    machine.edit(|record| record["slots"][1]["recipient"] = other.clone().into());
    let seal = machine.restart();
    let slots = seal.status().slots;
    assert!(!slots[0].foreign && slots[1].foreign);
    assert_eq!(seal.rekey(4).unwrap(), [number]);
    assert_eq!(seal.status().slots.len(), 1);
    assert!(machine.restart().locked().is_none());
}

#[test]
fn what_cannot_be_written_changes_nothing() {
    let machine = Machine::new();
    let seal = machine.start();
    let state = machine.place().state;
    // A folder in the way of the new record, as root is kept out by no mode.
    let blocked = state.join("seal.json.new/full");
    fs::create_dir_all(&blocked).unwrap();
    let sealed = seal.seal("a", b"x").unwrap();
    assert!(matches!(seal.rekey(3), Err(ChangeError::Write { .. })));
    assert!(
        seal.add_age(&Identity::generate().unwrap().recipient(), 3)
            .is_err()
    );
    assert!(!seal.is_outdated(&sealed).unwrap());
    assert_eq!(seal.status().slots.len(), 1);
    fs::remove_dir_all(state.join("seal.json.new")).unwrap();
    assert!(machine.restart().locked().is_none());
}

#[test]
fn edited_parameters_of_a_passphrase_neither_open_nor_exhaust_the_machine() {
    let machine = Machine::new();
    with_passphrase(&machine.start());
    machine.edit(|record| record["slots"][1]["opener"]["kdf"]["memory_kib"] = u32::MAX.into());
    let error = machine.restart().unlock(PASSPHRASE, 3).unwrap_err();
    assert!(matches!(error, ChangeError::WrongSecret), "{error}");
}

#[test]
fn a_key_that_others_can_read_is_closed_at_the_start() {
    let machine = Machine::new();
    machine.start();
    let key = machine.place().machine.join("seal-1.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(machine.restart().locked().is_none());
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o400
    );
}

/// A seal whose machine slot says that its key is at `path`, and that somebody has unlocked.
fn whose_key_is_said_to_be(machine: &Machine, path: &std::path::Path) -> Seal {
    with_passphrase(&machine.start());
    let path = path.to_str().unwrap().to_owned();
    machine.edit(|record| record["slots"][0]["opener"]["path"] = path.into());
    let seal = machine.restart();
    if seal.locked().is_some() {
        seal.unlock(PASSPHRASE, 3).unwrap();
    }
    seal
}

#[test]
fn a_file_that_a_record_names_and_that_is_no_key_is_left_alone() {
    let machine = Machine::new();
    let victim = machine.0.path().join("passwd");
    fs::write(&victim, "root:x:0:0\n").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o644)).unwrap();
    let seal = whose_key_is_said_to_be(&machine, &victim);
    seal.add_machine(MachineKind::File, 4).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "root:x:0:0\n");
    let mode = fs::metadata(&victim).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let machine = Machine::new();
    let seal = whose_key_is_said_to_be(&machine, &victim);
    seal.remove_slot(1).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "root:x:0:0\n");
}

#[test]
fn a_moved_state_leaves_the_key_of_the_seal_that_was_there() {
    let (machine, other) = (Machine::new(), Machine::new());
    other.start();
    let key = other.place().machine.join("seal-1.key");
    let before = fs::read(&key).unwrap();
    with_passphrase(&machine.start());
    // The record names the same place on both machines.
    machine.edit(|record| {
        record["slots"][0]["opener"]["path"] = key.to_str().unwrap().into();
    });
    fs::copy(machine.place().record(), other.place().record()).unwrap();
    let seal = other.restart();
    seal.unlock(PASSPHRASE, 3).unwrap();
    seal.add_machine(MachineKind::File, 4).unwrap();
    assert_eq!(fs::read(&key).unwrap(), before);
    assert_eq!(seal.status().strays, [key]);
}

#[test]
fn a_slot_takes_no_key_with_it_but_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (key, other) = (folder.path().join("a"), folder.path().join("b"));
    let (identity, theirs) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    fs::write(&key, identity.secret_text().as_bytes()).unwrap();
    fs::write(&other, theirs.secret_text().as_bytes()).unwrap();
    let (mut record, root) = record::Record::new(1).unwrap();
    let mut forget = |path: &std::path::Path, dir: &std::path::Path| {
        let opener = record::Opener::MachineFile {
            path: path.to_owned(),
        };
        let number = record.add_slot(&root, opener, &identity.recipient(), 1);
        number.unwrap();
        machine::forget(record.slots.last().unwrap(), dir)
    };
    forget(&other, folder.path()).unwrap();
    let error = forget(&key, &folder.path().join("etc")).unwrap_err();
    assert!(error.to_string().contains("remove it yourself"), "{error}");
    assert!(key.exists() && other.exists());
    forget(&key, folder.path()).unwrap();
    assert!(!key.exists());
    forget(&key, folder.path()).unwrap();
}

#[test]
fn a_root_folder_that_was_moved_opens_by_itself_and_its_key_is_no_stray() {
    let machine = Machine::new();
    let sealed = machine.start().seal("a", b"key").unwrap();
    let moved = Machine::new();
    for folder in ["lib", "etc"] {
        fs::rename(machine.0.path().join(folder), moved.0.path().join(folder)).unwrap();
    }
    // Another one in its place has a key of the same name.
    for another in [false, true] {
        if another {
            machine.start();
        }
        let seal = moved.restart();
        assert_eq!(*seal.open("a", &sealed).unwrap(), b"key");
        let status = seal.status();
        assert!(status.strays.is_empty(), "{:?}", status.strays);
        let key = moved.place().machine.join("seal-1.key");
        assert_eq!(status.slots[0].kind, crate::SlotKind::MachineFile(key));
    }
    // Its key goes with the slot, and nobody else's.
    moved.restart().add_machine(MachineKind::File, 3).unwrap();
    assert_eq!(moved.key_files(), ["seal-2.key"]);
    assert_eq!(machine.key_files(), ["seal-1.key"]);
}
