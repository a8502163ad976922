//! Requests about variables of workflows.

use super::*;

/// Variables of one request.
const MAX_VARS: usize = 100;
/// Of a value; GitHub's.
const MAX_VALUE: usize = 48 * 1024;
/// Of all values of a request.
const MAX_VALUES: usize = 256 * 1024;

impl Check for VarsSetRequest {
    fn check(&self) -> Result<(), ApiError> {
        whose(&self.project, self.environment.as_ref())?;
        refuse_unless(!self.vars.is_empty(), || "no variable was named".to_owned())?;
        list("variables", self.vars.len(), MAX_VARS)?;
        for (name, value) in &self.vars {
            var_name(name)?;
            list("bytes of a variable", value.len(), MAX_VALUE)?;
            refuse_unless(!value.contains('\0'), || {
                format!("the value of {name} has a byte 0 in it")
            })?;
        }
        let bytes = self.vars.iter().map(|(_, value)| value.len()).sum();
        list("bytes of variables", bytes, MAX_VALUES)
    }
}

impl Check for VarsQuery {
    fn check(&self) -> Result<(), ApiError> {
        whose(&self.project, self.environment.as_ref())
    }
}

impl Check for VarsRemoveRequest {
    fn check(&self) -> Result<(), ApiError> {
        whose(&self.project, self.environment.as_ref())?;
        refuse_unless(!self.names.is_empty(), || {
            "no variable was named".to_owned()
        })?;
        list("variables", self.names.len(), MAX_VARS)?;
        self.names.iter().try_for_each(|name| var_name(name))
    }
}

fn whose(
    project: &havre_model::ProjectName,
    environment: Option<&havre_model::EnvironmentName>,
) -> Result<(), ApiError> {
    project_name(project.as_str())?;
    environment.map_or(Ok(()), |name| environment_name(name.as_str()))
}

/// As GitHub has it: a word that does not begin with a digit or `GITHUB_`.
fn var_name(name: &str) -> Result<(), ApiError> {
    text("name of the variable", name, MAX_WORD_BYTES)?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = !name.is_empty()
        && name.chars().all(is_word)
        && !name.starts_with(|c: char| c.is_ascii_digit());
    refuse_unless(is_name, || {
        format!(
            "{name:?} is no name of a variable: it has letters, digits and `_`, and no digit first"
        )
    })?;
    refuse_unless(!name.to_ascii_uppercase().starts_with("GITHUB_"), || {
        format!("{name}: names that begin with GITHUB_ are the machine's own")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_not_the_machines_own() {
        for (name, holds) in [
            ("LEVEL", true),
            ("_level2", true),
            ("2LEVEL", false),
            ("a-b", false),
            ("a b", false),
            ("", false),
            ("github_token", false),
        ] {
            let request = VarsSetRequest {
                project: havre_model::ProjectName::new("shop"),
                environment: None,
                vars: vec![(name.to_owned(), "x".to_owned())],
            };
            assert_eq!(request.check().is_ok(), holds, "{name:?}");
        }
    }

    #[test]
    fn a_value_has_a_bound_and_no_zero() {
        for (value, holds) in [
            ("x".repeat(MAX_VALUE), true),
            ("x".repeat(MAX_VALUE + 1), false),
            ("\0".to_owned(), false),
        ] {
            let request = VarsSetRequest {
                project: havre_model::ProjectName::new("shop"),
                environment: Some(havre_model::EnvironmentName::new("staging")),
                vars: vec![("LEVEL".to_owned(), value)],
            };
            assert_eq!(request.check().is_ok(), holds);
        }
    }
}
