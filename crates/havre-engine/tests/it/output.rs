//! Output, its spool and its readers; input.

use std::fs;
use std::time::Duration;

use havre_engine::{LogQuery, LogStream, read_logs};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::harness::{DEADLINE, Sandbox, Test, command, logged, logs, wait_until};

pub const TESTS: &[(&str, Test)] = &[
    ("long_lines", |p| Box::pin(long_lines(p))),
    ("following_a_container", |p| {
        Box::pin(following_a_container(p))
    }),
    ("a_flood_does_not_drown_the_shim", |p| Box::pin(flood(p))),
    ("a_full_disk_does_not_block", |p| Box::pin(full_disk(p))),
    ("input_stays_open", |p| Box::pin(input_stays_open(p))),
];

async fn long_lines(place: &Sandbox) {
    let spec = place.spec(
        "c1",
        "head -c 100000 /dev/zero | tr '\\0' x; echo; printf end",
    );
    let (exit, output) = place.run(&spec).await;
    assert_eq!(exit.code, 0);
    assert_eq!(output, format!("{}\nend\n", "x".repeat(100_000)));
    let raw = fs::read_to_string(spec.log.dir.join("current.log")).expect("a spool");
    assert_eq!(raw.matches(" stdout P ").count(), 6);
    assert_eq!(logs(&spec).await, output);
}

async fn following_a_container(place: &Sandbox) {
    let script = "echo err >&2; for i in $(seq 2000); do echo line $i; done";
    let mut spec = place.spec("c1", script);
    spec.log.max_size_bytes = 4096;
    spec.log.max_files = 100;
    let query = LogQuery {
        follow: Some(place.engine().log_changes()),
        ..LogQuery::default()
    };
    let mut reader = read_logs(&spec.log.dir, query);
    place.start(&spec).await;
    let mut next = 1;
    let mut errors = 0;
    while next <= 2000 {
        // Cancelled again and again, as in a server's select!.
        match tokio::time::timeout(Duration::from_micros(500), reader.next()).await {
            Err(_) => {}
            Ok(line) => {
                let line = line.expect("readable").expect("no end");
                match line.stream {
                    LogStream::Stderr => errors += 1,
                    LogStream::Stdout => {
                        assert_eq!(line.text, format!("line {next}"));
                        next += 1;
                    }
                }
            }
        }
    }
    assert_eq!(errors, 1);
    assert!(spec.log.dir.join("2.log").exists(), "rotated");
    place.engine().wait(&spec.id).await.expect("an exit");
}

async fn flood(place: &Sandbox) {
    let mut spec = place.spec("c1", "yes 'the quick brown fox' & exec yes >&2");
    spec.log.max_size_bytes = 1 << 20;
    spec.log.max_files = 2;
    place.start(&spec).await;
    wait_until("rotated", || spec.log.dir.join("1.log").exists()).await;
    let stopped = tokio::time::timeout(
        DEADLINE,
        place
            .engine()
            .stop(&spec.id, Some(Duration::from_millis(100))),
    );
    stopped.await.expect("in time").expect("stopped");
    let files = fs::read_dir(&spec.log.dir).expect("a folder").flatten();
    let size: u64 = files.map(|f| f.metadata().map_or(0, |m| m.len())).sum();
    assert!(size > 1 << 20 && size <= 2 << 20, "{size}");
}

/// A small file system, gone when dropped.
struct Disk(std::path::PathBuf);

impl Disk {
    fn new(path: std::path::PathBuf) -> Self {
        fs::create_dir_all(&path).expect("a folder");
        let options = Some(c"size=256k");
        rustix::mount::mount("havre", &path, "tmpfs", MountFlags::empty(), options)
            .expect("mounted");
        Self(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).expect("unmounted");
    }
}

async fn full_disk(place: &Sandbox) {
    let disk = Disk::new(place.dir.path().join("disk"));
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![0; 200 << 10]).expect("written");
    let script = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); \
        echo 0123456789012345678901234567890123456789; done; touch /data/written; \
        while [ ! -e /data/go ]; do usleep 10000; done; echo after";
    let mut spec = place.spec("c1", script);
    spec.log.dir = disk.0.join("log");
    place.start(&spec).await;
    let upper = spec.rootfs.upper.as_ref().expect("writable").upper.clone();
    wait_until("all written, disk full or not", || {
        upper.join("data/written").exists()
    })
    .await;
    fs::remove_file(&ballast).expect("removed");
    place.exec(&spec, command(&["touch", "/data/go"])).await;
    let output = logged(&spec, "after").await;
    let record = |l: &&str| {
        l.starts_with("havre: ") && l.contains(" bytes dropped: No space left on device")
    };
    let records = output.lines().filter(record).count();
    assert!(records >= 1, "{output}");
    // What is there is whole.
    let whole = |l: &&str| **l == *"0123456789012345678901234567890123456789";
    let lines = output.lines().filter(whole).count();
    assert!(lines > 100 && lines < 5000, "{lines}");
    assert_eq!(output.lines().count(), lines + records + 1);
    place.engine().remove(&spec.id).await;
    drop(disk);
}

async fn input_stays_open(place: &Sandbox) {
    let mut spec = place.spec("c1", "while read line; do echo got $line; done; echo end");
    spec.stdin_open = true;
    place.start(&spec).await;
    let input = place.engine().input(&spec.id).await.expect("an input");
    rustix::io::write(&input, b"one\ntwo\n").expect("written");
    logged(&spec, "got two").await;
    drop(input);
    // The shim keeps its own copy, so there is no end yet.
    let input = place.engine().input(&spec.id).await.expect("an input");
    rustix::io::write(&input, b"three\n").expect("written");
    logged(&spec, "got three").await;
    let closed = place.spec("c2", "sleep 1000");
    place.start(&closed).await;
    let error = place
        .engine()
        .input(&closed.id)
        .await
        .expect_err("none")
        .to_string();
    assert_eq!(error, "container c2: the container keeps no input open");
}
