//! `actions/setup-java`.

use std::fs;
use std::path::{Path, PathBuf};

use super::dependencies::manager;
use super::files;
use super::install::{self, Found};
use super::program::which;
use super::version::{Range, Version};
use crate::failure::{Failure, refused};
use crate::step::Step;

const MANAGERS: [&str; 3] = ["maven", "gradle", "sbt"];
/// Where packages of distributions put Java.
const PLACES: &str = "/usr/lib/jvm";

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    let asked = match step.given("java-version-file") {
        Some(file) if step.given("java-version").is_none() => {
            vec![files::version(step, &file, &["java"])?]
        }
        _ => step.lines("java-version"),
    };
    if asked.is_empty() {
        return refused("say which Java is wanted by `java-version`");
    }
    let there = there(step);
    let mut last = None;
    for asked in &asked {
        let found = find(step, asked, &there)?;
        let major = found.version.major();
        let variable = format!(
            "JAVA_HOME_{major}_{}",
            install::architecture().to_uppercase()
        );
        step.export(&variable, &found.place.to_string_lossy())?;
        step.say(&format!(
            "Java {} in {}",
            found.version,
            found.place.display()
        ));
        last = Some(found);
    }
    let Some(found) = last else {
        return refused("say which Java is wanted by `java-version`");
    };
    if step.flag("set-default", true)? {
        step.export("JAVA_HOME", &found.place.to_string_lossy())?;
        step.add_path(&found.place.join("bin"))?;
    }
    quiet(step)?;
    step.output("version", &found.version.to_string())?;
    step.output("path", &found.place.to_string_lossy())?;
    step.output("distribution", &maker(&found.place))?;
    match step.given("cache") {
        Some(name) => {
            let named = step.lines("cache-dependency-path");
            manager(&name, &MANAGERS)?.restore(
                step,
                "java",
                &found.version.major().to_string(),
                &named,
                None,
            )
        }
        None => Ok(()),
    }
}

fn find(step: &Step, asked: &str, there: &[Found]) -> Result<Found, Failure> {
    let text = asked.trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == '-');
    // `21.0.5-tem` and `8.0+100` name a build as well.
    let text = text.split(['+']).next().unwrap_or(text);
    let text = text.split("-").next().unwrap_or(text);
    let range = if asked == "latest" {
        Some(Range::any())
    } else {
        Range::parse(text)
    };
    let Some(range) = range else {
        return refused(format!(
            "`{asked}` is no version of Java: write 17, 21.0 or 8"
        ));
    };
    let fitting = there
        .iter()
        .filter(|found| range.holds(&found.version, false));
    match fitting.max_by(|a, b| install::newest(a, b)) {
        Some(found) => Ok(found.clone()),
        None => {
            let own: Vec<String> = there
                .iter()
                .map(|found| format!("{} in {}", found.version, found.place.display()))
                .collect();
            Err(install::nothing(step, "Java", asked, &own, None))
        }
    }
}

/// All that there are: in the tool cache, named by variables, of the distribution's packages, and in PATH.
fn there(step: &Step) -> Vec<Found> {
    let mut places = Vec::new();
    if let Some(cache) = step.var("RUNNER_TOOL_CACHE") {
        // A folder that is not there holds nothing.
        for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("Java_") {
                places.extend(
                    install::all_cached(step, &name)
                        .into_iter()
                        .map(|found| found.place),
                );
            }
        }
    }
    places.extend(step.var("JAVA_HOME").map(PathBuf::from));
    places.extend(
        fs::read_dir(PLACES)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    let program = which(step, "java").and_then(|program| program.canonicalize().ok());
    places.extend(program.and_then(|program| Some(program.parent()?.parent()?.to_owned())));
    let mut found: Vec<Found> = Vec::new();
    for place in places
        .into_iter()
        .filter_map(|place| place.canonicalize().ok())
    {
        if let Some(version) = version(&place)
            && !found.iter().any(|other| other.place == place)
        {
            found.push(Found { version, place });
        }
    }
    found
}

/// What the file `release` of a JDK says.
fn version(home: &Path) -> Option<Version> {
    if !home.join("bin/javac").is_file() {
        return None;
    }
    let text = said(home, "JAVA_VERSION")?;
    // `1.8.0_392` is 8.0.392.
    let text = text.strip_prefix("1.").unwrap_or(&text).replace('_', ".");
    let numbers: Vec<&str> = text.split('.').collect();
    let numbers = match numbers.as_slice() {
        [major, "0", patch] if text.starts_with("8.") => format!("{major}.0.{patch}"),
        numbers => numbers
            .iter()
            .take(3)
            .copied()
            .collect::<Vec<_>>()
            .join("."),
    };
    Version::parse(&numbers)
}

fn maker(home: &Path) -> String {
    said(home, "IMPLEMENTOR").unwrap_or_else(|| "unknown".to_owned())
}

fn said(home: &Path, name: &str) -> Option<String> {
    let text = havre_base::read_small(&home.join("release"), 1 << 16).ok()?;
    text.lines().find_map(|line| {
        Some(
            line.strip_prefix(name)?
                .strip_prefix('=')?
                .trim_matches('"')
                .to_owned(),
        )
    })
}

/// Maven tells of each file that it fetches, unless it is told not to.
fn quiet(step: &Step) -> Result<(), Failure> {
    let known = step.var("MAVEN_ARGS").unwrap_or_default();
    if step.flag("show-download-progress", false)?
        || known.split_whitespace().any(|word| word == "-ntp")
    {
        return Ok(());
    }
    step.export("MAVEN_ARGS", format!("-ntp {known}").trim())
}
