//! What a job may do with caches.

use std::time::{Duration, UNIX_EPOCH};

use havre_base::time::rfc3339;

use crate::blobs::{BlobError, Blobs};
use crate::failure::{Code, Failure, same_size};
use crate::names;
use crate::service::Results;
use crate::shown::Eviction;
use crate::tables::{Lookup, NewCache, Reserved};
use crate::token::Caller;

/// Most keys of a lookup; GitHub's clients send ten at most.
const MAX_KEYS: usize = 32;

/// What a lookup came to.
#[derive(Debug)]
pub(crate) enum Found {
    /// This one.
    Hit {
        /// Where it is.
        folder: String,
        /// What it is called.
        key: String,
    },
    /// None; and why, where there is something to say.
    Miss(Option<String>),
}

/// These block.
impl Results {
    /// The folder to upload a cache to.
    pub(crate) fn begin_cache(
        &self,
        caller: &Caller,
        key: String,
        version: String,
    ) -> Result<String, Failure> {
        names::key(&key)?;
        names::version(&version)?;
        let scope = caller.writable().ok_or_else(write_denied)?.to_owned();
        let folder = Blobs::new_name().map_err(BlobError::io("name the folder"))?;
        self.blobs().begin(&folder, self.limits().cache)?;
        let new = NewCache {
            repository: caller.repository.clone(),
            scope,
            key,
            version,
            run: caller.run.clone(),
            job: caller.job.clone(),
            folder: folder.clone(),
            until: caller.expires.saturating_mul(1000),
        };
        let failure = match self.tables().reserve_cache(new) {
            Ok(Reserved::Made(before)) => {
                self.clear(before);
                return Ok(folder);
            }
            Ok(Reserved::Taken { is_published: true }) => Failure::new(
                Code::AlreadyExists,
                "cache entry with the same key, version, and scope already exists",
            ),
            Ok(Reserved::Taken {
                is_published: false,
            }) => Failure::new(
                Code::AlreadyExists,
                "another job is saving a cache entry with the same key, version, and scope",
            ),
            Ok(Reserved::TooMany) => Failure::new(
                Code::FailedPrecondition,
                "the job has as many unfinished caches as it may",
            ),
            Err(error) => error.into(),
        };
        self.blobs().discard(&folder);
        Err(failure)
    }

    /// The number of a cache whose upload is complete. To say so again changes nothing.
    pub(crate) fn finish_cache(
        &self,
        caller: &Caller,
        (key, version): (&str, &str),
        size: u64,
    ) -> Result<i64, Failure> {
        let scope = caller.writable().ok_or_else(write_denied)?;
        let row = self
            .tables()
            .cache(&caller.repository, scope, version, key)?;
        let row = row.filter(|row| row.run == caller.run && row.job == caller.job);
        let row = row.ok_or_else(missing)?;
        if row.is_published {
            return same_size(row.size, size).map(|()| row.id);
        }
        let sealed = self.blobs().seal(&row.folder)?;
        same_size(sealed.size(), size)?;
        let room = self.make_repository_room(&caller.repository, size)?;
        let _room = room.ok_or_else(|| {
            let why = format!("{size} bytes are more than all caches of a repository may have");
            Failure::new(Code::FailedPrecondition, why)
        })?;
        sealed.publish(|size| {
            let boot = self.boot().to_owned();
            match self.tables().publish_cache(row.id, size, boot)? {
                true => Ok(row.id),
                false => Err(missing()),
            }
        })
    }

    /// The cache that fits best.
    pub(crate) fn find_cache(
        &self,
        caller: &Caller,
        keys: Vec<String>,
        version: String,
    ) -> Result<Found, Failure> {
        if keys.len() > MAX_KEYS {
            return Err(Failure::new(
                Code::InvalidArgument,
                "there are more than 32 keys",
            ));
        }
        for key in &keys {
            names::key(key)?;
        }
        names::version(&version)?;
        let scopes = caller.readable();
        if scopes.is_empty() {
            return Err(Failure::new(
                Code::PermissionDenied,
                "cache read denied: the job's cache mode does not let it restore caches",
            ));
        }
        let lookup = Lookup {
            repository: caller.repository.clone(),
            scopes,
            version,
            keys,
        };
        Ok(match self.tables().find_cache(lookup.clone())? {
            Some(row) => Found::Hit {
                folder: row.folder,
                key: row.key,
            },
            None => Found::Miss(self.tables().evicted(lookup)?.map(|it| told(&it))),
        })
    }
}

/// What a miss says of a cache that was there.
fn told(eviction: &Eviction) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(eviction.at_ms).unwrap_or(0));
    let (at, why) = (rfc3339(at, 0), eviction.why);
    format!("a cache of this key was evicted at {at}: {why}")
}

fn write_denied() -> Failure {
    Failure::new(
        Code::PermissionDenied,
        "cache write denied: the job may not save caches on its ref",
    )
}

fn missing() -> Failure {
    Failure::new(Code::NotFound, "the job has reserved no such cache")
}
