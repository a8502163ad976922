//! What a plain client can do with caches.

use havre_results::{CacheMode, Grant, Limits, Why};
use serde_json::json;

use crate::world::{LIMITS, MAIN, World, grant};

fn on(branch: &str, job: &str) -> Grant {
    Grant {
        scopes: vec![
            (format!("refs/heads/{branch}"), true),
            ("refs/heads/base".to_owned(), false),
            (MAIN.to_owned(), false),
        ],
        ..grant("1", job)
    }
}

#[test]
fn the_whole_key_comes_first_then_beginnings_by_age_in_the_order_of_scopes() {
    let world = World::new();
    let main = world.job("1", "main");
    for key in ["npm-a-1", "npm-a-2", "npm-a", "pip-1"] {
        main.save(key, key.as_bytes());
    }
    let mut base = on("base", "base");
    base.scopes.truncate(1);
    world.granted(&base).save("npm-a-0", b"base");
    let own = world.granted(&on("x", "x"));
    own.save("pip-own", b"own");

    // Whole in a scope, before newer beginnings there.
    assert_eq!(main.found(&["npm-a-1"]), "npm-a-1");
    assert_eq!(main.found(&["npm-a"]), "npm-a");
    // The newest beginning.
    assert_eq!(main.found(&["npm-"]), "npm-a");
    assert_eq!(main.found(&["npm-a-"]), "npm-a-2");
    // Further keys in their order.
    assert_eq!(main.found(&["none", "pip", "npm"]), "pip-1");
    // A scope is looked through as a whole before the next.
    assert_eq!(own.found(&["npm-a-1", "pip-"]), "pip-own");
    assert_eq!(own.found(&["npm-a-1", "npm-"]), "npm-a-0");
    assert_eq!(own.found(&["npm-a-1"]), "npm-a-1");
    // Nobody sees up, nor what only looks alike.
    assert_eq!(main.found(&["pip-own"]), "");
    assert_eq!(main.found(&["npm_a"]), "");
    assert_eq!(main.found(&["%"]), "");
    assert_eq!(main.look_up(&["NPM-A-1"]), json!({ "ok": false }));
    let other = world.granted(&Grant {
        repository: "other".to_owned(),
        ..grant("1", "o")
    });
    assert_eq!(other.found(&["npm-a-1"]), "");
    let version = json!({ "key": "npm-a-1", "version": "w" });
    assert_eq!(
        main.cache("GetCacheEntryDownloadURL", version).json()["ok"],
        false
    );

    let url = own.look_up(&["npm-a-1"])["signed_download_url"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(world.get(&url, &[]).body, b"npm-a-1");
}

#[test]
fn a_key_is_reserved_by_one_job_until_it_ends() {
    let world = World::new();
    let (one, two) = (world.job("1", "a"), world.job("1", "b"));
    let begun = one.reserve("k").json();
    assert_eq!(begun["ok"], true);
    let refused = two.reserve("k");
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (409, Some("already_exists"))
    );
    assert_eq!(two.found(&["k"]), "", "it is not finished");
    let stolen = json!({ "key": "k", "version": "v", "size_bytes": "1" });
    assert_eq!(two.cache("FinalizeCacheEntryUpload", stolen).status, 404);

    world.results.job_ended("1", "a").unwrap();
    world.results.job_ended("1", "a").unwrap();
    let url = begun["signed_upload_url"].as_str().unwrap();
    assert_eq!(world.put(url, "", b"late").status, 404);
    let late = one.reserve("other");
    assert_eq!(
        (late.status, late.json()["code"].as_str()),
        (401, Some("unauthenticated"))
    );
    assert_eq!(world.names("uploads"), [""; 0]);
    two.save("k", b"two");
    let again = world.job("1", "c").reserve("k");
    assert_eq!(again.status, 409);
    assert!(
        again.json()["msg"]
            .as_str()
            .unwrap()
            .contains("already exists")
    );
}

#[test]
fn a_mode_is_kept_to_whatever_the_client_thinks() {
    let world = World::new();
    world.job("1", "seed").save("k", b"kept");
    let with = |cache| {
        world.granted(&Grant {
            cache,
            ..grant("1", &format!("{cache:?}"))
        })
    };
    for (mode, reads, writes) in [
        (CacheMode::Read, true, false),
        (CacheMode::Write, true, true),
        (CacheMode::WriteOnly, false, true),
        (CacheMode::None, false, false),
    ] {
        let job = with(mode);
        let written = job.reserve(&format!("new-{mode:?}")).json();
        assert_eq!(written["ok"], writes, "{mode:?}");
        if !writes {
            let message = written["message"].as_str().unwrap();
            assert!(message.starts_with("cache write denied:"), "{message}");
        }
        let read = job.cache(
            "GetCacheEntryDownloadURL",
            json!({ "key": "k", "version": "v" }),
        );
        assert_eq!(read.status, if reads { 200 } else { 403 }, "{mode:?}");
        if !reads {
            assert!(
                read.json()["msg"]
                    .as_str()
                    .unwrap()
                    .starts_with("cache read denied:")
            );
        }
    }
}

#[test]
fn the_least_used_give_way_and_a_miss_says_so() {
    let world = World::with(Limits {
        repository_caches: 300,
        ..LIMITS
    });
    let job = world.job("1", "a");
    for key in ["one", "two", "three"] {
        job.save(key, &[0; 100]);
    }
    assert_eq!(job.found(&["one"]), "one");
    job.save("four", &[0; 150]);
    let there: Vec<String> = world
        .results
        .caches("shop")
        .unwrap()
        .into_iter()
        .map(|it| it.key)
        .collect();
    assert_eq!(there, ["four", "one"]);
    let gone = world.results.evictions("shop").unwrap();
    let gone: Vec<_> = gone
        .iter()
        .map(|it| (it.key.as_str(), it.size, it.why))
        .collect();
    assert_eq!(
        gone,
        [
            ("three", 100, Why::RepositoryQuota),
            ("two", 100, Why::RepositoryQuota)
        ]
    );
    let miss = job.look_up(&["two"]);
    assert!(
        miss["message"].as_str().unwrap().contains("evicted at 20"),
        "{miss}"
    );
    assert_eq!(job.look_up(&["never"]), json!({ "ok": false }));

    let usage = world.results.usage().unwrap();
    assert_eq!(
        (usage.caches, usage.cache_bytes, usage.pending_bytes),
        (2, 250, 0)
    );
    assert_eq!(world.names("blobs").len(), 2);
    // What is more than all may be drives nobody out.
    let answer = job.save_or("five", &[0; 301]);
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (412, Some("failed_precondition"))
    );
    assert_eq!(world.results.caches("shop").unwrap().len(), 2);

    let id = world.results.caches("shop").unwrap()[0].id;
    assert!(!world.results.remove_cache("other", id).unwrap());
    assert!(world.results.remove_cache("shop", id).unwrap());
    assert!(!world.results.remove_cache("shop", id).unwrap());
    assert_eq!(job.found(&["four"]), "");
}

#[test]
fn caches_give_way_to_artifacts_and_artifacts_to_nothing() {
    let world = World::with(Limits {
        total: 1000,
        ..LIMITS
    });
    let job = world.job("1", "a");
    job.save("old", &[0; 400]);
    job.save("new", &[0; 400]);
    assert_eq!(job.upload("dist", &[1; 500]).status, 200);
    assert_eq!(
        world.results.evictions("shop").unwrap()[0].why,
        Why::TotalQuota
    );
    assert_eq!(
        (job.found(&["old"]), job.found(&["new"])),
        (String::new(), "new".to_owned())
    );
    let url = job.begin_artifact("more");
    let refused = world.put(&url, "", &[0; 501]);
    assert_eq!(
        (refused.status, refused.headers["x-ms-error-code"].as_str()),
        (413, "RequestBodyTooLarge")
    );
    // It would not have been enough: nothing went for it.
    assert_eq!(job.found(&["new"]), "new");
}

#[test]
fn what_is_read_is_read_to_its_end() {
    let world = World::new();
    let job = world.job("1", "a");
    let url = job.begin_artifact("dist");
    let blocks: Vec<Vec<u8>> = (0..8).map(|n| vec![n; 1 << 20]).collect();
    let blocks: Vec<&[u8]> = blocks.iter().map(Vec::as_slice).collect();
    world.put_blocks(&url, &blocks);
    assert_eq!(job.finish("dist", 8 << 20).status, 200);
    let (_, mut content) = world.results.open_artifact("1", "dist").unwrap().unwrap();
    let mut first = [0; 10];
    std::io::Read::read_exact(&mut content, &mut first).unwrap();
    assert_eq!(world.results.remove_artifacts("1").unwrap(), 1);
    assert_eq!(
        (world.names("blobs").len(), world.names("trash").len()),
        (0, 1)
    );
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut content, &mut rest).unwrap();
    assert_eq!(rest.len(), (8 << 20) - 10);
    drop(content);
    assert_eq!(world.names("trash"), [""; 0]);
}
