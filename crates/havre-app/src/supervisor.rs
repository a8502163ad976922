//! The daemon's long-lived tasks, by name: runs each until the daemon ends, starts one again that
//! ended before, and knows what came of its last round.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use havre_api::{TaskReport, TaskResult};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The pause before a task that ended is started again, doubled with each time in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// One that ran this long has not ended in a row.
const STEADY: Duration = Duration::from_secs(60);
/// Longest result that is kept.
const MAX_RESULT_BYTES: usize = 1024;

/// Owns the tasks.
#[derive(Clone)]
pub(crate) struct Supervisor {
    tasks: TaskTracker,
    end: CancellationToken,
    reports: Reports,
}

type Reports = Arc<Mutex<BTreeMap<&'static str, TaskReport>>>;

/// What a supervised task is given.
#[derive(Clone)]
pub(crate) struct Supervised {
    name: &'static str,
    reports: Reports,
    /// The daemon ends, and the task with it.
    pub(crate) end: CancellationToken,
}

impl Supervisor {
    /// Its tasks end with `end`.
    pub(crate) fn new(end: CancellationToken) -> Self {
        Self {
            tasks: TaskTracker::new(),
            end,
            reports: Reports::default(),
        }
    }

    /// Runs a task until the daemon ends.
    pub(crate) fn keep<R>(
        &self,
        name: &'static str,
        task: impl Fn(Supervised) -> R + Send + 'static,
    ) where
        R: Future<Output = ()> + Send + 'static,
    {
        let supervised = Supervised {
            name,
            reports: Arc::clone(&self.reports),
            end: self.end.clone(),
        };
        lock(&self.reports).insert(
            name,
            TaskReport {
                name: name.to_owned(),
                since: SystemTime::now().into(),
                restarts: 0,
                last: None,
            },
        );
        self.tasks.spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let started = tokio::time::Instant::now();
                // A set of one: the task ends with this future, and its panic is a result.
                let mut running = JoinSet::new();
                running.spawn(task(supervised.clone()));
                let ended = running.join_next().await;
                if supervised.end.is_cancelled() {
                    return;
                }
                if started.elapsed() >= STEADY {
                    pause = FIRST_PAUSE;
                }
                match ended {
                    Some(Err(error)) => {
                        tracing::error!(task = name, %error, "a task broke off, and is started again");
                    }
                    Some(Ok(())) | None => {
                        tracing::warn!(task = name, "a task ended, and is started again");
                    }
                }
                tokio::select! {
                    () = supervised.end.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
                supervised.note(|report| {
                    report.restarts += 1;
                    report.since = SystemTime::now().into();
                });
            }
        });
    }

    /// Runs something that ends by itself, such as the task of an environment.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// What is known of each task, by name.
    pub(crate) fn reports(&self) -> Vec<TaskReport> {
        lock(&self.reports).values().cloned().collect()
    }

    /// Waits until all have ended; `false` when some have not by then.
    pub(crate) async fn drain(&self, deadline: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait())
            .await
            .is_ok()
    }
}

impl Supervised {
    /// Notes what came of a round.
    pub(crate) fn report(&self, result: Result<String, String>) {
        let at = SystemTime::now().into();
        let (failed, mut text) = match result {
            Ok(text) => (false, text),
            Err(text) => (true, text),
        };
        text.truncate(havre_base::clipped(&text, MAX_RESULT_BYTES).len());
        self.note(|report| report.last = Some(TaskResult { at, failed, text }));
    }

    fn note(&self, change: impl FnOnce(&mut TaskReport)) {
        if let Some(report) = lock(&self.reports).get_mut(self.name) {
            change(report);
        }
    }
}

fn lock(reports: &Reports) -> MutexGuard<'_, BTreeMap<&'static str, TaskReport>> {
    reports.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn report(supervisor: &Supervisor) -> TaskReport {
        let mut reports = supervisor.reports();
        assert_eq!(reports.len(), 1);
        reports.remove(0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_or_panics_is_started_again_after_longer_and_longer_pauses() {
        let supervisor = Supervisor::new(CancellationToken::new());
        let starts = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&starts);
        supervisor.keep("broken", move |_| {
            let start = seen.fetch_add(1, Ordering::Relaxed);
            async move { assert!(start.is_multiple_of(2), "on purpose") }
        });
        for (seconds, expected) in [(0, 1), (2, 2), (2, 3), (4, 4), (600, 16)] {
            tokio::time::sleep(Duration::from_secs(seconds) + Duration::from_millis(1)).await;
            let starts = starts.load(Ordering::Relaxed);
            assert!(starts.abs_diff(expected) <= 1, "{starts} for {expected}");
        }
        assert!(report(&supervisor).restarts > 8);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_of_the_last_round_is_known_and_bounded() {
        let supervisor = Supervisor::new(CancellationToken::new());
        supervisor.keep("rounds", async |task| {
            task.report(Ok("well".to_owned()));
            task.report(Err("é".repeat(MAX_RESULT_BYTES)));
            task.end.cancelled().await;
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let report = report(&supervisor);
        assert_eq!((report.name.as_str(), report.restarts), ("rounds", 0));
        let last = report.last.expect("a result");
        assert!(last.failed);
        assert_eq!(last.text.len(), MAX_RESULT_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn all_end_with_the_daemon_and_one_that_does_not_is_told() {
        let end = CancellationToken::new();
        let supervisor = Supervisor::new(end.clone());
        supervisor.keep("good", async |task| task.end.cancelled().await);
        end.cancel();
        assert!(supervisor.drain(Duration::from_secs(1)).await);
        let supervisor = Supervisor::new(end);
        supervisor.keep("deaf", async |_| std::future::pending().await);
        assert!(!supervisor.drain(Duration::from_secs(1)).await);
    }
}
