//! Names in expressions that nothing gives: they are empty when the workflow runs, which is seldom meant.

use std::collections::HashSet;

use havre_yaml::Severity;
use indexmap::IndexMap;

use super::steps::each;
use super::values::Reader;
use crate::model::{
    Action, Container, Data, Dynamic, Expression, Job, Pairs, RunsOn, Spanned, Step, StepsJob,
    Template, Work, Workflow,
};

pub(super) fn check(workflow: &Workflow, reader: &mut Reader<'_>) {
    let inputs = inputs(workflow);
    for job in workflow.jobs.values() {
        let mut names = Names {
            reader: &mut *reader,
            inputs: &inputs,
            needs: job
                .needs
                .iter()
                .map(|need| need.value.to_lowercase())
                .collect(),
            matrix: matrix(job),
            steps: HashSet::new(),
            before: HashSet::new(),
            job: &job.id.value,
        };
        names.job(job);
    }
    let call = workflow.on.workflow_call.as_ref();
    for output in call.iter().flat_map(|call| call.outputs.values()) {
        for expression in output.value.expressions() {
            outputs(expression, workflow, reader);
        }
    }
}

/// Names of inputs; `None` where nobody knows all of them.
fn inputs(workflow: &Workflow) -> Option<HashSet<String>> {
    let (dispatch, call) = (&workflow.on.workflow_dispatch, &workflow.on.workflow_call);
    if dispatch.is_none() && call.is_none() {
        return None;
    }
    let asked = dispatch.iter().flatten().map(|input| &input.name.value);
    let called = call.iter().flat_map(|call| call.inputs.keys());
    Some(
        asked
            .chain(called)
            .map(|name| name.to_lowercase())
            .collect(),
    )
}

/// Names in a job's matrix; `None` where an expression gives them.
fn matrix(job: &Job) -> Option<HashSet<String>> {
    let Some(strategy) = &job.strategy else {
        return Some(HashSet::new());
    };
    let Some(matrix) = &strategy.fixed()?.matrix else {
        return Some(HashSet::new());
    };
    let matrix = matrix.fixed()?;
    let mut names: HashSet<String> = matrix
        .vectors
        .keys()
        .map(|name| name.to_lowercase())
        .collect();
    let include = match &matrix.include {
        Some(include) => include.fixed()?.as_slice(),
        None => &[],
    };
    for combination in include {
        names.extend(combination.fixed()?.keys().map(|name| name.to_lowercase()));
    }
    Some(names)
}

fn outputs(expression: &Expression, workflow: &Workflow, reader: &mut Reader<'_>) {
    for used in &expression.uses.contexts {
        let Some(name) = used.path.first().filter(|_| used.context == "jobs") else {
            continue;
        };
        let known = workflow.jobs.keys().any(|id| id.eq_ignore_ascii_case(name));
        if !known {
            let message = format!("`jobs.{name}` is always empty: there is no such job");
            reader.warn("workflow/unknown-name", expression.span, message);
        }
    }
}

struct Names<'a, 'r> {
    reader: &'a mut Reader<'r>,
    inputs: &'a Option<HashSet<String>>,
    needs: HashSet<String>,
    matrix: Option<HashSet<String>>,
    /// Ids of all steps of the job.
    steps: HashSet<String>,
    /// Of those before the one that is looked at; of all when the job ends.
    before: HashSet<String>,
    job: &'a str,
}

impl Names<'_, '_> {
    fn job(&mut self, job: &Job) {
        self.template(job.name.as_ref());
        self.template(job.condition.as_ref().map(|condition| &condition.template));
        if let Some(concurrency) = &job.concurrency {
            self.template(Some(&concurrency.group));
        }
        match &job.work {
            Work::Steps(steps) => self.steps_job(steps),
            Work::Call(call) => {
                let given = call.with.as_ref().and_then(|with| with.fixed());
                self.data(given);
            }
        }
    }

    fn steps_job(&mut self, job: &StepsJob) {
        let ids = each(&job.steps).filter_map(|step| step.id.as_ref());
        self.steps = ids.map(|id| id.value.to_lowercase()).collect();
        match &job.runs_on {
            RunsOn::Expression(expression) => self.expression(expression),
            RunsOn::Labels(labels) => labels.iter().for_each(|label| self.template(Some(label))),
        }
        self.pairs(job.env.as_ref());
        self.dynamic(job.timeout.as_ref());
        self.dynamic(job.continue_on_error.as_ref());
        if let Some(container) = &job.container {
            self.container(container);
        }
        let services = job.services.as_ref().and_then(|services| services.fixed());
        for service in services.into_iter().flat_map(IndexMap::values) {
            self.container(service);
        }
        for step in &job.steps {
            self.step(step);
        }
        self.before = self.steps.clone();
        if let Some(environment) = &job.environment {
            self.template(Some(&environment.name));
            self.template(environment.url.as_ref());
        }
        self.pairs(job.outputs.as_ref());
    }

    fn container(&mut self, container: &Dynamic<Container>) {
        self.dynamic(Some(container));
        if let Some(container) = container.fixed() {
            self.template(Some(&container.image));
            self.template(container.options.as_ref());
            self.pairs(container.env.as_ref());
        }
    }

    fn step(&mut self, step: &Step) {
        self.template(step.name.as_ref());
        self.template(step.condition.as_ref().map(|condition| &condition.template));
        self.pairs(step.env.as_ref());
        self.dynamic(step.timeout.as_ref());
        self.dynamic(step.continue_on_error.as_ref());
        match &step.action {
            Action::Run {
                script,
                shell,
                working_directory,
            } => {
                self.template(Some(script));
                self.template(shell.as_ref());
                self.template(working_directory.as_ref());
            }
            Action::Uses { with, .. } => self.pairs(with.as_ref()),
            Action::Parallel(steps) => steps.iter().for_each(|step| self.step(step)),
            Action::Wait(_) | Action::WaitAll(_) | Action::Cancel(_) => {}
        }
        if let Some(id) = &step.id {
            self.before.insert(id.value.to_lowercase());
        }
    }

    fn pairs(&mut self, pairs: Option<&Pairs>) {
        self.dynamic(pairs);
        let fixed = pairs.and_then(|pairs| pairs.fixed());
        for pair in fixed.into_iter().flat_map(IndexMap::values) {
            self.template(Some(&pair.value));
        }
    }

    fn data(&mut self, data: Option<&IndexMap<String, Spanned<Data>>>) {
        for value in data.into_iter().flat_map(IndexMap::values) {
            if let Data::Text(template) = &value.value {
                self.template(Some(template));
            }
        }
    }

    fn dynamic<T>(&mut self, value: Option<&Dynamic<T>>) {
        if let Some(Dynamic::Expression(expression)) = value {
            self.expression(expression);
        }
    }

    fn template(&mut self, template: Option<&Template>) {
        for expression in template.into_iter().flat_map(Template::expressions) {
            self.expression(expression);
        }
    }

    fn expression(&mut self, expression: &Expression) {
        for used in &expression.uses.contexts {
            let Some(name) = used.path.first() else {
                continue;
            };
            let lower = name.to_lowercase();
            let (known, why) = match used.context.as_str() {
                "needs" => (Some(&self.needs), "is not in the job's `needs`"),
                "matrix" => (self.matrix.as_ref(), "is not in the job's matrix"),
                "inputs" => (self.inputs.as_ref(), "is no input of the workflow"),
                "steps" if self.steps.contains(&lower) => (
                    Some(&self.before),
                    "is the id of a step that has not run by then",
                ),
                "steps" => (Some(&self.steps), "is no id of a step of this job"),
                _ => (None, ""),
            };
            let Some(known) = known.filter(|known| !known.contains(&lower)) else {
                continue;
            };
            let known = known.iter().map(String::as_str);
            let near = self.reader.report.nearest(Severity::Warning, name, known);
            let near = near.map(str::to_owned);
            let (context, job) = (&used.context, self.job);
            let message =
                format!("job `{job}`: `{context}.{name}` is always empty: `{name}` {why}");
            let warning = self
                .reader
                .warn("workflow/unknown-name", expression.span, message);
            if let Some(near) = near {
                warning.hint(format!("did you mean `{near}`?"));
            }
        }
    }
}
