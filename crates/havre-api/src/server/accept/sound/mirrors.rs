//! Requests about mirrors; what addresses may be, whoever asks them knows.

use super::*;

/// The longest that an address is taken.
const MAX_ADDRESS_BYTES: usize = 1000;

impl Check for MirrorSetRequest {
    fn check(&self) -> Result<(), ApiError> {
        project_name(self.project.as_str())?;
        let some = |what, value: &Option<String>, most| match value {
            Some(value) => line(what, value, most),
            None => Ok(()),
        };
        line("address", &self.url, MAX_ADDRESS_BYTES)?;
        some("API", &self.api, MAX_ADDRESS_BYTES)?;
        some("user", &self.user, MAX_WORD_BYTES)?;
        some("secret's name", &self.token_secret, MAX_SECRET_NAME_BYTES)
    }
}

impl Check for MirrorsQuery {
    fn check(&self) -> Result<(), ApiError> {
        match &self.project {
            Some(project) => project_name(project.as_str()),
            None => Ok(()),
        }
    }
}

impl Check for MirrorQuery {
    fn check(&self) -> Result<(), ApiError> {
        project_name(self.project.as_str())
    }
}
