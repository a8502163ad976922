//! `cargo xtask tidy`: rules of the house that no other tool checks.

mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::shell::{command, read, say, workspace};

pub fn run() -> Result<()> {
    let mut faults = Vec::new();
    edges(&mut faults)?;
    let mut crates: BTreeMap<String, circles::Files> = BTreeMap::new();
    for path in tracked(".rs")? {
        let Some(text) = file(&path, &mut faults)? else {
            continue;
        };
        if let Some((name, module)) = module(&path) {
            crates.entry(name).or_default().insert(module, text);
        }
    }
    for (name, files) in &crates {
        circles::check(name, files, &mut faults);
    }
    if !faults.is_empty() {
        bail!("not tidy:\n  {}", faults.join("\n  "));
    }
    say("tidy");
    Ok(())
}

/// The edges between crates are those ARCHITECTURE.md allows.
fn edges(faults: &mut Vec<String>) -> Result<()> {
    let allowed = allowed_edges()?;
    let metadata: Value = serde_json::from_str(&read(command("cargo").args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ]))?)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let names: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = allowed.get(name) else {
            faults.push(format!(
                "crate {name} is not in the table of ARCHITECTURE.md"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            let is_dev = dependency["kind"].as_str() == Some("dev");
            if names.contains(target) && !is_dev && !allowed.contains(target) {
                faults.push(format!(
                    "{name} depends on {target}, which ARCHITECTURE.md forbids"
                ));
            }
        }
    }
    for name in allowed.keys().filter(|name| !names.contains(name.as_str())) {
        faults.push(format!("ARCHITECTURE.md lists {name}, which is no crate"));
    }
    Ok(())
}

/// The table between the `edges` marks: crate, job, may depend on, must never.
fn allowed_edges() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let text = fs::read_to_string(workspace().join("ARCHITECTURE.md"))
        .context("cannot read ARCHITECTURE.md")?;
    let (_, rest) = text
        .split_once("<!-- edges -->")
        .context("ARCHITECTURE.md has no edges")?;
    let (table, _) = rest
        .split_once("<!-- /edges -->")
        .context("the edges have no end")?;
    let mut edges = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, may, ..] = cells.as_slice() else {
            bail!("a row of the edges has too few columns: {row}");
        };
        let targets = may
            .split(',')
            .map(str::trim)
            .filter(|target| !target.is_empty())
            .map(|target| format!("havre-{target}"))
            .collect();
        edges.insert(name.trim_matches('`').to_owned(), targets);
    }
    Ok(edges)
}

fn tracked(ending: &str) -> Result<Vec<String>> {
    let list =
        read(command("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    Ok(list
        .lines()
        .filter(|path| path.ends_with(ending))
        .map(str::to_owned)
        .collect())
}

/// The crate and the module path of a file below `crates/*/src` that is no crate root.
fn module(path: &str) -> Option<(String, String)> {
    let (name, rest) = path.strip_prefix("crates/")?.split_once("/src/")?;
    let module = rest.strip_suffix(".rs")?.replace('/', "::");
    let is_root = matches!(module.as_str(), "lib" | "main");
    (!is_root).then(|| (name.to_owned(), module))
}

/// Checks one file; its text, where it is still there.
fn file(path: &str, faults: &mut Vec<String>) -> Result<Option<String>> {
    let full = workspace().join(path);
    if !full.exists() {
        return Ok(None);
    }
    if Path::new(path)
        .file_name()
        .is_some_and(|name| name == "mod.rs")
    {
        faults.push(format!("{path}: write foo.rs beside foo/ instead"));
    }
    let text = fs::read_to_string(&full).with_context(|| format!("cannot read {path}"))?;
    let first = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    if !first.starts_with("//!") {
        faults.push(format!("{path}: the first line is no module documentation"));
    }
    Ok(Some(text))
}
