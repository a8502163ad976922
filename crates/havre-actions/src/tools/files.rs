//! Files that say which version of a language a project wants. Pure but for the reading.

use std::path::Path;

use serde_json::Value;

use crate::failure::{Failure, refused};
use crate::step::Step;

/// Most bytes of such a file.
const MOST: u64 = 1 << 20;

/// The text of a file of the workspace.
pub(super) fn read(step: &Step, path: &str) -> Result<String, Failure> {
    let place = step.workspace()?.join(path);
    havre_base::read_small(&place, MOST).map_err(Failure::io(format!("read {path}")))
}

/// What a version file says of a language, called `names` in `.tool-versions`.
pub(super) fn version(step: &Step, path: &str, names: &[&str]) -> Result<String, Failure> {
    let text = read(step, path)?;
    let name = Path::new(path)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    match found(&name, &text, names) {
        Some(version) => Ok(version),
        None => refused(format!("{path} does not say which version is wanted")),
    }
}

fn found(name: &str, text: &str, names: &[&str]) -> Option<String> {
    let version = match name {
        "package.json" => of_package(&serde_json::from_str(text).ok()?)?,
        "pyproject.toml" => setting(text, "project", "requires-python")
            .or_else(|| setting(text, "tool.poetry.dependencies", "python"))?,
        "Pipfile" => setting(text, "requires", "python_full_version")
            .or_else(|| setting(text, "requires", "python_version"))?,
        ".tool-versions" => lines(text).find_map(|line| {
            let (tool, version) = line.split_once(char::is_whitespace)?;
            names.contains(&tool).then(|| {
                version
                    .split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
        })?,
        "go.mod" | "go.work" => of_go(text)?,
        ".sdkmanrc" => lines(text)
            .find_map(|line| line.strip_prefix("java="))
            .map(str::to_owned)?,
        _ => lines(text).next()?.to_owned(),
    };
    let version = version.trim().trim_start_matches("go").to_owned();
    (!version.is_empty()).then_some(version)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
}

fn of_package(package: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let runtime = &package["devEngines"]["runtime"];
    let runtimes = runtime
        .as_array()
        .map_or(std::slice::from_ref(runtime), Vec::as_slice);
    let engine = runtimes
        .iter()
        .find(|runtime| runtime["name"] == "node")
        .and_then(|runtime| text(&runtime["version"]));
    text(&package["volta"]["node"])
        .or(engine)
        .or_else(|| text(&package["engines"]["node"]))
}

fn of_go(text: &str) -> Option<String> {
    let said = |word: &str| {
        lines(text).find_map(|line| line.strip_prefix(word)?.split_whitespace().next())
    };
    let toolchain = said("toolchain ").filter(|name| name.starts_with("go1"));
    toolchain
        .or_else(|| said("go "))
        .map(|version| version.split("//").next().unwrap_or_default().to_owned())
}

/// A text of a table of TOML that stands on one line; more of TOML is not needed here.
fn setting(text: &str, table: &str, key: &str) -> Option<String> {
    let mut inside = false;
    for line in lines(text) {
        if let Some(name) = line.strip_prefix('[') {
            inside = name.trim_end_matches(']').trim() == table;
        } else if inside
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            let quoted = value.trim();
            let quote = quoted.chars().next().filter(|c| "\"'".contains(*c))?;
            return quoted[1..].split(quote).next().map(str::to_owned);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, expected: Option<&str>) {
        assert_eq!(
            found(name, text, &["nodejs", "python"]).as_deref(),
            expected,
            "{name}: {text}"
        );
    }

    #[test]
    fn files_say_which_version_is_wanted() {
        check(".nvmrc", "# ours\nv20.1.0\n", Some("v20.1.0"));
        check(".python-version", "3.12\n3.11\n", Some("3.12"));
        check(
            ".tool-versions",
            "ruby 3\nnodejs 20.1.0 system\n",
            Some("20.1.0"),
        );
        check(
            "package.json",
            r#"{"engines":{"node":">=18"}}"#,
            Some(">=18"),
        );
        check(
            "package.json",
            r#"{"volta":{"node":"20.1.0"},"engines":{"node":">=18"}}"#,
            Some("20.1.0"),
        );
        check(
            "package.json",
            r#"{"devEngines":{"runtime":{"name":"node","version":"22"}}}"#,
            Some("22"),
        );
        check("package.json", "{}", None);
        check("package.json", "no JSON", None);
        check(
            "pyproject.toml",
            "[tool.x]\nrequires-python='1'\n[project]\nrequires-python = \">=3.9\" # so\n",
            Some(">=3.9"),
        );
        check(
            "pyproject.toml",
            "[tool.poetry.dependencies]\npython = '^3.10'\n",
            Some("^3.10"),
        );
        check(
            "Pipfile",
            "[requires]\npython_version = \"3.9\"\n",
            Some("3.9"),
        );
        check("go.mod", "module x\n\ngo 1.22 // so\n", Some("1.22"));
        check("go.mod", "go 1.22\ntoolchain go1.23.1\n", Some("1.23.1"));
        check(".sdkmanrc", "java=21.0.5-tem\n", Some("21.0.5-tem"));
        check(".go-version", "\n", None);
    }
}
