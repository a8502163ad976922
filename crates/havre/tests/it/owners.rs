//! What belongs to one environment: volumes, whose names are flattened and which files may name at
//! will, data of database servers, addresses.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use havre_testing::wait_until;

use serde_json::Value;

use crate::machine::{Machine, SOON, kill, on_machine};
use crate::program::Ran;

/// A project with a volume `data`, as its file says it.
fn project(machine: &Machine, name: &str, volume: &str) {
    let compose = format!(
        "\
name: {name}
services:
  web:
    build: .
    init: true
    expose: [8080]
    volumes: [data:/data]
volumes:
  data: {volume}
"
    );
    machine.write("compose.yaml", &compose);
    machine.write("havre.yaml", &format!("domain: {name}.localhost\n"));
}

fn volume(machine: &Machine, name: &str) -> PathBuf {
    machine.root().join("lib/volumes").join(name)
}

#[track_caller]
fn is_refused(machine: &Machine, args: &[&str], sentence: &str, hint: &str) {
    let ran = machine.run(&[&["up"], args].concat());
    assert_eq!(ran.code, 7, "{}", ran.err);
    assert!(ran.err.contains(sentence), "{}", ran.err);
    assert!(ran.err.contains(hint), "{}", ran.err);
    let plan = machine.ok(&[&["plan"], args].concat());
    assert!(plan.out.contains(sentence), "{}", plan.out);
}

/// A database server, to Havre, that keeps its data in that folder of the project.
fn database(machine: &Machine, folder: &str) {
    let compose = format!(
        "\
name: shop
services:
  db:
    image: base:1
    command: [sleep, '1000000']
    init: true
    volumes: ['./{folder}:/var/lib/postgresql/data', './backups:/backups']
"
    );
    machine.write("compose.yaml", &compose);
}

#[test]
fn a_volume_is_used_and_removed_by_its_owner_alone() {
    on_machine(|machine| {
        machine.shop("one");
        project(machine, "shop", "{}");
        machine.ok(&["up"]);
        machine.ok(&["exec", "web", "touch", "/data/kept"]);
        let kept = volume(machine, "shop_data").join("data/kept");
        assert!(kept.exists());

        project(machine, "other", "{name: shop_data}");
        let sentence = "volume `shop_data`, which `web` mounts, belongs to shop/production";
        let hint = "`data: {name: shop_data, external: true}`";
        is_refused(machine, &[], sentence, hint);
        let status = machine.json(&["status"]);
        assert_eq!(status, Value::Array(Vec::new()), "nothing was begun");

        // On purpose it may, and what it may use is not its own to remove.
        project(machine, "other", "{name: shop_data, external: true}");
        machine.ok(&["up"]);
        machine.ok(&["exec", "web", "ls", "/data/kept"]);
        let down = machine.ok(&["down", "--volumes", "-p", "shop"]);
        let why = "volume `shop_data` stays: other/production uses it";
        assert!(down.err.contains(why), "{}", down.err);
        machine.ok(&["exec", "web", "ls", "/data/kept"]);
        machine.ok(&["down", "--volumes"]);
        assert!(kept.exists());
        project(machine, "shop", "{}");
        machine.ok(&["up"]);

        // Two whose names are flattened into one.
        project(machine, "shop-staging", "{}");
        machine.ok(&["up"]);
        project(machine, "shop", "{}");
        let sentence =
            "volume `shop-staging_data`, which `web` mounts, belongs to shop-staging/production";
        let staging = ["-E", "staging"];
        is_refused(machine, &staging, sentence, "another `name`");

        // It stays its owner's while that is down.
        project(machine, "shop-staging", "{}");
        machine.ok(&["down"]);
        project(machine, "shop", "{}");
        is_refused(machine, &staging, sentence, "nothing runs there");
        project(machine, "shop-staging", "{}");
        machine.ok(&["up"]);
        let down = machine.ok(&["down", "--volumes"]);
        let removed = "removed the volumes shop-staging_data";
        assert!(down.err.contains(removed), "{}", down.err);
        assert!(!volume(machine, "shop-staging_data").exists());

        project(machine, "shop", "{}");
        machine.ok(&["down", "--volumes"]);
        assert!(!kept.exists());
    });
}

#[test]
fn a_volume_of_an_earlier_version_is_its_users() {
    on_machine(|machine| {
        machine.shop("one");
        project(machine, "shop", "{}");
        machine.ok(&["up"]);
        let folder = volume(machine, "shop_data");
        let owner = folder.join("owner");
        let written = fs::read_to_string(&owner).unwrap();
        kill(machine.info()["pid"].as_u64().unwrap());
        fs::remove_file(&owner).unwrap();
        machine.start_daemon();
        wait_until("it has an owner", SOON, || owner.exists());
        assert_eq!(fs::read_to_string(&owner).unwrap(), written);

        // Two had it: the first that goes leaves it to the other.
        let both = written.replace("[{", r#"[{"project":"old","environment":"production"},{"#);
        fs::write(&owner, both).unwrap();
        machine.ok(&["restart"]);
        let down = machine.ok(&["down", "--volumes"]);
        let why = "volume `shop_data` stays: it belongs to old/production too";
        assert!(down.err.contains(why), "{}", down.err);
        assert!(!down.err.contains("kept the volumes"), "{}", down.err);
        assert!(folder.join("data").exists());
        let sentence = "volume `shop_data`, which `web` mounts, belongs to old/production";
        is_refused(machine, &[], sentence, "nothing runs there");
    });
}

#[test]
fn two_database_servers_do_not_get_one_folder() {
    on_machine(|machine| {
        machine.shop("one");
        database(machine, "pgdata");
        machine.ok(&["up"]);
        let sentence = "`db` and `db` of shop/production would be two database servers on /";
        is_refused(machine, &["-E", "staging"], sentence, "pgdata");
        // Whatever it is called: one disk is linked into many folders.
        symlink(
            machine.project().join("pgdata"),
            machine.project().join("link"),
        )
        .unwrap();
        database(machine, "link");
        is_refused(machine, &["-E", "staging"], sentence, "link");
        // What is no server's may be shared.
        database(machine, "other");
        machine.ok(&["up", "-E", "staging"]);
        machine.ok(&["down", "-E", "staging"]);
    });
}

#[test]
fn a_volume_that_another_takes_up_while_its_owner_goes_stays() {
    on_machine(|machine| {
        machine.shop("one");
        let compose = |name: &str, volumes: &str| {
            let compose = format!(
                "\
name: {name}
services:
  web:
    build: .
    init: true
    expose: [8080]
    volumes: ['many:/many', 'lent:/lent']
volumes:
  {volumes}
"
            );
            machine.write("compose.yaml", &compose);
            machine.write("havre.yaml", &format!("domain: {name}.localhost\n"));
        };
        compose("shop", "{lent: {name: shop_z}, many: {}}");
        machine.ok(&["up"]);
        let (many, lent) = (volume(machine, "shop_many"), volume(machine, "shop_z"));
        fs::write(lent.join("data/kept"), "kept").unwrap();
        // The first takes as long as somebody has it in hand.
        let in_hand = fs::File::open(&many).unwrap();
        in_hand.lock().unwrap();
        let network = machine.root().join("run/net/shop.production");
        assert!(network.exists());
        let mut down = machine.command(&["down", "--volumes"]).spawn().unwrap();
        wait_until("only volumes are left", SOON, || !network.exists());
        compose("guest", "{lent: {name: shop_z, external: true}, many: {}}");
        machine.ok(&["up"]);
        drop(in_hand);
        assert!(down.wait().unwrap().success());
        machine.ok(&["exec", "web", "test", "-e", "/lent/kept"]);
        assert!(lent.join("data/kept").exists());
    });
}

/// One checkout brought up by several at once, as by jobs of one push.
#[test]
fn of_many_that_begin_at_once_one_gets_a_folder_or_an_address() {
    on_machine(|machine| {
        machine.shop("one");
        database(machine, "pgdata");
        let sentence = "would be two database servers on /";
        assert_eq!(begun_at_once(machine, "-E", sentence), 1);
        machine.web("");
        machine.write(
            "havre.yaml",
            "routes: [{path: /, service: web, port: 8080}]\ndomain: one.localhost\n",
        );
        let sentence = "answers at one.localhost/";
        assert_eq!(begun_at_once(machine, "-p", sentence), 1);
    });
}

/// How many of several environments or projects come up, started together; all others are refused so.
fn begun_at_once(machine: &Machine, option: &str, sentence: &str) -> usize {
    let environments: Vec<String> = (0..6).map(|number| format!("e{number}")).collect();
    let ran: Vec<Ran> = std::thread::scope(|scope| {
        let begun = environments
            .iter()
            .map(|environment| scope.spawn(|| machine.run(&["up", option, environment])));
        let begun: Vec<_> = begun.collect();
        begun.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for refused in ran.iter().filter(|ran| ran.code != 0) {
        assert_eq!(refused.code, 7, "{}", refused.err);
        assert!(refused.err.contains(sentence), "{}", refused.err);
    }
    let up: Vec<usize> = (0..ran.len()).filter(|one| ran[*one].code == 0).collect();
    for one in &up {
        machine.ok(&["down", option, &environments[*one]]);
    }
    up.len()
}

#[test]
fn an_address_is_answered_by_one_environment() {
    on_machine(|machine| {
        machine.shop("one");
        machine.ok(&["up"]);
        let shop = std::fs::read_to_string(machine.project().join("compose.yaml")).unwrap();
        machine.write("compose.yaml", &shop.replace("name: shop", "name: a"));
        let sentence = "shop/production answers at shop.localhost/ already";
        is_refused(machine, &[], sentence, "give a/production a `domain`");
        let path = "domain: shop.localhost\nroutes: [{path: /a, service: web, port: 8080}]\n";
        machine.write("havre.yaml", path);
        machine.ok(&["up"]);
        machine.until_answers("one");
        machine.ok(&["down"]);
        // Its own it may keep.
        machine.write("compose.yaml", &shop);
        machine.write("havre.yaml", "domain: shop.localhost\n");
        machine.page("two");
        machine.ok(&["up"]);
        machine.until_answers("two");
    });
}
