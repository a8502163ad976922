//! What one workflow asks of another: inputs, secrets, permissions, and how deep they call.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use havre_yaml::{Diagnostic, Report, Severity};
use indexmap::IndexMap;

use crate::limits::Limits;
use crate::model::{
    Call, CallInput, CalledWorkflow, Data, Dynamic, GivenSecrets, Granted, InputType, Interface,
    Job, Level, Permissions, Spanned, Work, Workflow,
};
use crate::read::{CODES, Read};
use crate::schema::PERMISSIONS;

/// Different workflows that one may call, directly or not, as at GitHub.
const MAX_CALLED: usize = 50;

/// What the token of a workflow may do that does not say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Write all, but no identity.
    Permissive,
    /// Read contents and packages.
    Restricted,
}

/// A workflow that is called.
#[derive(Clone, Copy, Debug)]
pub enum Called<'w> {
    /// It is at hand.
    Read(&'w Workflow),
    /// It is at hand and has errors of its own.
    Broken,
    /// There is no such file in the repository.
    Missing,
    /// It is not at hand.
    Elsewhere,
}

/// Checks all calls of a workflow, as far as `find` has what is called.
pub fn check<'w>(
    read: &'w Read,
    policy: Policy,
    limits: &Limits,
    find: &dyn Fn(&CalledWorkflow) -> Called<'w>,
) -> Vec<Diagnostic> {
    let mut report = Report::new(PathBuf::new(), CODES);
    report.sources = read.sources.clone();
    let mut checker = Checker {
        report: &mut report,
        limits,
        find,
        jobs: 0,
        called: HashSet::new(),
    };
    for job in read.workflow.jobs.values() {
        let Work::Call(call) = &job.work else {
            checker.jobs += 1;
            continue;
        };
        if let Called::Read(callee) = (checker.find)(&call.uses.value) {
            checker.interface(call, callee);
        }
        let own = job
            .permissions
            .as_ref()
            .or(read.workflow.permissions.as_ref());
        let allowed = match own {
            Some(permissions) => Grant::Written(&permissions.granted),
            None => Grant::Default(policy),
        };
        if !checker.call(job, call, allowed, 1) {
            break;
        }
    }
    report.finish().0
}

/// What a token may do.
#[derive(Clone, Copy)]
enum Grant<'w> {
    Written(&'w Granted),
    Default(Policy),
}

struct Checker<'r, 'w> {
    report: &'r mut Report,
    limits: &'r Limits,
    find: &'r dyn Fn(&CalledWorkflow) -> Called<'w>,
    jobs: usize,
    called: HashSet<String>,
}

impl<'w> Checker<'_, 'w> {
    /// Looks at what is called, and at what that calls; findings are about `job` of the file.
    /// Whether to go on.
    fn call(&mut self, job: &Job, call: &'w Call, allowed: Grant<'w>, depth: usize) -> bool {
        self.jobs += 1;
        let most = self.limits.jobs;
        if self.jobs > most {
            let message = format!("with all that it calls, the workflow has more than {most} jobs");
            self.report
                .error("workflow/too-many-jobs", job.id.span, message);
            return false;
        }
        let name = call.uses.value.to_string();
        if depth > self.limits.calls {
            let message = format!(
                "job `{}`: workflows call each other more than {} deep, up to `{name}`",
                job.id.value, self.limits.calls
            );
            self.report.error("workflow/call", job.id.span, message);
            return false;
        }
        self.called.insert(name.clone());
        if self.called.len() > MAX_CALLED {
            let message = format!("more than {MAX_CALLED} workflows are called");
            self.report.error("workflow/call", job.id.span, message);
            return false;
        }
        let callee = match (self.find)(&call.uses.value) {
            Called::Read(callee) => callee,
            Called::Elsewhere => return true,
            Called::Broken => {
                let message = format!("job `{}`: `{name}` has errors", job.id.value);
                self.report.error("workflow/call", job.id.span, message);
                return true;
            }
            Called::Missing => {
                let message = format!("job `{}`: there is no `{name}`", job.id.value);
                self.report.error("workflow/call", job.id.span, message);
                return true;
            }
        };
        if let Some(asked) = &callee.permissions {
            self.permissions(job, &format!("`{name}`"), asked, allowed);
        }
        for inner in callee.jobs.values() {
            if let Some(asked) = &inner.permissions {
                let who = format!("job `{}` of `{name}`", inner.id.value);
                self.permissions(job, &who, asked, allowed);
            }
            let own = inner.permissions.as_ref().or(callee.permissions.as_ref());
            let granted = own.map_or(allowed, |own| Grant::Written(&own.granted));
            let goes_on = match &inner.work {
                Work::Steps(_) => {
                    self.jobs += 1;
                    true
                }
                Work::Call(call) => self.call(job, call, granted, depth + 1),
            };
            if !goes_on {
                return false;
            }
        }
        if self.jobs > most {
            let message = format!("with all that it calls, the workflow has more than {most} jobs");
            self.report
                .error("workflow/too-many-jobs", job.id.span, message);
            return false;
        }
        true
    }

    fn permissions(&mut self, job: &Job, who: &str, asked: &Permissions, allowed: Grant<'_>) {
        let asked = Grant::Written(&asked.granted);
        let too_much = PERMISSIONS.keys.iter().map(|key| key.name).filter(|name| {
            let most = level(allowed, name);
            level(asked, name) > most
        });
        let list: Vec<String> = too_much
            .map(|name| format!("{name}: {}", word(level(asked, name))))
            .collect();
        if list.is_empty() {
            return;
        }
        let message = format!(
            "job `{}`: {who} asks for more than the job may give: {}",
            job.id.value,
            list.join(", ")
        );
        self.report
            .error("workflow/call", job.id.span, message)
            .hint("grant it by `permissions` of this job");
    }

    fn interface(&mut self, call: &Call, callee: &Workflow) {
        let Some(interface) = &callee.on.workflow_call else {
            let message = format!(
                "`{}` cannot be called: it lacks `on: workflow_call`",
                call.uses.value
            );
            self.report.error("workflow/call", call.uses.span, message);
            return;
        };
        self.inputs(call, interface);
        self.secrets(call, interface);
    }

    fn inputs(&mut self, call: &Call, interface: &Interface) {
        let nothing = IndexMap::new();
        let given = match &call.with {
            Some(Dynamic::Expression(_)) => return,
            Some(Dynamic::Fixed(given)) => &given.value,
            None => &nothing,
        };
        let inputs: HashMap<String, &CallInput> = interface
            .inputs
            .iter()
            .map(|(name, input)| (name.to_ascii_lowercase(), input))
            .collect();
        for (name, value) in given {
            match inputs.get(&name.to_ascii_lowercase()) {
                None => self.unknown("input", name, value, interface.inputs.keys(), call),
                Some(input) if !fits(input.kind, &value.value) => {
                    let kind = match input.kind {
                        InputType::Boolean => "`true` or `false`",
                        InputType::Number => "a number",
                        InputType::String | InputType::Environment | InputType::Choice => "a text",
                    };
                    let message = format!("input `{name}` of `{}` must be {kind}", call.uses.value);
                    self.report.error("workflow/call", value.span, message);
                }
                Some(_) => {}
            }
        }
        let given = in_small_letters(given.keys());
        for (name, input) in &interface.inputs {
            if input.required && !given.contains(&name.to_ascii_lowercase()) {
                let message = format!("`{}` needs the input `{name}`", call.uses.value);
                self.report.error("workflow/call", call.uses.span, message);
            }
        }
    }

    fn secrets(&mut self, call: &Call, interface: &Interface) {
        let nothing = IndexMap::new();
        let given = match &call.secrets {
            GivenSecrets::Inherit | GivenSecrets::Named(Dynamic::Expression(_)) => return,
            GivenSecrets::Named(Dynamic::Fixed(given)) => &given.value,
            GivenSecrets::None => &nothing,
        };
        let known = in_small_letters(interface.secrets.keys());
        for (name, value) in given {
            if !known.contains(&name.to_ascii_lowercase()) {
                self.unknown("secret", name, value, interface.secrets.keys(), call);
            }
        }
        let given = in_small_letters(given.keys());
        for (name, required) in &interface.secrets {
            if *required && !given.contains(&name.to_ascii_lowercase()) {
                let message = format!("`{}` needs the secret `{name}`", call.uses.value);
                self.report
                    .error("workflow/call", call.uses.span, message)
                    .hint("give it by `secrets`, or all of them by `secrets: inherit`");
            }
        }
    }

    fn unknown<'k>(
        &mut self,
        what: &str,
        name: &str,
        value: &Spanned<Data>,
        known: impl Iterator<Item = &'k String>,
        call: &Call,
    ) {
        let message = format!("`{}` has no {what} `{name}`", call.uses.value);
        let known = known.map(String::as_str);
        let near = self.report.nearest(Severity::Error, name, known);
        let error = self.report.error("workflow/call", value.span, message);
        if let Some(near) = near {
            error.hint(format!("did you mean `{near}`?"));
        }
    }
}

/// Names, for looking them up without regard to case.
fn in_small_letters<'n>(names: impl Iterator<Item = &'n String>) -> HashSet<String> {
    names.map(|name| name.to_ascii_lowercase()).collect()
}

/// Whether a value can be that of an input; what an expression gives is seen later.
fn fits(kind: InputType, value: &Data) -> bool {
    match (value, kind) {
        (Data::Text(text), _) if text.fixed().is_none() => true,
        (Data::List(_) | Data::Map(_), _) => false,
        (_, InputType::String | InputType::Environment | InputType::Choice) => true,
        (Data::Boolean(_), InputType::Boolean) | (Data::Number(_), InputType::Number) => true,
        (Data::Null | Data::Boolean(_) | Data::Number(_) | Data::Text(_), _) => false,
    }
}

fn level(grant: Grant<'_>, name: &str) -> Level {
    match grant {
        Grant::Written(Granted::ReadAll) => Level::Read,
        Grant::Written(Granted::WriteAll) => Level::Write,
        Grant::Written(Granted::Each(each)) => each.get(name).copied().unwrap_or(Level::None),
        Grant::Default(Policy::Permissive) if name == "id-token" => Level::None,
        Grant::Default(Policy::Permissive) => Level::Write,
        Grant::Default(Policy::Restricted) if matches!(name, "contents" | "packages") => {
            Level::Read
        }
        Grant::Default(Policy::Restricted) => Level::None,
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::None => "none",
        Level::Read => "read",
        Level::Write => "write",
    }
}
