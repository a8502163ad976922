//! The releases of an environment as they are stored.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use havre_api::EnvironmentId;
use havre_release::{Record, Release};

use crate::environment::EnvironmentError;
use crate::environment::tables::{KEPT, LOOKED_THROUGH, ReleaseRow, Tables};

/// A release of the history.
pub(crate) struct Past {
    pub(crate) number: u64,
    pub(crate) release: Release,
    pub(crate) record: Record,
    pub(crate) created_at: SystemTime,
}

/// What is stored of an environment's releases, the newest first.
pub(crate) struct History {
    pub(crate) past: Vec<Past>,
    /// Those that this version cannot read, of which nothing more is known.
    pub(crate) unreadable: BTreeMap<u64, serde_json::Error>,
}

/// The newest releases that served: a rollback finds them complete. One that cannot be read is left
/// out, unless it is the one that serves.
pub(crate) fn kept(
    tables: &Tables,
    id: &EnvironmentId,
    serving: Option<u64>,
) -> Result<Vec<Past>, EnvironmentError> {
    let mut history = history(tables, id, LOOKED_THROUGH)?;
    let now = serving.and_then(|number| history.unreadable.remove(&number));
    if let Some(source) = now {
        return Err(unreadable(id, source));
    }
    for (release, error) in &history.unreadable {
        tracing::warn!(environment = %id, release, %error, "not kept: this version cannot read it");
    }
    Ok(served(history.past))
}

/// As [`kept`]; fails where any cannot be read.
pub(crate) fn all_kept(tables: &Tables, id: &EnvironmentId) -> Result<Vec<Past>, EnvironmentError> {
    let mut history = history(tables, id, LOOKED_THROUGH)?;
    match history.unreadable.pop_last() {
        Some((_, source)) => Err(unreadable(id, source)),
        None => Ok(served(history.past)),
    }
}

fn served(mut past: Vec<Past>) -> Vec<Past> {
    past.retain(|past| past.record.has_served());
    // The one that serves is among them.
    past.truncate(KEPT + 1);
    past
}

fn unreadable(id: &EnvironmentId, source: serde_json::Error) -> EnvironmentError {
    EnvironmentError::Format {
        id: id.clone(),
        source,
    }
}

pub(crate) fn history(
    tables: &Tables,
    id: &EnvironmentId,
    most: u32,
) -> Result<History, EnvironmentError> {
    let (project, environment) = (id.project.as_str(), id.environment.as_str());
    let rows = tables
        .releases(project, environment, most)
        .map_err(|source| EnvironmentError::Store {
            id: id.clone(),
            source,
        })?;
    let read = |row: &ReleaseRow| {
        Ok::<_, serde_json::Error>(Past {
            number: row.number,
            release: serde_json::from_str(&row.content)?,
            record: serde_json::from_str(&row.record)?,
            created_at: UNIX_EPOCH
                + Duration::from_secs(u64::try_from(row.created_at).unwrap_or(0)),
        })
    };
    let mut history = History {
        past: Vec::new(),
        unreadable: BTreeMap::new(),
    };
    for row in &rows {
        match read(row) {
            Ok(past) => history.past.push(past),
            Err(error) => drop(history.unreadable.insert(row.number, error)),
        }
    }
    Ok(history)
}
