//! Kills, full disks, and clients that mean no good.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use havre_results::{Grant, Limits};
use serde_json::json;

use crate::client::{cut, in_halves, send, stand_still};
use crate::world::{LIMITS, World, block_query, grant, now};

#[test]
fn an_upload_goes_on_after_a_kill_between_blocks_and_list() {
    let mut world = World::new();
    let (run, job) = ("1", "a");
    let url = world.job(run, job).begin_artifact("dist");
    world.put(&url, &block_query(1), b"two");
    cut(
        world.address,
        &format!("{}{}", world.target(&url), block_query(0)),
        1000,
        b"half",
    );
    world.restart();
    assert!(world.results.artifacts(run).unwrap().is_empty());
    assert_eq!(world.put_list(&url, 2).status, 400, "one block is lacking");
    assert_eq!(world.put(&url, &block_query(0), b"one").status, 201);
    assert_eq!(world.put_list(&url, 2).status, 201);
    world.restart();
    let job = world.job(run, job);
    assert_eq!(job.finish("dist", 6).status, 200);
    assert_eq!(world.get(&job.artifact_url("dist"), &[]).body, b"onetwo");
}

#[test]
fn a_kill_between_files_and_database_leaves_nothing_half() {
    let mut world = World::new();
    let url = world.job("1", "a").begin_artifact("dist");
    world.put_blocks(&url, &[b"abc"]);
    // Renamed, and not noted any more.
    let folder = world.names("uploads").remove(0);
    let (uploads, blobs) = (world.dir.join("uploads"), world.dir.join("blobs"));
    std::fs::rename(uploads.join(&folder), blobs.join(&folder)).unwrap();
    // Removed from the database, and not from the disk any more; and the rest of a removal.
    for part in ["uploads", "blobs", "trash"] {
        let stray = world.dir.join(part).join("0123");
        std::fs::create_dir(&stray).unwrap();
        std::fs::write(stray.join("whole"), "x").unwrap();
    }
    world.restart();
    let names = |part: &str| world.names(part);
    assert_eq!(
        (names("uploads"), names("blobs"), names("trash")),
        (vec![folder], vec![], vec![])
    );
    assert!(world.results.artifacts("1").unwrap().is_empty());
    assert_eq!(world.job("1", "a").finish("dist", 3).status, 200);
    // Files that are gone are no artifact.
    let folder = world.names("blobs").remove(0);
    std::fs::remove_dir_all(world.dir.join("blobs").join(folder)).unwrap();
    world.restart();
    assert!(world.results.artifacts("1").unwrap().is_empty());
}

#[test]
fn a_cache_that_the_power_may_have_taken_is_not_believed() {
    let mut world = World::new();
    for key in ["kept", "lost"] {
        world.job("1", "a").save(key, b"abc");
        if key == "kept" {
            world.results.tend().unwrap();
        }
    }
    world.restart();
    assert_eq!(
        world.job("1", "a").found(&["lost"]),
        "lost",
        "it was this process alone"
    );
    let db = havre_store::rusqlite::Connection::open(world.folder().join("state.db")).unwrap();
    let other = "UPDATE results_caches SET boot = 'another' WHERE boot IS NOT NULL";
    assert_eq!(db.execute(other, []).unwrap(), 1);
    world.restart();
    let job = world.job("1", "a");
    assert_eq!(
        (job.found(&["lost"]), job.found(&["kept"])),
        (String::new(), "kept".to_owned())
    );
    assert_eq!(world.names("blobs").len(), 1);
}

#[test]
fn half_a_block_is_no_block() {
    let world = World::new();
    let job = world.job("1", "a");
    let url = job.begin_artifact("dist");
    let target = format!("{}{}", world.target(&url), block_query(0));
    cut(world.address, &target, 1 << 20, &[0; 1000]);
    assert_eq!(world.put_list(&url, 1).status, 400);
    let gone = || {
        let folder = world.names("uploads").remove(0);
        world.names(&format!("uploads/{folder}")).is_empty()
            && world.results.usage().unwrap().pending_bytes == 0
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !gone() {
        assert!(Instant::now() < deadline, "half a block stayed");
        std::thread::yield_now();
    }
}

/// A file system of eight megabytes, for as long as it is held.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(at);
        let is_mounted = mount.status().is_ok_and(|status| status.success());
        is_mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_full_disk_refuses_and_takes_again_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let Some(mounted) = Small::mount(&small) else {
        println!("skipped: needs root, to mount a small file system");
        return;
    };
    let world = World::at(folder, small.join("results"), LIMITS);
    let job = world.job("1", "a");
    job.save("old", &[0; 3 << 20]);
    let url = job.begin_artifact("dist");
    assert_eq!(world.put(&url, &block_query(0), &[0; 9 << 20]).status, 413);
    assert_eq!(job.found(&["old"]), "old", "nothing goes in vain");
    // Behind our back: not even what was free a moment ago.
    let free = rustix::fs::statvfs(&small).unwrap();
    let free = usize::try_from(free.f_bavail * free.f_frsize).unwrap();
    std::fs::write(small.join("others"), vec![0; free - (1 << 20)]).unwrap();
    assert_eq!(world.put(&url, &block_query(0), &[1; 2 << 20]).status, 201);
    assert_eq!(job.found(&["old"]), "", "the cache gave way");
    assert_eq!(world.put_list(&url, 1).status, 201);
    assert_eq!(job.finish("dist", 2 << 20).status, 200);
    assert_eq!(world.get(&job.artifact_url("dist"), &[]).body, [1; 2 << 20]);
    // And while a block is on its way.
    std::fs::remove_file(small.join("others")).unwrap();
    let url = job.begin_artifact("more");
    let target = format!("{}{}", world.target(&url), block_query(0));
    let folder = || format!("uploads/{}", world.names("uploads")[0]);
    let fill = || {
        let deadline = Instant::now() + Duration::from_secs(10);
        while world.names(&folder()).is_empty() {
            assert!(Instant::now() < deadline, "nothing is received");
            std::thread::yield_now();
        }
        std::fs::write(small.join("others"), vec![0; 8 << 20]).expect_err("the disk is smaller");
    };
    let answer = in_halves(world.address, &target, &[2; 4 << 20], fill);
    assert_eq!(answer.status, 413);
    assert_eq!(world.names(&folder()), [""; 0], "nothing of it stays");
    std::fs::remove_file(small.join("others")).unwrap();
    assert_eq!(world.put(&url, &block_query(0), &[2; 4 << 20]).status, 201);
    drop((world, mounted));
}

#[test]
fn a_floor_of_the_disk_is_left_to_others() {
    let world = World::with(Limits {
        free_floor: u64::MAX,
        ..LIMITS
    });
    let url = world.job("1", "a").begin_artifact("dist");
    assert_eq!(world.put(&url, "", b"x").status, 413);
}

#[test]
fn one_upload_is_as_large_as_may_be_and_no_larger() {
    let world = World::with(Limits {
        artifact: 10,
        ..LIMITS
    });
    let url = world.job("1", "a").begin_artifact("dist");
    assert_eq!(world.put(&url, &block_query(0), &[0; 6]).status, 201);
    assert_eq!(world.put(&url, &block_query(1), &[0; 5]).status, 413);
    assert_eq!(world.put(&url, &block_query(1), &[0; 4]).status, 201);
    // Nor by naming a block twice.
    let twice = crate::world::list(1).replace("</BlockList>", &crate::world::list(1)[49..]);
    assert_eq!(
        world.put(&url, "&comp=blocklist", twice.as_bytes()).status,
        201,
        "{twice}"
    );
    assert_eq!(world.job("1", "a").finish("dist", 12).status, 412);
}

#[test]
fn only_who_may_is_answered() {
    let world = World::new();
    let job = world.job("1", "a");
    assert_eq!(job.upload("dist", b"abc").status, 200);
    let mut expired = world.granted(&Grant {
        expires: now() - 1,
        ..grant("1", "a")
    });
    let list = json!({});
    assert_eq!(expired.artifact("ListArtifacts", list.clone()).status, 401);
    for forged in ["", "a.b.c", &format!("{}x", job.token)] {
        expired.token = forged.to_owned();
        let answer = expired.artifact("ListArtifacts", list.clone());
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (401, Some("unauthenticated"))
        );
    }
    // Another run's, by the ids that it sends and by what it finds under its own.
    let other = world.job("2", "a");
    let foreign = json!({ "workflow_run_backend_id": "1", "name": "dist" });
    for method in [
        "ListArtifacts",
        "GetSignedArtifactURL",
        "DeleteArtifact",
        "CreateArtifact",
    ] {
        assert_eq!(
            other.artifact(method, foreign.clone()).status,
            403,
            "{method}"
        );
    }
    assert_eq!(
        other
            .artifact("GetSignedArtifactURL", json!({ "name": "dist" }))
            .status,
        404
    );

    let (down, up) = (job.artifact_url("dist"), job.begin_artifact("more"));
    let forged = |url: &str| {
        let end = if url.ends_with('0') { "1" } else { "0" };
        format!("{}{end}", &url[..url.len() - 1])
    };
    assert_eq!(world.get(&forged(&down), &[]).status, 403);
    assert_eq!(world.put(&forged(&up), "", b"x").status, 403);
    let (path, query) = down.split_once('?').unwrap();
    for url in [
        path.to_owned(),
        format!("{path}?sig=x"),
        format!("{path}?se=x&sig=y"),
    ] {
        assert!([400, 403].contains(&world.get(&url, &[]).status), "{url}");
    }
    // One is not good for the other.
    let swapped = format!("{}?{query}", path.replace("/download/", "/upload/"));
    assert_eq!(world.put(&swapped, "", b"x").status, 403);
    let later = query.replacen("se=", "se=9", 1);
    assert_eq!(world.get(&format!("{path}?{later}"), &[]).status, 403);
}

#[test]
fn a_clients_mistake_is_told_in_json_and_never_as_our_fault() {
    let world = World::new();
    let job = world.job("1", "a");
    let service = "/twirp/github.actions.results.api.v1.ArtifactService";
    for (target, body, status, code) in [
        (
            format!("{service}/MigrateArtifact"),
            json!({}),
            404,
            "bad_route",
        ),
        ("/twirp/x.Y/Z".to_owned(), json!({}), 404, "bad_route"),
        (
            "/_apis/artifactcache/caches".to_owned(),
            json!({}),
            404,
            "bad_route",
        ),
        (
            format!("{service}/CreateArtifact"),
            json!([]),
            400,
            "malformed",
        ),
        (
            format!("{service}/CreateArtifact"),
            json!({ "name": 5 }),
            400,
            "malformed",
        ),
        (
            format!("{service}/CreateArtifact"),
            json!({ "name": "x".repeat(70_000) }),
            400,
            "invalid_argument",
        ),
    ] {
        let answer = job.call(&target, &body);
        let found = answer.json();
        assert_eq!(
            (answer.status, found["code"].as_str()),
            (status, Some(code)),
            "{target} {found}"
        );
        assert!(found["msg"].is_string());
    }
    for name in [
        "",
        "a/b",
        "..",
        "../../etc/passwd",
        "a\\b",
        "a\nb",
        "a\u{0}b",
        "a:b",
        &"x".repeat(256),
    ] {
        let answer = job.artifact("CreateArtifact", json!({ "name": name }));
        assert_eq!(answer.status, 400, "{name:?}");
        assert_eq!(job.reserve(&format!("{name}\n,")).status, 400, "{name:?}");
    }
    assert_eq!(
        job.reserve("../../etc/passwd").status,
        200,
        "a key is no path"
    );
    for body in [
        json!({ "name": "x", "size": "-1" }),
        json!({ "name": "x", "size": "99999999999999999999" }),
        json!({ "name": "x", "size": "9223372036854775808" }),
    ] {
        assert_eq!(job.artifact("FinalizeArtifact", body).status, 400);
    }
    let keys = json!({ "key": "k", "version": "v", "restore_keys": vec!["x"; 40] });
    assert_eq!(job.cache("GetCacheEntryDownloadURL", keys).status, 400);
    let wrong = send(
        world.address,
        "GET",
        &format!("{service}/ListArtifacts"),
        &[],
        b"",
    );
    assert_eq!(
        (wrong.status, wrong.json()["code"].as_str()),
        (404, Some("bad_route"))
    );
    let url = job.begin_artifact("dist");
    for query in [
        "&comp=block",
        "&comp=block&blockid=!!",
        "&comp=lease",
        "&comp=blocklist&blockid=QQ",
    ] {
        assert_eq!(world.put(&url, query, b"x").status, 400, "{query}");
    }
}

#[test]
fn who_sends_slowly_holds_nobody_else_up() {
    let world = World::new();
    let slow = world.job("1", "slow").begin_artifact("slow");
    let target = |n| format!("{}{}", world.target(&slow), block_query(n));
    let held: Vec<_> = (0..100)
        .map(|n| stand_still(world.address, &target(n), 1000, b"x"))
        .collect();
    assert_eq!(
        world.job("1", "a").upload("dist", &[1; 3 << 20]).status,
        200
    );
    drop(held);
}

#[test]
fn a_job_begins_only_so_much() {
    let world = World::new();
    let job = world.job("1", "a");
    for n in 0..256 {
        assert_eq!(job.reserve(&n.to_string()).status, 200);
    }
    assert_eq!(job.reserve("more").status, 412);
    assert_eq!(world.names("uploads").len(), 256);
    world.results.job_ended("1", "a").unwrap();
    assert_eq!(world.names("uploads"), [""; 0]);
}
