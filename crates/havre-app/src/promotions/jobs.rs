//! What is known of a job of this machine: as was written down when it was let in.

use havre_api::{ApiError, EnvironmentId, ErrorCode, Principal};
use havre_release::{Comes, Origin, Promotion};

use crate::pipeline::token::is_job;
use crate::platform::Platform;

/// Where what a job of this machine brings comes from, as was written down when it was let in; `None`: it is none.
pub(super) fn origin_of_job(
    platform: &Platform,
    by: &Principal,
    id: &EnvironmentId,
) -> Result<Option<Origin>, ApiError> {
    if !is_job(by) {
        return Ok(None);
    }
    match of_job(platform, &by.to_string(), id)? {
        Some(promotion) => Ok(Some(promotion.origin)),
        None => {
            let message = format!("nothing is known of {by} in {id}: it was not let in there");
            Err(ApiError::new(ErrorCode::Forbidden, message))
        }
    }
}

/// By what a job of this machine wants into an environment, or was let in; the newest.
pub(crate) fn of_job(
    platform: &Platform,
    by: &str,
    id: &EnvironmentId,
) -> Result<Option<Promotion>, ApiError> {
    let all = platform.promotions.of(id)?;
    let mut all = all.into_iter().map(|kept| kept.promotion);
    Ok(all.find(|one| {
        one.by == by && one.origin.job.is_some() && matches!(one.what, Comes::Job { .. })
    }))
}
