//! What keeps artifacts and caches.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use havre_store::{Store, now};
use ring::hmac;

use crate::blobs::Blobs;
use crate::error::ResultsError;
use crate::failure::{Code, Failure};
use crate::limits::Limits;
use crate::link::{self, Purpose};
use crate::shown::Why;
use crate::tables::{Gone, Tables, now_ms};
use crate::token::{self, Caller, Grant, GrantError, MAX_LIFE};

/// How long an address of a download is good for.
const DOWNLOAD_S: i64 = 3600;
/// What a boot of the machine is told by.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Artifacts and caches. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub struct Results(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tables: Tables,
    blobs: Blobs,
    limits: Limits,
    tokens: hmac::Key,
    links: hmac::Key,
    boot: String,
    evicting: Mutex<()>,
}

impl Results {
    /// Those of `dir`, which is made where it is missing, and of a database that was opened with [`crate::SCHEMA`].
    /// What an earlier process left behind in the midst of something is cleared; uploads go on. Tokens and addresses
    /// hold as long as `key` is the same. It blocks.
    pub fn open(
        store: Arc<Store>,
        dir: PathBuf,
        key: &[u8; 32],
        limits: Limits,
    ) -> Result<Self, ResultsError> {
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(ResultsError::io("make the folder of artifacts and caches"))?;
        let blobs = Blobs::open(&dir, limits.total)
            .map_err(ResultsError::io("make the folders of artifacts and caches"))?;
        let boot = havre_base::read_small(BOOT.as_ref(), 64).map_err(ResultsError::io(
            "tell this boot of the machine from others",
        ))?;
        let results = Self(Arc::new(Inner {
            tables: Tables::new(store),
            blobs,
            limits,
            tokens: derived(key, b"havre-results-1 token"),
            links: derived(key, b"havre-results-1 address"),
            boot: boot.trim().to_owned(),
            evicting: Mutex::new(()),
        }));
        results.recover()?;
        Ok(results)
    }

    /// The token of a job, `ACTIONS_RUNTIME_TOKEN`.
    pub fn token(&self, grant: &Grant) -> Result<String, GrantError> {
        token::sign(&self.0.tokens, grant, now())
    }

    /// Ends a job: its tokens hold no more, and what it did not finish is given up, so that others may have its names.
    /// It is safe to say so twice. It blocks.
    pub fn job_ended(&self, run: &str, job: &str) -> Result<(), ResultsError> {
        let gone = self.tables().end(run, job)?;
        self.clear(gone);
        Ok(())
    }

    /// What is to be done once in a while, say every minute: artifacts and uploads whose time is over go, caches give
    /// way to a full disk, new ones are written to it. It blocks.
    pub fn tend(&self) -> Result<(), ResultsError> {
        let now = now_ms();
        let life = i64::try_from(MAX_LIFE.as_millis()).unwrap_or(i64::MAX);
        self.clear(self.tables().expire(now, now.saturating_sub(life))?);
        self.clear(self.tables().delete_expired(now)?);
        if !self.make_room(0)? {
            tracing::warn!(
                "artifacts leave too little room on the disk, and there is no cache to go"
            );
        }
        for (row, _) in self.tables().unsynced()? {
            match self.blobs().sync(&row.folder) {
                Ok(()) => self.tables().synced(row.id)?,
                // It was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ResultsError::io("write a cache to the disk")(error)),
            }
        }
        Ok(())
    }

    /// What the last process, or the last boot, left.
    fn recover(&self) -> Result<(), ResultsError> {
        let unsynced = self.tables().unsynced()?;
        let lost = unsynced
            .into_iter()
            .filter(|(_, boot)| *boot != self.0.boot);
        let lost: Vec<_> = lost.map(|(row, _)| row).collect();
        self.tables().evict(lost, Why::Lost)?;
        let now = now_ms();
        self.tables().expire(now, 0)?;
        self.tables().delete_expired(now)?;
        let known = self
            .tables()
            .known(self.limits().artifact, self.limits().cache)?;
        let missing = self
            .blobs()
            .adopt(&known)
            .map_err(ResultsError::io("look through artifacts and caches"))?;
        if !missing.is_empty() {
            tracing::warn!(
                count = missing.len(),
                "files of artifacts or caches are gone"
            );
            self.tables().forget_folders(missing)?;
        }
        Ok(())
    }

    /// Who calls: of the value of an `Authorization` header.
    pub(crate) fn caller(&self, authorization: Option<&str>) -> Result<Caller, Failure> {
        let refused = |why: &str| Failure::new(Code::Unauthenticated, why);
        let token = authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        let token = token.ok_or_else(|| refused("a job's token is needed"))?;
        token::verify(&self.0.tokens, token, now()).map_err(|error| refused(&error.to_string()))
    }

    /// Refuses who was part of a job that has ended.
    pub(crate) fn still_runs(&self, caller: &Caller) -> Result<(), Failure> {
        match self.tables().has_ended(&caller.run, &caller.job)? {
            false => Ok(()),
            true => Err(Failure::new(
                Code::Unauthenticated,
                "the token's job has ended",
            )),
        }
    }

    /// Path and query of an address to upload to, for as long as its caller's token holds.
    pub(crate) fn upload_link(&self, folder: &str, caller: &Caller) -> String {
        link::make(&self.0.links, Purpose::Upload, folder, caller.expires)
    }

    /// Path and query of an address to download from.
    pub(crate) fn download_link(&self, folder: &str) -> String {
        link::make(&self.0.links, Purpose::Download, folder, now() + DOWNLOAD_S)
    }

    /// Whether an address is one that was given out, and its time is not over.
    pub(crate) fn link_holds(
        &self,
        purpose: Purpose,
        folder: &str,
        expires: i64,
        signature: &str,
    ) -> bool {
        link::holds(&self.0.links, purpose, folder, (expires, signature), now())
    }

    /// Removes the files of what the database has forgotten.
    pub(crate) fn clear(&self, gone: impl IntoIterator<Item = Gone>) {
        for Gone { folder, published } in gone {
            match published {
                Some(size) => self.blobs().remove(&folder, size),
                None => self.blobs().discard(&folder),
            }
        }
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.0.tables
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn boot(&self) -> &str {
        &self.0.boot
    }

    /// One at a time has caches give way, so that two do not for the same lack.
    pub(crate) fn evicting(&self) -> MutexGuard<'_, ()> {
        // There is nothing behind it that could be half done.
        self.0
            .evicting
            .lock()
            .unwrap_or_else(|held| held.into_inner())
    }
}

/// A key for one purpose, of one for all.
fn derived(key: &[u8; 32], purpose: &[u8]) -> hmac::Key {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, purpose).as_ref())
}
