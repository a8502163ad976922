//! Every rule finds its trap, and is silent where it was avoided.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use havre_model::{LoadOptions, advise, rules};

/// Rule, a compose file with the trap, one without.
const CASES: &[(&str, &str, &str)] = &[
    (
        "commands/development-server",
        "{web: {image: 'a:1', command: npm run dev}}",
        "{web: {image: 'a:1', command: node server.js, environment: {NODE_ENV: production}}}",
    ),
    (
        "commands/development-server",
        "{web: {image: 'a:1', environment: {FLASK_DEBUG: '1'}}}",
        "{web: {image: 'a:1', environment: {FLASK_DEBUG: '0'}}}",
    ),
    (
        "commands/scheduler-overlaps",
        "{beat: {image: 'a:1', command: celery -A x beat}}",
        "{beat: {image: 'a:1', command: celery -A x beat, deploy: {update_config: {order: stop-first}}}}",
    ),
    (
        "commands/worker-grace",
        "{worker: {image: 'a:1', command: celery -A x worker}}",
        "{worker: {image: 'a:1', command: celery -A x worker, stop_grace_period: 2m}}",
    ),
    (
        "data/broker-evicts",
        "{redis: {image: 'r:7', command: redis-server --maxmemory-policy allkeys-lru}, w: {image: 'a:1', environment: {CELERY_BROKER_URL: 'redis://redis:6379'}}}",
        "{redis: {image: 'r:7', command: redis-server --maxmemory-policy noeviction}, w: {image: 'a:1', environment: {CELERY_BROKER_URL: 'redis://redis:6379'}}}",
    ),
    (
        "data/database-published",
        "{db: {image: 'p:16', ports: ['5432:5432']}}",
        "{db: {image: 'p:16', ports: ['127.0.0.1:5432:5432']}}",
    ),
    (
        "data/sqlite-outside-volume",
        "{web: {image: 'a:1', environment: {DATABASE_URL: 'sqlite:////data/app.db'}}}",
        "{web: {image: 'a:1', environment: {DATABASE_URL: 'sqlite:////data/app.db'}, volumes: ['data:/data']}}",
    ),
    (
        "data/starts-before-ready",
        "{db: {image: 'p:16', healthcheck: {test: 'true'}}, web: {image: 'a:1', depends_on: [db]}}",
        "{db: {image: 'p:16', healthcheck: {test: 'true'}}, web: {image: 'a:1', depends_on: {db: {condition: service_healthy}}}}",
    ),
    (
        "images/bind-missing",
        "{web: {image: 'a:1', volumes: ['./nowhere:/x']}}",
        "{web: {image: 'a:1', volumes: ['./here:/x']}}",
    ),
    (
        "images/latest",
        "{web: {image: 'registry.test:5000/a'}}",
        "{web: {image: 'registry.test:5000/a:1'}}",
    ),
    (
        "images/no-healthcheck",
        "{web: {build: ./here, ports: ['80:80']}}",
        "{web: {build: ./checked, ports: ['80:80']}}",
    ),
    (
        "images/public-variable-at-run-time",
        "{web: {build: ./here, environment: {NEXT_PUBLIC_API: /api}}}",
        "{web: {build: {context: ./here, args: {NEXT_PUBLIC_API: /api}}, environment: {NEXT_PUBLIC_API: /api}}}",
    ),
    (
        "secrets/docker-socket",
        "{web: {image: 'a:1', volumes: ['/var/run/docker.sock:/var/run/docker.sock']}}",
        "{web: {image: 'a:1', volumes: ['data:/var/run']}}",
    ),
    (
        "secrets/in-clear",
        "{web: {image: 'a:1', environment: {DB_PASSWORD: hunter2}}}",
        "{web: {image: 'a:1', environment: {DB_PASSWORD: '${DB_PASSWORD:-hunter2}', DB_PASSWORD_FILE: /run/secrets/db}}}",
    ),
];

/// Codes of the findings.
fn found(services: &str, more: &str) -> BTreeSet<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    for (name, dockerfile) in [
        ("here", "FROM scratch\n"),
        ("checked", "FROM scratch\nHEALTHCHECK CMD true\n"),
    ] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("Dockerfile"), dockerfile).unwrap();
    }
    let text = format!("{more}\nservices: {services}\nvolumes: {{data: {{}}}}\n");
    fs::write(folder.path().join("compose.yaml"), text).unwrap();
    let loaded = advise(&LoadOptions {
        directory: folder.path().to_owned(),
        ..LoadOptions::default()
    });
    let loaded = loaded.unwrap_or_else(|failure| panic!("{services}\n{failure}"));
    let of_rules = loaded
        .warnings
        .iter()
        .filter(|warning| rules::rule(warning.code).is_some());
    of_rules
        .inspect(|warning| assert!(warning.location.is_some(), "{warning}"))
        .map(|warning| warning.code)
        .collect()
}

#[test]
fn every_rule_finds_its_trap_and_only_that() {
    for (rule, trap, avoided) in CASES {
        assert!(found(trap, "").contains(rule), "{rule}: {trap}");
        assert!(!found(avoided, "").contains(rule), "{rule}: {avoided}");
        let silenced = format!("x-havre-ignore: [{rule}]");
        assert!(!found(trap, &silenced).contains(rule), "{rule}: silenced");
    }
    let tested: BTreeSet<&str> = CASES.iter().map(|(rule, ..)| *rule).collect();
    let all: BTreeSet<&str> = rules::RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(tested, all);
    assert!(rules::RULES.is_sorted_by_key(|rule| rule.id));
}

#[test]
fn the_example_has_none_of_them() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(root.join("examples/french-novel-tool")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "secrets" {
            let path = entry.path().canonicalize().unwrap();
            symlink(path, folder.path().join(entry.file_name())).unwrap();
        }
    }
    // Made by whoever uses the example.
    fs::create_dir(folder.path().join("secrets")).unwrap();
    fs::write(folder.path().join("secrets/db_password.txt"), "x").unwrap();
    let loaded = advise(&LoadOptions {
        directory: folder.path().to_owned(),
        ..LoadOptions::default()
    });
    let loaded = loaded.unwrap_or_else(|failure| panic!("{failure}"));
    let known = |code: &str| rules::rule(code).is_some();
    let found: Vec<String> = loaded
        .warnings
        .iter()
        .filter(|warning| known(warning.code))
        .map(ToString::to_string)
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
