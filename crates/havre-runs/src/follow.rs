//! Follows a run: who listens hears of each leg as it begins, also of those in the runs that it called.

use std::collections::HashSet;

use futures_util::future::BoxFuture;
use tokio::task::JoinSet;

use crate::{LegKey, LegShown, RunId, Runs, Shown};

/// Who is told.
pub trait Listener: Clone + Send + Sync + 'static {
    /// What there is to say of a leg that has no log: it waits, or never began.
    fn note<'a>(&'a self, name: &'a str, text: String) -> BoxFuture<'a, ()>;
    /// A leg has begun, and has a log: until it has ended, or nobody listens.
    fn leg(&self, key: LegKey, name: String) -> BoxFuture<'static, ()>;
    /// Whether nobody listens any more.
    fn is_gone(&self) -> bool;
}

impl Runs {
    /// Tells of a run until it ends, or nobody listens.
    pub async fn follow(&self, run: RunId, listener: impl Listener) {
        follow(self.clone(), run, String::new(), listener).await;
    }
}

fn follow<L: Listener>(
    runs: Runs,
    run: RunId,
    prefix: String,
    listener: L,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let mut known: HashSet<LegKey> = HashSet::new();
        let mut waiting: HashSet<LegKey> = HashSet::new();
        let mut refused: HashSet<LegKey> = HashSet::new();
        let mut tasks = JoinSet::new();
        while !listener.is_gone() {
            let watch = runs.watch(run);
            // Whoever waits for its end is told why.
            let Ok(shown) = runs.show(run) else { break };
            for leg in &shown.legs {
                let name = format!("{prefix}{}", name_of(&shown, leg));
                if let Some(wait) = &leg.waits
                    && waiting.insert(leg.key.clone())
                {
                    listener.note(&name, format!("waits: {}", wait.why)).await;
                }
                // Of one that never began nothing else tells.
                if let (Some(why), None) = (&leg.why, &leg.record)
                    && refused.insert(leg.key.clone())
                {
                    listener.note(&name, why.clone()).await;
                }
                let is_there = leg.record.is_some() || leg.called.is_some();
                if !is_there || !known.insert(leg.key.clone()) {
                    continue;
                }
                match leg.called {
                    Some(called) => {
                        let prefix = format!("{name} / ");
                        tasks.spawn(follow(runs.clone(), called, prefix, listener.clone()));
                    }
                    None => drop(tasks.spawn(listener.leg(leg.key.clone(), name))),
                }
            }
            let (None, Some(mut watch)) = (shown.run.conclusion, watch) else {
                break;
            };
            // Closed where it ended: looked at once more.
            let _closed = watch.changed().await.is_err();
        }
        while tasks.join_next().await.is_some() {}
    })
}

fn name_of(shown: &Shown, leg: &LegShown) -> String {
    let id = &leg.key.leg;
    let job = shown.state.jobs.iter().find(|job| job.id == id.job);
    let run = job.and_then(|job| job.legs().get(id.index));
    run.map_or_else(|| id.job.clone(), |run| run.name.clone())
}
