//! What runners tell, as lines for a person: of one leg or of several side by side. Pure.

use std::collections::{BTreeMap, VecDeque};

use havre_job::{Annotation, JobResult, Level, LineKind, Prefaces, StepResult, Told};

use crate::human;
use crate::paint::Paint;
use crate::table::printable;

/// Lines of a step that are shown once more where it failed.
const LAST_LINES: usize = 20;
/// How names of steps begin that clean up.
const POST: &str = "Post ";

/// Makes lines of what legs tell.
#[derive(Debug)]
pub struct View {
    paint: Paint,
    /// By name; in the order in which they came, each has a colour.
    legs: Vec<Leg>,
    /// Columns of the longest name.
    width: usize,
    /// There is one leg, whose name need not stand before its lines.
    alone: bool,
}

#[derive(Debug)]
struct Leg {
    name: String,
    began_ms: u64,
    /// By place.
    steps: BTreeMap<u32, Step>,
    prefaces: Prefaces,
    /// Failed steps, in the order in which they ended.
    failed: Vec<Failed>,
}

#[derive(Debug, Default)]
struct Step {
    name: String,
    began_ms: u64,
    /// How its beginning is told, where that waits for its first line.
    held: Option<String>,
    /// It has said something.
    said: bool,
    /// The last line, where that is an error: as it was told, and as it is shown.
    error: Option<(String, String)>,
    /// Its last lines were empty, and are told with what follows.
    blank: bool,
    last: VecDeque<String>,
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
            alone: names.len() == 1,
        }
    }

    /// The lines that tell something; the name of its leg stands before each, if there are others.
    pub fn lines(&mut self, leg: &str, told: &Told) -> Vec<String> {
        let at = self.place(leg);
        let lines = self.legs[at].lines(told, self.paint);
        lines
            .into_iter()
            .map(|line| self.named(at, &line))
            .collect()
    }

    fn named(&self, at: usize, line: &str) -> String {
        if self.alone {
            return line.to_owned();
        }
        let name = printable(&self.legs[at].name);
        let name = format!("{name:width$}", width = self.width);
        format!("{} {line}", self.paint.one_of(at, &name))
    }

    /// A line about a leg that no runner told.
    pub fn note(&mut self, leg: &str, text: &str) -> String {
        let at = self.place(leg);
        self.named(at, &printable(text))
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
                let bar = self.paint.dim("│");
                lines.extend(last.map(|line| format!("  {bar} {line}").trim_end().to_owned()));
            }
        }
        lines
    }

    fn place(&mut self, leg: &str) -> usize {
        if let Some(at) = self.legs.iter().position(|known| known.name == leg) {
            return at;
        }
        self.width = self.width.max(leg.chars().count());
        self.alone &= self.legs.is_empty();
        self.legs.push(Leg {
            name: leg.to_owned(),
            began_ms: 0,
            steps: BTreeMap::new(),
            prefaces: Prefaces::default(),
            failed: Vec::new(),
        });
        self.legs.len() - 1
    }
}

impl Leg {
    fn lines(&mut self, told: &Told, paint: Paint) -> Vec<String> {
        // A step's title says the same.
        if self.prefaces.has(told) {
            return Vec::new();
        }
        match told {
            // The steps tell themselves.
            Told::Began { at_ms, .. } => {
                self.began_ms = *at_ms;
                Vec::new()
            }
            Told::Summary { .. } => Vec::new(),
            Told::StepBegan { step, name, at_ms } => {
                let known = self.steps.entry(*step).or_default();
                known.name = name.clone();
                known.began_ms = *at_ms;
                let line = format!("▸ {}", paint.bold(&printable(name)));
                // Most that clean up have nothing to say.
                match name.starts_with(POST) {
                    true => {
                        known.held = Some(line);
                        Vec::new()
                    }
                    false => vec![line],
                }
            }
            Told::Line { step, kind, text } => {
                let Some(line) = line(*kind, text, paint) else {
                    return Vec::new();
                };
                match (step, kind) {
                    // If it is the last one, it says why the step failed, and so does the step's end.
                    (Some(at), LineKind::Error) => {
                        let lines = self.not_why(*at, paint);
                        let known = self.steps.entry(*at).or_default();
                        known.error = Some((text.clone(), line));
                        lines
                    }
                    _ => self.said(*step, line, paint),
                }
            }
            // The command that made it is a line as well, and so is what a problem matcher found.
            Told::Annotation { step, annotation } => match place(annotation) {
                Some(place) if !self.has_said(*step, annotation) => {
                    self.said(*step, told_at(&place, annotation, paint), paint)
                }
                _ => Vec::new(),
            },
            Told::StepEnded {
                step,
                outcome,
                conclusion,
                why,
                at_ms,
                ..
            } => self.ended(*step, *outcome, *conclusion, why.as_deref(), *at_ms, paint),
            Told::Ended { result, at_ms, .. } => {
                let word = match result {
                    JobResult::Success => paint.good("✓ success"),
                    JobResult::Failure => paint.error("✗ failure"),
                    JobResult::Cancelled => paint.warning("✗ cancelled"),
                };
                let took = human::millis(at_ms.saturating_sub(self.began_ms));
                vec![format!("{word} {}", paint.dim(&took))]
            }
        }
    }

    /// A line of a step, or of the job. Empty ones at the beginning and the end of a step are left out, and of several
    /// in a row one is told.
    fn said(&mut self, step: Option<u32>, line: String, paint: Paint) -> Vec<String> {
        let bar = paint.dim("│");
        let Some(step) = step else {
            return vec![format!("{bar} {line}")];
        };
        let mut lines = self.not_why(step, paint);
        let known = self.steps.entry(step).or_default();
        if line.trim().is_empty() {
            known.blank = known.said;
            return lines;
        }
        lines.extend(known.held.take());
        known.said = true;
        if std::mem::take(&mut known.blank) {
            lines.push(bar.clone());
            known.keep(String::new());
        }
        lines.push(format!("{bar} {line}"));
        known.keep(line);
        lines
    }

    /// The error that waited for what follows, which was not the step's end.
    fn not_why(&mut self, step: u32, paint: Paint) -> Vec<String> {
        let known = self.steps.entry(step).or_default();
        match known.error.take() {
            Some((_, line)) => self.said(Some(step), line, paint),
            None => Vec::new(),
        }
    }

    /// Whether the last line of the step says as much as this.
    fn has_said(&self, step: Option<u32>, annotation: &Annotation) -> bool {
        let step = step.and_then(|step| self.steps.get(&step));
        let last = step.and_then(|step| step.last.back());
        let file = annotation.file.as_deref().unwrap_or_default();
        last.is_some_and(|last| {
            last.contains(&*printable(&annotation.message)) && last.contains(&*printable(file))
        })
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
        let known = self.steps.entry(step).or_default();
        if let Some((text, _)) = &known.error
            && why == Some(text)
        {
            known.error = None;
        }
        let mut lines = self.not_why(step, paint);
        let known = self.steps.remove(&step).unwrap_or_default();
        let took = human::millis(at_ms.saturating_sub(known.began_ms));
        let name = printable(&known.name);
        let because = why.map(|why| format!(": {}", printable(why)));
        let because = because.unwrap_or_default();
        let end = match (outcome, conclusion) {
            (StepResult::Success, _) if known.held.is_some() => None,
            (StepResult::Success, _) => {
                Some(format!("{} {name} {}", paint.good("✓"), paint.dim(&took)))
            }
            // Whose `if` does not hold has not begun: nobody waits for its end.
            (StepResult::Skipped, _) => None,
            (StepResult::Failure, StepResult::Success) => Some(format!(
                "{} {name} {}{because}; the job goes on",
                paint.warning("✗"),
                paint.dim(&took)
            )),
            (StepResult::Failure, _) => {
                self.failed.push(Failed {
                    step: known.name,
                    why: why.map(str::to_owned),
                    last: known.last.into(),
                });
                Some(format!(
                    "{} {name} {}{because}",
                    paint.error("✗"),
                    paint.dim(&took)
                ))
            }
            (StepResult::Cancelled, _) => {
                Some(format!("{} {name} cancelled{because}", paint.warning("✗")))
            }
        };
        lines.extend(end);
        lines
    }
}

impl Step {
    fn keep(&mut self, line: String) {
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

fn line(kind: LineKind, text: &str, paint: Paint) -> Option<String> {
    let text = printable(text);
    Some(match kind {
        LineKind::Plain => text,
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
        let mut names: Vec<&str> = told.iter().map(|(leg, _)| *leg).collect();
        names.sort_unstable();
        names.dedup();
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
        test (1) ✓ Run make 2.5 s
        lint     │ error: would reformat a.py
        lint     ✗ Run black 2.5 s: it ended with code 1
        lint     ✗ failure 4.0 s
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
        ▸ Run x
        ✗ Run x 2.5 s; the job goes on
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
        ▸ Run x
        │ ┬ own
        │ said
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
            "│ src/a.ts:3:7: error: no such name"
        );
    }

    #[test]
    fn empty_lines_stand_between_others_only() {
        let plain = |text: &str| ("a", said(0, LineKind::Plain, text));
        let told = [
            ("a", began(0, "Run x")),
            plain(""),
            plain("one"),
            plain(""),
            plain(" "),
            plain("two"),
            plain(""),
            (
                "a",
                ended(0, StepResult::Success, StepResult::Success, None),
            ),
        ];
        insta::assert_snapshot!(shown(&told).0, @r"
        ▸ Run x
        │ one
        │
        │ two
        ✓ Run x 2.5 s
        ");
    }

    #[test]
    fn who_cleans_up_is_told_of_where_it_says_something() {
        let fine = |step| {
            (
                "a",
                ended(step, StepResult::Success, StepResult::Success, None),
            )
        };
        let told = [
            ("a", began(0, "Post Run x")),
            fine(0),
            ("a", began(1, "Post Run y")),
            ("a", said(1, LineKind::Plain, "saved")),
            fine(1),
        ];
        insta::assert_snapshot!(shown(&told).0, @r"
        ▸ Post Run y
        │ saved
        ✓ Post Run y 2.5 s
        ");
    }

    #[test]
    fn what_a_line_says_of_a_place_is_not_said_twice() {
        let annotation = Annotation {
            level: Level::Error,
            message: "no such name".to_owned(),
            title: None,
            file: Some("a.ts".to_owned()),
            line: Some(3),
            end_line: None,
            column: None,
            end_column: None,
        };
        let told = [
            ("a", began(0, "tsc")),
            (
                "a",
                said(0, LineKind::Plain, "a.ts(3): error TS1: no such name"),
            ),
            (
                "a",
                Told::Annotation {
                    step: Some(0),
                    annotation,
                },
            ),
        ];
        insta::assert_snapshot!(shown(&told).0, @r"
        ▸ tsc
        │ a.ts(3): error TS1: no such name
        ");
    }

    #[test]
    fn why_a_step_failed_is_said_once() {
        let why = "Process completed with exit code 2.";
        let failed = Some(why);
        let (lines, failures) = shown(&[
            ("a", began(0, "make")),
            ("a", said(0, LineKind::Error, "bad")),
            ("a", said(0, LineKind::Plain, "more")),
            ("a", said(0, LineKind::Error, why)),
            (
                "a",
                ended(0, StepResult::Failure, StepResult::Failure, failed),
            ),
        ]);
        insta::assert_snapshot!(lines, @r"
        ▸ make
        │ error: bad
        │ more
        ✗ make 2.5 s: Process completed with exit code 2.
        ");
        insta::assert_snapshot!(failures, @r"
        a › make: Process completed with exit code 2.
          │ error: bad
          │ more
        ");
    }
}
