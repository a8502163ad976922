//! Requests about runs.

use super::*;

/// Inputs of a workflow; GitHub's bound is 25.
const MAX_INPUTS: usize = 100;
/// All of them together; GitHub's.
const MAX_INPUT_BYTES: usize = 64 * 1024;
/// Of what an event of elsewhere has to say.
const MAX_PAYLOAD_BYTES: usize = 60 * 1024;
/// The longest that a path, a reference or an artifact's name is taken.
const MAX_NAME_BYTES: usize = 1000;

impl Check for RunsQuery {
    fn check(&self) -> Result<(), ApiError> {
        project_name(self.project.as_str())?;
        optional("workflow", self.workflow.as_deref())?;
        optional("reference", self.reference.as_deref())?;
        list("runs", self.most as usize, MAX_RUNS as usize)
    }
}

impl Check for RunQuery {
    fn check(&self) -> Result<(), ApiError> {
        project_name(self.project.as_str())
    }
}

impl Check for RunLogQuery {
    fn check(&self) -> Result<(), ApiError> {
        project_name(self.project.as_str())?;
        optional("job", self.job.as_deref())?;
        list("marks", self.from.len(), MAX_RUN_MARKS)?;
        let mut jobs = self.from.iter().map(|mark| &mark.leg.job);
        jobs.try_for_each(|job| text("job", job, MAX_WORD_BYTES))
    }
}

impl Check for RunCancelRequest {
    fn check(&self) -> Result<(), ApiError> {
        project_name(self.project.as_str())
    }
}

impl Check for RunRerunRequest {
    fn check(&self) -> Result<(), ApiError> {
        project_name(self.project.as_str())?;
        match &self.what {
            RerunWhat::Job(job) => text("job", job, MAX_NAME_BYTES),
            RerunWhat::All | RerunWhat::Failed => Ok(()),
        }
    }
}

impl Check for RunDispatchRequest {
    fn check(&self) -> Result<(), ApiError> {
        project_name(self.project.as_str())?;
        refuse_unless(!self.workflow.is_empty(), || {
            "no workflow was named".to_owned()
        })?;
        text("workflow", &self.workflow, MAX_NAME_BYTES)?;
        optional("reference", self.reference.as_deref())?;
        list("inputs", self.inputs.len(), MAX_INPUTS)?;
        let bytes = self.inputs.iter();
        let bytes = bytes.map(|(name, value)| name.len() + value.len()).sum();
        list("bytes of inputs", bytes, MAX_INPUT_BYTES)
    }
}

impl Check for RunEventRequest {
    fn check(&self) -> Result<(), ApiError> {
        project_name(self.project.as_str())?;
        refuse_unless(!self.kind.is_empty(), || "the event has no type".to_owned())?;
        // GitHub's bound.
        text("type", &self.kind, 100)?;
        let bytes = serde_json::to_string(&self.payload).map_or(usize::MAX, |text| text.len());
        list("bytes of the payload", bytes, MAX_PAYLOAD_BYTES)
    }
}

impl Check for CachesQuery {
    fn check(&self) -> Result<(), ApiError> {
        project_name(self.project.as_str())
    }
}

impl Check for CacheRemoveRequest {
    fn check(&self) -> Result<(), ApiError> {
        project_name(self.project.as_str())
    }
}

impl Check for ArtifactQuery {
    fn check(&self) -> Result<(), ApiError> {
        project_name(self.project.as_str())?;
        refuse_unless(!self.name.is_empty(), || "no artifact was named".to_owned())?;
        text("artifact's name", &self.name, MAX_NAME_BYTES)
    }
}

fn optional(what: &str, value: Option<&str>) -> Result<(), ApiError> {
    text(what, value.unwrap_or_default(), MAX_NAME_BYTES)
}

#[cfg(test)]
mod tests {
    use havre_model::ProjectName;

    use super::*;

    #[test]
    fn the_most_marks_that_are_sound_have_room() {
        let leg = RunLegId {
            run: i64::MAX,
            job: "j".repeat(100),
            index: u32::MAX,
            attempt: u32::MAX,
        };
        let mark = RunLogMark {
            leg,
            next: u64::MAX,
        };
        let query = RunLogQuery {
            project: ProjectName::new("shop"),
            number: u64::MAX,
            job: None,
            index: None,
            attempt: None,
            follow: true,
            from: vec![mark; MAX_RUN_MARKS],
        };
        query.check().expect("sound");
        let bytes = serde_json::to_vec(&query).expect("JSON");
        assert!(
            bytes.len() <= crate::call::MAX_SMALL_BYTES,
            "{}",
            bytes.len()
        );
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let mut request = RunDispatchRequest {
            project: ProjectName::new("shop"),
            workflow: "ci.yml".to_owned(),
            reference: None,
            inputs: [("a".to_owned(), "b".repeat(MAX_INPUT_BYTES - 1))].into(),
        };
        assert_eq!(request.check(), Ok(()));
        request.inputs.insert("b".to_owned(), String::new());
        let error = request.check().expect_err("too much");
        assert_eq!(error.message, "65537 bytes of inputs are more than 65536");
        request.inputs.clear();
        request.project = ProjectName::new("../shop");
        assert!(request.check().is_err());
    }
}
