//! The key table against the specification's own schema: no key is forgotten, none is invented.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use havre_model::keys::{self, Section, Support};
use serde_json::Value;

/// Keys that the schema at hand does not know yet.
const NEWER: &[(&str, &str)] = &[("services.*", "pre_start")];

const NAME: &str = "^[a-zA-Z0-9._-]+$";

/// Each section, and where the schema lists its keys.
fn places() -> Vec<(Section, String)> {
    let service = "/definitions/service/properties";
    let deploy = "/definitions/deployment/properties";
    let mount = format!("{service}/volumes/items/oneOf/1/properties");
    let name = NAME.replace('/', "~1");
    let list = [
        (keys::TOP, "/properties".to_owned()),
        (keys::SERVICE, service.to_owned()),
        (keys::BUILD, format!("{service}/build/oneOf/1/properties")),
        (
            keys::HEALTHCHECK,
            "/definitions/healthcheck/properties".to_owned(),
        ),
        (keys::DEPLOY, deploy.to_owned()),
        (keys::RESOURCES, format!("{deploy}/resources/properties")),
        (
            keys::LIMITS,
            format!("{deploy}/resources/properties/limits/properties"),
        ),
        (
            keys::RESERVATIONS,
            format!("{deploy}/resources/properties/reservations/properties"),
        ),
        (
            keys::RESTART_POLICY,
            format!("{deploy}/restart_policy/properties"),
        ),
        (
            keys::UPDATE_CONFIG,
            format!("{deploy}/update_config/properties"),
        ),
        (
            keys::ROLLBACK_CONFIG,
            format!("{deploy}/rollback_config/properties"),
        ),
        (keys::PLACEMENT, format!("{deploy}/placement/properties")),
        (
            keys::PORT,
            format!("{service}/ports/items/oneOf/2/properties"),
        ),
        (keys::BIND_OPTIONS, format!("{mount}/bind/properties")),
        (keys::VOLUME_OPTIONS, format!("{mount}/volume/properties")),
        (keys::TMPFS_OPTIONS, format!("{mount}/tmpfs/properties")),
        (keys::VOLUME_MOUNT, mount),
        (
            keys::DEVICE,
            format!("{service}/devices/items/oneOf/1/properties"),
        ),
        (
            keys::ATTACHMENT,
            format!("{service}/networks/oneOf/1/patternProperties/{name}/oneOf/0/properties"),
        ),
        (
            keys::DEPENDENCY,
            format!("{service}/depends_on/oneOf/1/patternProperties/{name}/properties"),
        ),
        (
            keys::GRANT,
            "/definitions/service_config_or_secret/items/oneOf/1/properties".to_owned(),
        ),
        (
            keys::HOOK,
            "/definitions/service_hook/properties".to_owned(),
        ),
        (
            keys::ENV_FILE,
            "/definitions/env_file/oneOf/1/items/oneOf/1/properties".to_owned(),
        ),
        (keys::LOGGING, format!("{service}/logging/properties")),
        (
            keys::EXTENDS,
            format!("{service}/extends/oneOf/1/properties"),
        ),
        (
            keys::INCLUDE,
            "/definitions/include/oneOf/1/properties".to_owned(),
        ),
        (
            keys::ULIMIT,
            "/definitions/ulimits/patternProperties/^[a-z]+$/oneOf/1/properties".to_owned(),
        ),
        (keys::NETWORK, "/definitions/network/properties".to_owned()),
        (keys::VOLUME, "/definitions/volume/properties".to_owned()),
        (keys::SECRET, "/definitions/secret/properties".to_owned()),
        (keys::CONFIG, "/definitions/config/properties".to_owned()),
    ];
    list.into()
}

/// Mappings of the schema whose keys need no entries, because the key that holds them is refused
/// or without effect as a whole.
const BELOW: &[&str] = &[
    "/definitions/blkio_limit/",
    "/definitions/blkio_weight/",
    "/definitions/development/",
    "/definitions/devices/",
    "/definitions/generic_resources/",
    "/definitions/gpus/",
    "/definitions/model/",
    "/definitions/network/properties/external/",
    "/definitions/network/properties/ipam/",
    "/definitions/volume/properties/external/",
    "/definitions/secret/properties/external/",
    "/definitions/config/properties/external/",
    "/definitions/deployment/properties/placement/properties/preferences/",
    "/definitions/service/properties/blkio_config/",
    "/definitions/service/properties/credential_spec/",
    "/definitions/service/properties/models/",
    "/definitions/service/properties/provider/",
    "/definitions/service/properties/volumes/items/oneOf/1/properties/image/",
];

fn schema() -> Option<Value> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = ["../shared/conformance"];
    let given = std::env::var_os("HAVRE_CONFORMANCE").map(PathBuf::from);
    let found = given
        .into_iter()
        .chain(folders.map(|folder| root.join(folder)));
    let path = found
        .map(|folder| folder.join("compose/compose-spec.json"))
        .find(|p| p.is_file());
    let Some(path) = path else {
        eprintln!("the schema itself is not here (compose/compose-spec.json in HAVRE_CONFORMANCE)");
        return None;
    };
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

/// The schema's keys, a line each: `services.*.build.args`.
fn listed() -> BTreeSet<String> {
    include_str!("../schema-keys.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn line(section: &Section, key: &str) -> String {
    match section.path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

#[test]
fn every_key_of_the_specification_is_decided() {
    let decided: BTreeSet<String> = keys::SECTIONS
        .iter()
        .flat_map(|section| section.keys.iter().map(move |key| (section, key.name)))
        .filter(|(section, name)| !NEWER.contains(&(section.path, name)))
        .map(|(section, name)| line(section, name))
        .collect();
    let listed = listed();
    // The schema has no place for these: the specification's text has.
    let of_hooks = |key: &&String| key.starts_with(keys::PRE_START.path);
    let forgotten: Vec<_> = listed.difference(&decided).collect();
    let invented: Vec<_> = decided
        .difference(&listed)
        .filter(|key| !of_hooks(key))
        .collect();
    assert!(
        forgotten.is_empty() && invented.is_empty(),
        "forgotten {forgotten:#?}, invented {invented:#?}"
    );
}

/// `HAVRE_BLESS=1` writes the list anew.
#[test]
fn the_list_of_keys_is_the_schemas() {
    let Some(schema) = schema() else { return };
    let mut found = BTreeSet::new();
    for (section, pointer) in places() {
        let keys = schema
            .pointer(&pointer)
            .unwrap_or_else(|| panic!("{pointer} moved"));
        found.extend(
            keys.as_object()
                .unwrap()
                .keys()
                .map(|key| line(&section, key)),
        );
    }
    if std::env::var_os("HAVRE_BLESS").is_some() {
        let head =
            "# Keys of the compose specification's JSON schema, by the sections of keys.rs.\n";
        let lines: String = found.iter().map(|key| format!("{key}\n")).collect();
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schema-keys.txt");
        std::fs::write(path, format!("{head}{lines}")).unwrap();
        return;
    }
    assert_eq!(found, listed());
}

#[test]
fn every_mapping_of_the_specification_has_a_section() {
    let Some(schema) = schema() else { return };
    let known: BTreeSet<String> = places().into_iter().map(|(_, pointer)| pointer).collect();
    let mut found = Vec::new();
    mappings(&schema, String::new(), &mut found);
    let missing: Vec<_> = found
        .iter()
        .filter(|pointer| !known.contains(*pointer))
        .filter(|pointer| {
            !BELOW
                .iter()
                .any(|below| format!("{pointer}/").starts_with(below))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Every `properties` object, by its JSON pointer.
fn mappings(value: &Value, pointer: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let is_list_of_keys = pointer.ends_with("/properties")
                && !pointer.ends_with("/properties/properties")
                && map.values().all(Value::is_object);
            if is_list_of_keys {
                found.push(pointer.clone());
            }
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                mappings(value, format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                mappings(value, format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn the_table_is_in_order_and_says_why() {
    let mut paths: BTreeMap<&str, usize> = BTreeMap::new();
    for section in keys::SECTIONS {
        *paths.entry(section.path).or_default() += 1;
        let names: Vec<_> = section.keys.iter().map(|key| key.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if section.path.is_empty() {
            assert_eq!(sorted.len(), names.len());
        } else {
            assert_eq!(names, sorted, "{}", section.path);
        }
        for key in section.keys {
            let texts = match key.support {
                Support::Honoured => vec!["-"],
                Support::Partly(text) | Support::Quiet(text) | Support::Ignored(text) => vec![text],
                Support::Refused { why, hint } => vec![why, hint],
            };
            assert!(
                texts
                    .iter()
                    .all(|text| !text.is_empty() && !text.ends_with('.'))
            );
        }
    }
    assert!(paths.values().all(|count| *count == 1), "{paths:?}");
}
