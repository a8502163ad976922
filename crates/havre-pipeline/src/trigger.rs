//! Whether an event starts a workflow, and why (not).

use havre_workflow::{Filter, Filters, PullRequest, Spanned, Triggers, WorkflowRun};

use crate::event::{Event, Reference};
use crate::inputs;
use crate::pattern::says;
use crate::reason::Reason;

/// What an event means to a workflow.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It starts it.
    Starts(Reason),
    /// It starts it if one of the files that nobody told is meant; GitHub starts it where it cannot tell.
    Open(Reason),
    /// It does not.
    Not(Reason),
    /// It would, but what was given is wrong.
    Refused(Vec<Reason>),
}

/// Whether `event` starts a workflow with these triggers. That schedules, dispatches and runs of others look at the
/// file of the default branch is up to whoever has the files.
pub fn judge(triggers: &Triggers, event: &Event) -> Verdict {
    let verdict = judge_event(triggers, event);
    match (&verdict, event) {
        (
            Verdict::Starts(_) | Verdict::Open(_),
            Event::Push { message, .. } | Event::PullRequest { message, .. },
        ) => match skips(message) {
            Some(by) => not(format!("the newest commit's message says `{by}`")),
            None => verdict,
        },
        _ => verdict,
    }
}

/// What in a commit's message keeps it from starting anything.
fn skips(message: &str) -> Option<&str> {
    const WORDS: [&str; 5] = [
        "[skip ci]",
        "[ci skip]",
        "[no ci]",
        "[skip actions]",
        "[actions skip]",
    ];
    let word = WORDS.into_iter().find(|word| message.contains(word));
    // Otherwise a trailer, in the last paragraph, which is not the subject.
    word.or_else(|| {
        let (_, last) = message.trim_end().rsplit_once("\n\n")?;
        let lines = last.lines().map(str::trim);
        lines.into_iter().find(|line| {
            let value = line
                .split_once(':')
                .filter(|(name, _)| name.eq_ignore_ascii_case("skip-checks"));
            value.is_some_and(|(_, value)| value.trim() == "true")
        })
    })
}

fn judge_event(triggers: &Triggers, event: &Event) -> Verdict {
    match event {
        Event::Push { to, changed, .. } => match &triggers.push {
            Some(filters) => push(filters, to, changed.as_deref()),
            None => absent(triggers, event),
        },
        Event::PullRequest {
            action,
            base,
            changed,
            ..
        } => match &triggers.pull_request {
            Some(asked) => pull_request(asked, action, base, changed.as_deref()),
            None => absent(triggers, event),
        },
        Event::Dispatch { inputs, .. } => match &triggers.workflow_dispatch {
            Some(declared) => match inputs::resolve(declared, inputs) {
                Ok(_) => starts("it can be asked for"),
                Err(wrong) => Verdict::Refused(wrong),
            },
            None => absent(triggers, event),
        },
        Event::Schedule { cron, .. } if triggers.schedule.is_empty() => {
            not(format!("it has no `schedule`, at `{cron}` or ever"))
        }
        Event::Schedule { cron, .. } => {
            let mut times = triggers.schedule.iter();
            match times.find(|time| fields(&time.cron.value) == fields(cron)) {
                Some(time) => Verdict::Starts(at(
                    format!("its time is `{}`{}", time.cron.value, zone(time)),
                    &time.cron,
                )),
                None => {
                    let times: Vec<String> = triggers
                        .schedule
                        .iter()
                        .map(|time| format!("`{}`{}", time.cron.value, zone(time)))
                        .collect();
                    not(format!("its times are {}", times.join(", ")))
                }
            }
        }
        Event::Call { .. } => match &triggers.workflow_call {
            Some(_) => starts("others may call it"),
            None => absent(triggers, event),
        },
        Event::Repository { kind, .. } => match &triggers.repository_dispatch {
            Some(types) => of_types(types, kind).unwrap_or_else(|| {
                starts(match types.is_empty() {
                    true => "every type of `repository_dispatch` starts it".to_owned(),
                    false => format!("`{kind}` is one of its types"),
                })
            }),
            None => absent(triggers, event),
        },
        Event::WorkflowRun {
            workflow,
            action,
            ran_on,
            ..
        } => match &triggers.workflow_run {
            Some(asked) => workflow_run(asked, workflow, action, ran_on),
            None => absent(triggers, event),
        },
    }
}

fn push(filters: &Filters, to: &Reference, changed: Option<&[String]>) -> Verdict {
    let (own, other, name) = match to {
        Reference::Branch(name) => (&filters.branches, &filters.tags, name),
        Reference::Tag(name) => (&filters.tags, &filters.branches, name),
    };
    let mut why = match (own, other) {
        (Some(filter), _) => match by_name(filter, to.kind(), name) {
            Verdict::Starts(why) => why,
            not => return not,
        },
        (None, Some(_)) => {
            let word = match to {
                Reference::Branch(_) => "tags",
                Reference::Tag(_) => "branches",
            };
            return not(format!("it is for {word} only"));
        }
        (None, None) => plain(format!("every {} starts it", to.kind())),
    };
    // Of a tag, no files are looked at.
    let Some(filter) = filters
        .paths
        .as_ref()
        .filter(|_| matches!(to, Reference::Branch(_)))
    else {
        return Verdict::Starts(why);
    };
    match by_paths(filter, changed) {
        Verdict::Starts(paths) => {
            why.why = format!("{}, and {}", why.why, paths.why);
            why.at = paths.at.or(why.at);
            Verdict::Starts(why)
        }
        other => other,
    }
}

fn pull_request(
    asked: &PullRequest,
    action: &str,
    base: &str,
    changed: Option<&[String]>,
) -> Verdict {
    const USUAL: [&str; 3] = ["opened", "synchronize", "reopened"];
    if asked.types.is_empty() && !USUAL.contains(&action) {
        return not(format!("without `types`, `{action}` does not start it"));
    }
    if let Some(not) = of_types(&asked.types, action) {
        return not;
    }
    let mut why = plain("pull requests into any branch start it");
    if let Some(filter) = &asked.filters.branches {
        match by_name(filter, "branch", base) {
            Verdict::Starts(reason) => why = reason,
            not => return not,
        }
    }
    match &asked.filters.paths {
        None => Verdict::Starts(why),
        Some(filter) => match by_paths(filter, changed) {
            Verdict::Starts(paths) => {
                why.why = format!("{}, and {}", why.why, paths.why);
                why.at = paths.at.or(why.at);
                Verdict::Starts(why)
            }
            other => other,
        },
    }
}

fn workflow_run(asked: &WorkflowRun, workflow: &str, action: &str, ran_on: &str) -> Verdict {
    let Some(named) = asked.workflows.iter().find(|name| name.value == workflow) else {
        return not(format!("it does not follow the workflow `{workflow}`"));
    };
    if let Some(not) = of_types(&asked.types, action) {
        return not;
    }
    if let Some(filter) = &asked.branches
        && let other @ (Verdict::Not(_) | Verdict::Open(_) | Verdict::Refused(_)) =
            by_name(filter, "branch", ran_on)
    {
        return other;
    }
    Verdict::Starts(at(format!("it follows the workflow `{workflow}`"), named))
}

/// Why not, where the types leave this one out.
fn of_types(types: &[Spanned<String>], given: &str) -> Option<Verdict> {
    let first = types.first()?;
    let known = types.iter().any(|name| name.value == given);
    (!known).then(|| {
        let names: Vec<String> = types
            .iter()
            .map(|name| format!("`{}`", name.value))
            .collect();
        let why = format!("`{given}` is none of its types: {}", names.join(", "));
        Verdict::Not(at(why, first))
    })
}

fn by_name(filter: &Filter, kind: &str, name: &str) -> Verdict {
    let said = says(filter, name);
    let why = match (said.passes, said.by) {
        (true, Some(pattern)) => format!("{kind} `{name}` is meant by `{}`", pattern.value),
        (true, None) => format!("{kind} `{name}` is not left out"),
        (false, Some(pattern)) => format!("{kind} `{name}` is left out by `{}`", pattern.value),
        (false, None) => format!("{kind} `{name}` matches none of {}", listed(filter)),
    };
    let reason = Reason {
        why,
        at: said.by.map(|pattern| pattern.span),
    };
    match said.passes {
        true => Verdict::Starts(reason),
        false => Verdict::Not(reason),
    }
}

/// One file that is meant is enough.
fn by_paths(filter: &Filter, changed: Option<&[String]>) -> Verdict {
    let Some(changed) = changed else {
        return Verdict::Open(plain(format!(
            "it depends on what changed: it {} {}",
            match filter {
                Filter::Only(_) => "is for files of",
                Filter::Except(_) => "leaves out",
            },
            listed(filter)
        )));
    };
    for path in changed {
        let said = says(filter, path);
        if said.passes {
            let why = match said.by {
                Some(pattern) => format!("`{path}` is meant by `{}`", pattern.value),
                None => format!("`{path}` is not left out"),
            };
            let at = said.by.map(|pattern| pattern.span);
            return Verdict::Starts(Reason { why, at });
        }
    }
    not(match (changed, filter) {
        ([], _) => "no file changed".to_owned(),
        (_, Filter::Only(_)) => format!("no file that changed is one of {}", listed(filter)),
        (_, Filter::Except(_)) => {
            format!("every file that changed is left out by {}", listed(filter))
        }
    })
}

fn listed(filter: &Filter) -> String {
    let (Filter::Only(patterns) | Filter::Except(patterns)) = filter;
    let names: Vec<String> = patterns
        .iter()
        .map(|pattern| format!("`{}`", pattern.value))
        .collect();
    names.join(", ")
}

fn absent(triggers: &Triggers, event: &Event) -> Verdict {
    let mut names = Vec::new();
    for (name, there) in [
        ("push", triggers.push.is_some()),
        ("pull_request", triggers.pull_request.is_some()),
        ("workflow_dispatch", triggers.workflow_dispatch.is_some()),
        ("schedule", !triggers.schedule.is_empty()),
        ("workflow_call", triggers.workflow_call.is_some()),
        (
            "repository_dispatch",
            triggers.repository_dispatch.is_some(),
        ),
        ("workflow_run", triggers.workflow_run.is_some()),
    ] {
        if there {
            names.push(name);
        }
    }
    names.extend(triggers.foreign.iter().map(|name| name.value.as_str()));
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    not(format!(
        "`{}` is not what starts it, but {}",
        event.name(),
        match names.is_empty() {
            true => "nothing".to_owned(),
            false => names.join(", "),
        }
    ))
}

fn fields(cron: &str) -> Vec<&str> {
    cron.split_ascii_whitespace().collect()
}

fn zone(time: &havre_workflow::Schedule) -> String {
    let zone = time.timezone.as_ref();
    format!(" ({})", zone.map_or("UTC", |zone| zone.value.as_str()))
}

fn starts(why: impl Into<String>) -> Verdict {
    Verdict::Starts(plain(why))
}

fn not(why: impl Into<String>) -> Verdict {
    Verdict::Not(plain(why))
}

fn plain(why: impl Into<String>) -> Reason {
    Reason {
        why: why.into(),
        at: None,
    }
}

fn at<T>(why: String, what: &Spanned<T>) -> Reason {
    Reason {
        why,
        at: Some(what.span),
    }
}
