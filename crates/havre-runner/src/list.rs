//! The steps of a job, in their order, and those in the background beside them.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use havre_job::{LineKind, StepResult, Told};
use havre_workflow::{Action, Step};
use indexmap::IndexMap;

use crate::contexts::settled;
use crate::job::{Effects, Job, Post, View};
use crate::names;
use crate::steps::{self, Done, Slot};
use crate::tell::now_ms;

/// Most steps in the background that run at once; GitHub's.
const MAX_BACKGROUND: usize = 10;

/// A step and where it is told.
pub(crate) struct Entry<'w> {
    pub step: &'w Step,
    pub slot: Slot,
    /// Those of `parallel`.
    pub inner: Vec<Entry<'w>>,
}

/// What became of the steps.
pub(crate) struct Finished {
    /// What they left.
    pub view: View,
    /// What is to be done after them, the last first.
    pub posts: Vec<Post>,
}

/// Runs all steps; those in the background have ended as well when it returns.
pub(crate) fn run(job: &Job<'_>, entries: &[Entry<'_>], view: View) -> Finished {
    let places = Places::default();
    std::thread::scope(|scope| {
        let mut list = List {
            job,
            scope,
            places: &places,
            view,
            posts: Vec::new(),
            background: IndexMap::new(),
        };
        for entry in entries {
            list.entry(entry);
        }
        list.finish()
    })
}

struct List<'scope, 'env> {
    job: &'env Job<'env>,
    scope: &'scope Scope<'scope, 'env>,
    places: &'env Places,
    view: View,
    posts: Vec<Post>,
    /// By id in small letters, or by a number of its own.
    background: IndexMap<String, Background<'scope>>,
}

struct Background<'scope> {
    id: Option<String>,
    name: String,
    place: u32,
    /// Until it was waited for.
    thread: Option<ScopedJoinHandle<'scope, Done>>,
    conclusion: Option<StepResult>,
    /// By a step: that it was cancelled is no fault.
    on_purpose: bool,
}

impl<'scope, 'env> List<'scope, 'env> {
    fn entry(&mut self, entry: &'env Entry<'env>) {
        let step = entry.step;
        if self.job.processes.cancels() > 1 {
            not_run(self.job, entry, "The job was cancelled at once.");
            return;
        }
        match &step.action {
            Action::Parallel(_) => {
                let keys: Vec<String> =
                    entry.inner.iter().map(|inner| self.launch(inner)).collect();
                let worst = self.wait(&keys);
                self.view.failed |= worst == StepResult::Failure;
            }
            Action::Wait(ids) => {
                let keys = ids.iter().map(|id| id.value.to_lowercase()).collect();
                self.control(entry, |list| list.wait_told(entry, keys));
            }
            Action::WaitAll(false) => self.control(entry, |_| StepResult::Success),
            Action::WaitAll(true) => {
                let keys = self.open();
                self.control(entry, |list| list.wait_told(entry, keys));
            }
            Action::Cancel(id) => {
                let key = id.value.to_lowercase();
                self.control(entry, |list| list.cancel(&key));
            }
            Action::Run { .. } | Action::Uses { .. } if step.background => drop(self.launch(entry)),
            Action::Run { .. } | Action::Uses { .. } => {
                let done = steps::run(self.job, step, &entry.slot, &self.view);
                self.view.failed |= done.conclusion == StepResult::Failure;
                self.take(step.id.as_ref().map(|id| id.value.as_str()), done);
            }
        }
    }

    /// What a step leaves for those after it.
    fn take(&mut self, id: Option<&str>, done: Done) {
        self.view.apply(&done.effects);
        if let Some(id) = id {
            self.view.steps.insert(id, done.entry());
        }
        self.posts.extend(done.effects.posts);
    }

    /// Starts a step in the background, with what there is now; returns its key.
    fn launch(&mut self, entry: &'env Entry<'env>) -> String {
        let (job, places, view) = (self.job, self.places, self.view.clone());
        let (step, slot) = (entry.step, &entry.slot);
        let work = move || {
            let place = places.take();
            let done = match job.processes.is_ended(slot.place) {
                true => cancelled_early(job, slot.place),
                false => steps::run(job, step, slot, &view),
            };
            drop(place);
            done
        };
        let id = step.id.as_ref().map(|id| id.value.clone());
        let number = self.background.len();
        let key = id
            .as_ref()
            .map_or_else(|| format!("#{number}"), |id| id.to_lowercase());
        let started = Background {
            id,
            name: names::initial(step),
            place: slot.place,
            thread: Some(self.scope.spawn(work)),
            conclusion: None,
            on_purpose: false,
        };
        self.background.insert(key.clone(), started);
        key
    }

    /// Those that were not waited for yet.
    fn open(&self) -> Vec<String> {
        let open = self
            .background
            .iter()
            .filter(|(_, one)| one.thread.is_some());
        open.map(|(key, _)| key.clone()).collect()
    }

    /// Waits, and takes what they left; the worst that became of one.
    fn wait(&mut self, keys: &[String]) -> StepResult {
        let mut worst = StepResult::Success;
        for key in keys {
            let Some(one) = self.background.get_mut(key) else {
                continue;
            };
            if let Some(thread) = one.thread.take() {
                let done = thread.join().unwrap_or_else(|_| broken());
                one.conclusion = Some(done.conclusion);
                let id = one.id.clone();
                self.take(id.as_deref(), done);
            }
            let conclusion = self.background[key].conclusion;
            match conclusion {
                Some(StepResult::Failure) if worst != StepResult::Cancelled => {
                    worst = StepResult::Failure;
                }
                Some(StepResult::Cancelled) if !self.background[key].on_purpose => {
                    worst = StepResult::Cancelled;
                }
                _ => {}
            }
        }
        worst
    }

    fn wait_told(&mut self, entry: &Entry<'_>, keys: Vec<String>) -> StepResult {
        let tell = |text: String| {
            let step = Some(entry.slot.place);
            self.job.teller.line(step, LineKind::Plain, text);
        };
        let named = keys.iter().filter_map(|key| self.background.get(key));
        let waited: Vec<&str> = named.map(|one| one.name.as_str()).collect();
        tell(match waited.is_empty() {
            true => "There is nothing to wait for.".to_owned(),
            false => format!("Waiting for {}", waited.join(", ")),
        });
        let worst = self.wait(&keys);
        for one in keys.iter().filter_map(|key| self.background.get(key)) {
            let result = one.conclusion.map_or("unknown", names::of_result);
            let text = format!("{}: {result}", one.name);
            let step = Some(entry.slot.place);
            self.job.teller.line(step, LineKind::Plain, text);
        }
        worst
    }

    fn cancel(&mut self, key: &str) -> StepResult {
        if let Some(one) = self.background.get_mut(key) {
            one.on_purpose = true;
            if one.thread.is_some() {
                self.job.processes.end_step(one.place);
            }
        }
        self.wait(&[key.to_owned()]);
        StepResult::Success
    }

    /// A step that is about others; it runs if all before it succeeded.
    fn control(&mut self, entry: &Entry<'_>, act: impl FnOnce(&mut Self) -> StepResult) {
        let place = entry.slot.place;
        let known = self.job.known(&self.view, &entry.slot.id);
        let step = entry.step;
        let before = self.job.before(&self.view);
        let holds = settled(known.condition(step.condition.as_ref(), before));
        if holds != Ok(true) {
            not_run(self.job, entry, "Its condition did not hold.");
            return;
        }
        let name = step
            .name
            .as_ref()
            .and_then(|name| settled(known.text(name)).ok());
        steps::began(
            self.job,
            place,
            name.unwrap_or_else(|| names::initial(step)),
        );
        let outcome = act(self);
        let tolerated = outcome == StepResult::Failure
            && settled(known.truth(step.continue_on_error.as_ref())) == Ok(true);
        let conclusion = if tolerated {
            StepResult::Success
        } else {
            outcome
        };
        self.view.failed |= conclusion == StepResult::Failure;
        let why = (outcome == StepResult::Failure)
            .then(|| "A step that it waited for failed.".to_owned());
        self.job.teller.tell(Told::StepEnded {
            step: place,
            outcome,
            conclusion,
            exit_code: None,
            why,
            at_ms: now_ms(),
        });
        if let Some(id) = &step.id {
            let done = Done {
                outcome,
                conclusion,
                exit_code: None,
                why: None,
                effects: Effects::default(),
            };
            self.view.steps.insert(id.value.as_str(), done.entry());
        }
    }

    /// Waits for what nobody waited for; any that failed is the job's fault.
    fn finish(mut self) -> Finished {
        let open = self.open();
        self.wait(&open);
        let failed = |one: &Background<'_>| one.conclusion == Some(StepResult::Failure);
        self.view.failed |= self.background.values().any(failed);
        self.posts.reverse();
        Finished {
            view: self.view,
            posts: self.posts,
        }
    }
}

/// Tells that a step, and those within it, did not run.
pub(crate) fn not_run(job: &Job<'_>, entry: &Entry<'_>, why: &str) {
    for inner in &entry.inner {
        not_run(job, inner, why);
    }
    if entry.inner.is_empty() {
        job.teller.tell(Told::StepEnded {
            step: entry.slot.place,
            outcome: StepResult::Skipped,
            conclusion: StepResult::Skipped,
            exit_code: None,
            why: Some(why.to_owned()),
            at_ms: now_ms(),
        });
    }
}

fn ended(result: StepResult, why: &str) -> Done {
    Done {
        outcome: result,
        conclusion: result,
        exit_code: None,
        why: Some(why.to_owned()),
        effects: Effects::default(),
    }
}

fn broken() -> Done {
    ended(StepResult::Failure, "The step's thread broke down.")
}

/// It waited for its turn when it was cancelled.
fn cancelled_early(job: &Job<'_>, step: u32) -> Done {
    let why = "A step with `cancel` ended it before it began.";
    job.teller.tell(Told::StepEnded {
        step,
        outcome: StepResult::Cancelled,
        conclusion: StepResult::Cancelled,
        exit_code: None,
        why: Some(why.to_owned()),
        at_ms: now_ms(),
    });
    ended(StepResult::Cancelled, why)
}

/// Places for what runs at once.
#[derive(Default)]
struct Places {
    taken: Mutex<usize>,
    freed: Condvar,
}

impl Places {
    /// Waits for one; those that have one come to their end.
    fn take(&self) -> Place<'_> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= MAX_BACKGROUND {
            taken = self
                .freed
                .wait(taken)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
        Place(self)
    }
}

struct Place<'p>(&'p Places);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}
