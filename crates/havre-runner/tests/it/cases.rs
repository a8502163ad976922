//! Cases as data. A file of `cases/` holds several:
//!
//! ```text
//! === name
//! --- steps | job | workflow     the steps, the whole job, or the whole file
//! --- file PATH                  of the workspace
//! --- context NAME               JSON
//! --- options                    all (announcements are shown), container, debug
//! --- told                       what is told
//! ```
//! With `HAVRE_BLESS=1`, what is told is written into the files.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};

use crate::runner::{Given, shown};

struct Case {
    name: String,
    /// Headings and texts, in their order.
    sections: Vec<(String, String)>,
}

pub fn trials() -> Vec<Trial> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cases");
    let entries = fs::read_dir(&folder).expect("there are cases");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    paths.sort();
    if std::env::var_os("HAVRE_BLESS").is_some() {
        paths.iter().for_each(|path| bless(path));
    }
    let mut trials = Vec::new();
    for path in paths {
        let feature = path
            .file_stem()
            .expect("it has a name")
            .to_string_lossy()
            .into_owned();
        for case in read(&path) {
            let name = format!("{feature}: {}", case.name);
            trials.push(Trial::test(name, move || check(&case)));
        }
    }
    trials
}

fn read(path: &Path) -> Vec<Case> {
    let text = fs::read_to_string(path).expect("it can be read");
    let cases = text.split("\n=== ").filter(|case| !case.trim().is_empty());
    cases
        .map(|case| {
            let case = case.trim_start_matches("=== ");
            let (name, rest) = case.split_once('\n').expect("a case has lines");
            let rest = format!("\n{rest}");
            let sections = rest.split("\n--- ").skip(1).map(|section| {
                let (heading, text) = section.split_once('\n').unwrap_or((section, ""));
                (heading.to_owned(), text.to_owned())
            });
            Case {
                name: name.to_owned(),
                sections: sections.collect(),
            }
        })
        .collect()
}

fn check(case: &Case) -> Result<(), Failed> {
    let told = told(case);
    let expected = case.sections.iter().find(|(heading, _)| heading == "told");
    let expected = expected.map_or("", |(_, text)| text.trim_end());
    if told.trim_end() == expected {
        return Ok(());
    }
    Err(format!("told:\n{told}\nexpected:\n{expected}").into())
}

fn told(case: &Case) -> String {
    let mut given = None;
    let mut all = false;
    for (heading, text) in &case.sections {
        match heading.as_str() {
            "steps" => given = Some(Given::steps(text)),
            "workflow" => given = Some(Given::workflow(text)),
            "job" => {
                let lines = text.lines().map(|line| format!("    {line}\n"));
                let lines: String = lines.collect();
                given = Some(Given::workflow(&format!(
                    "on: push\njobs:\n  a:\n    runs-on: x\n{lines}"
                )));
            }
            _ => {}
        }
    }
    let mut given = given.expect("a case has steps, a job or a workflow");
    for (heading, text) in &case.sections {
        match heading.split_once(' ') {
            Some(("file", path)) => given.file(path, text),
            Some(("context", name)) => {
                given
                    .document
                    .contexts
                    .insert(name.to_owned(), text.clone());
            }
            _ if heading == "options" => {
                all = text.contains("all");
                given.document.runner.in_container = text.contains("container");
                given.document.debug = text.contains("debug");
            }
            _ => {}
        }
    }
    let (told, _) = given.run();
    let text = shown(&told, given.folder.path(), all);
    match case.is_background() {
        true => by_step(&text),
        false => text,
    }
}

impl Case {
    fn is_background(&self) -> bool {
        let mut steps = self.sections.iter();
        steps.any(|(heading, text)| {
            heading != "told" && (text.contains("background: true") || text.contains("parallel:"))
        })
    }
}

/// What is told of steps that run side by side, in the order of the steps.
fn by_step(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let place = |line: &str| {
        let word = line.split(' ').next().unwrap_or_default();
        match word {
            "began" => 0,
            word => word.parse().map_or(u32::MAX, |place: u32| place + 1),
        }
    };
    lines.sort_by_key(|line| place(line));
    lines.join("\n")
}

fn bless(path: &Path) {
    let mut text = String::new();
    for case in read(path) {
        text.push_str(&format!("=== {}\n", case.name));
        for (heading, section) in case
            .sections
            .iter()
            .filter(|(heading, _)| heading != "told")
        {
            text.push_str(&format!("--- {heading}\n{}\n", section.trim_end()));
        }
        text.push_str(&format!("--- told\n{}\n\n", told(&case).trim_end()));
    }
    fs::write(path, text).expect("it can be written");
}
