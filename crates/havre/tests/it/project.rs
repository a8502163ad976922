//! `check` and `config`: no daemon, no root.

use crate::fixtures::backend;
use crate::program::World;

const SHOP: &str = "\
services:
  web:
    image: nginx:${TAG:-1.29}
    imagee: nginx
    ports: ['80:80']
    networks: {default: {mac_address: '02:42:ac:11:00:02'}}
";

const FINE: &str = "\
name: shop
x-log: &log {driver: json-file}
services:
  web:
    image: nginx:${TAG:-1.29}
    ports: ['80:80']
    logging: *log
    environment:
      DATABASE_URL: postgresql://shop:hunter2@db/shop
      API_KEY: hunter2
      GREETING: '$$5 off'
  db:
    image: postgres:16
    volumes: ['data:/var/lib/postgresql/data']
volumes: {data: {}}
";

fn world(compose: &str) -> World {
    let world = World::new(backend(0));
    std::fs::write(world.folder.path().join("compose.yaml"), compose).unwrap();
    world
}

#[test]
fn check_tells_everything_at_once() {
    let ran = world(SHOP).run(&["check"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    for part in [
        "error[compose/unknown-key]",
        "compose.yaml:4:5",
        "did you mean `image`?",
        "compose.yaml:6:",
        "mac_address",
    ] {
        assert!(ran.out.contains(part), "{part:?} is not in\n{}", ran.out);
    }
    assert_eq!(ran.err, "the project has 2 errors and 0 warnings\n");
}

#[test]
fn check_as_json_and_strict() {
    let with_warning = FINE.replace(
        "image: postgres:16",
        "image: postgres:16\n    oom_score_adj: 5",
    );
    let world = world(&with_warning);
    let ran = world.run(&["check", "--json"]);
    let found = ran.json();
    assert_eq!(
        (ran.code, found[0]["severity"].as_str()),
        (0, Some("warning")),
        "{found}"
    );
    assert_eq!(found[0]["location"]["line"], 14, "{found}");
    let strict = world.run(&["check", "--strict", "--json"]);
    assert_eq!(
        (strict.code, strict.json()[0]["severity"].as_str()),
        (3, Some("error"))
    );
    let up = world.run(&["up", "--strict"]);
    assert_eq!(up.code, 3, "{up:?}");
    assert!(up.err.contains("--strict allows none"), "{}", up.err);
}

#[test]
fn config_shows_one_file_and_masks_secrets() {
    let world = world(FINE);
    let ran = world.run(&["config", "--source"]);
    insta::assert_snapshot!("config", ran.out);
    assert_eq!(ran.code, 0, "{ran:?}");
    let revealed = world.run(&["config", "--reveal"]).out;
    assert!(
        revealed.contains("postgresql://shop:hunter2@db/shop"),
        "{revealed}"
    );
    let json = world.run(&["config", "--json"]).json();
    assert_eq!(
        json["services"]["web"]["environment"]["API_KEY"],
        "********"
    );
    for (flag, names) in [
        ("--services", "db\nweb\n"),
        ("--images", "nginx:1.29\npostgres:16\n"),
        ("--volumes", "data\n"),
    ] {
        assert_eq!(world.run(&["config", flag]).out, names);
    }
}

#[test]
fn doctor_finds_traps_in_a_project_and_explains_them() {
    let world = world("services: {db: {image: 'postgres:latest', ports: ['5432:5432']}}\n");
    let ran = world.run(&["doctor", "."]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for part in [
        "warning[images/latest]",
        "warning[data/database-published]",
        "compose.yaml:1:",
    ] {
        assert!(ran.out.contains(part), "{part:?} is not in\n{}", ran.out);
    }
    assert!(ran.err.contains("2 warnings and 1 note"), "{}", ran.err);
    let strict = world.run(&["doctor", ".", "--strict"]);
    assert_eq!(strict.code, 3);
    assert!(
        strict.err.contains("2 errors, 0 warnings and 1 note"),
        "{}",
        strict.err
    );
    let json = world.run(&["doctor", ".", "--json"]).json();
    assert_eq!(json[0]["code"], "images/latest", "{json}");
    for key in ["severity", "message", "why", "fix"] {
        assert!(json[0][key].is_string(), "{key}: {json}");
    }
    assert_eq!(json[0]["location"]["line"], 1, "{json}");
    let explained = world.run(&["doctor", "--explain", "images/latest"]);
    assert!(
        explained.out.contains("x-havre-ignore"),
        "{}",
        explained.out
    );
    assert_eq!(world.run(&["doctor", "--explain", "images/oldest"]).code, 2);
}

#[test]
fn findings_come_as_sarif_too() {
    let world = world("services: {db: {image: 'postgres:latest', imagee: x}}\n");
    for command in ["check", "doctor"] {
        let ran = world.run(&[command, ".", "--sarif"]);
        assert_eq!(ran.code, 3, "{ran:?}");
        let run = &ran.json()["runs"][0];
        let result = &run["results"][0];
        let index = result["ruleIndex"].as_u64().unwrap() as usize;
        let rule = &run["tool"]["driver"]["rules"][index];
        assert_eq!(
            (&result["ruleId"], &rule["id"], &result["level"]),
            (
                &"compose/unknown-key".into(),
                &result["ruleId"],
                &"error".into()
            )
        );
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "compose.yaml");
        assert_eq!(place["region"]["startColumn"], 43, "{place}");
    }
    let both = world.run(&["check", ".", "--sarif", "--json"]);
    assert_eq!(both.code, 2, "{both:?}");
    let machine = world.run(&["doctor", "--sarif"]);
    assert_eq!(machine.code, 2, "{machine:?}");
}

#[test]
fn schema_is_a_json_schema() {
    let schema = world(FINE).run(&["schema"]).json();
    assert!(schema["$schema"].as_str().unwrap().contains("2020-12"));
    assert_eq!(schema["properties"]["routes"]["type"], "array");
}
