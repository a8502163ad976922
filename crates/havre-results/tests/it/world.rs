//! Artifacts and caches in a folder of their own, served on a port.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use havre_results::{CacheMode, Grant, Limits, Results, SCHEMA};
use havre_store::Store;
use serde_json::{Value, json};

use crate::client::{self, Answer};

pub const KEY: [u8; 32] = [7; 32];
pub const MAIN: &str = "refs/heads/main";
const ARTIFACTS: &str = "/twirp/github.actions.results.api.v1.ArtifactService";
const CACHES: &str = "/twirp/github.actions.results.api.v1.CacheService";

/// What may be kept in tests, where the disk may be as full as it is.
pub const LIMITS: Limits = Limits {
    total: 1 << 40,
    free_floor: 0,
    repository_artifacts: 1 << 40,
    repository_caches: 1 << 40,
    artifact: 1 << 30,
    cache: 1 << 30,
    artifacts_per_run: 100,
    caches_per_repository: 100,
    retention: Duration::from_secs(3600),
};

pub struct World {
    folder: tempfile::TempDir,
    /// Where the files are.
    pub dir: PathBuf,
    pub limits: Limits,
    pub results: Results,
    pub address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl World {
    pub fn new() -> Self {
        Self::with(LIMITS)
    }

    pub fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("results");
        Self::at(folder, dir, limits)
    }

    pub fn at(folder: tempfile::TempDir, dir: PathBuf, limits: Limits) -> Self {
        let (results, address, runtime) = serve(folder.path(), &dir, limits);
        Self {
            folder,
            dir,
            limits,
            results,
            address,
            runtime: Some(runtime),
        }
    }

    /// Ends the server as a kill does: whatever is on its way is lost. Then it starts again.
    pub fn restart(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
        let (results, address, runtime) = serve(self.folder.path(), &self.dir, self.limits);
        (self.results, self.address, self.runtime) = (results, address, Some(runtime));
    }

    /// The folder that the database is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn job(&self, run: &str, job: &str) -> Job<'_> {
        self.granted(&grant(run, job))
    }

    pub fn granted(&self, grant: &Grant) -> Job<'_> {
        Job {
            world: self,
            run: grant.run.clone(),
            job: grant.job.clone(),
            token: self.results.token(grant).unwrap(),
        }
    }

    pub fn put(&self, url: &str, more: &str, body: &[u8]) -> Answer {
        let target = format!("{}{more}", self.target(url));
        client::send(self.address, "PUT", &target, &[], body)
    }

    pub fn get(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        client::send(self.address, "GET", &self.target(url), headers, &[])
    }

    /// Path and query; addresses of a server that is gone are as good.
    pub fn target(&self, url: &str) -> String {
        let rest = url.strip_prefix("http://").unwrap();
        rest[rest.find('/').unwrap()..].to_owned()
    }

    /// Puts blocks, the last one first, and then their list.
    pub fn put_blocks(&self, url: &str, blocks: &[&[u8]]) {
        for (n, block) in blocks.iter().enumerate().rev() {
            let answer = self.put(url, &block_query(n), block);
            assert_eq!(answer.status, 201, "block {n}");
            assert!(answer.headers.contains_key("x-ms-request-id"));
        }
        assert_eq!(self.put_list(url, blocks.len()).status, 201);
    }

    pub fn put_list(&self, url: &str, count: usize) -> Answer {
        self.put(url, "&comp=blocklist", list(count).as_bytes())
    }

    /// Names in a folder of the files.
    pub fn names(&self, part: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.dir.join(part))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A job, as its clients.
pub struct Job<'a> {
    pub world: &'a World,
    pub run: String,
    pub job: String,
    pub token: String,
}

impl Job<'_> {
    pub fn artifact(&self, method: &str, mut more: Value) -> Answer {
        let ids = more.as_object_mut().unwrap();
        let mut put = |name: &str, id: &str| {
            ids.entry(name).or_insert_with(|| id.into());
        };
        put("workflow_run_backend_id", &self.run);
        put("workflow_job_run_backend_id", &self.job);
        self.call(&format!("{ARTIFACTS}/{method}"), &more)
    }

    pub fn cache(&self, method: &str, body: Value) -> Answer {
        self.call(&format!("{CACHES}/{method}"), &body)
    }

    pub fn call(&self, target: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str())];
        client::send(
            self.world.address,
            "POST",
            target,
            &headers,
            body.to_string().as_bytes(),
        )
    }

    /// Begins an artifact, and says where to.
    pub fn begin_artifact(&self, name: &str) -> String {
        let answer = self.artifact("CreateArtifact", json!({ "name": name, "version": 7 }));
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()["signed_upload_url"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Uploads a whole artifact.
    pub fn upload(&self, name: &str, bytes: &[u8]) -> Answer {
        let url = self.begin_artifact(name);
        self.world.put_blocks(&url, &[bytes]);
        self.finish(name, bytes.len())
    }

    pub fn finish(&self, name: &str, size: usize) -> Answer {
        self.artifact(
            "FinalizeArtifact",
            json!({ "name": name, "size": size.to_string() }),
        )
    }

    pub fn artifact_url(&self, name: &str) -> String {
        let answer = self.artifact("GetSignedArtifactURL", json!({ "name": name }));
        answer.json()["signed_url"].as_str().unwrap().to_owned()
    }

    pub fn reserve(&self, key: &str) -> Answer {
        self.cache("CreateCacheEntry", json!({ "key": key, "version": "v" }))
    }

    /// Saves a cache.
    pub fn save(&self, key: &str, bytes: &[u8]) {
        let answer = self.save_or(key, bytes);
        assert_eq!(answer.status, 200, "{}", answer.json());
    }

    pub fn save_or(&self, key: &str, bytes: &[u8]) -> Answer {
        let answer = self.reserve(key).json();
        let url = answer["signed_upload_url"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(self.world.put(url, "", bytes).status, 201);
        let asked = json!({ "key": key, "version": "v", "size_bytes": bytes.len().to_string() });
        self.cache("FinalizeCacheEntryUpload", asked)
    }

    pub fn look_up(&self, keys: &[&str]) -> Value {
        let asked = json!({ "key": keys[0], "restore_keys": keys[1..], "version": "v" });
        let answer = self.cache("GetCacheEntryDownloadURL", asked);
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    }

    /// The key that is found; empty: none is.
    pub fn found(&self, keys: &[&str]) -> String {
        let found = self.look_up(keys);
        found["matched_key"].as_str().unwrap_or_default().to_owned()
    }
}

pub fn grant(run: &str, job: &str) -> Grant {
    Grant {
        run: run.to_owned(),
        job: job.to_owned(),
        repository: "shop".to_owned(),
        scopes: vec![(MAIN.to_owned(), true)],
        cache: CacheMode::Write,
        expires: now() + 3600,
    }
}

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

pub fn block_query(n: usize) -> String {
    let id = BASE64.encode(format!("block-{n:05}").as_bytes());
    format!("&comp=block&blockid={}", id.replace('=', "%3D"))
}

pub fn list(count: usize) -> String {
    let one = |n: usize| {
        let id = BASE64.encode(format!("block-{n:05}").as_bytes());
        format!("<Latest>{id}</Latest>")
    };
    let all: String = (0..count).map(one).collect();
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{all}</BlockList>")
}

fn serve(
    folder: &Path,
    dir: &Path,
    limits: Limits,
) -> (Results, SocketAddr, tokio::runtime::Runtime) {
    let store = Store::open(&folder.join("state.db"), &[SCHEMA]).unwrap();
    let results = Results::open(Arc::new(store), dir.to_owned(), &KEY, limits).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    let router = results.router();
    runtime.spawn(async move { axum::serve(listener, router).await });
    (results, address, runtime)
}
