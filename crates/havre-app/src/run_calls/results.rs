//! Artifacts and caches.

use std::io::Read as _;

use havre_api::{
    ApiError, ArtifactInfo, ArtifactPart, CacheEviction, CacheInfo, CacheRemoveRequest,
    CachesReport, Empty, ErrorCode, ItemSink, MAX_ARTIFACT_PART, ResultsUsage, Timestamp,
};
use havre_model::ProjectName;
use havre_results::{Artifact, Results, ResultsError};
use havre_runs::RunId;

use super::{RunCalls, time};

/// A project's repository is named as the project is.
pub(super) fn caches(calls: &RunCalls, project: &ProjectName) -> Result<CachesReport, ApiError> {
    let results = &calls.results;
    let caches = results.caches(project.as_str()).map_err(failed)?;
    let evictions = results.evictions(project.as_str()).map_err(failed)?;
    let usage = results.usage().map_err(failed)?;
    let cache = |cache: havre_results::Cache| CacheInfo {
        id: cache.id,
        key: cache.key,
        scope: cache.scope,
        version: cache.version,
        size_bytes: cache.size,
        created: at(cache.created_ms),
        used: at(cache.used_ms),
    };
    let eviction = |gone: havre_results::Eviction| CacheEviction {
        at: at(gone.at_ms),
        key: gone.key,
        scope: gone.scope,
        size_bytes: gone.size,
        why: gone.why.to_string(),
    };
    let tools = calls.tools.as_ref();
    let tools = tools.map(|tools| tools.caches.list(project.as_str()));
    let tools = tools.transpose().map_err(unread)?.unwrap_or_default();
    let tools = tools.into_iter().map(|kept| CacheInfo {
        id: kept.id,
        key: format!("tools: {}", kept.names.join(", ")),
        scope: kept.scope,
        version: String::new(),
        size_bytes: kept.bytes,
        created: kept.used.into(),
        used: kept.used.into(),
    });
    Ok(CachesReport {
        caches: caches.into_iter().map(cache).chain(tools).collect(),
        evictions: evictions.into_iter().map(eviction).collect(),
        usage: ResultsUsage {
            artifacts: usage.artifacts,
            artifact_bytes: usage.artifact_bytes,
            caches: usage.caches,
            cache_bytes: usage.cache_bytes,
            pending_bytes: usage.pending_bytes,
            most_bytes: usage.most_bytes,
        },
    })
}

fn unread(error: std::io::Error) -> ApiError {
    ApiError::new(
        ErrorCode::Failed,
        format!("the tools of jobs cannot be looked through: {error}"),
    )
}

pub(super) fn remove_cache(
    calls: &RunCalls,
    request: &CacheRemoveRequest,
) -> Result<Empty, ApiError> {
    let CacheRemoveRequest { project, id } = request;
    if let Some(tools) = &calls.tools {
        let used = tools.boxes.tools_in_use();
        let used =
            used.map_err(|error| ApiError::new(ErrorCode::Failed, havre_base::one_line(&error)))?;
        let removed = tools.caches.remove(project.as_str(), *id, &used);
        if removed.map_err(unread)? {
            return Ok(Empty {});
        }
    }
    match calls
        .results
        .remove_cache(project.as_str(), *id)
        .map_err(failed)?
    {
        true => Ok(Empty {}),
        false => {
            let message = format!("{project} has no cache {id}");
            Err(ApiError::new(ErrorCode::NotFound, message)
                .with_hint("`havre ci cache ls` lists them"))
        }
    }
}

/// Artifacts belong to the run that nobody called.
pub(super) fn artifacts(results: &Results, root: RunId) -> Result<Vec<ArtifactInfo>, ApiError> {
    let artifacts = results.artifacts(&root.to_string()).map_err(failed)?;
    Ok(artifacts.into_iter().map(info).collect())
}

/// Sends an artifact, as fast as it is taken.
pub(super) fn send(
    results: &Results,
    root: RunId,
    name: &str,
    parts: &ItemSink<ArtifactPart>,
) -> Result<(), ApiError> {
    let found = results.open_artifact(&root.to_string(), name);
    let Some((artifact, mut content)) = found.map_err(failed)? else {
        let message = format!("the run has no artifact {name:?}");
        return Err(ApiError::new(ErrorCode::NotFound, message)
            .with_hint("without a name, `havre ci artifacts` lists them"));
    };
    let mut is_read = parts.blocking_send(ArtifactPart::Begins(info(artifact)));
    while is_read.is_ok() {
        let mut bytes = Vec::new();
        let part = content.by_ref().take(MAX_ARTIFACT_PART as u64);
        let mut part = part;
        part.read_to_end(&mut bytes)
            .map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
        if bytes.is_empty() {
            break;
        }
        is_read = parts.blocking_send(ArtifactPart::Bytes(bytes));
    }
    Ok(())
}

fn info(artifact: Artifact) -> ArtifactInfo {
    ArtifactInfo {
        name: artifact.name,
        mime: artifact.mime,
        size_bytes: artifact.size,
        digest: artifact.digest,
        created: at(artifact.created_ms),
        expires: at(artifact.expires_ms),
    }
}

fn at(ms: i64) -> Timestamp {
    time(u64::try_from(ms).unwrap_or(0))
}

fn failed(error: ResultsError) -> ApiError {
    ApiError::from_error(ErrorCode::Failed, &error)
}
