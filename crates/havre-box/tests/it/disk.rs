//! What boxes take of the disk, on a small one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use havre_box::{BoxError, BoxRequest, Boxes, DiskBounds, Ending};

use crate::harness::{DEADLINE, Place, Test, all, host};

pub const TESTS: &[(&str, Test)] = &[
    ("a_job_ends_that_takes_more_disk_than_it_may", |p| {
        Box::pin(beyond(p))
    }),
    ("what_a_job_hides_from_folders_counts", |p| {
        Box::pin(hidden(p))
    }),
    ("room_for_services_is_kept", |p| Box::pin(reserve(p))),
    ("a_full_disk_makes_no_box_and_leaves_nothing", |p| {
        Box::pin(full(p))
    }),
];

const MB: u64 = 1_000_000;
const NO_BOUNDS: DiskBounds = DiskBounds {
    each: u64::MAX,
    files: u64::MAX,
    reserve: 0,
};

/// A disk of 300 MB, in memory.
struct Small(PathBuf);

impl Small {
    fn new(place: &Place) -> Self {
        let path = place.dir.path().join("small");
        fs::create_dir(&path).expect("a folder");
        let small = Self(path);
        small.run("mount", &["-t", "tmpfs", "-o", "size=300m", "small"]);
        small
    }

    fn run(&self, program: &str, args: &[&str]) {
        let status = Command::new(program).args(args).arg(&self.0).status();
        assert!(status.expect("run").success(), "{program}");
    }

    fn fill(&self, bytes: u64) -> PathBuf {
        let path = self.0.join("filler");
        let file = fs::File::create(&path).expect("a file");
        let filled = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes);
        filled.expect("room");
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.run("umount", &["-l"]);
    }
}

/// Runs a box until it ends; then it is removed.
async fn run(boxes: &Boxes, request: BoxRequest) -> Ending {
    let id = request.id.clone();
    boxes.start(request).await.expect("started");
    let (_, ending) = all(boxes, &id).await;
    assert_eq!(boxes.remove(&id).await, [""; 0]);
    ending
}

fn stopped(ending: &Ending, parts: &[&str]) {
    let Ending::Stopped(why) = ending else {
        panic!("{ending:?}");
    };
    assert!(parts.iter().all(|part| why.contains(part)), "{why}");
}

async fn over(boxes: &Boxes) {
    assert_eq!(boxes.list().expect("a list").len(), 0);
    assert_eq!(boxes.shutdown().await, [""; 0]);
}

async fn beyond(place: &Place) {
    let small = Small::new(place);
    let bounds = DiskBounds {
        each: 100 * MB,
        files: 2000,
        reserve: 10 * MB,
    };
    let boxes = place.small(&small.0, bounds);
    for at in ["/usr/big", "big", "/opt/hostedtoolcache/big"] {
        let script = format!("head -c 150M /dev/zero > {at}; sleep 1000");
        let ending = run(&boxes, host("b1", &script)).await;
        stopped(&ending, &["the job took 15", "its bound is 100 MB"]);
    }
    let many = "i=0; while [ $i -lt 3000 ]; do : > $i; i=$((i+1)); done; sleep 1000";
    let ending = run(&boxes, host("b1", many)).await;
    stopped(&ending, &["files, its bound is 2000"]);
    let within = run(&boxes, host("b1", "head -c 50M /dev/zero > big; sleep 5")).await;
    assert!(
        matches!(within, Ending::Exited { code: 0, .. }),
        "{within:?}"
    );
    over(&boxes).await;
}

async fn hidden(place: &Place) {
    let small = Small::new(place);
    let bounds = DiskBounds {
        each: 100 * MB,
        files: 100_000,
        reserve: 10 * MB,
    };
    let boxes = place.small(&small.0, bounds);
    let script = "exec 3> big; rm big; head -c 150M /dev/zero >&3; sleep 1000";
    let ending = run(&boxes, host("b1", script)).await;
    stopped(&ending, &["its bound is 100 MB"]);
    let script = "python3 -c 'import os
for _ in range(300): os.mkdir(\"d\"); os.chdir(\"d\")'; sleep 1000";
    let ending = run(&boxes, host("b1", script)).await;
    stopped(&ending, &["so deep"]);
    over(&boxes).await;
}

async fn reserve(place: &Place) {
    let small = Small::new(place);
    let bounds = DiskBounds {
        reserve: 100 * MB,
        ..NO_BOUNDS
    };
    let boxes = place.small(&small.0, bounds);
    let quiet = "head -c 50M /dev/zero > big; sleep 1000";
    boxes.start(host("quiet", quiet)).await.expect("started");
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    let grows = "head -c 230M /dev/zero > big; sleep 1000";
    let ending = run(&boxes, host("grows", grows)).await;
    stopped(&ending, &["MB left, and 100 MB are kept"]);
    let there = place.engine.containers();
    assert!(there.iter().any(|it| it.id.0 == "box.quiet"), "{there:?}");
    // Others fill the disk: no job that does nothing ends for it, and none begins.
    let filler = small.fill(200 * MB);
    let error = boxes.start(host("b2", "true")).await.expect_err("no room");
    assert!(matches!(error, BoxError::NoRoom(_)), "{error:?}");
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let there = place.engine.containers();
    assert!(there.iter().any(|it| it.id.0 == "box.quiet"), "{there:?}");
    fs::remove_file(filler).expect("removed");
    run(&boxes, host("b2", "true")).await;
    assert_eq!(boxes.remove("quiet").await, [""; 0]);
    over(&boxes).await;
}

async fn full(place: &Place) {
    let small = Small::new(place);
    let boxes = place.small(&small.0, NO_BOUNDS);
    // Fills it by itself: its steps fail, and it ends.
    let begun = Instant::now();
    let script = "head -c 400M /dev/zero > big; echo code $?; echo said";
    boxes.start(host("b1", script)).await.expect("started");
    let (_, ending) = all(&boxes, "b1").await;
    assert!(matches!(ending, Ending::Exited { .. }), "{ending:?}");
    assert_eq!(boxes.remove("b1").await, [""; 0]);
    assert!(begun.elapsed() < DEADLINE);
    let free = free(&small.0);
    let filler = small.fill(free);
    let error = boxes
        .start(host("b2", "true"))
        .await
        .expect_err("it is full");
    let text = havre_base::one_line(&error);
    assert!(text.contains("No space left"), "{text}");
    assert_eq!(boxes.list().expect("a list").len(), 0);
    fs::remove_file(filler).expect("removed");
    run(&boxes, host("b2", "true")).await;
    over(&boxes).await;
}

fn free(path: &Path) -> u64 {
    let found = rustix::fs::statvfs(path).expect("a disk");
    found.f_bavail * found.f_frsize
}
