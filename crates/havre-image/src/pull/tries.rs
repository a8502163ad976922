//! When a request is worth another try, and after which pause.

use std::time::Duration;

use crate::registry::RequestError;

/// Tries in a row that bring nothing; those without a connection count twice.
const MAX_FRUITLESS: u32 = 4;
/// Tries of one blob in all.
const MAX_TRIES: u32 = 50;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Counts tries and waits between them.
#[derive(Default)]
pub(super) struct Tries {
    all: u32,
    fruitless: u32,
}

impl Tries {
    /// Waits before the next try, or gives the error back when there is none.
    pub(super) async fn pause(
        &mut self,
        error: RequestError,
        progressed: bool,
    ) -> Result<(), RequestError> {
        match self.next(&error, progressed) {
            Some(pause) => {
                tracing::debug!(error = %error, ?pause, "trying the registry again");
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => Err(error),
        }
    }

    fn next(&mut self, error: &RequestError, progressed: bool) -> Option<Duration> {
        self.all += 1;
        // A host that is not there takes its time to say so.
        let cost = match error {
            RequestError::Connect { .. } | RequestError::Timeout { .. } => 2,
            _ => 1,
        };
        self.fruitless = if progressed { 0 } else { self.fruitless + cost };
        if !error.transient() || self.fruitless >= MAX_FRUITLESS || self.all >= MAX_TRIES {
            return None;
        }
        let doubled = FIRST_PAUSE * 2_u32.saturating_pow(self.fruitless);
        Some(error.retry_after().unwrap_or(doubled).min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::registry;

    fn status(code: u16, retry_after: Option<u64>) -> RequestError {
        RequestError::Status {
            host: "r".to_owned(),
            status: StatusCode::from_u16(code).unwrap(),
            what: "x".to_owned(),
            detail: String::new(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn what_may_pass_is_tried_again_with_growing_pauses() {
        let mut tries = Tries::default();
        let pauses: Vec<_> = (0..5)
            .map(|_| tries.next(&status(503, None), false))
            .collect();
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(pauses, [ms(500), ms(1000), ms(2000), None, None]);
        assert_eq!(Tries::default().next(&status(403, None), false), None);
        let long = Tries::default().next(&status(429, Some(7)), false);
        assert_eq!(long, Some(Duration::from_secs(7)));
        let longer = Tries::default().next(&status(429, Some(7000)), false);
        assert_eq!(longer, Some(LONGEST_PAUSE));
    }

    #[test]
    fn a_slow_trickle_ends_too() {
        let mut tries = Tries::default();
        let error = registry::cut("r");
        let count = (0..1000)
            .take_while(|_| tries.next(&error, true).is_some())
            .count();
        assert_eq!(count, MAX_TRIES as usize - 1);
    }
}
