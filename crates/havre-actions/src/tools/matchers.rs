//! Matchers that find problems in the log of later steps.

use std::fs;

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::step::Step;

/// Of compilers and linters of a language.
pub(super) enum Matchers {
    Node,
    Python,
    Go,
}

/// Has them looked through.
pub(super) fn register(step: &Step, matchers: &Matchers) -> Result<(), Failure> {
    let (name, list) = match matchers {
        Matchers::Node => ("node", node()),
        Matchers::Python => ("python", python()),
        Matchers::Go => ("go", go()),
    };
    let path = step.temp()?.join(format!("matchers-{name}.json"));
    let text = json!({"problemMatcher": list}).to_string();
    fs::write(&path, text).map_err(Failure::io(format!("write {}", path.display())))?;
    step.add_matcher(&path);
    Ok(())
}

fn node() -> Value {
    json!([
        {"owner": "tsc", "pattern": [{
            "regexp": r"^(\S.*?)[(:](\d+)[,:](\d+)(?:\):\s+|\s+-\s+)(error|warning|info)\s+(TS\d+)\s*:\s*(.*)$",
            "file": 1, "line": 2, "column": 3, "severity": 4, "code": 5, "message": 6
        }]},
        {"owner": "eslint-stylish", "pattern": [
            {"regexp": r"^([^\s].*)$", "file": 1},
            {
                "regexp": r"^\s+(\d+):(\d+)\s+(error|warning|info)\s+(.*)\s\s+(.*)$",
                "line": 1, "column": 2, "severity": 3, "message": 4, "code": 5, "loop": true
            }
        ]},
        {"owner": "eslint-compact", "pattern": [{
            "regexp": r"^(.+):\sline\s(\d+),\scol\s(\d+),\s(Error|Warning|Info)\s-\s(.+)\s\((.+)\)$",
            "file": 1, "line": 2, "column": 3, "severity": 4, "message": 5, "code": 6
        }]}
    ])
}

fn python() -> Value {
    json!([{"owner": "python", "pattern": [
        {"regexp": r#"^\s*File\s"(.*)",\sline\s(\d+),\sin\s(.*)$"#, "file": 1, "line": 2},
        {"regexp": r"^\s*raise\s(.*)\('(.*)'\)$", "message": 2}
    ]}])
}

fn go() -> Value {
    json!([{"owner": "go", "pattern": [{
        "regexp": r"^\s*(\.{0,2}[/\\].+\.go):(?:(\d+):(\d+)|(\d+)): (.*)$",
        "file": 1, "line": 2, "column": 3, "message": 5
    }]}])
}
