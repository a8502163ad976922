//! What runners tell, as lines for a person: of one leg or of several side by side. Pure.

use std::collections::BTreeMap;

use havre_job::{Annotation, JobResult, Level, LineKind, StepResult, Told};

use crate::human;
use crate::paint::Paint;
use crate::table::printable;

/// Lines of a step that are shown once more where it failed.
const LAST_LINES: usize = 20;

/// Makes lines of what legs tell.
#[derive(Debug)]
pub struct View {
    paint: Paint,
    /// By name; in the order in which they came, each has a colour.
    legs: Vec<Leg>,
    /// Columns of the longest name.
    width: usize,
}

#[derive(Debug)]
struct Leg {
    name: String,
    /// By place.
    steps: BTreeMap<u32, Step>,
    /// Failed steps, in the order in which they ended.
    failed: Vec<Failed>,
}

#[derive(Debug, Default)]
struct Step {
    name: String,
    began_ms: u64,
    preface: Preface,
    last: std::collections::VecDeque<String>,
}

/// How a runner begins a step: with a group that repeats what runs, and how. Its title says no more.
#[derive(Debug, Default, PartialEq, Eq)]
enum Preface {
    #[default]
    Expected,
    Inside,
    Over,
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The step.
    pub step: String,
    /// Why, where that is known.
    pub why: Option<String>,
    /// What it said last.
    pub last: Vec<String>,
}

impl View {
    /// Of legs with these names; others may come.
    pub fn new(paint: Paint, names: &[&str]) -> Self {
        let widths = names.iter().map(|name| name.chars().count());
        Self {
            paint,
            legs: Vec::new(),
            width: widths.max().unwrap_or(0),
        }
    }

    /// The lines that tell something; the name of its leg stands before each.
    pub fn lines(&mut self, leg: &str, told: &Told) -> Vec<String> {
        let at = self.place(leg);
        let lines = self.legs[at].lines(told, self.paint);
        let name = format!("{:width$}", printable(leg), width = self.width);
        let name = self.paint.one_of(at, &name);
        lines
            .into_iter()
            .map(|line| format!("{name} {line}"))
            .collect()
    }

    /// A line about a leg that no runner told.
    pub fn note(&mut self, leg: &str, text: &str) -> String {
        let at = self.place(leg);
        let name = format!("{:width$}", printable(leg), width = self.width);
        format!("{} {}", self.paint.one_of(at, &name), printable(text))
    }

    /// What went wrong, to be read last: leg by leg, each failed step with its last lines.
    pub fn failures(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for leg in &self.legs {
            for failed in &leg.failed {
                let what = format!("{} › {}", leg.name, failed.step);
                let why = failed.why.as_deref().unwrap_or("it failed");
                lines.push(format!(
                    "{}: {}",
                    self.paint.error(&printable(&what)),
                    printable(why)
                ));
                let last = failed.last.iter();
                lines.extend(last.map(|line| format!("  {} {line}", self.paint.dim("│"))));
            }
        }
        lines
    }

    fn place(&mut self, leg: &str) -> usize {
        if let Some(at) = self.legs.iter().position(|known| known.name == leg) {
            return at;
        }
        self.width = self.width.max(leg.chars().count());
        self.legs.push(Leg {
            name: leg.to_owned(),
            steps: BTreeMap::new(),
            failed: Vec::new(),
        });
        self.legs.len() - 1
    }
}

impl Leg {
    fn lines(&mut self, told: &Told, paint: Paint) -> Vec<String> {
        match told {
            // The steps tell themselves.
            Told::Began { .. } | Told::Summary { .. } => Vec::new(),
            Told::StepBegan { step, name, at_ms } => {
                let known = self.steps.entry(*step).or_default();
                known.name = name.clone();
                known.began_ms = *at_ms;
                vec![format!("▸ {}", paint.bold(&printable(name)))]
            }
            Told::Line { step, kind, text } => {
                if step.is_some_and(|step| self.is_preface(step, *kind)) {
                    return Vec::new();
                }
                let Some(line) = line(*kind, text, paint) else {
                    return Vec::new();
                };
                if let Some(step) = step {
                    let last = &mut self.steps.entry(*step).or_default().last;
                    if last.len() == LAST_LINES {
                        last.pop_front();
                    }
                    last.push_back(line.clone());
                }
                vec![format!("{} {line}", paint.dim("│"))]
            }
            // The command that made it is a line as well, but for problem matchers and the runner's own.
            Told::Annotation { annotation, .. } => match place(annotation) {
                Some(place) => vec![format!(
                    "{} {}",
                    paint.dim("│"),
                    told_at(&place, annotation, paint)
                )],
                None => Vec::new(),
            },
            Told::StepEnded {
                step,
                outcome,
                conclusion,
                why,
                at_ms,
                ..
            } => self.ended(*step, *outcome, *conclusion, why.as_deref(), *at_ms, paint),
            Told::Ended { result, .. } => vec![match result {
                JobResult::Success => paint.good("✓ success"),
                JobResult::Failure => paint.error("✗ failure"),
                JobResult::Cancelled => paint.warning("✗ cancelled"),
            }],
        }
    }

    fn is_preface(&mut self, step: u32, kind: LineKind) -> bool {
        let preface = &mut self.steps.entry(step).or_default().preface;
        let (is, next) = match (&*preface, kind) {
            (Preface::Expected, LineKind::Group) => (true, Preface::Inside),
            (Preface::Inside, LineKind::EndGroup) => (true, Preface::Over),
            (Preface::Inside, _) => (true, Preface::Inside),
            (Preface::Expected | Preface::Over, _) => (false, Preface::Over),
        };
        *preface = next;
        is
    }

    fn ended(
        &mut self,
        step: u32,
        outcome: StepResult,
        conclusion: StepResult,
        why: Option<&str>,
        at_ms: u64,
        paint: Paint,
    ) -> Vec<String> {
        let known = self.steps.remove(&step).unwrap_or_default();
        let took = human::duration(std::time::Duration::from_millis(
            at_ms.saturating_sub(known.began_ms),
        ));
        let name = printable(&known.name);
        let because = why.map(|why| format!(": {}", printable(why)));
        let because = because.unwrap_or_default();
        match (outcome, conclusion) {
            (StepResult::Success, _) => {
                vec![format!("{} {name} {}", paint.good("✓"), paint.dim(&took))]
            }
            // Whose `if` does not hold has not begun: nobody waits for its end.
            (StepResult::Skipped, _) => Vec::new(),
            (StepResult::Failure, StepResult::Success) => vec![format!(
                "{} {name} {}{because}; the job goes on",
                paint.warning("✗"),
                paint.dim(&took)
            )],
            (StepResult::Failure, _) => {
                self.failed.push(Failed {
                    step: known.name,
                    why: why.map(str::to_owned),
                    last: known.last.into(),
                });
                vec![format!(
                    "{} {name} {}{because}",
                    paint.error("✗"),
                    paint.dim(&took)
                )]
            }
            (StepResult::Cancelled, _) => {
                vec![format!("{} {name} cancelled{because}", paint.warning("✗"))]
            }
        }
    }
}

fn line(kind: LineKind, text: &str, paint: Paint) -> Option<String> {
    let text = printable(text);
    Some(match kind {
        LineKind::Plain => text.into(),
        LineKind::Command => paint.dim(&text),
        LineKind::Group => format!("{} {}", paint.dim("┬"), paint.bold(&text)),
        LineKind::EndGroup => return None,
        LineKind::Debug => paint.dim(&format!("debug: {text}")),
        LineKind::Notice => format!("{} {text}", paint.hint("notice:")),
        LineKind::Warning => format!("{} {text}", paint.warning("warning:")),
        LineKind::Error => format!("{} {text}", paint.error("error:")),
    })
}

/// `file:line:column`, where the annotation has a file.
fn place(annotation: &Annotation) -> Option<String> {
    let mut place = annotation.file.clone()?;
    for number in [annotation.line, annotation.column].into_iter().flatten() {
        place.push_str(&format!(":{number}"));
    }
    Some(place)
}

/// An annotation in one line: where, how bad, what.
pub fn annotation(annotation: &Annotation, paint: Paint) -> String {
    match place(annotation) {
        Some(place) => told_at(&place, annotation, paint),
        None => told_of(annotation, paint),
    }
}

fn told_at(place: &str, annotation: &Annotation, paint: Paint) -> String {
    let place = paint.bold(&printable(place));
    format!("{place}: {}", told_of(annotation, paint))
}

fn told_of(annotation: &Annotation, paint: Paint) -> String {
    let message = printable(&annotation.message);
    let word = match annotation.level {
        Level::Notice => paint.hint("notice:"),
        Level::Warning => paint.warning("warning:"),
        Level::Error => paint.error("error:"),
    };
    format!("{word} {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn began(step: u32, name: &str) -> Told {
        Told::StepBegan {
            step,
            name: name.to_owned(),
            at_ms: 1000,
        }
    }

    fn said(step: u32, kind: LineKind, text: &str) -> Told {
        Told::Line {
            step: Some(step),
            kind,
            text: text.to_owned(),
        }
    }

    fn ended(step: u32, outcome: StepResult, conclusion: StepResult, why: Option<&str>) -> Told {
        Told::StepEnded {
            step,
            outcome,
            conclusion,
            exit_code: None,
            why: why.map(str::to_owned),
            at_ms: 3500,
        }
    }

    fn shown(told: &[(&str, Told)]) -> (String, String) {
        let names: Vec<&str> = told.iter().map(|(leg, _)| *leg).collect();
        let mut view = View::new(Paint::plain(), &names);
        let lines: Vec<String> = told
            .iter()
            .flat_map(|(leg, told)| view.lines(leg, told))
            .collect();
        (lines.join("\n"), view.failures().join("\n"))
    }

    #[test]
    fn legs_side_by_side_are_told_apart() {
        let (lines, failures) = shown(&[
            ("test (1)", began(0, "Run make")),
            ("lint", began(0, "Run black")),
            ("test (1)", said(0, LineKind::Plain, "built")),
            ("lint", said(0, LineKind::Error, "would reformat a.py")),
            (
                "test (1)",
                ended(0, StepResult::Success, StepResult::Success, None),
            ),
            (
                "lint",
                ended(
                    0,
                    StepResult::Failure,
                    StepResult::Failure,
                    Some("it ended with code 1"),
                ),
            ),
            (
                "lint",
                Told::Ended {
                    result: JobResult::Failure,
                    outputs: Vec::new(),
                    environment_url: None,
                    images: Vec::new(),
                    at_ms: 4000,
                },
            ),
        ]);
        insta::assert_snapshot!(lines, @r"
        test (1) ▸ Run make
        lint     ▸ Run black
        test (1) │ built
        lint     │ error: would reformat a.py
        test (1) ✓ Run make 2.5 s
        lint     ✗ Run black 2.5 s: it ended with code 1
        lint     ✗ failure
        ");
        insta::assert_snapshot!(failures, @r"
        lint › Run black: it ended with code 1
          │ error: would reformat a.py
        ");
    }

    #[test]
    fn a_step_that_may_fail_is_no_failure_of_its_job() {
        let (lines, failures) = shown(&[
            ("a", began(0, "Run x")),
            (
                "a",
                ended(0, StepResult::Failure, StepResult::Success, None),
            ),
        ]);
        insta::assert_snapshot!(lines, @r"
        a ▸ Run x
        a ✗ Run x 2.5 s; the job goes on
        ");
        assert_eq!(failures, "");
    }

    #[test]
    fn nothing_that_is_told_moves_the_cursor() {
        let (lines, _) = shown(&[
            ("a\x1b[2J", began(0, "n\x1b[1A")),
            ("a\x1b[2J", said(0, LineKind::Plain, "x\x07\rb")),
        ]);
        assert!(!lines.contains(['\x1b', '\x07', '\r']), "{lines:?}");
    }

    #[test]
    fn what_a_step_is_made_of_is_not_repeated() {
        let (lines, _) = shown(&[
            ("a", began(0, "Run x")),
            ("a", said(0, LineKind::Group, "Run x")),
            ("a", said(0, LineKind::Plain, "shell: sh")),
            ("a", said(0, LineKind::EndGroup, "")),
            ("a", said(0, LineKind::Group, "own")),
            ("a", said(0, LineKind::Plain, "said")),
        ]);
        insta::assert_snapshot!(lines, @r"
        a ▸ Run x
        a │ ┬ own
        a │ said
        ");
    }

    #[test]
    fn an_annotation_shows_its_place() {
        let annotation = Annotation {
            level: Level::Error,
            message: "no such name".to_owned(),
            title: None,
            file: Some("src/a.ts".to_owned()),
            line: Some(3),
            end_line: None,
            column: Some(7),
            end_column: None,
        };
        let told = Told::Annotation {
            step: Some(0),
            annotation,
        };
        assert_eq!(
            shown(&[("a", told)]).0,
            "a │ src/a.ts:3:7: error: no such name"
        );
    }
}
