//! What goes from one environment to the next: what has to hold before it comes in, who agrees, and its rollout.
//!
//! ```text
//! promote ─► request ─┐                     ┌─► keeper: rolls out what may come in ─► history
//! a job   ─► entry ───┴► Promotion (store) ─┤      ▲ wakes by what changes, and by the clock
//! approve, reject ─────► answers ───────────┘      └─ judge: gates (pure), from what is stored
//! ```
//!
//! A promotion is on disk before anybody hears of it. What it becomes is `havre_release::step`'s to say; the daemon may
//! die between any two steps.

pub(crate) mod answers;
pub(crate) mod configurations;
pub(crate) mod definitions;
pub(crate) mod direct;
pub(crate) mod entry;
pub(crate) mod environments;
pub(crate) mod jobs;
pub(crate) mod judge;
pub(crate) mod keeper;
mod people;
pub(crate) mod request;
mod settle;
pub(crate) mod show;
pub(crate) mod tables;
mod tell;
pub(crate) mod words;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_release::{NotTaken, Promotion, PromotionEvent, Release, step};
use havre_store::{Store, StoreError};
use tokio::sync::watch;

use tables::{PromotionRow, Tables, Written};

/// Most that may wait for one environment: each has a whole release.
const MAX_PENDING: usize = 100;
/// How the names of their leases begin.
const LEASE: &str = "promotion:";

/// The promotions of an installation.
#[derive(Debug)]
pub(crate) struct Promotions {
    pub(crate) tables: Tables,
    /// Held while one is read, changed and written.
    turn: Mutex<()>,
    /// Those that are being rolled out.
    under_way: Mutex<BTreeSet<u64>>,
    /// Grows with each change.
    changes: watch::Sender<u64>,
}

/// Why one is not as it was to become.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromotionError {
    #[error("cannot access promotions")]
    Store {
        #[from]
        source: StoreError,
    },
    #[error("promotion {id} is not readable by this version")]
    Format { id: u64, source: serde_json::Error },
    #[error("{MAX_PENDING} promotions and jobs wait for {environment} already")]
    Crowd { environment: EnvironmentId },
    #[error("there is no promotion {id}")]
    NotFound { id: u64 },
    #[error("promotion {}: {}", promotion.id, promotion.state.sentence())]
    NotTaken {
        promotion: Box<Promotion>,
        why: NotTaken,
    },
}

impl From<PromotionError> for ApiError {
    fn from(error: PromotionError) -> Self {
        let code = match error {
            PromotionError::Store { .. } | PromotionError::Format { .. } => ErrorCode::Failed,
            PromotionError::Crowd { .. } => ErrorCode::TooMany,
            PromotionError::NotFound { .. } => ErrorCode::NotFound,
            PromotionError::NotTaken { .. } => ErrorCode::Conflict,
        };
        let told = Self::from_error(code, &error);
        match code {
            ErrorCode::NotFound => told.with_hint("`havre env ls` shows what waits"),
            _ => told,
        }
    }
}

/// A promotion, and the release that is to come.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) promotion: Promotion,
    /// `None`: it is a job, or over.
    pub(crate) release: Option<Release>,
}

impl Promotions {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self {
            tables: Tables::new(store),
            turn: Mutex::default(),
            under_way: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// To hear of each change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Says that something has changed by which promotions are judged.
    pub(crate) fn wake(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// One of them.
    pub(crate) fn get(&self, id: u64) -> Result<Kept, PromotionError> {
        let row = self.tables.promotion(id)?;
        read(row.ok_or(PromotionError::NotFound { id })?)
    }

    /// Those that are not over, the oldest first. One that cannot be read is in the log, and stays.
    pub(crate) fn pending(&self) -> Result<Vec<Kept>, PromotionError> {
        Ok(readable(self.tables.pending()?))
    }

    /// Those of an environment, the newest first.
    pub(crate) fn of(&self, id: &EnvironmentId) -> Result<Vec<Kept>, PromotionError> {
        Ok(readable(self.tables.promotions_of(id)?))
    }

    /// Makes one, with a number of its own.
    pub(crate) fn add(
        &self,
        promotion: Promotion,
        release: Option<&Release>,
    ) -> Result<Promotion, PromotionError> {
        let format = |source| PromotionError::Format { id: 0, source };
        let content = release.map(serde_json::to_string).transpose();
        let environment = promotion.environment.clone();
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = self.pending()?.into_iter();
        let here = pending.filter(|kept| kept.promotion.environment == environment);
        if here.count() >= MAX_PENDING {
            return Err(PromotionError::Crowd { environment });
        }
        let plain = promotion.clone();
        let id = self
            .tables
            .promotion_add(&environment, content.map_err(format)?, move |id| {
                let over = plain.state.is_over();
                let promotion = serde_json::to_string(&Promotion { id, ..plain })?;
                Ok(Written { over, promotion })
            })?;
        self.wake();
        Ok(Promotion { id, ..promotion })
    }

    /// What an event makes of one, written down: what it was, and what it is.
    pub(crate) fn step(
        &self,
        id: u64,
        event: PromotionEvent,
    ) -> Result<(Promotion, Promotion), PromotionError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { promotion, .. } = self.get(id)?;
        let next = step(&promotion, event).map_err(|why| PromotionError::NotTaken {
            promotion: Box::new(promotion.clone()),
            why,
        })?;
        if next != promotion {
            let text = serde_json::to_string(&next);
            let written = Written {
                over: next.state.is_over(),
                promotion: text.map_err(|source| PromotionError::Format { id, source })?,
            };
            self.tables.promotion_put(id, written)?;
            self.wake();
        }
        Ok((promotion, next))
    }

    /// The right to roll one out; `None`: somebody does already.
    fn begin(self: &Arc<Self>, id: u64) -> Option<UnderWay> {
        let begun = self.under_way().insert(id);
        begun.then(|| UnderWay(Arc::clone(self), id))
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// While a promotion is rolled out.
struct UnderWay(Arc<Promotions>, u64);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way().remove(&self.1);
        self.0.wake();
    }
}

/// Who holds the images of a promotion's release.
fn lease_name(id: u64) -> String {
    format!("{LEASE}{id}")
}

fn read(row: PromotionRow) -> Result<Kept, PromotionError> {
    let id = row.id;
    let format = |source| PromotionError::Format { id, source };
    let release = row.content.as_deref().map(serde_json::from_str);
    Ok(Kept {
        promotion: serde_json::from_str(&row.promotion).map_err(format)?,
        release: release.transpose().map_err(format)?,
    })
}

fn readable(rows: Vec<PromotionRow>) -> Vec<Kept> {
    let read = rows.into_iter().map(read);
    read.filter_map(|one| {
        one.inspect_err(|error| {
            let error = havre_base::one_line(error);
            tracing::error!(error, "a promotion is left as it is");
        })
        .ok()
    })
    .collect()
}
