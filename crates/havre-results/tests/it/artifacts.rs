//! What a plain client can do with artifacts.

use std::io::Read as _;
use std::time::Duration;

use havre_results::Limits;
use ring::digest::{SHA256, digest};
use serde_json::json;

use crate::world::{LIMITS, World, block_query, list};

fn hash(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    format!("sha256:{}", data_encoding::HEXLOWER.encode(digest.as_ref()))
}

#[test]
fn blocks_in_any_order_become_what_the_list_says() {
    let world = World::new();
    let job = world.job("1", "a");
    let url = job.begin_artifact("dist");
    world.put_blocks(&url, &[b"one,", b"two,", b"three"]);
    let whole = b"one,two,three";
    let said = json!({ "name": "dist", "size": "13", "hash": hash(whole) });
    let answer = job.artifact("FinalizeArtifact", said.clone()).json();
    let id = answer["artifact_id"].as_str().unwrap().to_owned();
    // Said again, as after an answer that was lost.
    assert_eq!(job.artifact("FinalizeArtifact", said).json(), answer);

    let other = world.job("1", "b");
    let listed = other
        .artifact("ListArtifacts", json!({ "id_filter": id }))
        .json();
    let listed = &listed["artifacts"][0];
    assert_eq!(listed["name"], "dist");
    assert_eq!(listed["size"], "13");
    assert_eq!(listed["digest"], hash(whole));
    assert_eq!(listed["workflow_job_run_backend_id"], "a");
    assert!(listed["created_at"].as_str().unwrap().ends_with('Z'));

    let url = other.artifact_url("dist");
    let answer = world.get(&url, &[]);
    assert_eq!(answer.body, whole);
    assert_eq!(answer.headers["content-length"], "13");
    assert_eq!(answer.headers["content-type"], "application/zip");
    for (range, part, status) in [
        ("bytes=2-5", &whole[2..6], 206),
        ("bytes=-5", &whole[8..], 206),
        ("bytes=4-", &whole[4..], 206),
        ("bytes=13-", b"", 416),
    ] {
        let answer = world.get(&url, &[("range", range)]);
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (status, part),
            "{range}"
        );
    }

    let (shown, mut content) = world.results.open_artifact("1", "dist").unwrap().unwrap();
    let mut read = Vec::new();
    content.read_to_end(&mut read).unwrap();
    assert_eq!((read.as_slice(), shown.size), (&whole[..], 13));
    assert_eq!(world.results.artifacts("1").unwrap(), [shown]);
    assert_eq!(world.results.remove_artifacts("1").unwrap(), 1);
    assert!(world.results.artifacts("1").unwrap().is_empty());
    assert_eq!(world.get(&url, &[]).status, 404);
    assert_eq!(world.names("blobs"), [""; 0]);
}

#[test]
fn an_artifact_may_be_empty() {
    let world = World::new();
    let job = world.job("1", "a");
    let url = job.begin_artifact("nothing");
    assert_eq!(world.put_list(&url, 0).status, 201);
    let said = json!({ "name": "nothing", "hash": hash(b"") });
    assert_eq!(job.artifact("FinalizeArtifact", said).status, 200);
    let answer = world.get(&job.artifact_url("nothing"), &[]);
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(answer.headers["content-length"], "0");
}

#[test]
fn what_does_not_agree_is_not_finished_and_may_be_put_right() {
    let world = World::new();
    let job = world.job("1", "a");
    let url = job.begin_artifact("dist");
    assert_eq!(job.finish("dist", 3).status, 400, "no list was sent");
    assert_eq!(world.put_list(&url, 1).status, 400, "no block was sent");
    world.put_blocks(&url, &[b"abc"]);
    let whole = list(1);
    for end in 1..whole.len() {
        let answer = world.put(&url, "&comp=blocklist", &whole.as_bytes()[..end]);
        assert_eq!(answer.status, 400, "{end}");
    }
    assert_eq!(job.finish("dist", 4).status, 400);
    let wrong = json!({ "name": "dist", "size": "3", "hash": hash(b"abd") });
    let answer = job.artifact("FinalizeArtifact", wrong);
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (400, Some("invalid_argument"))
    );
    assert!(world.results.artifacts("1").unwrap().is_empty());
    assert_eq!(world.put(&url, &block_query(0), b"abd").status, 201);
    assert_eq!(world.put_list(&url, 1).status, 201);
    let right = json!({ "name": "dist", "size": "3", "hash": hash(b"abd") });
    assert_eq!(job.artifact("FinalizeArtifact", right).status, 200);
    assert_eq!(
        world.put(&url, &block_query(0), b"abe").status,
        404,
        "it is finished"
    );
    assert_eq!(world.get(&job.artifact_url("dist"), &[]).body, b"abd");
}

#[test]
fn a_name_is_taken_once_in_a_run() {
    let world = World::new();
    let (one, two) = (world.job("1", "a"), world.job("1", "b"));
    let first = one.begin_artifact("dist");
    let taken = two.artifact("CreateArtifact", json!({ "name": "dist" }));
    assert_eq!(
        (taken.status, taken.json()["code"].as_str()),
        (409, Some("already_exists"))
    );
    // The same job again: its call was lost, or its step failed.
    let second = one.begin_artifact("dist");
    assert_eq!(world.put(&first, &block_query(0), b"x").status, 404);
    world.put_blocks(&second, &[b"second"]);
    assert_eq!(two.finish("dist", 6).status, 404, "it is another job's");
    assert_eq!(one.finish("dist", 6).status, 200);
    for job in [&one, &two] {
        assert_eq!(
            job.artifact("CreateArtifact", json!({ "name": "dist" }))
                .status,
            409
        );
    }
    world.job("2", "a").upload("dist", b"of another run");
    // `overwrite: true`.
    assert_eq!(
        two.artifact("DeleteArtifact", json!({ "name": "dist" }))
            .status,
        200
    );
    assert_eq!(
        two.artifact("DeleteArtifact", json!({ "name": "dist" }))
            .status,
        404
    );
    assert_eq!(two.upload("dist", b"third").status, 200);
    assert_eq!(world.get(&one.artifact_url("dist"), &[]).body, b"third");
}

#[test]
fn uploads_of_one_name_at_a_time_leave_one_whole_artifact() {
    let world = World::new();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let upload = |n: usize| {
            let (world, name) = (&world, format!("job-{n}"));
            scope.spawn(move || {
                let job = world.job("1", &name);
                let begun = job.artifact("CreateArtifact", json!({ "name": "dist" }));
                if begun.status != 200 {
                    return begun.status;
                }
                let url = begun.json()["signed_upload_url"]
                    .as_str()
                    .unwrap()
                    .to_owned();
                world.put_blocks(&url, &[format!("{n}").repeat(100_000).as_bytes(); 3]);
                job.finish("dist", 300_000).status
            })
        };
        let all: Vec<_> = (0..8).map(upload).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(
        statuses.iter().filter(|status| **status == 200).count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(
        statuses.iter().filter(|status| **status == 409).count(),
        7,
        "{statuses:?}"
    );
    let body = world
        .get(&world.job("1", "x").artifact_url("dist"), &[])
        .body;
    assert_eq!(body.len(), 300_000);
    assert!(body.iter().all(|byte| *byte == body[0]));
}

#[test]
fn an_artifact_goes_when_its_time_is_over() {
    let world = World::with(Limits {
        retention: Duration::ZERO,
        ..LIMITS
    });
    let job = world.job("1", "a");
    assert_eq!(job.upload("dist", b"abc").status, 200);
    let listed = job.artifact("ListArtifacts", json!({})).json();
    assert_eq!(listed["artifacts"], json!([]));
    assert_eq!(
        job.artifact("GetSignedArtifactURL", json!({ "name": "dist" }))
            .status,
        404
    );
    assert_eq!(world.names("blobs").len(), 1);
    world.results.tend().unwrap();
    assert_eq!(world.names("blobs"), [""; 0]);
    let over = json!({ "name": "x", "expires_at": "2020-01-01T00:00:00Z" });
    assert_eq!(job.artifact("CreateArtifact", over).status, 400);
}

#[test]
fn lists_and_counts_are_bounded() {
    let world = World::with(Limits {
        artifacts_per_run: 3,
        ..LIMITS
    });
    let job = world.job("1", "a");
    for n in 0..3 {
        job.upload(&n.to_string(), b"x");
    }
    let answer = job.artifact("CreateArtifact", json!({ "name": "more" }));
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (412, Some("failed_precondition"))
    );

    // Rows of a run beyond all bounds, as of another version.
    let db = havre_store::rusqlite::Connection::open(world.folder().join("state.db")).unwrap();
    db.execute_batch(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100000) \
         INSERT INTO results_artifacts (repository, run, job, name, mime, folder, published, size, digest, \
         created, expires) SELECT 'shop', '9', 'a', 'n' || n, 'a/b', 'f' || n, 1, 1, '', 1, 1 << 60 FROM n",
    )
    .unwrap();
    let many = world.job("9", "a");
    let listed = many.artifact("ListArtifacts", json!({})).json();
    assert_eq!(listed["artifacts"].as_array().unwrap().len(), 1000);
    let one = many
        .artifact("ListArtifacts", json!({ "name_filter": "n99999" }))
        .json();
    assert_eq!(one["artifacts"].as_array().unwrap().len(), 1);
}

#[test]
fn a_later_attempt_takes_the_place_of_what_an_earlier_one_left() {
    let world = World::new();
    let first = world.job("1", "r1.ab.0.1");
    assert_eq!(first.upload("dist", b"old").status, 200);
    let name = json!({ "name": "dist", "version": 7 });
    let other = world.job("1", "r1.cd.0.1");
    assert_eq!(other.artifact("CreateArtifact", name.clone()).status, 409);
    // A job that has no number of an attempt is of none.
    let plain = world.job("1", "x");
    assert_eq!(plain.artifact("CreateArtifact", name.clone()).status, 409);
    let second = world.job("1", "r1.ab.0.2");
    assert_eq!(second.upload("dist", b"new one").status, 200);
    assert_eq!(first.artifact("CreateArtifact", name).status, 409);
    let answer = world.get(&other.artifact_url("dist"), &[]);
    assert_eq!(answer.body, b"new one");
    assert_eq!(world.names("blobs").len(), 1);
}

#[test]
fn a_repository_has_no_more_artifacts_than_it_may() {
    let world = World::with(Limits {
        repository_artifacts: 10,
        ..LIMITS
    });
    let job = world.job("1", "a");
    // Both begin while there is room for each.
    let (first, second) = (job.begin_artifact("first"), job.begin_artifact("second"));
    world.put_blocks(&first, &[b"123456"]);
    world.put_blocks(&second, &[b"12345"]);
    assert_eq!(job.finish("first", 6).status, 200);
    let full = job.finish("second", 5);
    assert_eq!(full.status, 412, "{}", full.json());
    assert!(
        full.json()["msg"]
            .as_str()
            .unwrap()
            .contains("machine.yaml")
    );
    let third = job.begin_artifact("third");
    assert_eq!(world.put(&third, &block_query(0), b"12345").status, 413);
    world.put_blocks(&third, &[b"1234"]);
    assert_eq!(job.finish("third", 4).status, 200);
    let more = job.artifact("CreateArtifact", json!({ "name": "x", "version": 7 }));
    assert_eq!(more.status, 412);
    // What is removed makes room.
    job.artifact("DeleteArtifact", json!({ "name": "first" }));
    assert_eq!(job.finish("second", 5).status, 200);
}
