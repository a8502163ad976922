//! Logs of a run, leg by leg or side by side.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use havre_api::{
    ApiError, Closed, ErrorCode, ItemSink, RunLegId, RunLogItem, RunLogQuery, RunLogSaid,
};
use havre_release::Answer;
use havre_runs::{LegKey, LegShown, RunId, Runs, Shown};
use tokio::task::JoinSet;

use super::report::{leg_id, name};
use super::{blocking, failed};

/// Sends what a query asks for. Without `follow`, one leg after the other.
pub(super) async fn send(
    runs: Runs,
    run: RunId,
    query: RunLogQuery,
    items: ItemSink<RunLogItem>,
) -> Result<(), ApiError> {
    let marks = query.from.iter();
    let marks = marks.map(|mark| (mark.leg.clone(), mark.next)).collect();
    let reader = Arc::new(Reader {
        runs,
        items,
        marks,
        root: run,
        query,
    });
    let sent = match reader.query.follow {
        true => Arc::clone(&reader).follow(run, String::new()).await,
        false => reader.read(run, String::new()).await,
    };
    match sent {
        Err(Stopped::Failed(error)) => Err(error),
        Ok(()) | Err(Stopped::Unread) => Ok(()),
    }
}

/// Why no more is sent.
enum Stopped {
    /// Nobody reads it.
    Unread,
    Failed(ApiError),
}

impl From<Closed> for Stopped {
    fn from(_: Closed) -> Self {
        Self::Unread
    }
}

impl From<ApiError> for Stopped {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

struct Reader {
    runs: Runs,
    items: ItemSink<RunLogItem>,
    /// Where a reader goes on.
    marks: HashMap<RunLegId, u64>,
    /// The run that was asked for; the others it called.
    root: RunId,
    query: RunLogQuery,
}

impl Reader {
    async fn show(&self, run: RunId) -> Result<Shown, Stopped> {
        let runs = self.runs.clone();
        Ok(blocking(move || runs.show(run).map_err(failed)).await?)
    }

    /// Legs that are asked for, and of which there is something to read, in the order of the file.
    fn wanted<'s>(&self, shown: &'s Shown) -> Vec<&'s LegShown> {
        let current: HashSet<_> = shown.state.legs().map(|(id, _)| id).collect();
        let is_root = shown.run.id == self.root;
        let is_wanted = |leg: &LegShown| {
            let id = &leg.key.leg;
            let attempt = match self.query.attempt.filter(|_| is_root) {
                Some(attempt) => id.attempt == attempt,
                None => current.contains(id),
            };
            let job = self.query.job.as_ref().is_none_or(|job| *job == id.job);
            let index = self.query.index.map(|index| index as usize);
            let index = index.is_none_or(|index| index == id.index);
            attempt && (!is_root || (job && index))
        };
        let places: HashMap<&str, usize> = {
            let jobs = shown.state.jobs.iter().enumerate();
            jobs.map(|(place, job)| (job.id.as_str(), place)).collect()
        };
        let mut legs: Vec<_> = shown.legs.iter().filter(|leg| is_wanted(leg)).collect();
        legs.sort_by_key(|leg| {
            let id = &leg.key.leg;
            (places.get(id.job.as_str()).copied(), id.index)
        });
        legs
    }

    /// What there is by now, leg by leg.
    fn read(&self, run: RunId, before: String) -> Answer<'_, Result<(), Stopped>> {
        Box::pin(async move {
            let shown = self.show(run).await?;
            for leg in self.wanted(&shown) {
                let name = format!("{before}{}", name(&shown, &leg.key.leg));
                match leg.called {
                    Some(called) => self.read(called, format!("{name} / ")).await?,
                    None => self.log(&leg.key, &name).await?,
                }
                if let Some(wait) = &leg.waits {
                    let why = wait.why.clone();
                    self.say(&leg.key, &name, RunLogSaid::Waits { why }).await?;
                }
                if let Some(why) = leg.why.clone() {
                    self.say(&leg.key, &name, RunLogSaid::Ended { why }).await?;
                }
            }
            Ok(())
        })
    }

    /// What there is and what comes, of all legs at once, until the run has ended.
    fn follow(self: Arc<Self>, run: RunId, before: String) -> Answer<'static, Result<(), Stopped>> {
        Box::pin(async move {
            let mut known: HashSet<LegKey> = HashSet::new();
            let mut waited: HashSet<(LegKey, String)> = HashSet::new();
            let mut legs = JoinSet::new();
            loop {
                // Before the look: what changes behind it is seen.
                let watch = self.runs.watch(run);
                let shown = self.show(run).await?;
                for leg in self.wanted(&shown) {
                    let name = format!("{before}{}", name(&shown, &leg.key.leg));
                    if let Some(wait) = &leg.waits
                        && waited.insert((leg.key.clone(), wait.why.clone()))
                    {
                        let why = wait.why.clone();
                        self.say(&leg.key, &name, RunLogSaid::Waits { why }).await?;
                    }
                    let is_there =
                        leg.record.is_some() || leg.called.is_some() || leg.why.is_some();
                    if is_there && known.insert(leg.key.clone()) {
                        let reader = Arc::clone(&self);
                        legs.spawn(reader.follow_leg(leg.key.clone(), name, leg.called));
                    }
                }
                let (None, Some(mut watch)) = (shown.run.conclusion, watch) else {
                    break;
                };
                loop {
                    tokio::select! {
                        // Closed where the run ended: looked at once more.
                        _ = watch.changed() => break,
                        Some(ended) = legs.join_next() => joined(ended)?,
                    }
                }
            }
            while let Some(ended) = legs.join_next().await {
                joined(ended)?;
            }
            Ok(())
        })
    }

    async fn follow_leg(
        self: Arc<Self>,
        key: LegKey,
        name: String,
        called: Option<RunId>,
    ) -> Result<(), Stopped> {
        match called {
            Some(called) => {
                let before = format!("{name} / ");
                Arc::clone(&self).follow(called, before).await?;
            }
            None => self.log(&key, &name).await?,
        }
        let shown = self.show(key.run).await?;
        let leg = shown.legs.into_iter().find(|leg| leg.key == key);
        if let Some(why) = leg.and_then(|leg| leg.why) {
            self.say(&key, &name, RunLogSaid::Ended { why }).await?;
        }
        Ok(())
    }

    /// The log of one leg, from where the reader was.
    async fn log(&self, key: &LegKey, name: &str) -> Result<(), Stopped> {
        let from = self.marks.get(&leg_id(key)).copied().unwrap_or(0);
        let log = self.runs.log(key.clone(), from, self.query.follow);
        let mut log = log.map_err(failed)?;
        while let Some(part) = log.next().await.map_err(failed)? {
            let said = RunLogSaid::Told {
                told: part.told,
                next: part.next,
            };
            self.say(key, name, said).await?;
        }
        Ok(())
    }

    async fn say(&self, key: &LegKey, name: &str, said: RunLogSaid) -> Result<(), Stopped> {
        let item = RunLogItem {
            leg: leg_id(key),
            name: name.to_owned(),
            said,
        };
        Ok(self.items.send(item).await?)
    }
}

fn joined(ended: Result<Result<(), Stopped>, tokio::task::JoinError>) -> Result<(), Stopped> {
    let broke = |error| Err(ApiError::from_error(ErrorCode::Internal, &error).into());
    ended.unwrap_or_else(broke)
}
