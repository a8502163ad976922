//! What a job may do with artifacts.

use data_encoding::HEXLOWER;

use crate::blobs::{BlobError, Blobs};
use crate::failure::{Code, Failure, same_size};
use crate::names;
use crate::service::Results;
use crate::tables::{ArtifactRow, NewArtifact, Published, Reserved, now_ms};
use crate::token::Caller;

/// Most artifacts that a client is told of.
const MAX_LISTED: u32 = 1000;
/// What older clients upload, which say nothing of it.
const ZIP: &str = "application/zip";

/// What a client says of an artifact that it begins.
#[derive(Debug)]
pub(crate) struct Begin {
    pub(crate) name: String,
    pub(crate) mime: Option<String>,
    /// Milliseconds since 1970.
    pub(crate) expires: Option<i64>,
}

/// What a client says of an artifact that it has uploaded.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) hash: Option<String>,
}

/// These block.
impl Results {
    /// The folder to upload an artifact to.
    pub(crate) fn begin_artifact(&self, caller: &Caller, begin: Begin) -> Result<String, Failure> {
        names::artifact(&begin.name)?;
        let mime = begin.mime.unwrap_or_else(|| ZIP.to_owned());
        names::mime(&mime)?;
        if begin.expires.is_some_and(|expires| expires <= now_ms()) {
            return Err(Failure::new(
                Code::InvalidArgument,
                "expires_at is over already",
            ));
        }
        let quota = self.limits().repository_artifacts;
        let left = quota.saturating_sub(self.tables().artifacts_of(&caller.repository)?);
        if left == 0 {
            return Err(full(quota));
        }
        let folder = Blobs::new_name().map_err(BlobError::io("name the folder"))?;
        self.blobs()
            .begin(&folder, self.limits().artifact.min(left))?;
        let new = NewArtifact {
            repository: caller.repository.clone(),
            run: caller.run.clone(),
            job: caller.job.clone(),
            name: begin.name,
            mime,
            folder: folder.clone(),
            until: caller.expires.saturating_mul(1000),
            asked: begin.expires,
        };
        match self
            .tables()
            .reserve_artifact(new, self.limits().artifacts_per_run)
        {
            Ok(Reserved::Made(before)) => {
                self.clear(before);
                Ok(folder)
            }
            Ok(Reserved::Taken { is_published }) => {
                self.blobs().discard(&folder);
                Err(Failure::new(
                    Code::AlreadyExists,
                    match is_published {
                        true => "an artifact with this name already exists on the workflow run",
                        false => {
                            "another job of the workflow run is uploading an artifact with this name"
                        }
                    },
                ))
            }
            Ok(Reserved::TooMany) => {
                self.blobs().discard(&folder);
                Err(Failure::new(
                    Code::FailedPrecondition,
                    "the workflow run has as many artifacts as it may, or the job as many unfinished uploads",
                ))
            }
            Err(error) => {
                self.blobs().discard(&folder);
                Err(error.into())
            }
        }
    }

    /// The number of an artifact whose upload is complete. To say so again changes nothing.
    pub(crate) fn finish_artifact(&self, caller: &Caller, finish: &Finish) -> Result<i64, Failure> {
        let row = self.tables().artifact(&caller.run, &finish.name)?;
        let row = row
            .filter(|row| row.job == caller.job)
            .ok_or_else(missing)?;
        if row.is_published {
            return agrees(row.size, &row.digest, finish).map(|()| row.id);
        }
        let mut sealed = self.blobs().seal(&row.folder)?;
        // Before hashing for nothing.
        same_size(sealed.size(), finish.size)?;
        let digest = format!("sha256:{}", HEXLOWER.encode(&sealed.digest()?));
        agrees(sealed.size(), &digest, finish)?;
        sealed.sync()?;
        let retention = i64::try_from(self.limits().retention.as_millis()).unwrap_or(i64::MAX);
        let expires = now_ms().saturating_add(retention);
        let expires = row.asked.map_or(expires, |asked| asked.min(expires));
        let quota = self.limits().repository_artifacts;
        sealed.publish(|size| {
            let published = self
                .tables()
                .publish_artifact(row.id, size, digest, expires, quota)?;
            match published {
                Published::Done => Ok(row.id),
                Published::Gone => Err(missing()),
                Published::Full => Err(full(quota)),
            }
        })
    }

    /// Finished artifacts of the caller's run.
    pub(crate) fn list_artifacts(
        &self,
        caller: &Caller,
        name: Option<String>,
        id: Option<i64>,
    ) -> Result<Vec<ArtifactRow>, Failure> {
        Ok(self.tables().artifacts(&caller.run, name, id, MAX_LISTED)?)
    }

    /// The folder that an artifact is in.
    pub(crate) fn artifact_folder(&self, caller: &Caller, name: String) -> Result<String, Failure> {
        let mut rows = self.list_artifacts(caller, Some(name), None)?;
        rows.pop().map(|row| row.folder).ok_or_else(missing)
    }

    /// Removes an artifact, and says its number.
    pub(crate) fn delete_artifact(&self, caller: &Caller, name: &str) -> Result<i64, Failure> {
        let (id, gone) = self
            .tables()
            .delete_artifact(&caller.run, name)?
            .ok_or_else(missing)?;
        self.clear([gone]);
        Ok(id)
    }
}

fn agrees(size: u64, digest: &str, finish: &Finish) -> Result<(), Failure> {
    same_size(size, finish.size)?;
    match &finish.hash {
        Some(hash) if !hash.eq_ignore_ascii_case(digest) => Err(Failure::new(
            Code::InvalidArgument,
            format!("what was uploaded has the digest {digest}, not what was said"),
        )),
        Some(_) | None => Ok(()),
    }
}

fn full(quota: u64) -> Failure {
    Failure::new(
        Code::FailedPrecondition,
        format!(
            "the artifacts of this repository take the {} MiB that they may; remove runs with `havre ci rm`, keep them \
             for a shorter time, or raise `ci.artifacts` in machine.yaml",
            quota >> 20
        ),
    )
}

fn missing() -> Failure {
    Failure::new(
        Code::NotFound,
        "the workflow run has no artifact of this name",
    )
}
