//! One operation at a time changes an environment; the others wait and are told for which.

use std::fmt::Display;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use havre_api::{ApiError, ErrorCode, Event, EventSink, OperationPhase};

use super::refusals::cancelled;
use crate::handle::{EnvironmentHandle, Holder};

/// The right to change an environment, while it lasts.
pub(crate) struct Held {
    _guard: tokio::sync::OwnedMutexGuard<()>,
    holder: Arc<std::sync::Mutex<Option<Holder>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Waits until no other operation changes the environment; tells for which.
pub(crate) async fn hold(
    environment: &EnvironmentHandle,
    what: &'static str,
    by: &(dyn Display + Sync),
    events: &EventSink,
) -> Result<Held, ApiError> {
    let lock = Arc::clone(&environment.operation);
    let holder = Arc::clone(&environment.holder);
    let guard = match Arc::clone(&lock).try_lock_owned() {
        Ok(guard) => guard,
        Err(_) => {
            let Ok(_room) = Arc::clone(&environment.queue).try_acquire_owned() else {
                let message = format!("too many operations wait for {}", environment.id);
                let refused = ApiError::new(ErrorCode::TooMany, message);
                return Err(refused.with_hint("try again when others are done"));
            };
            events.emit(Event::Phase {
                phase: OperationPhase::Queue,
            });
            let other = holder
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            if let Some(other) = other {
                events.emit(Event::Warning {
                    message: other.sentence(),
                    hint: None,
                });
            }
            tokio::select! {
                guard = lock.lock_owned() => guard,
                () = events.cancellation().cancelled() => {
                    return Err(cancelled("nothing was changed"));
                }
            }
        }
    };
    *holder.lock().unwrap_or_else(PoisonError::into_inner) = Some(Holder {
        what,
        by: by.to_string(),
        since: SystemTime::now(),
    });
    Ok(Held {
        _guard: guard,
        holder,
    })
}
