//! Room for what is to come: which caches give way.

use std::io;
use std::sync::MutexGuard;

use crate::error::ResultsError;
use crate::service::Results;
use crate::shown::Why;
use crate::tables::CacheRow;

/// How often caches give way for one upload: what is read while it goes frees nothing at once.
const ROUNDS: usize = 2;

/// What is lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shortage {
    bytes: u64,
    why: Why,
}

/// How things are, in bytes.
#[derive(Clone, Copy, Debug)]
struct State {
    kept: u64,
    total: u64,
    free: u64,
    floor: u64,
}

/// What is lacking for `need` bytes more.
fn shortage(state: State, need: u64) -> Option<Shortage> {
    let over = state.kept.saturating_add(need).saturating_sub(state.total);
    let under = need.saturating_add(state.floor).saturating_sub(state.free);
    match (over, under) {
        (0, 0) => None,
        (over, under) if over >= under => Some(Shortage {
            bytes: over,
            why: Why::TotalQuota,
        }),
        (_, under) => Some(Shortage {
            bytes: under,
            why: Why::DiskFull,
        }),
    }
}

/// The first rows that make `bytes` and `count` of room; `None`: all of them are too few.
fn choose(rows: Vec<CacheRow>, bytes: u64, count: u64) -> Option<Vec<CacheRow>> {
    let (mut freed, mut chosen) = (0u64, Vec::new());
    for row in rows {
        if freed >= bytes && chosen.len() as u64 >= count {
            break;
        }
        freed = freed.saturating_add(row.size);
        chosen.push(row);
    }
    (freed >= bytes && chosen.len() as u64 >= count).then_some(chosen)
}

impl Results {
    /// Has caches give way to `need` bytes more. `false`: there is no such room, and no cache has gone for nothing.
    pub(crate) fn make_room(&self, need: u64) -> Result<bool, ResultsError> {
        if self.lacking(need)?.is_none() {
            return Ok(true);
        }
        let _one = self.evicting();
        for _ in 0..ROUNDS {
            let Some(Shortage { bytes, why }) = self.lacking(need)? else {
                return Ok(true);
            };
            let rows = self.tables().least_used(None, u32::MAX)?;
            let Some(chosen) = choose(rows, bytes, 0) else {
                return Ok(false);
            };
            let gone = self.tables().evict(chosen, why)?;
            self.clear(gone);
        }
        Ok(self.lacking(need)?.is_none())
    }

    /// Has caches of a repository give way to one more of `size` bytes. Nobody else takes the room while what is
    /// returned is held. `None`: it alone is more than may be.
    pub(crate) fn make_repository_room(
        &self,
        repository: &str,
        size: u64,
    ) -> Result<Option<MutexGuard<'_, ()>>, ResultsError> {
        let limits = *self.limits();
        if size > limits.repository_caches || limits.caches_per_repository == 0 {
            return Ok(None);
        }
        let one = self.evicting();
        let repository = repository.to_owned();
        let (count, bytes) = self.tables().cache_usage(Some(repository.clone()))?;
        let over = (bytes + size).saturating_sub(limits.repository_caches);
        let many = (count + 1).saturating_sub(limits.caches_per_repository.into());
        if over > 0 || many > 0 {
            let rows = self.tables().least_used(Some(repository), u32::MAX)?;
            let Some(chosen) = choose(rows, over, many) else {
                return Ok(None);
            };
            let gone = self.tables().evict(chosen, Why::RepositoryQuota)?;
            self.clear(gone);
        }
        Ok(Some(one))
    }

    fn lacking(&self, need: u64) -> Result<Option<Shortage>, ResultsError> {
        let (stored, pending) = self.blobs().bytes();
        let free: io::Result<u64> = self.blobs().free();
        let state = State {
            kept: stored.saturating_add(pending),
            total: self.limits().total,
            free: free.map_err(ResultsError::io("ask how much of the disk is free"))?,
            floor: self.limits().free_floor,
        };
        Ok(shortage(state, need))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, size: u64) -> CacheRow {
        CacheRow {
            id,
            repository: String::new(),
            scope: String::new(),
            key: String::new(),
            version: String::new(),
            run: String::new(),
            job: String::new(),
            folder: String::new(),
            is_published: true,
            size,
            created: 0,
            used: id,
            expires: 0,
        }
    }

    #[test]
    fn the_greater_lack_counts() {
        let state = |kept, free| State {
            kept,
            total: 100,
            free,
            floor: 10,
        };
        let found = |kept, free, need| {
            shortage(state(kept, free), need).map(|short| (short.bytes, short.why))
        };
        assert_eq!(found(90, 20, 10), None);
        assert_eq!(found(91, 20, 10), Some((1, Why::TotalQuota)));
        assert_eq!(found(0, 19, 10), Some((1, Why::DiskFull)));
        assert_eq!(found(100, 5, 10), Some((15, Why::DiskFull)));
        assert_eq!(
            found(u64::MAX, 100, 10).map(|it| it.1),
            Some(Why::TotalQuota)
        );
    }

    #[test]
    fn the_first_go_and_none_where_all_are_too_few() {
        let rows = || vec![row(1, 5), row(2, 5), row(3, 5)];
        let ids = |bytes, count| {
            let chosen = choose(rows(), bytes, count)?;
            Some(chosen.iter().map(|row| row.id).collect::<Vec<_>>())
        };
        assert_eq!(ids(0, 0), Some(vec![]));
        assert_eq!(ids(5, 0), Some(vec![1]));
        assert_eq!(ids(6, 0), Some(vec![1, 2]));
        assert_eq!(ids(1, 3), Some(vec![1, 2, 3]));
        assert_eq!(ids(16, 0), None);
        assert_eq!(ids(0, 4), None);
    }
}
