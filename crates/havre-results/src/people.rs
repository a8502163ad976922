//! What people may look at, and remove.

use crate::blobs::Content;
use crate::error::ResultsError;
use crate::service::Results;
use crate::shown::{Artifact, Cache, Eviction, Usage};
use crate::tables::{ArtifactRow, CacheRow};

/// Most caches that are listed.
const MAX_LISTED: u32 = 10_000;

/// These calls block; tasks leave them to another thread.
impl Results {
    /// The caches of a repository, the newest first; at most 10,000.
    pub fn caches(&self, repository: &str) -> Result<Vec<Cache>, ResultsError> {
        let rows = self.tables().caches(repository, MAX_LISTED)?;
        Ok(rows.into_iter().map(Cache::from).collect())
    }

    /// Removes a cache. `false`: there is none of this number.
    pub fn remove_cache(&self, repository: &str, id: i64) -> Result<bool, ResultsError> {
        let gone = self.tables().delete_cache(repository, id)?;
        let was_there = gone.is_some();
        self.clear(gone);
        Ok(was_there)
    }

    /// Caches of a repository that went without being asked to, the newest first; at most 1,000 of all repositories
    /// are remembered.
    pub fn evictions(&self, repository: &str) -> Result<Vec<Eviction>, ResultsError> {
        Ok(self.tables().evictions(repository)?)
    }

    /// The finished artifacts of a run, the oldest first; at most 1,000.
    pub fn artifacts(&self, run: &str) -> Result<Vec<Artifact>, ResultsError> {
        let rows = self.tables().artifacts(run, None, None, 1000)?;
        Ok(rows.into_iter().map(Artifact::from).collect())
    }

    /// An artifact with its bytes; `None`: there is none of this name.
    pub fn open_artifact(
        &self,
        run: &str,
        name: &str,
    ) -> Result<Option<(Artifact, Content)>, ResultsError> {
        let mut rows = self
            .tables()
            .artifacts(run, Some(name.to_owned()), None, 1)?;
        let Some(row) = rows.pop() else {
            return Ok(None);
        };
        let content = self
            .blobs()
            .read(&row.folder)
            .map_err(ResultsError::io("open an artifact"))?;
        Ok(Some((row.into(), content)))
    }

    /// Removes all artifacts of a run, unfinished ones among them. Says how many.
    pub fn remove_artifacts(&self, run: &str) -> Result<usize, ResultsError> {
        let gone = self.tables().delete_artifacts(run)?;
        let count = gone.len();
        self.clear(gone);
        Ok(count)
    }

    /// How much is kept.
    pub fn usage(&self) -> Result<Usage, ResultsError> {
        let (artifacts, artifact_bytes) = self.tables().artifact_usage()?;
        let (caches, cache_bytes) = self.tables().cache_usage(None)?;
        Ok(Usage {
            artifacts,
            artifact_bytes,
            caches,
            cache_bytes,
            pending_bytes: self.blobs().bytes().1,
            most_bytes: self.limits().total,
        })
    }
}

impl From<CacheRow> for Cache {
    fn from(row: CacheRow) -> Self {
        Self {
            id: row.id,
            scope: row.scope,
            key: row.key,
            version: row.version,
            size: row.size,
            created_ms: row.created,
            used_ms: row.used,
        }
    }
}

impl From<ArtifactRow> for Artifact {
    fn from(row: ArtifactRow) -> Self {
        Self {
            id: row.id,
            job: row.job,
            name: row.name,
            mime: row.mime,
            size: row.size,
            digest: row.digest,
            created_ms: row.created,
            expires_ms: row.expires,
        }
    }
}
