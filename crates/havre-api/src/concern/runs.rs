//! Runs. A project has no scope of its own: whoever answers decides by what the principal has of the project.

use super::*;

impl Concern for RunsQuery {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        self.project.to_string()
    }
}

impl Concern for RunQuery {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        run(&self.project, self.number)
    }
}

impl Concern for RunLogQuery {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        run(&self.project, self.number)
    }
}

impl Concern for RunCancelRequest {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        let run = run(&self.project, self.number);
        match self.force {
            true => format!("{run}, at once"),
            false => run,
        }
    }
}

impl Concern for RunRerunRequest {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        let run = run(&self.project, self.number);
        match &self.what {
            RerunWhat::All => format!("{run}: all jobs"),
            RerunWhat::Failed => format!("{run}: what failed"),
            RerunWhat::Job(job) => format!("{run}: job {job}"),
        }
    }
}

/// Of the inputs their names: values may be secret.
impl Concern for RunDispatchRequest {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        let mut subject = format!("{}: {}", self.project, self.workflow);
        if let Some(reference) = &self.reference {
            subject.push_str(&format!(" on {reference}"));
        }
        if !self.inputs.is_empty() {
            subject.push_str(&format!(" with {}", listed(self.inputs.keys())));
        }
        subject
    }
}

/// Of the payload nothing: values may be secret.
impl Concern for RunEventRequest {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        format!("{}: {}", self.project, self.kind)
    }
}

impl Concern for CachesQuery {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        self.project.to_string()
    }
}

impl Concern for CacheRemoveRequest {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        format!("{} cache {}", self.project, self.id)
    }
}

impl Concern for ArtifactQuery {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        format!("{}: {}", run(&self.project, self.number), self.name)
    }
}

fn run(project: &ProjectName, number: u64) -> String {
    format!("{project} run {number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_inputs_are_not_told() {
        let request = RunDispatchRequest {
            project: ProjectName::new("shop"),
            workflow: "deploy.yml".to_owned(),
            reference: Some("main".to_owned()),
            inputs: [("password".to_owned(), "hunter2".to_owned())].into(),
        };
        let told = subject(&request);
        assert_eq!(told, "shop: deploy.yml on main with password");
    }
}
