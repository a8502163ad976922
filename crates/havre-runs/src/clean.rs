//! Forgets what is kept for too long, or is too much.

use std::collections::HashMap;
use std::sync::Arc;

use crate::book::Inner;
use crate::error::RunsError;
use crate::ports::RunId;

/// What is done about a finished run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    RemoveLogs,
    Forget,
}

pub(crate) async fn clean(inner: Arc<Inner>) -> Result<(), RunsError> {
    let done = havre_base::blocking(move || clean_all(&inner)).await;
    done.unwrap_or_else(|error| {
        tracing::error!(
            error = error.to_string(),
            "what is kept was not looked through"
        );
        Ok(())
    })
}

pub(crate) fn clean_all(inner: &Inner) -> Result<(), RunsError> {
    let now = inner.now();
    let kept_for = u64::try_from(inner.settings.kept_for.as_millis()).unwrap_or(u64::MAX);
    let mut seen: HashMap<String, (usize, u64)> = HashMap::new();
    for (root, project, ended_ms) in inner.tables.finished()? {
        let family = inner.tables.family(root)?;
        let mut bytes = 0;
        for run in &family {
            bytes += inner
                .logs
                .bytes(&project, *run)
                .map_err(|source| unremoved(*run, source))?;
        }
        let (count, all) = seen.entry(project.clone()).or_default();
        *count += 1;
        *all += bytes;
        let is_old = ended_ms.saturating_add(kept_for) < now;
        let verdict = if is_old || *count > inner.settings.kept_runs {
            Verdict::Forget
        } else if bytes > 0 && *all > inner.settings.project_log_bytes {
            Verdict::RemoveLogs
        } else {
            Verdict::Keep
        };
        if verdict == Verdict::Keep || inner.book().live.contains_key(&root) {
            continue;
        }
        for run in &family {
            inner
                .logs
                .remove(&project, *run)
                .map_err(|source| unremoved(*run, source))?;
        }
        if verdict == Verdict::Forget {
            inner.tables.forget(root)?;
        }
    }
    Ok(())
}

pub(crate) fn unremoved(run: RunId, source: std::io::Error) -> RunsError {
    RunsError::Log {
        attempt: "remove",
        of: format!("run {run}"),
        source,
    }
}
