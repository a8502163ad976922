//! `pnpm/action-setup`.

use std::path::PathBuf;

use serde_json::Value;

use super::dependencies::manager;
use super::files;
use super::program::{ask, run, which};
use super::version::{Range, Version};
use crate::failure::{Failure, refused};
use crate::step::Step;

const MANIFEST: &str = "package.json";

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    let asked = asked(step)?;
    let dest = dest(step)?;
    let own = own(step, &asked);
    let bin = match &own {
        Some(program) => program.parent().map(PathBuf::from).unwrap_or_default(),
        None => install(step, &asked, &dest)?,
    };
    if own.is_none() {
        step.add_path(&bin)?;
        step.export("PNPM_HOME", &dest.to_string_lossy())?;
    }
    step.output("dest", &dest.to_string_lossy())?;
    step.output("bin_dest", &bin.to_string_lossy())?;
    let pnpm = bin.join("pnpm");
    let Some(version) = ask(&pnpm, &["--version"]) else {
        return refused(
            "pnpm is installed, but does not run: it needs Node.js, e.g. by `actions/setup-node` before",
        );
    };
    step.say(&format!("pnpm {version} in {}", bin.display()));
    if step.flag("cache", false)? {
        let named = step.lines("cache_dependency_path");
        manager("pnpm", &["pnpm"])?.restore(step, "pnpm", &version, &named, Some(bin.clone()))?;
    }
    match step.input("run_install").as_str() {
        "" | "null" | "false" => Ok(()),
        "true" => run(step, Some(&bin), &pnpm, &["install"]),
        _ => refused(
            "`run_install` is true or false here; run `pnpm install` with its arguments in a step of its own",
        ),
    }
}

/// The version, from the input or package.json, which may not differ.
fn asked(step: &Step) -> Result<String, Failure> {
    let path = step
        .given("package_json_file")
        .unwrap_or_else(|| MANIFEST.to_owned());
    let named = if step.workspace()?.join(&path).is_file() {
        of_package(&files::read(step, &path)?)
    } else {
        None
    };
    match (step.given("version"), named) {
        (Some(input), Some(named)) if input != named => refused(format!(
            "pnpm {input} is asked for by `version`, and {named} by `packageManager` of {path}; remove one"
        )),
        (Some(version), _) | (None, Some(version)) => Ok(version),
        (None, None) => refused(format!(
            "say which pnpm is wanted, by `version` or by `packageManager` of {path}"
        )),
    }
}

fn of_package(text: &str) -> Option<String> {
    let package: Value = serde_json::from_str(text).ok()?;
    let version = package["packageManager"].as_str()?.strip_prefix("pnpm@")?;
    Some(version.split('+').next()?.to_owned())
}

fn dest(step: &Step) -> Result<PathBuf, Failure> {
    let dest = step
        .given("dest")
        .unwrap_or_else(|| "~/setup-pnpm".to_owned());
    match (dest.strip_prefix("~/"), step.var("HOME")) {
        (Some(rest), Some(home)) => Ok(PathBuf::from(home).join(rest)),
        (Some(_), None) => refused("HOME is not set: give `dest` as a whole path"),
        (None, _) => Ok(step.workspace()?.join(dest)),
    }
}

/// The machine's own, if it is of the version asked for.
fn own(step: &Step, asked: &str) -> Option<PathBuf> {
    let program = which(step, "pnpm")?;
    let version = Version::parse(&ask(&program, &["--version"])?)?;
    Range::parse(asked)?
        .holds(&version, false)
        .then_some(program)
}

fn install(step: &Step, asked: &str, dest: &std::path::Path) -> Result<PathBuf, Failure> {
    let Some(npm) = which(step, "npm") else {
        return refused(
            "there is no npm to install pnpm with: put `actions/setup-node` before, or choose an image of Node.js",
        );
    };
    if !asked
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || ".-^~*x".contains(c))
    {
        return refused(format!("`{asked}` is no version of pnpm"));
    }
    let folder = dest.to_string_lossy();
    run(
        step,
        None,
        &npm,
        &[
            "install",
            "--prefix",
            &folder,
            "--no-save",
            "--no-fund",
            "--no-audit",
            &format!("pnpm@{asked}"),
        ],
    )?;
    Ok(dest.join("node_modules/.bin"))
}
