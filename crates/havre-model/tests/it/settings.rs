//! The schema of havre.yaml and its reader take and refuse the same files; a validator that is not
//! ours reads the schema.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use havre_model::{LoadOptions, load, schema};
use serde_json::{Value, json};

/// Reads `[schema, [text, …]]`, prints for each text what is wrong with it, or null. The examples
/// of the schema are validated, too.
const VALIDATOR: &str = r#"
import json, sys, yaml, jsonschema
schema, texts = json.load(sys.stdin)
validator = jsonschema.Draft202012Validator
validator.check_schema(schema)
def first(schema, value):
    return next((error.message for error in validator(schema).iter_errors(value)), None)
def examples(schema):
    for value in schema.get("examples", []):
        assert first(schema, value) is None, (value, first(schema, value))
    for below in list(schema.get("properties", {}).values()) + list(schema.get("patternProperties", {}).values()) \
            + schema.get("anyOf", []) + [schema[key] for key in ("items",) if key in schema]:
        examples(below)
examples(schema)
print(json.dumps([first(schema, yaml.safe_load(text)) for text in texts]))
"#;

/// What is wrong with each text, by the schema; `None` where there is no validator.
fn validate(texts: &[String]) -> Option<Vec<Option<String>>> {
    let python = ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let probe = Command::new(python)
            .args([
                "-c",
                "import yaml; from jsonschema import Draft202012Validator",
            ])
            .stderr(Stdio::null())
            .status();
        probe.is_ok_and(|status| status.success())
    });
    let Some(python) = python else {
        println!("skipped: needs python3-jsonschema and python3-yaml");
        return None;
    };
    let mut child = Command::new(python)
        .args(["-c", VALIDATOR])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let question = json!([schema::document(), texts]).to_string();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(question.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Codes of what the reader finds wrong in havre.yaml itself.
fn refusals(text: &str) -> Vec<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let compose = "services: {web: {image: 'a:1', expose: [80]}}\n";
    fs::write(folder.path().join("compose.yaml"), compose).unwrap();
    fs::write(folder.path().join("havre.yaml"), text).unwrap();
    let loaded = load(&LoadOptions {
        directory: folder.path().to_owned(),
        ..LoadOptions::default()
    });
    let errors = loaded.err().map(|failure| failure.errors);
    let codes = errors.into_iter().flatten().map(|error| error.code);
    codes.filter(|code| code.starts_with("havre/")).collect()
}

const WRONG: &[&str] = &[
    "domian: x",
    "{domain: a.org, domains: [b.org]}",
    "domain: https://example.org/",
    "domain: [not a domain]",
    "tls: letsencrypt",
    "tls: {certificate: havre.yaml}",
    "tls: {certificate: havre.yaml, key: havre.yaml, ca: x}",
    "compose: []",
    "compose: {a: b}",
    "env_file: [[x]]",
    "build: {host_ca: perhaps}",
    "build: host_ca",
    "routes: {path: /}",
    "routes: [{path: api, service: web}]",
    "routes: [{path: //a, service: web}]",
    "routes: [{path: '/a?b', service: web}]",
    "routes: [{path: /}]",
    "routes: [{service: web, port: 0}]",
    "routes: [{service: web, port: 70000}]",
    "routes: [{service: web, port: http}]",
    "routes: [{service: web, prot: 80}]",
    "routes: [{service: web, strip_prefix: perhaps}]",
    "routes: [{service: web, protocol: grpc}]",
    "routes: [{service: web, protocol: [h2c]}]",
    "environments: {Bad_Name: {}}",
    "environments: {-a: {}}",
    "environments: {staging: {name: x}}",
    "environments: [staging]",
    "environments: {staging: {needs: {a: b}}}",
    "environments: {staging: {approval: perhaps}}",
    "environments: {staging: {approval: {count: many}}}",
    "environments: {staging: {approval: {who: anna}}}",
    "environments: {staging: {wait: ten}}",
    "environments: {staging: {freeze: [{from: '2026-12-20'}]}}",
    "environments: {staging: {freeze: [{from: 20 Dec, to: '2026-12-24'}]}}",
    "environments: {staging: {freeze: [{from: fri 16:00, to: mon 8:00, timezone: ../x}]}}",
    "environments: {staging: {previews: perhaps}}",
    "environments: {staging: {previews: {after: soon}}}",
    "environments: {staging: {previews: {many: 3}}}",
    "[]",
];

const RIGHT: &[&str] = &[
    "",
    "x-mine: {a: 1}",
    "environments: {preview: {previews: true}}",
    "environments: {preview: {previews: {after: 12h, most: 3}}}",
    "domain: EXAMPLE.org",
    "domain: localhost",
    "name: 2024",
    "tls: local",
    "build: {host_ca: auto}",
    "build: {host_ca: 'No'}",
    "build: {host_ca: true, x-why: proxy}",
    "routes: [{service: web, port: '80', path: /api/, strip_prefix: off}]",
    "routes: [{service: web, path: /api/v2}]",
    "routes: [{service: web, protocol: h2c}, {service: web, path: /a, protocol: http}]",
    "environments: {staging: {branch: main}, live: {needs: staging, approval: {by: [anna, admins], count: 1}}}",
    "environments: {a: {approval: yes}, b: {needs: [a], e2e: e2e.yml, wait: 10m, branch: [main, 'release/*']}}",
    "environments: {a: {freeze: [{from: '2026-12-20', to: '2027-01-02T08:00'}, {from: fri 16:00, to: Monday 8:00}]}}",
    "environments: {staging: , b-2: {domain: b.example.org}, x-note: 1}",
];

#[test]
fn schema_and_reader_agree() {
    let texts: Vec<String> = WRONG
        .iter()
        .chain(RIGHT)
        .map(|text| (*text).to_owned())
        .collect();
    for text in WRONG {
        assert!(!refusals(text).is_empty(), "the reader takes {text}");
    }
    for text in RIGHT {
        assert!(
            refusals(text).is_empty(),
            "the reader refuses {text}: {:?}",
            refusals(text)
        );
    }
    let Some(found) = validate(&texts) else {
        return;
    };
    for (text, found) in WRONG.iter().zip(&found) {
        assert!(found.is_some(), "the schema takes {text}");
    }
    for (text, found) in RIGHT.iter().zip(&found[WRONG.len()..]) {
        assert_eq!(*found, None, "the schema refuses {text}");
    }
}

/// Cases whose havre.yaml a schema can tell to be wrong.
const WRONG_CASES: [&str; 7] = [
    "havre-yaml-allow-wrong",
    "havre-yaml-gates-wrong",
    "havre-yaml-rollout-wrong",
    "havre-yaml-services-wrong",
    "havre-yaml-variables-wrong",
    "havre-yaml-wrong",
    "routes-wrong",
];

fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() && !path.ends_with("node_modules") {
            find(&path, found);
        } else if path.ends_with("havre.yaml") {
            found.push(path);
        }
    }
}

#[test]
fn the_schema_takes_every_file_of_this_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in ["examples", "tests", "crates/havre-model/tests"] {
        find(&root.join(folder), &mut files);
    }
    assert!(files.len() >= 10, "{files:?}");
    let texts: Vec<String> = files
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let Some(found) = validate(&texts) else {
        return;
    };
    for (path, found) in files.iter().zip(found) {
        let case = path
            .parent()
            .and_then(|folder| folder.file_name()?.to_str());
        let wrong = WRONG_CASES.contains(&case.unwrap_or_default());
        assert_eq!(found.is_some(), wrong, "{}: {found:?}", path.display());
    }
}

#[test]
fn every_key_has_a_description_and_an_example() {
    fn look(schema: &Value, count: &mut usize) {
        for (name, key) in schema["properties"].as_object().into_iter().flatten() {
            assert!(
                key["description"].is_string() && key["examples"][0] != Value::Null,
                "{name}"
            );
            *count += 1;
        }
        match schema {
            Value::Object(map) => map.values().for_each(|below| look(below, count)),
            Value::Array(list) => list.iter().for_each(|below| look(below, count)),
            _ => {}
        }
    }
    for document in [schema::document(), schema::machine::document()] {
        let mut count = 0;
        look(&document, &mut count);
        assert!(count > 20, "{count}");
    }
}

#[test]
fn settings_of_a_service_that_no_profile_enables_wait_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let compose = "services: {web: {image: a}, tools: {image: a, profiles: [tools]}}";
    fs::write(folder.path().join("compose.yaml"), compose).unwrap();
    let settings = "services: {tools: {liveness: {test: 'true'}}}";
    fs::write(folder.path().join("havre.yaml"), settings).unwrap();
    let options = |profiles: &[&str]| LoadOptions {
        profiles: profiles.iter().map(|&name| name.to_owned()).collect(),
        ..crate::cases::options(folder.path())
    };
    assert!(load(&options(&[])).is_ok());
    let with = load(&options(&["tools"])).unwrap().project;
    assert!(
        with.services
            .values()
            .any(|service| service.liveness.is_some())
    );
}

#[test]
fn what_answers_at_a_name_of_localhost_is_known_by_all_environments() {
    for (text, expected) in [
        (None, true),
        (Some("compose: [a.yaml]\n"), true),
        (Some("domain: shop.localhost\n"), true),
        (Some("domain: shop.example.org\n"), false),
        (Some("domains: [localhost.example.org]\n"), false),
        (
            Some("domain: a.org\nroutes: [{path: /, service: a, host: b.localhost}]\n"),
            true,
        ),
        (
            Some("domain: a.org\nenvironments: {staging: {domain: a.localhost}}\n"),
            true,
        ),
        (
            Some("domain: a.org\nenvironments: {staging: {domain: s.a.org}, dev: }\n"),
            false,
        ),
        (Some("domain: [\n"), true),
    ] {
        assert_eq!(havre_model::is_of_localhost(text), expected, "{text:?}");
    }
}
