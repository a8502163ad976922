//! Findings in SARIF 2.1.0, as services that review code take them.

use std::io;
use std::path::{Path, PathBuf};

use havre_model::{Diagnostic, Severity, codes, rules};
use serde_json::{Value, json};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
/// The folder that addresses in the log start from: where the command ran, which in a pipeline is
/// the root of the repository.
const ROOT: &str = "%SRCROOT%";

/// Where the files of the findings are.
pub struct Base {
    /// Absolute.
    current: PathBuf,
    /// The project's folder, absolute.
    project: PathBuf,
}

impl Base {
    /// Of the project in `path`: its folder, or a compose file in it.
    pub fn new(path: &Path) -> io::Result<Self> {
        let current = std::env::current_dir()?;
        let given = current.join(path);
        let project = match given.is_file() {
            true => given.parent().unwrap_or(&given).to_owned(),
            false => given,
        };
        Ok(Self { current, project })
    }

    /// The address of a file, relative where it lies below the current folder.
    fn artifact(&self, file: &Path) -> Value {
        let mut absolute = PathBuf::new();
        for part in self.project.join(file).components() {
            match part {
                std::path::Component::ParentDir => {
                    absolute.pop();
                }
                part => absolute.push(part),
            }
        }
        match absolute.strip_prefix(&self.current) {
            Ok(relative) => json!({ "uri": escaped(relative), "uriBaseId": ROOT }),
            Err(_) => json!({ "uri": format!("file://{}", escaped(&absolute)) }),
        }
    }
}

/// A log of one run.
pub fn log(found: &[Diagnostic], base: &Base) -> Value {
    let mut ids: Vec<&str> = rules::RULES.iter().map(|rule| rule.id).collect();
    for finding in found {
        if !ids.contains(&finding.code) {
            ids.push(finding.code);
        }
    }
    let descriptors: Vec<Value> = ids.iter().map(|id| descriptor(id)).collect();
    let results: Vec<Value> = found
        .iter()
        .map(|finding| result(finding, &ids, base))
        .collect();
    let root = format!("file://{}/", escaped(&base.current).trim_end_matches('/'));
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "havre",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": descriptors,
            }},
            "originalUriBaseIds": { ROOT: { "uri": root } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

/// A rule, or a code of the reader: those are errors unless a finding says otherwise.
fn descriptor(id: &str) -> Value {
    match rules::rule(id) {
        Some(rule) => json!({
            "id": id,
            "shortDescription": { "text": rule.title },
            "fullDescription": { "text": rule.why },
            "help": { "text": format!("What to do: {}.", rule.fix) },
            "defaultConfiguration": { "level": rule.severity.to_string() },
        }),
        None => {
            let of_workflows = || havre_workflow::codes::meaning(id);
            let meaning = codes::meaning(id).or_else(of_workflows).unwrap_or(id);
            let command = super::command_of(id);
            json!({
                "id": id,
                "shortDescription": { "text": meaning },
                "fullDescription": { "text": format!("{meaning}.") },
                "help": { "text": format!("`{command}` shows the line and what to do.") },
                "defaultConfiguration": { "level": Severity::Error.to_string() },
            })
        }
    }
}

fn result(finding: &Diagnostic, ids: &[&str], base: &Base) -> Value {
    let text = match &finding.hint {
        Some(hint) => format!("{}\nWhat to do: {hint}", finding.message),
        None => finding.message.clone(),
    };
    let mut result = json!({
        "ruleId": finding.code,
        "ruleIndex": ids.iter().position(|id| *id == finding.code),
        "level": finding.severity.to_string(),
        "message": { "text": text },
    });
    if let Some(at) = &finding.location {
        result["locations"] = json!([{ "physicalLocation": {
            "artifactLocation": base.artifact(&at.file),
            "region": {
                "startLine": at.line,
                "startColumn": at.column,
                "endColumn": at.column + at.length,
            },
        }}]);
    }
    result
}

/// A path with all but the plain characters of addresses written as `%XX`.
fn escaped(path: &Path) -> String {
    let mut out = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(*byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_start_from_the_current_folder_where_they_can() {
        let base = Base {
            current: "/repo".into(),
            project: "/repo/my app".into(),
        };
        let uri = |file: &str| base.artifact(Path::new(file))["uri"].clone();
        assert_eq!(uri("compose.yaml"), "my%20app/compose.yaml");
        assert_eq!(uri("../shared/x.yaml"), "shared/x.yaml");
        assert_eq!(uri("/etc/x#1.env"), "file:///etc/x%231.env");
    }
}
