//! The methods of both services: JSON in, JSON out, in the names of the protocol's fields.

use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use havre_base::body::{BodyError, collect};
use havre_base::time::{parse, rfc3339};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{PATIENCE, Server, origin};
use crate::artifacts::{Begin, Finish};
use crate::caches::Found;
use crate::failure::{Code, Failure};
use crate::tables::ArtifactRow;
use crate::token::Caller;

/// Most bytes of a request.
const MAX_BODY: usize = 64 << 10;
const ARTIFACTS: &str = "github.actions.results.api.v1.ArtifactService";
const CACHES: &str = "github.actions.results.api.v1.CacheService";

/// The ids that every request about artifacts has.
#[derive(Debug, Deserialize)]
struct Ids {
    #[serde(default, alias = "workflowRunBackendId")]
    workflow_run_backend_id: String,
    #[serde(default, alias = "workflowJobRunBackendId")]
    workflow_job_run_backend_id: String,
}

#[derive(Debug, Deserialize)]
struct CreateArtifact {
    #[serde(flatten)]
    ids: Ids,
    #[serde(default)]
    name: String,
    #[serde(default, alias = "expiresAt")]
    expires_at: Option<String>,
    #[serde(default, alias = "mimeType")]
    mime_type: Option<String>,
}

#[derive(Debug, Deserialize)]
struct FinalizeArtifact {
    #[serde(flatten)]
    ids: Ids,
    #[serde(default)]
    name: String,
    #[serde(default)]
    size: Number,
    #[serde(default)]
    hash: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ListArtifacts {
    #[serde(flatten)]
    ids: Ids,
    #[serde(default, alias = "nameFilter")]
    name_filter: Option<String>,
    #[serde(default, alias = "idFilter")]
    id_filter: Option<Number>,
}

#[derive(Debug, Deserialize)]
struct NamedArtifact {
    #[serde(flatten)]
    ids: Ids,
    #[serde(default)]
    name: String,
}

#[derive(Debug, Deserialize)]
struct CreateCacheEntry {
    #[serde(default)]
    key: String,
    #[serde(default)]
    version: String,
}

#[derive(Debug, Deserialize)]
struct FinalizeCacheEntry {
    #[serde(default)]
    key: String,
    #[serde(default)]
    version: String,
    #[serde(default, alias = "sizeBytes")]
    size_bytes: Number,
}

#[derive(Debug, Deserialize)]
struct GetCacheEntry {
    #[serde(default)]
    key: String,
    #[serde(default, alias = "restoreKeys")]
    restore_keys: Vec<String>,
    #[serde(default)]
    version: String,
}

/// A whole number: the protocol writes large ones as text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Number(u64),
}

impl Default for Number {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Number {
    fn value(&self, what: &str) -> Result<u64, Failure> {
        let value = match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        };
        // What the database can hold.
        value
            .filter(|value| i64::try_from(*value).is_ok())
            .ok_or_else(|| Failure::new(Code::InvalidArgument, format!("{what} is no size")))
    }
}

/// A call that has been read.
struct Call {
    caller: Caller,
    origin: String,
    body: Vec<u8>,
}

/// Answers a call of either service.
pub(super) async fn call(
    State(server): State<Server>,
    Path((service, method)): Path<(String, String)>,
    request: Request<Body>,
) -> Response {
    match answer(&server, &service, &method, request).await {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(failure) => refuse(&failure),
    }
}

/// Answers whatever is asked elsewhere.
pub(super) async fn unknown(request: Request<Body>) -> Response {
    let message = format!("nothing is served at {}", request.uri().path());
    refuse(&Failure::new(Code::BadRoute, message))
}

fn refuse(failure: &Failure) -> Response {
    let status = StatusCode::from_u16(failure.code.status());
    let status = status.expect("each code has a status that there is");
    let body = json!({ "code": failure.code.word(), "msg": failure.message });
    (status, axum::Json(body)).into_response()
}

async fn answer(
    server: &Server,
    service: &str,
    method: &str,
    request: Request<Body>,
) -> Result<Value, Failure> {
    let (parts, body) = request.into_parts();
    let authorization = text(&parts.headers, &header::AUTHORIZATION);
    let caller = server.results.caller(authorization)?;
    let origin = origin(&parts.uri, &parts.headers)
        .ok_or_else(|| Failure::new(Code::InvalidArgument, "the Host header names no host"))?;
    let body = tokio::time::timeout(PATIENCE, collect(body, MAX_BODY))
        .await
        .map_err(|_| Failure::new(Code::Malformed, "the body did not come"))?;
    let body = body.map_err(|error| match error {
        BodyError::TooLong(error) => Failure::new(Code::InvalidArgument, error.to_string()),
        BodyError::Broken(_) => Failure::new(Code::Malformed, "the body ended early"),
    })?;
    let body = body.to_vec();
    let (service, method) = (service.to_owned(), method.to_owned());
    let call = Call {
        caller,
        origin,
        body,
    };
    server
        .run(move |results| {
            results.still_runs(&call.caller)?;
            call.dispatch(results, &service, &method)
        })
        .await
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl Call {
    fn dispatch(
        &self,
        results: &crate::Results,
        service: &str,
        method: &str,
    ) -> Result<Value, Failure> {
        match (service, method) {
            (ARTIFACTS, "CreateArtifact") => self.create_artifact(results),
            (ARTIFACTS, "FinalizeArtifact") => self.finalize_artifact(results),
            (ARTIFACTS, "ListArtifacts") => self.list_artifacts(results),
            (ARTIFACTS, "GetSignedArtifactURL") => self.artifact_url(results),
            (ARTIFACTS, "DeleteArtifact") => self.delete_artifact(results),
            (CACHES, "CreateCacheEntry") => self.create_cache(results),
            (CACHES, "FinalizeCacheEntryUpload") => self.finalize_cache(results),
            (CACHES, "GetCacheEntryDownloadURL") => self.cache_url(results),
            _ => Err(Failure::new(
                Code::BadRoute,
                "there is no such method; artifacts v4 and caches v2 are served",
            )),
        }
    }

    fn create_artifact(&self, results: &crate::Results) -> Result<Value, Failure> {
        let asked: CreateArtifact = self.read()?;
        self.own_job(&asked.ids)?;
        let expires = asked.expires_at.as_deref().map(moment).transpose()?;
        let begin = Begin {
            name: asked.name,
            mime: asked.mime_type,
            expires,
        };
        let folder = results.begin_artifact(&self.caller, begin)?;
        let url = self.url(&results.upload_link(&folder, &self.caller));
        Ok(json!({ "ok": true, "signed_upload_url": url }))
    }

    fn finalize_artifact(&self, results: &crate::Results) -> Result<Value, Failure> {
        let asked: FinalizeArtifact = self.read()?;
        self.own_job(&asked.ids)?;
        let finish = Finish {
            size: asked.size.value("size")?,
            name: asked.name,
            hash: asked.hash,
        };
        let id = results.finish_artifact(&self.caller, &finish)?;
        Ok(json!({ "ok": true, "artifact_id": id.to_string() }))
    }

    fn list_artifacts(&self, results: &crate::Results) -> Result<Value, Failure> {
        let asked: ListArtifacts = self.read()?;
        self.own_run(&asked.ids)?;
        let id = asked
            .id_filter
            .map(|id| id.value("id_filter"))
            .transpose()?;
        let id = id.and_then(|id| i64::try_from(id).ok());
        let rows = results.list_artifacts(&self.caller, asked.name_filter, id)?;
        let artifacts: Vec<Value> = rows.iter().map(|row| self.artifact(row)).collect();
        Ok(json!({ "artifacts": artifacts }))
    }

    fn artifact_url(&self, results: &crate::Results) -> Result<Value, Failure> {
        let asked: NamedArtifact = self.read()?;
        self.own_run(&asked.ids)?;
        let folder = results.artifact_folder(&self.caller, asked.name)?;
        Ok(json!({ "signed_url": self.url(&results.download_link(&folder)) }))
    }

    fn delete_artifact(&self, results: &crate::Results) -> Result<Value, Failure> {
        let asked: NamedArtifact = self.read()?;
        self.own_run(&asked.ids)?;
        let id = results.delete_artifact(&self.caller, &asked.name)?;
        Ok(json!({ "ok": true, "artifact_id": id.to_string() }))
    }

    fn create_cache(&self, results: &crate::Results) -> Result<Value, Failure> {
        let asked: CreateCacheEntry = self.read()?;
        match results.begin_cache(&self.caller, asked.key, asked.version) {
            Ok(folder) => {
                let url = self.url(&results.upload_link(&folder, &self.caller));
                Ok(json!({ "ok": true, "signed_upload_url": url, "message": "" }))
            }
            // Clients tell that from a failure by how the message of such an answer begins.
            Err(failure) if failure.code == Code::PermissionDenied => {
                Ok(json!({ "ok": false, "signed_upload_url": "", "message": failure.message }))
            }
            Err(failure) => Err(failure),
        }
    }

    fn finalize_cache(&self, results: &crate::Results) -> Result<Value, Failure> {
        let asked: FinalizeCacheEntry = self.read()?;
        let size = asked.size_bytes.value("size_bytes")?;
        let id = results.finish_cache(&self.caller, (&asked.key, &asked.version), size)?;
        Ok(json!({ "ok": true, "entry_id": id.to_string(), "message": "" }))
    }

    fn cache_url(&self, results: &crate::Results) -> Result<Value, Failure> {
        let asked: GetCacheEntry = self.read()?;
        let mut keys = vec![asked.key];
        keys.extend(asked.restore_keys);
        Ok(
            match results.find_cache(&self.caller, keys, asked.version)? {
                Found::Hit { folder, key } => json!({
                    "ok": true,
                    "signed_download_url": self.url(&results.download_link(&folder)),
                    "matched_key": key,
                }),
                Found::Miss(None) => json!({ "ok": false }),
                Found::Miss(Some(why)) => json!({ "ok": false, "message": why }),
            },
        )
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let read = serde_json::from_slice(&self.body);
        read.map_err(|error| {
            Failure::new(
                Code::Malformed,
                format!("the body is not what was expected: {error}"),
            )
        })
    }

    fn own_run(&self, ids: &Ids) -> Result<(), Failure> {
        match ids.workflow_run_backend_id == self.caller.run {
            true => Ok(()),
            false => Err(Failure::new(
                Code::PermissionDenied,
                "the token is of another workflow run",
            )),
        }
    }

    fn own_job(&self, ids: &Ids) -> Result<(), Failure> {
        self.own_run(ids)?;
        match ids.workflow_job_run_backend_id == self.caller.job {
            true => Ok(()),
            false => Err(Failure::new(
                Code::PermissionDenied,
                "the token is of another job",
            )),
        }
    }

    fn url(&self, link: &str) -> String {
        format!("{}{link}", self.origin)
    }

    fn artifact(&self, row: &ArtifactRow) -> Value {
        let created = u64::try_from(row.created).unwrap_or(0);
        let created = UNIX_EPOCH + std::time::Duration::from_millis(created);
        json!({
            "workflow_run_backend_id": self.caller.run,
            "workflow_job_run_backend_id": row.job,
            "database_id": row.id.to_string(),
            "name": row.name,
            "size": row.size.to_string(),
            "created_at": rfc3339(created, 3),
            "digest": row.digest,
        })
    }
}

/// Milliseconds since 1970.
fn moment(text: &str) -> Result<i64, Failure> {
    parse(text)
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .ok_or_else(|| Failure::new(Code::InvalidArgument, "expires_at is no time in UTC"))
}
