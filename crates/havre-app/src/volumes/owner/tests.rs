//! Who gets a volume, and who may remove it.

use std::sync::Arc;

use havre_store::Store;

use super::*;
use crate::environment::tables::{NewRelease, SCHEMA};

fn id(project: &str, environment: &str) -> EnvironmentId {
    EnvironmentId {
        project: ProjectName::new(project),
        environment: EnvironmentName::new(environment),
    }
}

/// A volume with something in it, as earlier versions made them.
fn old(volumes: &Path, name: &str) -> PathBuf {
    let folder = volumes.join(name);
    fs::create_dir_all(folder.join("data")).unwrap();
    fs::write(folder.join("data/kept"), "kept").unwrap();
    folder
}

/// An environment with one release that served, whose files say this of its volumes.
fn stored(tables: &Tables, id: &EnvironmentId, volumes: &str) {
    let release = NewRelease {
        number: 1,
        content: format!(r#"{{"volumes":{volumes}}}"#),
        record: r#"{"outcome":{"outcome":"served"}}"#.to_owned(),
    };
    let (project, environment) = (id.project.as_str(), id.environment.as_str());
    tables
        .environment_put(project, environment, "{}", Some(&release), &[])
        .unwrap();
}

const DATA: &str = r#"{"data":{"name":null,"external":false,"labels":{}}}"#;

#[test]
fn volumes_of_an_earlier_version_go_to_those_that_use_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.db"), &[SCHEMA]).unwrap();
    let tables = Tables::new(Arc::new(store));
    let volumes = dir.path().join("volumes");
    let (shop, other) = (id("shop", "production"), id("other", "production"));
    let (staging, namesake) = (id("shop", "staging"), id("shop-staging", "production"));
    for id in [&shop, &staging, &namesake] {
        stored(&tables, id, DATA);
    }
    let folders = ["shop_data", "shop-staging_data", "by-hand"].map(|name| old(&volumes, name));
    adopt(&volumes, &tables).unwrap();
    let titles = |id: &EnvironmentId| folders.each_ref().map(|folder| title(folder, id).unwrap());
    let shared = Title::Shared(Owners::one(&namesake));
    let both = Owners {
        owners: BTreeSet::from([staging.clone(), namesake.clone()]),
    };
    let foreign = || Title::Foreign(both.clone());
    assert_eq!(titles(&shop), [Title::Own, foreign(), Title::Unclaimed]);
    assert_eq!(titles(&staging)[1], shared);
    let of_shop = Title::Foreign(Owners::one(&shop));
    assert_eq!(titles(&other), [of_shop, foreign(), Title::Unclaimed]);

    // What nobody's releases use is taken by who wants it first and may, and by nobody after that.
    let foreseen = |nobodys| foresee("by-hand", &other, &tables, nobodys).unwrap();
    assert_eq!(foreseen(Nobodys::Refuse), Title::Unclaimed);
    assert_eq!(foreseen(Nobodys::Take), Title::Own);
    let nobodys = settle(&folders[2], "by-hand", &other, &tables, Nobodys::Refuse);
    assert_eq!(nobodys.unwrap(), Title::Unclaimed);
    assert_eq!(titles(&other)[2], Title::Unclaimed);
    let settle = |folder: usize, name, id| {
        settle(&folders[folder], name, id, &tables, Nobodys::Take).unwrap()
    };
    assert_eq!(settle(2, "by-hand", &other), Title::Own);
    assert_eq!(
        settle(2, "by-hand", &shop),
        Title::Foreign(Owners::one(&other))
    );
    // Who has it already keeps it.
    assert_eq!(
        settle(0, "shop_data", &other),
        Title::Foreign(Owners::one(&shop))
    );
    assert_eq!(titles(&shop)[0], Title::Own);
}

#[test]
fn what_others_use_on_purpose_is_neither_taken_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.db"), &[SCHEMA]).unwrap();
    let tables = Tables::new(Arc::new(store));
    let volumes = dir.path().join("volumes");
    let (shop, guest) = (id("shop", "production"), id("guest", "production"));
    stored(&tables, &shop, DATA);
    let external = |name| format!(r#"{{"x":{{"name":"{name}","external":true,"labels":{{}}}}}}"#);
    stored(&tables, &guest, &external("by-hand"));
    let by_hand = old(&volumes, "by-hand");
    let of_guest = Title::Foreign(Owners::one(&guest));
    assert_eq!(
        settle(&by_hand, "by-hand", &shop, &tables, Nobodys::Take).unwrap(),
        of_guest
    );
    assert_eq!(title(&by_hand, &shop).unwrap(), Title::Unclaimed);

    let (other, borrower) = (id("other", "production"), id("borrower", "staging"));
    stored(&tables, &other, DATA);
    stored(&tables, &borrower, &external("other_data"));
    let lent = old(&volumes, "other_data");
    adopt(&volumes, &tables).unwrap();
    let uses = || Uses::read(&tables);
    let removed = remove(&volumes, "other_data", &other, uses).unwrap();
    assert_eq!(removed, Title::Lent(Owners::one(&borrower)));
    assert!(lent.join("data/kept").exists());
    tables.environment_remove("borrower", "staging").unwrap();
    let uses = || Uses::read(&tables);
    remove(&volumes, "other_data", &other, uses).unwrap();
    assert!(!lent.exists());
}

#[test]
fn a_volume_is_not_adopted_while_it_may_be_somebody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.db"), &[SCHEMA]).unwrap();
    let tables = Tables::new(Arc::new(store));
    let volumes = dir.path().join("volumes");
    let folder = old(&volumes, "shop_data");
    let shop = id("shop", "production");
    stored(&tables, &shop, DATA);
    stored(&tables, &id("later", "production"), "[]");
    let error = adopt(&volumes, &tables).unwrap_err();
    assert!(error.to_string().contains("later/production"), "{error}");
    assert_eq!(title(&folder, &shop).unwrap(), Title::Unclaimed);
    // It is not removed either.
    let removed = remove(&volumes, "shop_data", &shop, || Ok(Uses::default()));
    assert_eq!(removed.unwrap(), Title::Unclaimed);
    assert!(folder.join("data/kept").exists());
}

#[test]
fn a_release_serves_however_many_after_it_went_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.db"), &[SCHEMA]).unwrap();
    let tables = Tables::new(Arc::new(store));
    let volumes = dir.path().join("volumes");
    let (other, borrower) = (id("other", "production"), id("borrower", "staging"));
    stored(&tables, &other, DATA);
    let external = r#"{"x":{"name":"other_data","external":true,"labels":{}}}"#;
    stored(&tables, &borrower, external);
    for number in 2..u64::from(LOOKED_THROUGH) + 3 {
        let release = NewRelease {
            number,
            content: r#"{"volumes":{}}"#.to_owned(),
            record: r#"{"outcome":{"outcome":"superseded"}}"#.to_owned(),
        };
        let desired = r#"{"current":1}"#;
        tables
            .environment_put("borrower", "staging", desired, Some(&release), &[])
            .unwrap();
    }
    let lent = old(&volumes, "other_data");
    write(&lent, &Owners::one(&other)).unwrap();
    let uses = || Uses::read(&tables);
    let removed = remove(&volumes, "other_data", &other, uses).unwrap();
    assert_eq!(removed, Title::Lent(Owners::one(&borrower)));
    assert!(lent.join("data/kept").exists());
}

/// What cannot be removed stands for a process that is killed on the way.
#[test]
#[allow(clippy::disallowed_macros, reason = "its output is for a person")]
fn of_a_removal_that_breaks_off_nobody_finds_a_part() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let shop = id("shop", "production");
    for number in 0..8 {
        let name = format!("data-{number}");
        let folder = old(dir.path(), &name);
        write(&folder, &Owners::one(&shop)).unwrap();
        let (busy, volumes, of) = (
            folder.join("data/busy"),
            dir.path().to_owned(),
            shop.clone(),
        );
        fs::create_dir(&busy).unwrap();
        let removed = crate::volumes::in_private_mounts(move || {
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("none", &busy, "tmpfs", flags, None)?;
            remove(&volumes, &name, &of, || Ok(Uses::default())).map_err(io::Error::other)?;
            Ok(())
        });
        assert!(removed.is_err(), "a mount is in its way");
        assert_eq!(title(&folder, &shop).unwrap(), Title::Free);
        // Whoever goes on finds what is left to do.
        let name = format!("data-{number}");
        remove(dir.path(), &name, &shop, || Ok(Uses::default())).unwrap();
        assert!(!folder.exists());
    }
}

#[test]
fn only_the_last_owner_removes_a_volume() {
    let dir = tempfile::tempdir().unwrap();
    let folder = old(dir.path(), "shop-staging_data");
    let (staging, namesake) = (id("shop", "staging"), id("shop-staging", "production"));
    let owners = BTreeSet::from([staging.clone(), namesake.clone()]);
    write(&folder, &Owners { owners }).unwrap();
    let kept = || folder.join("data/kept").exists();
    // A daemon that dies on the way does it twice.
    for _ in 0..2 {
        remove(dir.path(), "shop-staging_data", &staging, || {
            Ok(Uses::default())
        })
        .unwrap();
        assert!(kept());
        let others = Title::Foreign(Owners::one(&namesake));
        assert_eq!(title(&folder, &staging).unwrap(), others);
    }
    for _ in 0..2 {
        remove(dir.path(), "shop-staging_data", &namesake, || {
            Ok(Uses::default())
        })
        .unwrap();
        assert!(!folder.exists());
    }
}

#[test]
fn an_owner_that_cannot_be_read_is_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let folder = old(dir.path(), "data");
    fs::write(folder.join(FILE), "{}").unwrap();
    let shop = id("shop", "production");
    assert!(title(&folder, &shop).is_err());
    assert!(remove(dir.path(), "data", &shop, || Ok(Uses::default())).is_err());
    assert!(folder.join("data/kept").exists());
    // Nothing in it is nothing to lose.
    fs::remove_dir_all(folder.join("data")).unwrap();
    assert_eq!(title(&folder, &shop).unwrap(), Title::Free);
}

#[test]
fn whoever_cannot_be_read_may_use_any_volume() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.db"), &[SCHEMA]).unwrap();
    let tables = Tables::new(Arc::new(store));
    tables
        .environment_put("shop", "production", "{\"current\":", None, &[])
        .unwrap();
    let error = Uses::read(&tables).unwrap_err().to_string();
    assert!(error.contains("shop/production serves"), "{error}");
}
