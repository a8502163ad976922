//! Variables of workflows. Those of an environment are its own; for those of the whole project whoever answers decides by
//! what the principal has of the project.

use super::*;

fn of(project: &ProjectName, environment: Option<&EnvironmentName>) -> Scope {
    named(Some(project), environment)
}

/// Names, and the project where the scope does not say it.
fn told<'n>(
    project: &ProjectName,
    environment: Option<&EnvironmentName>,
    names: impl Iterator<Item = &'n String>,
) -> String {
    let names = listed(names);
    match environment {
        Some(_) => names,
        None => format!("{project}: {names}"),
    }
}

impl Concern for VarsSetRequest {
    fn scope(&self) -> Scope {
        of(&self.project, self.environment.as_ref())
    }

    fn subject(&self) -> String {
        let names = self.vars.iter().map(|(name, _)| name);
        told(&self.project, self.environment.as_ref(), names)
    }
}

impl Concern for VarsQuery {
    fn scope(&self) -> Scope {
        of(&self.project, self.environment.as_ref())
    }

    fn subject(&self) -> String {
        filter(Some(&self.project), self.environment.as_ref())
    }
}

impl Concern for VarsRemoveRequest {
    fn scope(&self) -> Scope {
        of(&self.project, self.environment.as_ref())
    }

    fn subject(&self) -> String {
        let names = self.names.iter();
        told(&self.project, self.environment.as_ref(), names)
    }
}
