//! A run as it is shown.

use std::collections::HashMap;

use havre_api::{
    ApiError, RunAnnotation, RunCalled, RunEarlier, RunImage, RunJob, RunLeg, RunLegId, RunPhase,
    RunReport, RunStep, RunStepSummary, RunSummary, RunWait,
};
use havre_pipeline::run::{Cause, JobResult, JobRun, JobState, LegResult, LegRun, LegState};
use havre_runs::{Conclusion, LegId, LegKey, LegShown, Listed, Record, RunId, Runs, Shown};

use super::{failed, time};

/// Bytes of steps, annotations and summaries in an answer; what goes beyond is left out.
const MAX_DETAILS: usize = 8 << 20;
/// What each of them takes beside its texts.
const EACH: usize = 200;
/// Calls in a row that are looked into; a run has fewer.
const MAX_DEPTH: usize = 20;

/// A run in a list.
pub(crate) fn summary(run: &Listed) -> RunSummary {
    RunSummary {
        number: run.number.unwrap_or_default(),
        workflow: run.workflow.clone(),
        path: run.path.clone(),
        title: run.title.clone(),
        event: run.event.clone(),
        reference: run.reference.clone(),
        commit: run.commit.clone(),
        actor: run.actor.clone(),
        state: run.conclusion.map_or(RunPhase::Running, concluded),
        queued: time(run.queued_ms),
        ended: run.ended_ms.map(time),
    }
}

/// A run in full, with the runs that it called.
pub(super) fn report(runs: &Runs, run: RunId) -> Result<RunReport, ApiError> {
    let shown = runs.show(run).map_err(failed)?;
    let mut details = Details {
        runs,
        room: MAX_DETAILS,
        left_out: 0,
    };
    let jobs = details.jobs(&shown, 0)?;
    Ok(RunReport {
        run: RunSummary {
            state: phase(&shown),
            ..summary(&shown.run)
        },
        attempt: shown.state.attempt,
        cancelled: shown.state.cancelled,
        waits_for: shown.waits_for,
        why: shown.why,
        jobs,
        left_out: details.left_out,
    })
}

/// What a leg is called: of its job as it is, or was in that attempt.
pub(super) fn name(shown: &Shown, leg: &LegId) -> String {
    let job = shown.state.jobs.iter().find(|job| job.id == leg.job);
    let states = job.into_iter().flat_map(|job| {
        let earlier = job.earlier.iter().map(|earlier| &earlier.state);
        std::iter::once(&job.state).chain(earlier)
    });
    let legs = states.filter_map(|state| legs_of(state).get(leg.index));
    let mut legs = legs.filter(|run| run.attempt == leg.attempt);
    legs.next()
        .map_or_else(|| leg.job.clone(), |run| run.name.clone())
}

/// A leg as the wire names it.
pub(super) fn leg_id(key: &LegKey) -> RunLegId {
    RunLegId {
        run: key.run.0,
        job: key.leg.job.clone(),
        index: u32::try_from(key.leg.index).unwrap_or(u32::MAX),
        attempt: key.leg.attempt,
    }
}

/// Gathers what is said of legs, as long as there is room.
struct Details<'r> {
    runs: &'r Runs,
    room: usize,
    left_out: u64,
}

impl Details<'_> {
    fn jobs(&mut self, shown: &Shown, depth: usize) -> Result<Vec<RunJob>, ApiError> {
        let told: HashMap<&LegId, &LegShown> =
            shown.legs.iter().map(|leg| (&leg.key.leg, leg)).collect();
        // Of a file that this version cannot read any more, there is no more to say.
        let whys = self.runs.whys(shown.run.id).unwrap_or_default();
        let mut whys: HashMap<String, String> = whys.into_iter().collect();
        let mut jobs = Vec::new();
        for job in &shown.state.jobs {
            let mut legs = Vec::new();
            for (index, run) in job.legs().iter().enumerate() {
                let leg = LegId {
                    job: job.id.clone(),
                    index,
                    attempt: run.attempt,
                };
                let told = told.get(&leg).copied();
                let key = LegKey {
                    run: shown.run.id,
                    leg,
                };
                legs.push(self.leg(&key, run, told, depth)?);
            }
            jobs.push(RunJob {
                id: job.id.clone(),
                state: job_phase(job),
                why: whys.remove(&job.id),
                legs,
                earlier: job.earlier.iter().map(earlier).collect(),
            });
        }
        Ok(jobs)
    }

    fn leg(
        &mut self,
        key: &LegKey,
        run: &LegRun,
        told: Option<&LegShown>,
        depth: usize,
    ) -> Result<RunLeg, ApiError> {
        let record = told.and_then(|told| told.record.as_ref());
        let none = Record::default();
        let of = record.unwrap_or(&none);
        let (state, cause) = leg_phase(run);
        let waits = told.and_then(|told| told.waits.as_ref());
        let group = match (&run.state, &run.group) {
            (LegState::Entering { .. }, Some(group)) => Some(RunWait {
                why: format!("another of the concurrency group {}", group.name),
                until: None,
            }),
            _ => None,
        };
        let called = told.and_then(|told| told.called);
        let called = called.filter(|_| depth < MAX_DEPTH);
        Ok(RunLeg {
            id: leg_id(key),
            name: run.name.clone(),
            state,
            may_fail: run.continue_on_error,
            environment: run.environment.clone(),
            environment_url: of.environment_url.clone(),
            waits: waits
                .filter(|_| !state.is_end())
                .map(|wait| RunWait {
                    why: wait.why.clone(),
                    until: wait.until.map(time),
                })
                .or(group),
            why: told.and_then(|told| told.why.clone()).or(cause),
            began: of.began_ms.or(since(&run.state)).map(time),
            ended: of.ended_ms.map(time),
            steps: self.steps(of),
            annotations: self.annotations(of),
            more_annotations: of.more_annotations,
            summaries: match record {
                Some(_) => self.summaries(key)?,
                None => Vec::new(),
            },
            images: of.images.iter().map(image).collect(),
            called: called.map(|run| self.called(run, depth)).transpose()?,
        })
    }

    fn called(&mut self, run: RunId, depth: usize) -> Result<RunCalled, ApiError> {
        let shown = self.runs.show(run).map_err(failed)?;
        Ok(RunCalled {
            jobs: self.jobs(&shown, depth + 1)?,
            state: phase(&shown),
            path: shown.run.path,
            why: shown.why,
        })
    }

    fn steps(&mut self, record: &Record) -> Vec<RunStep> {
        let steps = record.steps.iter().filter(|step| {
            let why = step.why.as_ref().map_or(0, String::len);
            self.has_room(step.name.len() + why)
        });
        let step = |step: &havre_runs::Step| RunStep {
            name: step.name.clone(),
            began: step.began_ms.map(time),
            ended: step.ended_ms.map(time),
            outcome: step.outcome,
            conclusion: step.conclusion,
            exit_code: step.exit_code,
            why: step.why.clone(),
        };
        steps.map(step).collect()
    }

    fn annotations(&mut self, record: &Record) -> Vec<RunAnnotation> {
        let all = record.annotations.iter().filter(|(_, annotation)| {
            let texts = [&annotation.title, &annotation.file].into_iter().flatten();
            self.has_room(annotation.message.len() + texts.map(String::len).sum::<usize>())
        });
        all.map(|(step, annotation)| RunAnnotation {
            step: *step,
            annotation: annotation.clone(),
        })
        .collect()
    }

    fn summaries(&mut self, key: &LegKey) -> Result<Vec<RunStepSummary>, ApiError> {
        if self.room == 0 {
            return Ok(Vec::new());
        }
        let summaries = self.runs.summaries(key).map_err(failed)?;
        let summaries = summaries
            .into_iter()
            .filter(|(_, text)| self.has_room(text.len()));
        Ok(summaries
            .map(|(step, text)| RunStepSummary { step, text })
            .collect())
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        match self.room.checked_sub(bytes + EACH) {
            Some(room) => {
                self.room = room;
                true
            }
            None => {
                self.room = 0;
                self.left_out += 1;
                false
            }
        }
    }
}

fn image((name, digest): &(String, String)) -> RunImage {
    RunImage {
        name: name.clone(),
        digest: digest.clone(),
    }
}

fn earlier(earlier: &havre_pipeline::run::Earlier) -> RunEarlier {
    let job = JobRun {
        id: String::new(),
        state: earlier.state.clone(),
        earlier: Vec::new(),
    };
    RunEarlier {
        attempt: earlier.attempt,
        state: job_phase(&job),
    }
}

fn legs_of(state: &JobState) -> &[LegRun] {
    match state {
        JobState::Begun { legs, .. } => legs,
        JobState::Waiting | JobState::Skipped | JobState::NotAsked | JobState::Broken(_) => &[],
    }
}

fn concluded(conclusion: Conclusion) -> RunPhase {
    match conclusion {
        Conclusion::Success => RunPhase::Success,
        Conclusion::Failure => RunPhase::Failure,
        Conclusion::Cancelled => RunPhase::Cancelled,
        Conclusion::Skipped => RunPhase::Skipped,
    }
}

fn phase(shown: &Shown) -> RunPhase {
    match shown.run.conclusion {
        Some(conclusion) => concluded(conclusion),
        None if shown.state.cancelled => RunPhase::Cancelling,
        None if shown.waits_for.is_some() => RunPhase::Queued,
        None => RunPhase::Running,
    }
}

fn job_phase(job: &JobRun) -> RunPhase {
    match job.result() {
        Some(JobResult::Success) => return RunPhase::Success,
        Some(JobResult::Failure) => return RunPhase::Failure,
        Some(JobResult::Cancelled) => return RunPhase::Cancelled,
        Some(JobResult::Skipped) => return RunPhase::Skipped,
        None => {}
    }
    let phases: Vec<RunPhase> = job.legs().iter().map(|leg| leg_phase(leg).0).collect();
    let furthest = [RunPhase::Cancelling, RunPhase::Running, RunPhase::Starting];
    let furthest = furthest.into_iter().find(|phase| phases.contains(phase));
    match (furthest, phases.iter().any(|phase| phase.is_end())) {
        (Some(phase), _) => phase,
        (None, true) => RunPhase::Running,
        (None, false) if phases.is_empty() => RunPhase::Waiting,
        (None, false) => RunPhase::Queued,
    }
}

/// How far a leg is, and why it ended so.
fn leg_phase(leg: &LegRun) -> (RunPhase, Option<String>) {
    match &leg.state {
        LegState::Queued | LegState::Entering { .. } => (RunPhase::Queued, None),
        LegState::Starting => (RunPhase::Starting, None),
        LegState::Running { .. } => (RunPhase::Running, None),
        LegState::Cancelling { cause } => (RunPhase::Cancelling, Some(because(*cause, leg))),
        LegState::Ended { result, cause, .. } => {
            let phase = match (result, cause) {
                (LegResult::Cancelled, Some(Cause::TimedOut)) => RunPhase::Failure,
                (LegResult::Success, _) => RunPhase::Success,
                (LegResult::Failure, _) => RunPhase::Failure,
                (LegResult::Cancelled, _) => RunPhase::Cancelled,
            };
            (phase, cause.map(|cause| because(cause, leg)))
        }
    }
}

fn because(cause: Cause, leg: &LegRun) -> String {
    match cause {
        Cause::Requested => "the run was cancelled".to_owned(),
        Cause::FailFast => "another leg of the job failed (fail-fast)".to_owned(),
        Cause::TimedOut => format!("it took longer than {} min", leg.timeout / 60_000),
        Cause::Superseded => "a newer one of its concurrency group came".to_owned(),
    }
}

fn since(state: &LegState) -> Option<u64> {
    match state {
        LegState::Running { since } => Some(*since),
        LegState::Queued
        | LegState::Entering { .. }
        | LegState::Starting
        | LegState::Cancelling { .. }
        | LegState::Ended { .. } => None,
    }
}
