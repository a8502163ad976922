//! Caches and artifacts against what serves them in a job, on a port of the loopback.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use havre_results::{CacheMode, Grant, Limits, Results, SCHEMA};
use havre_store::Store;

use crate::job::Job;

crate::tests![
    a_real_cache_is_saved_restored_and_found_by_a_prefix,
    a_real_cache_goes_in_blocks,
    a_real_cache_that_may_only_be_read_is_no_failure,
    a_real_artifact_is_uploaded_listed_downloaded_and_overwritten,
    a_real_artifact_in_many_blocks_keeps_its_digest,
    what_has_ended_keeps_nothing,
];

const CACHE: &str = "actions/cache";
const UPLOAD: &str = "actions/upload-artifact";
const DOWNLOAD: &str = "actions/download-artifact";

/// Artifacts and caches, served until the test ends.
struct Real {
    results: Results,
    address: std::net::SocketAddr,
    _folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Real {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db"), &[SCHEMA]).unwrap();
        let limits = Limits {
            free_floor: 0,
            ..Limits::default()
        };
        let dir = folder.path().join("results");
        let results = Results::open(Arc::new(store), dir, &[7; 32], limits).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let router = results.router();
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            results,
            address,
            _folder: folder,
            _runtime: runtime,
        }
    }

    /// A job of run 7.
    fn job(&self, name: &str, cache: CacheMode) -> Job {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let expires = now + Duration::from_secs(3600);
        let token = self.results.token(&Grant {
            run: "7".to_owned(),
            job: name.to_owned(),
            repository: "acme/shop".to_owned(),
            scopes: vec![("refs/heads/main".to_owned(), true)],
            cache,
            expires: expires.as_secs().try_into().unwrap(),
        });
        let mut job = Job::new();
        job.set("ACTIONS_RESULTS_URL", format!("http://{}/", self.address));
        job.set("ACTIONS_RUNTIME_TOKEN", token.unwrap());
        job
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn a_real_cache_is_saved_restored_and_found_by_a_prefix() {
    let real = Real::new();
    let first = real.job("a", CacheMode::Write);
    first.write("home/.npm/deep/a", "one");
    let inputs = [
        ("path", "~/.npm"),
        ("key", "npm-1"),
        ("restore-keys", "npm-"),
    ];
    let done = first.main(CACHE, &inputs).well();
    assert_eq!(done.output("cache-hit"), "");
    first.post(CACHE, &inputs, &done).well();
    // The version of a cache is made of its paths as they are written: another job has it too.
    let second = real.job("b", CacheMode::Write);
    let done = second.main(CACHE, &inputs).well();
    assert_eq!(done.output("cache-hit"), "true");
    assert_eq!(second.read("home/.npm/deep/a"), "one");
    let third = real.job("c", CacheMode::Write);
    let other = [inputs[0], ("key", "npm-2"), inputs[2]];
    let done = third.main(CACHE, &other).well();
    assert_eq!(
        (done.output("cache-hit"), done.output("cache-matched-key")),
        ("false", "npm-1")
    );
    assert_eq!(third.read("home/.npm/deep/a"), "one");
    third.post(CACHE, &other, &done).well();
    let keys = real.results.caches("acme/shop").unwrap();
    let mut keys: Vec<String> = keys.into_iter().map(|cache| cache.key).collect();
    keys.sort();
    assert_eq!(keys, ["npm-1", "npm-2"]);
}

fn a_real_cache_goes_in_blocks() {
    let real = Real::new();
    let job = real.job("a", CacheMode::Write);
    let content = noise(1 << 20);
    fs::write(job.at("work/shop/noise"), &content).unwrap();
    let inputs = [("path", "noise"), ("key", "k")];
    job.main(
        "actions/cache/save",
        &[inputs[0], inputs[1], ("upload-chunk-size", "100000")],
    )
    .well();
    fs::remove_file(job.at("work/shop/noise")).unwrap();
    job.main("actions/cache/restore", &inputs).well();
    assert!(fs::read(job.at("work/shop/noise")).unwrap() == content);
}

fn a_real_cache_that_may_only_be_read_is_no_failure() {
    let real = Real::new();
    let job = real.job("a", CacheMode::Read);
    job.write("work/shop/a", "1");
    let inputs = [("path", "a"), ("key", "k")];
    // The job is not told: it is the service that does not allow it.
    let done = job.main("actions/cache/save", &inputs).well();
    assert!(done.log.contains("cache write denied"), "{}", done.log);
    assert!(real.results.caches("acme/shop").unwrap().is_empty());
}

fn a_real_artifact_is_uploaded_listed_downloaded_and_overwritten() {
    let real = Real::new();
    let job = real.job("a", CacheMode::Write);
    job.write("work/shop/dist/web/index.html", "<html>");
    job.write("work/shop/report.txt", "fine");
    let site = [("name", "site"), ("path", "dist")];
    let done = job.main(UPLOAD, &site).well();
    assert_eq!(done.output("artifact-digest").len(), 64);
    job.main(UPLOAD, &site)
        .badly("there is an artifact `site` in this run already");
    job.main(UPLOAD, &[("path", "report.txt"), ("archive", "false")])
        .well();
    // Another job of the run has them.
    let other = real.job("b", CacheMode::Write);
    let got = [("path", "got")];
    other.main(DOWNLOAD, &got).well();
    assert_eq!(other.read("work/shop/got/site/web/index.html"), "<html>");
    job.write("work/shop/dist/web/index.html", "<new>");
    job.main(UPLOAD, &[site[0], site[1], ("overwrite", "true")])
        .well();
    other
        .main(DOWNLOAD, &[("name", "site"), ("path", "new")])
        .well();
    assert_eq!(other.read("work/shop/new/web/index.html"), "<new>");
    other
        .main(DOWNLOAD, &[("name", "report.txt"), ("path", "one")])
        .well();
    assert_eq!(other.read("work/shop/one/report.txt"), "fine");
    other
        .main(DOWNLOAD, &[("name", "gone")])
        .badly("there is no artifact `gone` in this run");
}

fn a_real_artifact_in_many_blocks_keeps_its_digest() {
    let real = Real::new();
    let job = real.job("a", CacheMode::Write);
    let content = noise(20 << 20);
    fs::write(job.at("work/shop/noise"), &content).unwrap();
    let inputs = [("name", "noise"), ("path", "noise")];
    job.main(UPLOAD, &[inputs[0], inputs[1], ("compression-level", "0")])
        .well();
    fs::remove_file(job.at("work/shop/noise")).unwrap();
    job.main(DOWNLOAD, &[("name", "noise")]).well();
    assert!(fs::read(job.at("work/shop/noise")).unwrap() == content);
}

fn what_has_ended_keeps_nothing() {
    let real = Real::new();
    let job = real.job("a", CacheMode::Write);
    job.write("work/shop/report.txt", "fine");
    real.results.job_ended("7", "a").unwrap();
    job.main(UPLOAD, &[("path", "report.txt")])
        .badly("the token's job has ended");
}
