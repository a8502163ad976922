//! `actions/cache` and its parts, against a strict fake of the service.

use std::fs;
use std::path::Path;

use crate::fake::Fake;
use crate::job::Job;

crate::tests![
    a_cache_is_saved_at_the_end_and_restored_by_the_next_job,
    a_cache_of_another_key_is_restored_and_saved_anew,
    what_is_only_looked_up_is_not_restored,
    patterns_say_what_is_kept,
    large_caches_go_in_blocks,
    a_job_without_tar_can_cache_as_well,
    modes_and_faults_are_not_fatal,
    keys_are_checked,
];

const CACHE: &str = "actions/cache";

fn a_cache_is_saved_at_the_end_and_restored_by_the_next_job() {
    let mut job = Job::new();
    let fake = Fake::of(&mut job);
    job.write("home/.npm/deep/a", "one");
    job.write("work/shop/node_modules/b", "two");
    let inputs = [
        ("path", "~/.npm\nnode_modules"),
        ("key", "npm-1"),
        ("restore-keys", "npm-"),
    ];
    let done = job.main(CACHE, &inputs).well();
    assert_eq!(
        (done.output("cache-hit"), done.output("cache-primary-key")),
        ("", "npm-1")
    );
    job.post(
        CACHE,
        &[("path", inputs[0].1), ("key", "npm-changed")],
        &done,
    )
    .well();
    let expected = [
        "GetCacheEntryDownloadURL",
        "CreateCacheEntry",
        "PUT block",
        "PUT blocklist",
        "FinalizeCacheEntryUpload",
    ];
    assert_eq!(fake.calls(), expected);

    fs::remove_dir_all(job.at("home/.npm")).unwrap();
    fs::remove_dir_all(job.at("work/shop/node_modules")).unwrap();
    let done = job.main(CACHE, &inputs).well();
    assert_eq!(
        (done.output("cache-hit"), done.output("cache-matched-key")),
        ("true", "npm-1")
    );
    assert_eq!(job.read("home/.npm/deep/a"), "one");
    assert_eq!(job.read("work/shop/node_modules/b"), "two");
    let done = job.post(CACHE, &inputs, &done).well();
    assert!(done.log.contains("not saved again"), "{}", done.log);
    assert_eq!(fake.calls(), ["GetCacheEntryDownloadURL"]);
    assert_eq!(
        fs::read_dir(job.at("temp")).unwrap().count(),
        0,
        "scratch files are removed"
    );
}

fn a_cache_of_another_key_is_restored_and_saved_anew() {
    let mut job = Job::new();
    let fake = Fake::of(&mut job);
    job.write("work/shop/dist/a", "one");
    job.main("actions/cache/save", &[("path", "dist"), ("key", "dist-1")])
        .well();
    let inputs = [
        ("path", "dist"),
        ("key", "dist-2"),
        ("restore-keys", "other\ndist-"),
    ];
    let done = job.main(CACHE, &inputs).well();
    assert_eq!(
        (done.output("cache-hit"), done.output("cache-matched-key")),
        ("false", "dist-1")
    );
    job.post(CACHE, &inputs, &done).well();
    assert_eq!(fake.kept.lock().unwrap().caches.len(), 2);
    // Another time it is there, which is no fault.
    let done = job
        .main("actions/cache/save", &[("path", "dist"), ("key", "dist-2")])
        .well();
    assert!(
        done.log.contains("is not saved: there is one"),
        "{}",
        done.log
    );
}

fn what_is_only_looked_up_is_not_restored() {
    let mut job = Job::new();
    let fake = Fake::of(&mut job);
    let key = [("path", "dist"), ("key", "k")];
    job.main(
        "actions/cache/restore",
        &[key[0], key[1], ("fail-on-cache-miss", "true")],
    )
    .badly("there is no cache of `k`");
    job.write("work/shop/dist/a", "one");
    job.main("actions/cache/save", &key).well();
    fs::remove_dir_all(job.at("work/shop/dist")).unwrap();
    let done = job
        .main(
            "actions/cache/restore",
            &[key[0], key[1], ("lookup-only", "true")],
        )
        .well();
    assert_eq!(done.output("cache-hit"), "true");
    assert!(!job.at("work/shop/dist").exists());
    // Of other paths it is another one.
    let done = job
        .main("actions/cache/restore", &[("path", "other"), key[1]])
        .well();
    assert_eq!(done.output("cache-hit"), "");
    drop(fake);
}

fn patterns_say_what_is_kept() {
    let mut job = Job::new();
    let _fake = Fake::of(&mut job);
    job.write("work/shop/a/x.o", "1");
    job.write("work/shop/a/y.c", "2");
    job.write("work/shop/b/z.o", "3");
    let inputs = [("path", "**/*.o\n! b/*"), ("key", "k")];
    job.main("actions/cache/save", &inputs).well();
    fs::remove_dir_all(job.at("work/shop/a")).unwrap();
    fs::remove_dir_all(job.at("work/shop/b")).unwrap();
    job.main("actions/cache/restore", &inputs).well();
    let there = |path: &str| job.at(path).exists();
    assert!(there("work/shop/a/x.o") && !there("work/shop/a/y.c") && !there("work/shop/b/z.o"));
    let done = job
        .main("actions/cache/save", &[("path", "gone"), ("key", "k2")])
        .well();
    assert!(
        done.log
            .contains("::warning::the cache cannot be saved: none of its paths is there"),
        "{}",
        done.log
    );
}

fn large_caches_go_in_blocks() {
    let mut job = Job::new();
    let fake = Fake::of(&mut job);
    let mut state = 1u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(1 << 20)
    .collect();
    fs::write(job.at("work/shop/noise"), &noise).unwrap();
    let inputs = [("path", "noise"), ("key", "k")];
    job.main(
        "actions/cache/save",
        &[inputs[0], inputs[1], ("upload-chunk-size", "100000")],
    )
    .well();
    assert!(
        fake.calls()
            .iter()
            .filter(|call| *call == "PUT block")
            .count()
            > 10
    );
    fs::remove_file(job.at("work/shop/noise")).unwrap();
    job.main("actions/cache/restore", &inputs).well();
    assert!(fs::read(job.at("work/shop/noise")).unwrap() == noise);
}

fn a_job_without_tar_can_cache_as_well() {
    let mut job = Job::new();
    let fake = Fake::of(&mut job);
    job.set("PATH", "/nowhere");
    job.write("home/.npm/a", "one");
    let inputs = [("path", "~/.npm"), ("key", "k")];
    job.main("actions/cache/save", &inputs).well();
    let content = fake
        .kept
        .lock()
        .unwrap()
        .caches
        .values()
        .next()
        .unwrap()
        .clone();
    assert_eq!(
        content[..2],
        [0x1f, 0x8b],
        "gzip, as the client of GitHub has it without zstd"
    );
    fs::remove_dir_all(job.at("home/.npm")).unwrap();
    job.main("actions/cache/restore", &inputs).well();
    assert_eq!(job.read("home/.npm/a"), "one");
}

fn modes_and_faults_are_not_fatal() {
    let mut job = Job::new();
    let done = job.main(CACHE, &[("path", "a"), ("key", "k")]).well();
    assert!(
        done.log.contains("::warning::this run has no caches"),
        "{}",
        done.log
    );
    let fake = Fake::of(&mut job);
    job.write("work/shop/a", "1");
    job.set("ACTIONS_CACHE_MODE", "read");
    job.main("actions/cache/save", &[("path", "a"), ("key", "k")])
        .well();
    job.set("ACTIONS_CACHE_MODE", "write-only");
    job.main("actions/cache/restore", &[("path", "a"), ("key", "k")])
        .well();
    assert_eq!(fake.calls(), Vec::<String>::new());
    job.set("ACTIONS_CACHE_MODE", "write");
    job.set("ACTIONS_RESULTS_URL", "http://127.0.0.1:1/");
    let done = job
        .main("actions/cache/restore", &[("path", "a"), ("key", "k")])
        .well();
    assert!(
        done.log
            .contains("::warning::the cache cannot be looked for"),
        "{}",
        done.log
    );
    assert!(Path::new(&job.vars["RUNNER_TEMP"]).exists());
}

fn keys_are_checked() {
    let job = Job::new();
    job.main(CACHE, &[("path", "a")])
        .badly("actions/cache needs the input `key`");
    job.main(CACHE, &[("path", "a"), ("key", "a,b")])
        .badly("no comma");
    let many = "k\n".repeat(10);
    job.main(
        CACHE,
        &[("path", "a"), ("key", "k"), ("restore-keys", &many)],
    )
    .badly("at most 10 keys");
    job.main(
        CACHE,
        &[("path", "a"), ("key", "k"), ("save-always", "true")],
    )
    .badly("actions/cache/save");
}
