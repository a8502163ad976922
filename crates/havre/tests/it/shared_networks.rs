//! Networks that environments share: the commands, and two projects on one on a real machine.

use havre_api::{
    ApiError, EnvironmentId, ErrorCode, NetworkCreate, NetworkMember, NetworkRemove,
    NetworkService, Networks, SharedNetwork,
};
use havre_model::{EnvironmentName, ProjectName, ServiceName};
use havre_testing::wait_until;
use serde_json::{Value, json};

use crate::fixtures::backend;
use crate::machine::{Machine, SOON, kill, on_machine, runs};
use crate::program::World;

/// A service that answers with `page` on port 8080.
fn server(page: &str, networks: &str) -> String {
    format!(
        "{{image: 'base:1', init: true, networks: {networks}, \
         command: [sh, -c, 'echo {page} > /www/index.html; exec httpd -f -p 8080 -h /www']}}"
    )
}

fn shop(machine: &Machine, db: &str) {
    let compose = format!(
        "name: shop\nservices:\n  db: {}\n  cache: {}\n  hidden: {}\n  x.blog.havre: {}\nnetworks: {{backbone: {{external: true}}}}\n",
        server(
            db,
            "{default: {}, backbone: {aliases: [database, cache.blog.havre]}}"
        ),
        server("shop-cache", "[backbone]"),
        server("shop-hidden", "[default]"),
        server("shop-spoof", "[backbone]"),
    );
    machine.write("compose.yaml", &compose);
}

fn blog(machine: &Machine, settings: &str) {
    let compose = format!(
        "name: blog\nservices:\n  front: {}\n  cache: {}\n  outside: {}\nnetworks: {{common: {{name: backbone}}}}\n",
        server("blog-front", "[default, common]"),
        server("blog-cache", "[common]"),
        server("blog-outside", "[default]"),
    );
    std::fs::create_dir_all(machine.project().join("blog")).unwrap();
    machine.write("blog/compose.yaml", &compose);
    machine.write("blog/havre.yaml", settings);
}

/// What `from` (PROJECT SERVICE) gets from `host`, or nothing.
fn fetch(machine: &Machine, from: [&str; 2], host: &str) -> String {
    let [project, service] = from;
    let url = format!("http://{host}:8080/");
    // Not `wget -T`, of which the BusyBox of Debian 12 dies.
    let wget = ["timeout", "3", "wget", "-qO-", &url];
    let ran = machine.run(&[&["exec", "-p", project, service], &wget[..]].concat());
    ran.out.trim().to_owned()
}

/// Waits for an answer that is to come; one that is not to come is not waited for.
#[track_caller]
fn expect(machine: &Machine, from: [&str; 2], host: &str, expected: &str) {
    let mut got = fetch(machine, from, host);
    if !expected.is_empty() {
        wait_until(&format!("{from:?} reaches {host}"), SOON, || {
            got = fetch(machine, from, host);
            !got.is_empty()
        });
    }
    assert_eq!(got, expected, "{from:?} {host}");
}

fn address(machine: &Machine, project: &str, service: &str, network: usize) -> String {
    let device = format!("eth{network}");
    let show = [
        "exec", "-p", project, service, "ip", "-o", "-4", "address", "show", &device,
    ];
    let line = machine.ok(&show).out;
    let word = line.split_whitespace().nth(3).expect("an address");
    word.split('/').next().unwrap_or_default().to_owned()
}

fn members(machine: &Machine) -> Value {
    let networks = machine.json(&["network", "ls"]);
    let of = |network: &Value| {
        let members = network["members"].as_array().expect("a list").iter();
        let ids: Vec<Value> = members
            .map(|member| member["environment"]["project"].clone())
            .collect();
        json!([network["name"], ids])
    };
    networks
        .as_array()
        .expect("a list")
        .iter()
        .map(of)
        .collect()
}

#[test]
fn projects_on_one_network_find_each_other_and_nobody_else_finds_them() {
    on_machine(|machine| {
        machine.shop("unused");
        machine.write("havre.yaml", "");
        shop(machine, "one");
        blog(machine, "");
        const DB: [&str; 2] = ["shop", "db"];
        const FRONT: [&str; 2] = ["blog", "front"];

        // Nobody has made it: each has its own, and is told how to make one.
        let up = machine.ok(&["up"]);
        let advice = "`havre network create backbone` makes one that projects share";
        assert!(up.err.contains(advice), "{}", up.err);
        machine.ok(&["up", "blog"]);
        expect(machine, FRONT, "db", "");
        expect(machine, DB, "cache", "shop-cache");

        // One makes it by its havre.yaml, the other has it as an external one from then on.
        blog(machine, "networks: {common: {shared: true}}\n");
        let plan = machine.ok(&["plan", "blog"]);
        assert!(
            plan.out.contains("network backbone is made"),
            "{}",
            plan.out
        );
        machine.ok(&["up", "blog"]);
        let check = machine.ok(&["check"]);
        assert!(!check.out.contains("external"), "{}", check.out);
        let plan = machine.ok(&["plan"]);
        let shared = "network backbone is shared with blog/production";
        assert!(plan.out.contains(shared), "{}", plan.out);
        machine.ok(&["up"]);
        let up = machine.json(&["up"]);
        assert_eq!(up["changed"], false, "twice is once");

        let all_is_well = |db: &str| {
            for (from, host, expected) in [
                (FRONT, "db", db),
                (FRONT, "database", db),
                (FRONT, "db.shop.havre", db),
                (FRONT, "db.production.shop.havre", db),
                (FRONT, "tasks.db", db),
                (DB, "front", "blog-front"),
                (["shop", "cache"], "front", "blog-front"),
                // Both have one: the own comes first, and the full name is nobody else's.
                (FRONT, "cache", "blog-cache"),
                (DB, "cache", "shop-cache"),
                (FRONT, "cache.shop.havre", "shop-cache"),
                (DB, "cache.blog.havre", "blog-cache"),
                // A service `tasks` of the environment `x` of blog, of which there is none.
                (FRONT, "tasks.x.blog.havre", ""),
                // What is not on it.
                (FRONT, "hidden", ""),
                (DB, "outside", ""),
                (["blog", "outside"], "db", ""),
                (["shop", "hidden"], "front", ""),
            ] {
                expect(machine, from, host, expected);
            }
        };
        all_is_well("one");
        // Not by address either.
        let on_backbone = address(machine, "shop", "cache", 0);
        expect(machine, FRONT, &on_backbone, "shop-cache");
        expect(machine, ["blog", "outside"], &on_backbone, "");
        let hidden = address(machine, "shop", "hidden", 0);
        expect(machine, FRONT, &hidden, "");

        let both = json!([["backbone", ["blog", "shop"]]]);
        assert_eq!(members(machine), both);
        let shown = machine.ok(&["network", "inspect", "backbone"]).out;
        assert!(shown.contains("db.shop.havre"), "{shown}");
        assert_eq!(machine.run(&["network", "create", "backbone"]).code, 7);
        let refused = machine.run(&["network", "rm", "backbone"]);
        assert_eq!(refused.code, 7, "{refused:?}");
        let users = "in use by blog/production, shop/production";
        assert!(refused.err.contains(users), "{}", refused.err);

        // A new release is what others reach as soon as it serves.
        shop(machine, "two");
        machine.ok(&["up"]);
        expect(machine, FRONT, "db", "two");

        // Without a daemon, and with the next one.
        let daemon = machine.info()["pid"].as_u64().expect("a number");
        let later = "(sleep 3; wget -qO- http://db:8080/) > /www/later &";
        machine.ok(&["exec", "-p", "blog", "front", "sh", "-c", later]);
        kill(daemon);
        wait_until("the daemon has ended", SOON, || !runs(daemon));
        std::thread::sleep(std::time::Duration::from_secs(5));
        machine.start_daemon();
        let later = machine.ok(&["exec", "-p", "blog", "front", "cat", "/www/later"]);
        assert_eq!(later.out.trim(), "two");
        all_is_well("two");
        assert_eq!(members(machine), both);

        // One goes, the other runs on.
        let front = machine.ok(&["exec", "-p", "blog", "front", "hostname"]).out;
        machine.ok(&["down"]);
        expect(machine, FRONT, "db", "");
        expect(machine, FRONT, "db.shop.havre", "");
        expect(machine, FRONT, "cache", "blog-cache");
        machine.ok(&["up"]);
        all_is_well("two");
        assert_eq!(
            machine.ok(&["exec", "-p", "blog", "front", "hostname"]).out,
            front
        );

        machine.lose_power();
        machine.clear_run();
        machine.start_daemon();
        wait_until("all is there again", SOON, || {
            fetch(machine, FRONT, "db") == "two" && fetch(machine, DB, "front") == "blog-front"
        });
        machine.until_settled();
        all_is_well("two");

        machine.ok(&["down", "-p", "blog"]);
        assert_eq!(machine.run(&["network", "rm", "backbone"]).code, 7);
        machine.ok(&["down"]);
        machine.ok(&["network", "create", "--internal", "spare"]);
        let removed = machine.ok(&["network", "rm", "backbone", "spare"]);
        assert_eq!(removed.out, "backbone\nspare\n");
        assert_eq!(machine.run(&["network", "rm", "backbone"]).code, 6);
        assert_eq!(machine.run(&["network", "inspect", "backbone"]).code, 6);
        assert_eq!(members(machine), json!([]));
    });
}

fn network(name: &str, internal: bool, projects: &[&str]) -> SharedNetwork {
    let member = |project: &&str| NetworkMember {
        environment: EnvironmentId {
            project: ProjectName::new(*project),
            environment: EnvironmentName::new("production"),
        },
        services: vec![NetworkService {
            service: ServiceName::new("db"),
            full_name: format!("db.{project}.havre"),
            names: vec!["db".into(), "database".into()],
        }],
    };
    SharedNetwork {
        name: name.into(),
        internal,
        created: havre_api::Timestamp::now(),
        members: projects.iter().map(member).collect(),
    }
}

#[test]
fn networks_are_listed_shown_and_removed() {
    let all = || {
        Ok(vec![
            network("backbone", true, &["blog", "shop"]),
            network("spare", false, &[]),
        ])
    };
    let refuse = |name: String| match name.as_str() {
        "spare" => Ok(havre_api::Empty {}),
        _ => Err(ApiError::new(
            ErrorCode::Conflict,
            format!("network {name} is in use"),
        )),
    };
    let world = World::new(
        backend(7)
            .call::<Networks, _>(async move |_| all())
            .call::<Networks, _>(async move |_| all())
            .call::<Networks, _>(async move |_| all())
            .call::<NetworkRemove, _>(async move |request| refuse(request.name))
            .call::<NetworkRemove, _>(async move |request| refuse(request.name))
            .call::<NetworkRemove, _>(async move |request| refuse(request.name))
            .call::<NetworkCreate, _>(async |request| {
                assert!(request.internal);
                Ok(network(&request.name, true, &[]))
            }),
    );
    let listed = world.run(&["network", "ls"]).out;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = listed.lines().map(words).collect();
    assert_eq!(lines[0], "NAME WAY OUT AGE ENVIRONMENTS");
    assert!(
        lines[1].starts_with("backbone no ")
            && lines[1].ends_with("blog/production, shop/production")
    );
    assert!(
        lines[2].starts_with("spare yes ") && lines[2].ends_with(" -"),
        "{listed}"
    );
    let shown = world.run(&["network", "inspect", "backbone"]).out;
    assert!(shown.contains("db.shop.havre   db, database"), "{shown}");
    assert_eq!(world.run(&["network", "inspect", "nobody"]).code, 6);
    let ran = world.run(&["network", "rm", "one", "spare", "two"]);
    assert_eq!((ran.code, ran.out.as_str()), (7, "spare\n"), "{ran:?}");
    assert!(ran.err.contains("network one is in use"), "{}", ran.err);
    assert!(ran.err.contains("network two is in use"), "{}", ran.err);
    let made = world.run(&["network", "create", "--internal", "web"]);
    assert_eq!((made.code, made.out.as_str()), (0, "web\n"), "{made:?}");
    assert!(made.err.contains("next `havre up`"), "{}", made.err);
}

#[test]
fn check_knows_the_networks_of_the_machine() {
    let all = || Ok(vec![network("proxy", false, &[])]);
    let world = World::new(backend(0).call::<Networks, _>(async move |_| all()));
    let compose = "services: {web: {image: 'i:1', networks: [proxy, other]}}\n\
                   networks: {proxy: {external: true}, other: {external: true}}\n";
    std::fs::write(world.folder.path().join("compose.yaml"), compose).unwrap();
    let out = world.run(&["check"]).out;
    assert!(!out.contains("network `proxy`"), "{out}");
    assert!(
        out.contains("this machine has none that is called `other`"),
        "{out}"
    );
    assert!(out.contains("havre network create other"), "{out}");
}
