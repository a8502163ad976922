//! What serves artifacts and caches: calls in JSON, and uploads in blocks.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::http::{Ask, Fetched, Http};
use crate::step::Step;

const ARTIFACTS: &str = "github.actions.results.api.v1.ArtifactService";
const CACHES: &str = "github.actions.results.api.v1.CacheService";

/// The service, as this job may use it.
pub(crate) struct Results {
    http: Http,
    origin: String,
    token: String,
    run: String,
    job: String,
}

/// A cache that was found.
#[derive(Deserialize)]
pub(crate) struct Hit {
    #[serde(rename = "signed_download_url")]
    pub(crate) url: String,
    #[serde(rename = "matched_key")]
    pub(crate) key: String,
}

/// An artifact of the run.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Listed {
    pub(crate) workflow_run_backend_id: String,
    pub(crate) workflow_job_run_backend_id: String,
    #[serde(deserialize_with = "number")]
    pub(crate) database_id: u64,
    pub(crate) name: String,
    /// `sha256:` and hex.
    #[serde(default)]
    pub(crate) digest: Option<String>,
}

impl Results {
    /// `None`: this job has no such service.
    pub(crate) fn of(step: &Step) -> Result<Option<Self>, Failure> {
        let (Some(url), Some(token)) = (
            step.var("ACTIONS_RESULTS_URL"),
            step.var("ACTIONS_RUNTIME_TOKEN"),
        ) else {
            return Ok(None);
        };
        let Some((run, job)) = ids(token) else {
            return Err(Failure::Refused(
                "ACTIONS_RUNTIME_TOKEN names no run and job".to_owned(),
            ));
        };
        let origin = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        Ok(Some(Self {
            http: Http::new()?,
            origin,
            token: token.to_owned(),
            run,
            job,
        }))
    }

    /// The first of these keys that there is a cache of: the whole key, then beginnings.
    pub(crate) fn find_cache(
        &self,
        key: &str,
        restore: &[String],
        version: &str,
    ) -> Result<Option<Hit>, Failure> {
        let asked = json!({"key": key, "restore_keys": restore, "version": version});
        let answer = self.call(CACHES, "GetCacheEntryDownloadURL", &asked)?;
        if answer["ok"] != json!(true) {
            return Ok(None);
        }
        read(answer).map(Some)
    }

    /// Where to put a new cache; `None`: there is one, or it may not be written.
    pub(crate) fn begin_cache(
        &self,
        key: &str,
        version: &str,
    ) -> Result<Result<String, String>, Failure> {
        let answer = self.call(
            CACHES,
            "CreateCacheEntry",
            &json!({"key": key, "version": version}),
        );
        let answer = match answer {
            Err(Failure::Service {
                why,
                status: 409 | 403,
            }) => return Ok(Err(why)),
            answer => answer?,
        };
        match (
            answer["ok"] == json!(true),
            answer["signed_upload_url"].as_str(),
        ) {
            (true, Some(url)) => Ok(Ok(url.to_owned())),
            _ => Ok(Err(answer["message"]
                .as_str()
                .unwrap_or("there is one of this key")
                .to_owned())),
        }
    }

    pub(crate) fn end_cache(&self, key: &str, version: &str, bytes: u64) -> Result<(), Failure> {
        let asked = json!({"key": key, "version": version, "size_bytes": bytes.to_string()});
        let answer = self.call(CACHES, "FinalizeCacheEntryUpload", &asked)?;
        expect_ok(&answer, "the cache was not taken")
    }

    /// Where to put a new artifact.
    pub(crate) fn begin_artifact(
        &self,
        name: &str,
        kind: &str,
        expires: Option<&str>,
    ) -> Result<String, Failure> {
        let mut asked = self.with_ids(json!({"name": name, "version": 7, "mime_type": kind}));
        if let Some(expires) = expires {
            asked["expires_at"] = json!(expires);
        }
        let answer = self.call(ARTIFACTS, "CreateArtifact", &asked)?;
        expect_ok(&answer, "the artifact was not taken")?;
        match answer["signed_upload_url"].as_str() {
            Some(url) => Ok(url.to_owned()),
            None => Err(unread("signed_upload_url is missing")),
        }
    }

    /// The id of the artifact.
    pub(crate) fn end_artifact(
        &self,
        name: &str,
        bytes: u64,
        sha256: &str,
    ) -> Result<u64, Failure> {
        let asked =
            json!({"name": name, "size": bytes.to_string(), "hash": format!("sha256:{sha256}")});
        let answer = self.call(ARTIFACTS, "FinalizeArtifact", &self.with_ids(asked))?;
        expect_ok(&answer, "the artifact was not taken")?;
        let id = &answer["artifact_id"];
        let id = id.as_u64().or_else(|| id.as_str()?.parse().ok());
        id.ok_or_else(|| unread("artifact_id is missing"))
    }

    /// Whether there was one.
    pub(crate) fn delete_artifact(&self, name: &str) -> Result<bool, Failure> {
        match self.call(
            ARTIFACTS,
            "DeleteArtifact",
            &self.with_ids(json!({"name": name})),
        ) {
            Err(Failure::Service { status: 404, .. }) => Ok(false),
            answer => Ok(answer?["ok"] == json!(true)),
        }
    }

    pub(crate) fn artifacts(&self) -> Result<Vec<Listed>, Failure> {
        let mut answer = self.call(ARTIFACTS, "ListArtifacts", &self.with_ids(json!({})))?;
        match answer["artifacts"].take() {
            Value::Null => Ok(Vec::new()),
            list => read(list),
        }
    }

    pub(crate) fn artifact_url(&self, artifact: &Listed) -> Result<String, Failure> {
        let asked = json!({
            "workflow_run_backend_id": artifact.workflow_run_backend_id,
            "workflow_job_run_backend_id": artifact.workflow_job_run_backend_id,
            "name": artifact.name,
        });
        let answer = self.call(ARTIFACTS, "GetSignedArtifactURL", &asked)?;
        match answer["signed_url"].as_str() {
            Some(url) => Ok(url.to_owned()),
            None => Err(unread("signed_url is missing")),
        }
    }

    pub(crate) fn fetch(&self, url: &str, into: &Path) -> Result<Fetched, Failure> {
        Ok(self.http.fetch(url, None, into)?)
    }

    /// Puts a file where the service said, in blocks of so many bytes, which are named in their order at the end.
    pub(crate) fn upload(&self, url: &str, path: &Path, block: usize) -> Result<(), Failure> {
        let doing = || Failure::io(format!("read {}", path.display()));
        let mut file = File::open(path).map_err(doing())?;
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for place in 0u32.. {
            let part = read_block(&mut file, block).map_err(doing())?;
            if part.is_empty() {
                break;
            }
            let id = BASE64.encode(format!("{place:010}").as_bytes());
            let escaped = id
                .replace('+', "%2B")
                .replace('/', "%2F")
                .replace('=', "%3D");
            self.put(&format!("{url}&comp=block&blockid={escaped}"), part)?;
            list.push_str(&format!("<Latest>{id}</Latest>"));
        }
        list.push_str("</BlockList>");
        self.put(&format!("{url}&comp=blocklist"), list.into())
    }

    fn put(&self, url: &str, body: Bytes) -> Result<(), Failure> {
        let headers = vec![("x-ms-version", "2024-11-04".to_owned())];
        let answer = self.http.ask(&Ask {
            method: Method::PUT,
            url,
            headers,
            body,
        })?;
        if answer.status == StatusCode::CREATED {
            return Ok(());
        }
        Err(said(answer.status, &answer.body))
    }

    fn with_ids(&self, mut asked: Value) -> Value {
        asked["workflow_run_backend_id"] = json!(self.run);
        asked["workflow_job_run_backend_id"] = json!(self.job);
        asked
    }

    fn call(&self, service: &str, method: &str, asked: &Value) -> Result<Value, Failure> {
        let url = format!("{}/twirp/{service}/{method}", self.origin);
        let headers = vec![
            ("authorization", format!("Bearer {}", self.token)),
            ("content-type", "application/json".to_owned()),
        ];
        let body = asked.to_string().into();
        let answer = self.http.ask(&Ask {
            method: Method::POST,
            url: &url,
            headers,
            body,
        })?;
        if answer.status != StatusCode::OK {
            return Err(said(answer.status, &answer.body));
        }
        serde_json::from_slice(&answer.body).map_err(|error| unread(&error.to_string()))
    }
}

fn expect_ok(answer: &Value, why: &str) -> Result<(), Failure> {
    if answer["ok"] == json!(true) {
        return Ok(());
    }
    let why = answer["message"].as_str().unwrap_or(why).to_owned();
    Err(Failure::Service { why, status: 200 })
}

fn said(status: StatusCode, body: &[u8]) -> Failure {
    let told: Option<Value> = serde_json::from_slice(body).ok();
    let text = told.as_ref().and_then(|told| told["msg"].as_str());
    let why = text.map_or_else(|| format!("it answers {status}"), str::to_owned);
    Failure::Service {
        why,
        status: status.as_u16(),
    }
}

fn unread(why: &str) -> Failure {
    Failure::Service {
        why: format!("what it answers cannot be read: {why}"),
        status: 200,
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| unread(&error.to_string()))
}

fn number<'d, D: serde::Deserializer<'d>>(from: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(from)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| serde::de::Error::custom("expected a number"))
}

/// Whether a token is one that Havre gives to jobs: it opens nothing elsewhere, and is nobody else's business.
pub(crate) fn is_own(step: &Step, token: &str) -> bool {
    let variables = [
        "HAVRE_TOKEN",
        "GITHUB_TOKEN",
        "ACTIONS_RUNTIME_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    ];
    variables.iter().any(|name| step.var(name) == Some(token))
        || token.starts_with(havre_job::JOB_TOKEN)
        || ids(token).is_some()
}

/// Run and job, from the claim `scp` of the token; whether it is genuine is the service's to know.
fn ids(token: &str) -> Option<(String, String)> {
    let claims = BASE64URL_NOPAD
        .decode(token.split('.').nth(1)?.as_bytes())
        .ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let scope = claims["scp"]
        .as_str()?
        .split(' ')
        .find_map(|scope| scope.strip_prefix("Actions.Results:"))?;
    let (run, job) = scope.split_once(':')?;
    Some((run.to_owned(), job.to_owned()))
}

fn read_block(file: &mut File, most: usize) -> io::Result<Bytes> {
    let mut part = Vec::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    io::Read::by_ref(file).take(most).read_to_end(&mut part)?;
    Ok(part.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_and_job_are_in_the_token() {
        let token = |claims: &str| format!("h.{}.s", BASE64URL_NOPAD.encode(claims.as_bytes()));
        let good = token(r#"{"scp":"Actions.Other Actions.Results:r1:j2"}"#);
        assert_eq!(ids(&good), Some(("r1".to_owned(), "j2".to_owned())));
        assert_eq!(ids(&token(r#"{"scp":"Actions.Results:r1"}"#)), None);
        assert_eq!(ids("no token"), None);
    }
}
