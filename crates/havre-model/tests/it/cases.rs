//! A folder per case under `tests/compose/`: the project's files, `options.json` where the
//! defaults do not do, and what is expected: `project.json` (empty and false values left out),
//! `warnings.txt`, or `error.txt`. `HAVRE_BLESS=1` rewrites what is expected.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use havre_model::{ConfigView, Diagnostic, EnvironmentName, LoadOptions, config, load};
use serde_json::Value;

/// Stands for the case's folder in what is expected.
pub const FOLDER: &str = "/case";

#[test]
fn every_case() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose");
    let bless = std::env::var_os("HAVRE_BLESS").is_some();
    let mut folders: Vec<PathBuf> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    let mut failures = Vec::new();
    for folder in &folders {
        let actual = run(folder);
        for name in ["project.json", "warnings.txt", "error.txt"] {
            let path = folder.join(name);
            let expected = fs::read_to_string(&path).unwrap_or_default();
            let actual = actual.get(name).map(String::as_str).unwrap_or_default();
            if expected == actual {
                continue;
            }
            if bless && actual.is_empty() {
                fs::remove_file(&path).unwrap();
            } else if bless {
                fs::write(&path, actual).unwrap();
            } else {
                let case = folder.file_name().unwrap().to_string_lossy();
                failures.push(format!(
                    "=== {case}/{name}: expected\n{expected}\n--- actual\n{actual}"
                ));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{}\n{} of {}",
        failures.join("\n"),
        failures.len(),
        folders.len()
    );
    assert!(folders.len() >= 170, "only {} cases", folders.len());
}

/// The project as one file is the same project.
#[test]
fn every_project_can_be_written_and_read_again() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose");
    let mut failures = Vec::new();
    for entry in fs::read_dir(&root).unwrap() {
        let folder = entry.unwrap().path().canonicalize().unwrap();
        let options = options(&folder);
        let view = ConfigView {
            reveal: true,
            sources: true,
        };
        let Ok((loaded, shown)) = config(&options, view) else {
            continue;
        };
        let text = shown.to_yaml();
        let written = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        fs::write(written.path(), &text).unwrap();
        let again = load(&LoadOptions {
            files: vec![written.path().to_owned()],
            ..options
        });
        let case = folder.file_name().unwrap().to_string_lossy().into_owned();
        match again {
            Ok(mut again) => {
                again
                    .project
                    .directory
                    .clone_from(&loaded.project.directory);
                let json = |project| {
                    serde_json::to_string_pretty(&prune(serde_json::to_value(project).unwrap()))
                };
                let (before, after) = (
                    json(&loaded.project).unwrap(),
                    json(&again.project).unwrap(),
                );
                if before != after {
                    failures.push(format!(
                        "=== {case}\n{text}\n--- was\n{before}\n--- is\n{after}"
                    ));
                }
            }
            Err(failure) => failures.push(format!("=== {case}\n{text}\n{failure}")),
        }
    }
    assert!(
        failures.is_empty(),
        "{}\n{} differ",
        failures.join("\n"),
        failures.len()
    );
}

/// What the case gives, by the name of the file that expects it.
fn run(folder: &Path) -> BTreeMap<&'static str, String> {
    let folder = folder.canonicalize().unwrap();
    let shown = |text: String| text.replace(folder.to_str().unwrap(), FOLDER);
    let text = |list: &[Diagnostic]| {
        let parts: Vec<String> = list.iter().map(|d| format!("{d}\n")).collect();
        shown(parts.join("\n"))
    };
    let mut outcome = BTreeMap::new();
    match load(&options(&folder)) {
        Ok(loaded) => {
            let project = prune(serde_json::to_value(&loaded.project).unwrap());
            let project = serde_json::to_string_pretty(&project).unwrap();
            outcome.insert("project.json", shown(project) + "\n");
            outcome.insert("warnings.txt", text(&loaded.warnings));
        }
        Err(failure) => {
            outcome.insert("error.txt", text(&failure.errors));
            outcome.insert("warnings.txt", text(&failure.warnings));
        }
    }
    outcome
}

/// What `options.json` of a case asks for.
pub fn options(folder: &Path) -> LoadOptions {
    let text = fs::read_to_string(folder.join("options.json")).unwrap_or_else(|_| "{}".to_owned());
    let given: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    let list = |key: &str| -> Vec<String> {
        let list = given
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        list.iter()
            .map(|item| item.as_str().unwrap().to_owned())
            .collect()
    };
    let one = |key: &str| given.get(key).and_then(Value::as_str).map(str::to_owned);
    let variables = given
        .get("variables")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let known = [
        "directory",
        "files",
        "project_name",
        "environment",
        "env_files",
        "profiles",
        "variables",
        "host_ca_detected",
        "to_run",
        "shared_networks",
    ];
    assert!(
        given.keys().all(|key| known.contains(&key.as_str())),
        "{given:?}"
    );
    LoadOptions {
        directory: one("directory").map_or(folder.to_owned(), |inside| folder.join(inside)),
        files: list("files").into_iter().map(PathBuf::from).collect(),
        project_name: Some(one("project_name").unwrap_or_else(|| "case".to_owned()))
            .filter(|name| !name.is_empty()),
        environment: one("environment").map(EnvironmentName::new),
        env_files: list("env_files").into_iter().map(PathBuf::from).collect(),
        profiles: list("profiles"),
        variables: variables
            .into_iter()
            .map(|(name, value)| (name, value.as_str().unwrap().to_owned()))
            .collect(),
        host_ca_detected: given.get("host_ca_detected").is_some_and(|v| v == true),
        to_run: given.get("to_run").is_some_and(|v| v == true),
        shared_networks: given
            .contains_key("shared_networks")
            .then(|| list("shared_networks").into_iter().collect()),
        target: Default::default(),
    }
}

/// Without what is empty, null or false: a case shows what it is about. Names of networks and
/// volumes say something even where nothing is said about them.
pub fn prune(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let pruned = map.into_iter().map(|(key, value)| {
                let named = matches!(key.as_str(), "networks" | "volumes");
                let value = match value {
                    Value::Object(inner) if named => inner
                        .into_iter()
                        .map(|(name, value)| (name, prune(value)))
                        .collect(),
                    value => prune(value),
                };
                (key, value)
            });
            Value::Object(pruned.filter(|(_, value)| says_something(value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(prune).collect()),
        other => other,
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Number(_) | Value::String(_) => true,
    }
}
