//! An explanation, for a person or for a program.

use std::collections::BTreeMap;
use std::fmt;

use havre_pipeline::{
    Answer, Before, Group, Known, Leg, Object, PlannedJob, Reason, Starts, Value, Verdict, call,
    plan,
};
use havre_workflow::repository::File;
use havre_workflow::{Call, CalledWorkflow, Work, Workflow};
use serde::Serialize;

use super::Planned;
use crate::paint::Paint;
use crate::table::{Table, printable};

/// A workflow file, and what an event means to it.
#[derive(Serialize)]
pub struct Explained {
    file: String,
    name: Option<String>,
    /// `starts`, `open`: it depends on what changed, `no`, or `refused`: what was given is wrong.
    verdict: &'static str,
    why: Vec<Why>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<ToldGroup>,
    /// In an order in which they can run; none where it does not start.
    jobs: Vec<ToldJob>,
}

#[derive(Serialize)]
struct Why {
    why: String,
    line: Option<u32>,
    column: Option<u32>,
}

#[derive(Serialize)]
struct ToldJob {
    id: String,
    /// How many jobs come before it in a row.
    stage: usize,
    needs: Vec<String>,
    /// In words.
    starts: String,
    /// Whether it may run at all.
    runs: bool,
    calls: Option<String>,
    /// Of what it calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jobs: Vec<ToldJob>,
    legs: Said<Vec<ToldLeg>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_parallel: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fail_fast: Option<bool>,
}

#[derive(Serialize)]
struct ToldLeg {
    name: Said<String>,
    matrix: serde_json::Value,
    runs_on: Said<Vec<String>>,
    environment: Option<Said<String>>,
    concurrency: Option<ToldGroup>,
}

#[derive(Serialize)]
struct ToldGroup {
    group: Said<String>,
    cancel_in_progress: Said<bool>,
    queue: &'static str,
}

/// What starts the workflow that a job is in.
#[derive(Clone, Copy)]
enum Caller {
    Event,
    Job,
}

/// What there is of a value.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Said<T> {
    Known(T),
    WaitsFor(Vec<String>),
    Wrong(String),
}

impl Explained {
    pub fn new(
        file: &File,
        workflow: &Workflow,
        verdict: Verdict,
        planned: Option<&Planned<'_>>,
    ) -> Self {
        let (verdict, reasons) = match verdict {
            Verdict::Starts(reason) => ("starts", vec![reason]),
            Verdict::Open(reason) => ("open", vec![reason]),
            Verdict::Not(reason) => ("no", vec![reason]),
            Verdict::Refused(reasons) => ("refused", reasons),
        };
        let jobs = planned.map(|planned| {
            let jobs = planned.plan.jobs.iter();
            jobs.map(|one| job(Caller::Event, one, &planned.known, &planned.called))
                .collect()
        });
        let name = workflow.name.as_ref().and_then(|name| name.fixed());
        Self {
            file: file.shown.to_string_lossy().into_owned(),
            name: name.map(str::to_owned),
            verdict,
            why: reasons.into_iter().map(why).collect(),
            concurrency: planned
                .and_then(|planned| planned.plan.group.as_ref())
                .map(group),
            jobs: jobs.unwrap_or_default(),
        }
    }

    /// The verdict, and a table of the jobs.
    pub fn render(&self, paint: Paint) -> String {
        let name = match &self.name {
            Some(name) => format!(" ({})", printable(name)),
            None => String::new(),
        };
        let file = printable(&self.file);
        let mut text = format!("{file}{name}\n");
        for why in &self.why {
            let place = match (why.line, why.column) {
                (Some(line), Some(column)) => format!(" ({file}:{line}:{column})"),
                _ => String::new(),
            };
            text.push_str(&format!(
                "  {}: {}{place}\n",
                self.verdict,
                printable(&why.why)
            ));
        }
        if let Some(group) = &self.concurrency {
            text.push_str(&format!(
                "  one at a time: {}\n",
                printable(group.to_string())
            ));
        }
        if !self.jobs.is_empty() {
            let header = [
                "JOB",
                "NEEDS",
                "STARTS",
                "RUNS ON",
                "ENVIRONMENT",
                "ONE AT A TIME",
            ];
            let mut table = Table::new(header);
            for job in &self.jobs {
                job.rows("", &mut table);
            }
            text.push_str(&table.render(paint, "  "));
        }
        text
    }
}

impl ToldJob {
    /// A row for each leg, with what they share in the first, and those of what it calls.
    fn rows(&self, within: &str, table: &mut Table) {
        self.own_rows(within, table);
        if self.runs {
            let within = format!("{within}{} / ", self.id);
            for job in &self.jobs {
                job.rows(&within, table);
            }
        }
    }

    fn own_rows(&self, within: &str, table: &mut Table) {
        let mut starts = self.starts.clone();
        if let Some(most) = self.max_parallel {
            starts.push_str(&format!("; {most} at a time"));
        }
        let needs = self.needs.join(", ");
        let legs = match &self.legs {
            Said::Known(legs) if self.runs => legs.as_slice(),
            Said::Known(_) => &[],
            Said::WaitsFor(_) | Said::Wrong(_) if !self.runs => &[],
            Said::WaitsFor(names) => {
                starts.push_str(&format!("; its matrix waits for {}", names.join(", ")));
                &[]
            }
            Said::Wrong(why) => {
                starts.push_str(&format!("; it fails: {why}"));
                &[]
            }
        };
        if legs.is_empty() {
            let calls = self.calls.as_ref().map(|calls| format!("calls {calls}"));
            let calls = calls.unwrap_or_default();
            let row = [format!("{within}{}", self.id), needs, starts, calls];
            table.row(row.into_iter().chain([String::new(), String::new()]));
            return;
        }
        for (at, leg) in legs.iter().enumerate() {
            let runs_on = match (&self.calls, &leg.runs_on) {
                (Some(calls), _) => format!("calls {calls}"),
                (None, Said::Known(labels)) => labels.join(", "),
                (None, Said::WaitsFor(names)) => format!("waits for {}", names.join(", ")),
                (None, Said::Wrong(why)) => format!("it fails: {why}"),
            };
            let text = |said: &Option<Said<String>>| match said {
                Some(said) => said.to_string(),
                None => String::new(),
            };
            let group = leg.concurrency.as_ref().map(ToString::to_string);
            let shared = |text: &String| match at {
                0 => text.clone(),
                _ => "\"".to_owned(),
            };
            table.row([
                format!("{within}{}", leg.name),
                shared(&needs),
                shared(&starts),
                runs_on,
                text(&leg.environment),
                group.unwrap_or_default(),
            ]);
        }
    }
}

impl<T: fmt::Display> fmt::Display for Said<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(value) => value.fmt(f),
            Self::WaitsFor(names) => write!(f, "waits for {}", names.join(", ")),
            Self::Wrong(why) => write!(f, "it fails: {why}"),
        }
    }
}

impl fmt::Display for ToldGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match (&self.cancel_in_progress, self.queue) {
            (Said::Known(true), _) => "a new one ends the one that runs",
            (Said::Known(false), "max") => "up to 100 wait",
            (Said::Known(false), _) => "the newest waits",
            (Said::WaitsFor(_) | Said::Wrong(_), _) => "a new one may end the one that runs",
        };
        write!(f, "{} ({how})", self.group)
    }
}

impl<T> Said<T> {
    fn new<F>(answer: &Answer<F>, told: impl FnOnce(&F) -> T) -> Self {
        match answer {
            Answer::Known(value) => Self::Known(told(value)),
            Answer::Waits(names) => Self::WaitsFor(names.clone()),
            Answer::Wrong(why) => Self::Wrong(why.clone()),
        }
    }
}

fn why(reason: Reason) -> Why {
    Why {
        why: reason.why,
        line: reason.at.map(|at| at.start.line),
        column: reason.at.map(|at| at.start.column),
    }
}

fn job(
    by: Caller,
    planned: &PlannedJob<'_>,
    known: &Known,
    called: &BTreeMap<&str, &Workflow>,
) -> ToldJob {
    let legs = planned.legs.known();
    let jobs = match &planned.job.work {
        Work::Steps(_) => Vec::new(),
        Work::Call(call) => match &call.uses.value {
            CalledWorkflow::Remote(_) => Vec::new(),
            CalledWorkflow::Local(path) => match called.get(path.as_str()) {
                None => Vec::new(),
                Some(callee) => within(planned, call, callee, known, called),
            },
        },
    };
    ToldJob {
        id: planned.job.id.value.clone(),
        stage: planned.stage,
        needs: planned
            .job
            .needs
            .iter()
            .map(|need| need.value.clone())
            .collect(),
        starts: starts(&planned.starts, by),
        runs: !matches!(planned.starts, Starts::Never | Starts::NeedSkipped(_)),
        calls: match &planned.job.work {
            Work::Call(call) => Some(call.uses.value.to_string()),
            Work::Steps(_) => None,
        },
        jobs,
        legs: Said::new(&planned.legs, |legs| legs.legs.iter().map(leg).collect()),
        max_parallel: legs.and_then(|legs| legs.max_parallel),
        fail_fast: legs
            .filter(|legs| legs.legs.len() > 1)
            .map(|legs| legs.fail_fast),
    }
}

/// The jobs of a workflow that is called, with the inputs that are certain. Who calls whom has an end: that was checked.
fn within(
    planned: &PlannedJob<'_>,
    call: &Call,
    callee: &Workflow,
    known: &Known,
    called: &BTreeMap<&str, &Workflow>,
) -> Vec<ToldJob> {
    let Some(interface) = &callee.on.workflow_call else {
        return Vec::new();
    };
    let mut caller = known.clone();
    // Several legs may give several inputs.
    if let Some([leg]) = planned.legs.known().map(|legs| legs.legs.as_slice()) {
        caller.whole("matrix", leg.matrix.clone());
    }
    let known = call::known_before(interface, call, &caller);
    let plan = plan::plan(callee, &known);
    let jobs = plan.jobs.iter();
    jobs.map(|one| job(Caller::Job, one, &known, called))
        .collect()
}

fn leg(leg: &Leg) -> ToldLeg {
    ToldLeg {
        name: Said::new(&leg.name, Clone::clone),
        matrix: object(&leg.matrix),
        runs_on: Said::new(&leg.runs_on, Clone::clone),
        environment: leg
            .environment
            .as_ref()
            .map(|name| Said::new(name, Clone::clone)),
        concurrency: leg.group.as_ref().map(group),
    }
}

fn group(group: &Group) -> ToldGroup {
    ToldGroup {
        group: Said::new(&group.name, Clone::clone),
        cancel_in_progress: Said::new(&group.cancel_in_progress, |cancel| *cancel),
        queue: if group.queue_all { "max" } else { "single" },
    }
}

fn starts(starts: &Starts, by: Caller) -> String {
    match starts {
        Starts::AtOnce => match by {
            Caller::Event => "at once".to_owned(),
            Caller::Job => "with what calls it".to_owned(),
        },
        Starts::Always => "however its needs end".to_owned(),
        Starts::Never => "never: its `if` is false".to_owned(),
        Starts::NeedSkipped(need) => format!("never: `{need}` before it never runs"),
        Starts::Waits(names) => format!("its `if` waits for {}", names.join(", ")),
        Starts::Wrong(why) => format!("it fails: its `if`: {why}"),
        Starts::After(before) if before.as_slice() == [Before::Succeeded] => {
            "after its needs succeeded".to_owned()
        }
        Starts::After(before) if !before.contains(&Before::Cancelled) && before.len() > 2 => {
            "after its needs, unless the run is cancelled".to_owned()
        }
        Starts::After(before) => {
            let ways: Vec<&str> = before.iter().map(way).collect();
            format!("after its needs, if {}", ways.join(" or "))
        }
    }
}

fn way(before: &Before) -> &'static str {
    match before {
        Before::Succeeded => "all succeeded",
        Before::Failed => "one failed",
        Before::Incomplete => "one was skipped",
        Before::Cancelled => "the run is cancelled",
    }
}

fn object(object: &Object) -> serde_json::Value {
    let entries = object.iter();
    let entries: BTreeMap<&str, serde_json::Value> =
        entries.map(|(name, value)| (name, json(value))).collect();
    serde_json::json!(entries)
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => (*number).into(),
        Value::String(text) => text.as_ref().into(),
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Object(there) => object(there),
    }
}
