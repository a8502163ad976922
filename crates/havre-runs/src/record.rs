//! What was told of a leg, without its lines.

use havre_job::{Annotation, JobResult, MAX_TEXT, StepResult, Told};
use serde::{Deserialize, Serialize};

use havre_base::clipped;

/// Most steps that are kept of a leg, its pre and post steps included.
const MAX_STEPS: usize = 2000;
/// Most annotations of a leg; GitHub shows as many.
const MAX_ANNOTATIONS: usize = 50;
/// Most steps whose summaries are kept; GitHub's.
pub(crate) const MAX_SUMMARIES: usize = 20;
/// Most images that a leg makes; GitHub's.
const MAX_IMAGES: usize = 500;
/// Most bytes of a name or a reason.
const MAX_WORDS: usize = 1000;

/// What was told of an attempt of a leg, without its lines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When its runner was there, in milliseconds since 1970.
    pub began_ms: Option<u64>,
    /// When it ended, by its runner.
    pub ended_ms: Option<u64>,
    /// How, by its runner.
    pub result: Option<JobResult>,
    /// By their places.
    pub steps: Vec<Step>,
    /// The first of them, with the steps that they are of.
    pub annotations: Vec<(Option<u32>, Annotation)>,
    /// How many more there were.
    pub more_annotations: u64,
    /// `environment.url`
    pub environment_url: Option<String>,
    /// Images that it made: name and digest.
    pub images: Vec<(String, String)>,
    /// Names and values.
    #[serde(skip)]
    pub(crate) outputs: Vec<(String, String)>,
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What it is called.
    pub name: String,
    /// When it began, in milliseconds since 1970.
    pub began_ms: Option<u64>,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// How, before `continue-on-error`.
    pub outcome: Option<StepResult>,
    /// How, after it.
    pub conclusion: Option<StepResult>,
    /// Of its process, if one ended by itself.
    pub exit_code: Option<i32>,
    /// Why it failed or was skipped.
    pub why: Option<String>,
}

impl Record {
    /// Takes what is told next; whether anything but the log changed.
    pub(crate) fn take(&mut self, told: &Told) -> bool {
        match told {
            Told::Began { at_ms, steps } => {
                self.began_ms = Some(*at_ms);
                let steps = steps.iter().take(MAX_STEPS);
                self.steps = steps
                    .map(|name| Step {
                        name: words(name),
                        ..Step::default()
                    })
                    .collect();
            }
            Told::StepBegan { step, name, at_ms } => {
                if let Some(step) = self.step(*step) {
                    step.name = words(name);
                    step.began_ms = Some(*at_ms);
                }
            }
            Told::Line { .. } | Told::Summary { .. } => return false,
            Told::Annotation { step, annotation } => {
                match self.annotations.len() < MAX_ANNOTATIONS {
                    true => self.annotations.push((*step, bounded(annotation))),
                    false => self.more_annotations += 1,
                }
            }
            Told::StepEnded {
                step,
                outcome,
                conclusion,
                exit_code,
                why,
                at_ms,
            } => {
                if let Some(step) = self.step(*step) {
                    step.ended_ms = Some(*at_ms);
                    step.outcome = Some(*outcome);
                    step.conclusion = Some(*conclusion);
                    step.exit_code = *exit_code;
                    step.why = why.as_deref().map(words);
                }
            }
            Told::Ended {
                result,
                outputs,
                environment_url,
                images,
                at_ms,
            } => {
                self.ended_ms = Some(*at_ms);
                self.result = Some(*result);
                self.outputs = outputs.clone();
                self.environment_url = environment_url.as_deref().map(words);
                let images = images.iter().take(MAX_IMAGES);
                self.images = images
                    .map(|(name, digest)| (words(name), words(digest)))
                    .collect();
            }
        }
        true
    }

    /// Those behind the ones that were told at first come as they come.
    fn step(&mut self, at: u32) -> Option<&mut Step> {
        let at = at as usize;
        if at >= MAX_STEPS {
            return None;
        }
        if self.steps.len() <= at {
            self.steps.resize(at + 1, Step::default());
        }
        self.steps.get_mut(at)
    }
}

fn bounded(annotation: &Annotation) -> Annotation {
    Annotation {
        message: clipped(&annotation.message, MAX_TEXT).to_owned(),
        title: annotation.title.as_deref().map(words),
        file: annotation.file.as_deref().map(words),
        ..annotation.clone()
    }
}

fn words(text: &str) -> String {
    clipped(text, MAX_WORDS).to_owned()
}
