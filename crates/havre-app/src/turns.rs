//! Turns at work that keeps a thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use havre_api::{ApiError, ErrorCode};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// How many calls of one owner may have their turn or wait for it: each has what it sends in memory.
const MOST_OF_ONE: usize = 16;

/// Whose turn it is: of one owner one after the other, and of all but a few at once. They wait where they cost
/// no thread: copies take minutes, and there are only so many threads.
#[derive(Debug)]
pub(crate) struct Turns {
    /// By owner; as long as anybody has it or waits for it.
    owners: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    all: Arc<Semaphore>,
}

/// Somebody's turn.
#[derive(Debug)]
pub(crate) struct Turn {
    _own: OwnedMutexGuard<()>,
    _all: OwnedSemaphorePermit,
}

impl Turns {
    /// So many at once.
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            owners: Mutex::default(),
            all: Arc::new(Semaphore::new(at_once)),
        }
    }

    /// Waits for the turn of this owner; `crowd` is what is said of too many of them.
    pub(crate) async fn of(
        &self,
        owner: String,
        crowd: impl FnOnce() -> String,
    ) -> Result<Turn, ApiError> {
        let own = {
            let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
            owners.retain(|_, own| Arc::strong_count(own) > 1);
            let own = owners.entry(owner).or_default();
            // One of them is the list's.
            if Arc::strong_count(own) > MOST_OF_ONE {
                let refused = ApiError::new(ErrorCode::TooMany, crowd());
                return Err(refused.with_hint("try again when others are done"));
            }
            Arc::clone(own)
        };
        let own = own.lock_owned().await;
        let all = Arc::clone(&self.all).acquire_owned().await;
        let all = all.map_err(|error| ApiError::from_error(ErrorCode::Unavailable, &error))?;
        Ok(Turn {
            _own: own,
            _all: all,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn of(turns: &Turns, owner: &str) -> Result<Turn, ApiError> {
        turns.of(owner.to_owned(), || "a crowd".to_owned()).await
    }

    #[tokio::test(start_paused = true)]
    async fn one_owner_takes_one_turn_and_all_take_few() {
        let turns = Turns::new(2);
        let waits = async |owner: &str| {
            let turn = tokio::time::timeout(Duration::from_secs(1), of(&turns, owner));
            turn.await.ok().map(Result::unwrap)
        };
        let shop = waits("shop").await.expect("a turn");
        assert!(waits("shop").await.is_none());
        let other = waits("other").await.expect("a turn");
        assert!(waits("third").await.is_none());
        drop(shop);
        assert!(waits("third").await.is_some());
        assert!(waits("shop").await.is_some());
        drop(other);
        let known = turns.owners.lock().unwrap().len();
        assert!(known < 3, "who has no turn is forgotten: {known}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_counted() {
        let turns = Turns::new(2);
        let _one = of(&turns, "shop").await.unwrap();
        let mut waiting: Vec<_> = (1..MOST_OF_ONE)
            .map(|_| Box::pin(of(&turns, "shop")))
            .collect();
        let now = Duration::ZERO;
        for wait in &mut waiting {
            assert!(tokio::time::timeout(now, wait).await.is_err());
        }
        let refused = of(&turns, "shop").await.expect_err("too many");
        assert_eq!(refused.code, ErrorCode::TooMany);
        // Who gives up does not count.
        waiting.pop();
        let waits = tokio::time::timeout(now, of(&turns, "shop")).await;
        assert!(waits.is_err(), "{waits:?}");
        assert!(of(&turns, "other").await.is_ok());
    }
}
