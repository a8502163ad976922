//! `codecov/codecov-action` and `github/codeql-action/upload-sarif`: reports are kept as artifacts, and not sent.

use std::path::{Path, PathBuf};

use crate::artifacts::{Kept, keep};
use crate::failure::{Failure, refused};
use crate::glob::{Search, normal};
use crate::step::Step;

/// What reports of coverage are called.
const COVERAGE: [&str; 14] = [
    "*coverage*.xml",
    "*coverage*.json",
    "*coverage*.info",
    "*coverage*.txt",
    "*cobertura*.xml",
    "*jacoco*.xml",
    "coverage.out",
    "*.lcov",
    "lcov.info",
    "lcov.dat",
    "clover.xml",
    "*.gcov",
    "codecov.json",
    "cover.out",
];
/// Where none of them are made.
const SKIPPED: [&str; 4] = ["node_modules", ".git", "vendor", ".venv"];

pub(crate) fn codecov(step: &Step) -> Result<(), Failure> {
    let workspace = step.workspace()?;
    let root = normal(&workspace.join(step.input("working-directory")));
    let mut files = named(step, &root)?;
    if !step.flag("disable_search", false)? {
        files.extend(searched(
            step,
            &normal(&root.join(step.input("directory"))),
        )?);
    }
    files.sort();
    files.dedup();
    if files.is_empty() {
        let why = "no reports of coverage were found";
        if step.flag("fail_ci_if_error", false)? && !step.flag("handle_no_reports_found", false)? {
            return refused(why);
        }
        step.warning(why);
        return Ok(());
    }
    if step.flag("dry_run", false)? {
        step.say(&format!(
            "{} reports of coverage were found; none is kept (`dry_run`).",
            files.len()
        ));
        return Ok(());
    }
    let name = step
        .given("name")
        .map_or_else(|| "coverage".to_owned(), |name| format!("coverage-{name}"));
    kept(
        step,
        "coverage is not uploaded to Codecov",
        &name,
        &workspace,
        &files,
    )
    .map(drop)
}

pub(crate) fn sarif(step: &Step) -> Result<(), Failure> {
    let workspace = step.workspace()?;
    let asked = step
        .given("sarif_file")
        .unwrap_or_else(|| "../results".to_owned());
    let place = normal(&workspace.join(&asked));
    let files = if place.is_dir() {
        below(step, &place, &["**/*.sarif".to_owned()])?
    } else {
        vec![place.clone()]
    };
    if files.is_empty() || !files.iter().all(|file| file.is_file()) {
        return refused(format!("`sarif_file: {asked}` names no file of SARIF"));
    }
    let name = step
        .given("category")
        .map_or_else(|| "sarif".to_owned(), |name| format!("sarif-{name}"));
    let root = place.parent().filter(|_| place.is_file()).unwrap_or(&place);
    match kept(
        step,
        "results are not uploaded to GitHub",
        &name,
        root,
        &files,
    )? {
        Some(kept) => step.output("sarif-id", &kept.id.to_string()),
        None => Ok(()),
    }
}

/// Files that were named, relative to `root`; they must be there.
fn named(step: &Step, root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for text in [step.input("files"), step.input("file")] {
        for pattern in text
            .split([',', '\n'])
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let found = below(step, root, &[pattern.to_owned()])?;
            if found.is_empty() {
                step.warning(&format!("there is no report {pattern}"));
            }
            files.extend(found);
        }
    }
    Ok(files)
}

fn searched(step: &Step, root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut patterns: Vec<String> = COVERAGE.iter().map(|name| format!("**/{name}")).collect();
    let more = step.input("exclude");
    let more = more
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    patterns.extend(
        SKIPPED
            .into_iter()
            .chain(more)
            .map(|name| format!("!**/{name}/**")),
    );
    below(step, root, &patterns)
}

fn below(step: &Step, root: &Path, patterns: &[String]) -> Result<Vec<PathBuf>, Failure> {
    let search = Search {
        root,
        home: step.var("HOME"),
        descend: false,
        hidden: true,
    };
    Ok(search
        .find(patterns)?
        .paths
        .into_iter()
        .filter(|path| path.is_file())
        .collect())
}

fn kept(
    step: &Step,
    what: &str,
    name: &str,
    root: &Path,
    files: &[PathBuf],
) -> Result<Option<Kept>, Failure> {
    // A category may hold a path.
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    if step.var("ACTIONS_RESULTS_URL").is_none() {
        step.warning(&format!(
            "{what}, and not kept: this run keeps no artifacts"
        ));
        return Ok(None);
    }
    let kept = keep(step, &name, root, files)?;
    step.warning(&format!(
        "{what}; it is in the artifact {} of this run",
        kept.name
    ));
    Ok(Some(kept))
}
