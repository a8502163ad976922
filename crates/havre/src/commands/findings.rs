//! What was found in a project's files, told to a person or to a program.

mod sarif;

use std::path::Path;

use havre_model::{Diagnostic, LoadFailure, Severity, rules};
use serde::Serialize;

use crate::cli::FindingsForm;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::human;

/// A finding as programs get it.
#[derive(Serialize)]
struct Finding<'a> {
    #[serde(flatten)]
    finding: &'a Diagnostic,
    /// Of its rule, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'static str>,
}

/// What was looked at.
#[derive(Clone, Copy)]
pub enum Checked<'a> {
    /// A project: its folder, or its compose file.
    Project(&'a Path),
    /// The machine's own file.
    Machine(&'a Path),
    /// Workflow files, named from the current folder.
    Workflows,
}

/// Prints all findings about a file: those that keep it from being used, or else the others. `strict`:
/// warnings are errors, notes stay notes.
pub fn print(
    context: &Context,
    checked: Checked<'_>,
    found: Result<Vec<Diagnostic>, LoadFailure>,
    strict: bool,
    form: FindingsForm,
) -> Outcome {
    let ui = context.ui;
    let (path, what) = match checked {
        Checked::Project(path) => (path, "the project"),
        Checked::Machine(path) => (path, "machine.yaml"),
        Checked::Workflows => (Path::new("."), "the pipeline"),
    };
    let (errors, warnings) = match found {
        Ok(warnings) => (Vec::new(), warnings),
        Err(LoadFailure { errors, warnings }) => (errors, warnings),
    };
    let mut found: Vec<Diagnostic> = errors.into_iter().chain(warnings).collect();
    for finding in &mut found {
        if strict && finding.severity == Severity::Warning {
            finding.severity = Severity::Error;
        }
    }
    match (form.json.json, form.sarif) {
        (true, _) => {
            let told = found.iter().map(|finding| {
                let rule = rules::rule(finding.code);
                Finding {
                    finding,
                    why: rule.map(|rule| rule.why),
                    fix: rule.map(|rule| rule.fix),
                }
            });
            ui.json(&told.collect::<Vec<_>>())?;
        }
        (false, true) => {
            let base = sarif::Base::new(path).map_err(|error| {
                Failure::new(Exit::Failed, "cannot find the current folder").caused_by(&error)
            })?;
            ui.json(&sarif::log(&found, &base))?;
        }
        (false, false) => ui.data(&render(&found))?,
    }
    ui.say(&summary(what, &found));
    Ok(match found.iter().any(|f| f.severity == Severity::Error) {
        false => Exit::Ok,
        true => Exit::Project,
    })
}

/// The command that reports findings of this code.
pub fn command_of(code: &str) -> &'static str {
    match code.starts_with("workflow/") {
        true => "havre ci check",
        false => "havre check",
    }
}

fn summary(what: &str, found: &[Diagnostic]) -> String {
    let count = |severity: Severity| {
        let of_it = found.iter().filter(|f| f.severity == severity).count();
        human::count(of_it as u64, &severity.to_string())
    };
    if found.is_empty() {
        return format!("{what} is fine");
    }
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let counts = match found.iter().any(|f| f.severity == Severity::Note) {
        true => format!("{errors}, {warnings} and {}", count(Severity::Note)),
        false => format!("{errors} and {warnings}"),
    };
    let explained = match found.iter().any(|f| rules::rule(f.code).is_some()) {
        true => "; `havre doctor --explain RULE` says why one matters",
        false => "",
    };
    format!("{what} has {counts}{explained}")
}

/// The worst first; where a rule has several findings, they stand together.
fn render(found: &[Diagnostic]) -> String {
    let mut groups: Vec<Vec<&Diagnostic>> = Vec::new();
    let mut sorted: Vec<&Diagnostic> = found.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in sorted {
        let of_rule = rules::rule(finding.code).is_some();
        let same = |group: &&mut Vec<&Diagnostic>| {
            let first = group[0];
            (first.severity, first.code, &first.hint)
                == (finding.severity, finding.code, &finding.hint)
        };
        match groups.iter_mut().find(same).filter(|_| of_rule) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    let texts: Vec<String> = groups.iter().map(|group| together(group)).collect();
    texts.join("\n")
}

/// Findings of one rule, each on a line of its own; a single one with the line it is about.
fn together(group: &[&Diagnostic]) -> String {
    let (first, rule) = (group[0], rules::rule(group[0].code));
    let (Some(rule), [_, _, ..]) = (rule, group) else {
        return format!("{first}\n");
    };
    let places: Vec<String> = group
        .iter()
        .map(|finding| match &finding.location {
            Some(at) => format!("{}:{}:{}", at.file.display(), at.line, at.column),
            None => String::new(),
        })
        .collect();
    let widest = places.iter().map(|place| place.chars().count()).max();
    let mut text = format!("{}[{}]: {}\n", first.severity, first.code, rule.title);
    for (finding, place) in group.iter().zip(places) {
        let width = widest.unwrap_or_default();
        text.push_str(&format!("  --> {place:width$}  {}\n", finding.message));
    }
    if let Some(hint) = &first.hint {
        text.push_str(&format!("   = help: {hint}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use havre_model::Location;

    use super::*;

    fn finding(severity: Severity, code: &'static str, line: u32, message: &str) -> Diagnostic {
        Diagnostic {
            severity,
            code,
            message: message.into(),
            location: Some(Location {
                file: "compose.yaml".into(),
                line,
                column: 3,
                length: 3,
                line_text: "  web:".into(),
                cut: 0,
            }),
            hint: rules::rule(code).map(|rule| rule.fix.to_owned()),
        }
    }

    #[test]
    fn the_worst_comes_first_and_what_is_alike_stands_together() {
        let found = [
            finding(Severity::Error, "compose/value", 7, "one is wrong"),
            finding(Severity::Error, "compose/value", 8, "another is wrong"),
            finding(
                Severity::Note,
                "limits/no-memory",
                9,
                "`web` has no memory limit",
            ),
            finding(
                Severity::Note,
                "limits/no-memory",
                12,
                "`db` has no memory limit",
            ),
            finding(Severity::Warning, "images/latest", 9, "`web` runs whatever"),
        ];
        insta::assert_snapshot!(render(&found), @r"
        error[compose/value]: one is wrong
          --> compose.yaml:7:3
           |
         7 |   web:
           |   ^^^

        error[compose/value]: another is wrong
          --> compose.yaml:8:3
           |
         8 |   web:
           |   ^^^

        warning[images/latest]: `web` runs whatever
          --> compose.yaml:9:3
           |
         9 |   web:
           |   ^^^
           = help: name a version: `name:1.2.3`

        note[limits/no-memory]: No memory limit
          --> compose.yaml:9:3   `web` has no memory limit
          --> compose.yaml:12:3  `db` has no memory limit
           = help: set deploy.resources.limits.memory, or mem_limit
        ");
        insta::assert_snapshot!(
            summary("the project", &found),
            @"the project has 2 errors, 1 warning and 2 notes; `havre doctor --explain RULE` says why one matters"
        );
        assert_eq!(summary("the project", &[]), "the project is fine");
    }
}
