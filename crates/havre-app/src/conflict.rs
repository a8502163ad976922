//! What another environment has already: an error for who is about to begin, a finding for who plans.

use havre_api::{ApiError, ErrorCode};

/// Something that two environments cannot both have.
pub(crate) struct Conflict {
    /// What is wrong.
    pub(crate) sentence: String,
    /// What helps.
    pub(crate) hint: String,
}

impl Conflict {
    /// Why nothing is begun.
    pub(crate) fn into_error(self) -> ApiError {
        ApiError::new(ErrorCode::Conflict, self.sentence).with_hint(self.hint)
    }

    /// What `plan` says of it.
    pub(crate) fn finding(&self) -> String {
        format!("`up` will be refused: {}; {}", self.sentence, self.hint)
    }
}
