//! Pushes that go well, and what they lead to.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::Notify;

use crate::harness::{serve_in, served, wait_until};

pub const TESTS: &[(&str, fn())] = &[
    ("pushing::a_first_push_makes_the_repository", first),
    (
        "pushing::repositories_may_lie_where_git_sees_them",
        in_the_way,
    ),
    ("pushing::another_first_branch_is_cloned", another_branch),
    ("pushing::a_forced_push_is_said_to_be", forced),
    ("pushing::options_and_tags_and_deletions_arrive", options),
    ("pushing::a_large_push_comes_in_chunks", chunked),
    ("pushing::a_file_of_50_mb_is_stored", large),
    ("pushing::whoever_leaves_does_not_end_what_began", leaves),
    (
        "pushing::two_pushes_at_once_are_one_after_the_other",
        two_at_once,
    ),
    (
        "pushing::new_objects_are_read_before_they_are_accepted",
        quarantine,
    ),
    (
        "pushing::a_push_that_was_accepted_goes_on_after_a_crash",
        resumed,
    ),
    ("pushing::repositories_are_tidied", tidied),
];

/// Bytes that no pack makes smaller.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..count).map(step).collect()
}

/// What git sees covers that folder.
fn in_the_way() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let served = serve_in(folder, Arc::default(), |_| {});
    let work = served.work(&[("a", b"1")]);
    work.git(&["push", "havre", "main"]);
    assert_eq!(served.main(), Some(work.head()));
}

fn first() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    let told = work.git(&["push", "havre", "main"]);
    assert!(told.contains("remote: run 1 begins"), "{told}");
    assert!(told.contains("remote: run 1 succeeded"), "{told}");
    assert_eq!(served.main(), Some(work.head()));
    let received = served.fake.received.lock().expect("whole");
    let push = &received[0];
    assert_eq!(
        (push.project.as_str(), push.principal.as_str()),
        ("shop", "pusher")
    );
    let update = &push.updates[0];
    assert_eq!(
        (update.branch(), &update.old, update.forced),
        (Some("main"), &None, false)
    );
    assert_eq!(
        update.new.as_ref().map(ToString::to_string),
        Some(work.head())
    );
    let again = work.git(&["push", "havre", "main"]);
    assert!(again.contains("Everything up-to-date"), "{again}");
}

fn another_branch() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    work.git(&["push", "havre", "main:trunk"]);
    let head = served.runtime.block_on(served.objects().resolve("HEAD"));
    assert_eq!(
        head.expect("read").map(|oid| oid.to_string()),
        Some(work.head())
    );
}

fn forced() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    work.git(&["push", "havre", "main"]);
    let before = work.head().parse().expect("a commit");
    work.git(&["commit", "--quiet", "--amend", "-m", "otherwise"]);
    let (ok, said) = work.run(&["push", "havre", "main"]);
    assert!(
        !ok && said.contains("fetch first") || said.contains("rejected"),
        "{said}"
    );
    work.git(&["push", "--force", "havre", "main"]);
    assert_eq!(served.main(), Some(work.head()));
    let received = served.fake.received.lock().expect("whole");
    let forced: Vec<bool> = received.iter().map(|push| push.updates[0].forced).collect();
    assert_eq!(forced, [false, true]);
    drop(received);
    // What runs of the commit of before still has it, by its name.
    served.runtime.block_on(served.git.repositories().tidy());
    let read = served.runtime.block_on(served.objects().commit(&before));
    read.expect("it is there");
}

fn options() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    work.git(&["tag", "v1"]);
    work.git(&[
        "push", "-o", "ci.skip", "-o", "x=y z", "havre", "main", "v1", "main:old",
    ]);
    work.git(&["push", "havre", ":old"]);
    let received = served.fake.received.lock().expect("whole");
    assert_eq!(received[0].options, ["ci.skip", "x=y z"]);
    let mut names: Vec<_> = received[0]
        .updates
        .iter()
        .map(|it| it.reference.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["refs/heads/main", "refs/heads/old", "refs/tags/v1"]);
    assert_eq!(received[1].updates[0].new, None);
}

fn chunked() {
    let served = served(|_| {});
    let work = served.work(&[("noise", &noise(3 << 20))]);
    let mut push = work.command(&["push", "havre", "main"]);
    push.env("GIT_CURL_VERBOSE", "1");
    let ran = crate::harness::said(&push.output().expect("git runs"));
    assert!(ran.0, "{}", ran.1);
    assert!(
        ran.1
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked")
    );
    assert_eq!(served.main(), Some(work.head()));
}

fn large() {
    let served = served(|_| {});
    let work = served.work(&[("noise", &noise(50 << 20))]);
    work.git(&["push", "havre", "main"]);
    assert_eq!(served.main(), Some(work.head()));
    let size = served.runtime.block_on(
        served
            .git
            .repositories()
            .size(&crate::harness::name("shop")),
    );
    assert!(size.expect("measured") > 50 << 20);
}

/// Two gigabytes, and how much memory this process, which is the server, has had at most. Takes minutes: it is asked for by
/// `HAVRE_LARGE=1`.
pub fn two_gigabytes() {
    const FILES: usize = 20;
    let served = served(|settings| settings.most_push = 4 << 30);
    let work = served.work(&[("a", b"1")]);
    for n in 0..FILES {
        let mut from = std::fs::File::open("/dev/urandom")
            .expect("there")
            .take(105 << 20);
        let mut to = std::fs::File::create(work.path.join(format!("file{n}"))).expect("made");
        std::io::copy(&mut from, &mut to).expect("written");
    }
    work.git(&["-c", "core.compression=0", "add", "."]);
    work.git(&["commit", "--quiet", "-m", "two gigabytes"]);
    let before = most_memory_kib();
    let begun = std::time::Instant::now();
    work.git(&["push", "havre", "main"]);
    let pushed = begun.elapsed();
    let size = served
        .runtime
        .block_on(
            served
                .git
                .repositories()
                .size(&crate::harness::name("shop")),
        )
        .expect("known");
    assert!(size > 2 << 30, "{size}");
    let copy = tempfile::tempdir().expect("a folder");
    let begun = std::time::Instant::now();
    let url = served.url("pusher", "shop");
    let to = copy.path().join("copy").to_string_lossy().into_owned();
    let mut clone =
        crate::harness::command(copy.path(), &["clone", "--quiet", "--bare", &url, &to]);
    assert!(clone.status().expect("git runs").success());
    let grown = most_memory_kib() - before;
    println!(
        "{} MiB pushed in {pushed:?}, cloned in {:?}; {} MiB more memory",
        size >> 20,
        begun.elapsed(),
        grown >> 10
    );
    assert!(grown < 256 << 10, "{grown} KiB");
}

fn most_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("there");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

fn leaves() {
    let served = served(|_| {});
    let hold = Arc::new(Notify::new());
    *served.fake.hold.lock().expect("whole") = Some(Arc::clone(&hold));
    let work = served.work(&[("a", b"1")]);
    let mut push = work.command(&["push", "havre", "main"]);
    push.stderr(Stdio::piped()).process_group(0);
    let mut push = push.spawn().expect("git runs");
    let mut said = BufReader::new(push.stderr.take().expect("piped")).lines();
    let line = said.find(|line| {
        line.as_ref()
            .is_ok_and(|line| line.contains("run 1 begins"))
    });
    assert!(line.is_some(), "what is told comes at once");
    // With its helper, which holds the connection.
    let group = Pid::from_child(&push);
    kill_process_group(group, Signal::KILL).expect("killed");
    push.wait().expect("ended");
    drop(said);
    wait_until("git ends though nobody follows", || {
        served.ended.lock().expect("whole").len() >= 2
    });
    assert_eq!(served.main(), Some(work.head()));
    assert!(served.fake.done.lock().expect("whole").is_empty());
    hold.notify_one();
    wait_until("what began goes on to its end", || {
        served.fake.done.lock().expect("whole").len() == 1
    });
}

fn two_at_once() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    work.git(&["push", "havre", "main"]);
    let pushes: Vec<_> = ["one", "two"]
        .map(|branch| {
            work.git(&["checkout", "--quiet", "-b", branch, "main"]);
            work.commit(&[(branch, &noise(100_000))]);
            let mut push = work.command(&["push", "havre", &format!("{branch}:main"), branch]);
            push.stderr(Stdio::piped()).spawn().expect("git runs")
        })
        .into_iter()
        .map(|push| crate::harness::said(&push.wait_with_output().expect("ended")))
        .collect();
    let won = pushes.iter().filter(|(ok, _)| *ok).count();
    assert!(won >= 1, "{pushes:?}");
    let branches: Vec<_> = ["one", "two"].map(|it| work.git(&["rev-parse", it])).into();
    assert!(branches.contains(&served.main().expect("there")));
    let received = served.fake.received.lock().expect("whole");
    let moved = received.iter().skip(1).flat_map(|push| &push.updates);
    let mains = moved
        .filter(|update| update.branch() == Some("main"))
        .count();
    assert_eq!(mains, won, "only what moved is told: {received:?}");
}

fn quarantine() {
    let served = served(|_| {});
    let work = served.work(&[("seen", b"in quarantine"), ("broken", b"")]);
    let (ok, said) = work.run(&["push", "havre", "main"]);
    assert!(!ok, "{said}");
    assert_eq!(*served.fake.seen.lock().expect("whole"), ["in quarantine"]);
    assert_eq!(served.main(), None);
    let oid = work.head().parse().expect("an object");
    let read = served.runtime.block_on(served.objects().commit(&oid));
    read.expect_err("nothing of it is kept");
}

fn resumed() {
    let served = served(|_| {});
    let hold = Arc::new(Notify::new());
    *served.fake.hold.lock().expect("whole") = Some(hold);
    let work = served.work(&[("a", b"1")]);
    let mut push = work.command(&["push", "havre", "main"]);
    let mut push = push.stderr(Stdio::piped()).spawn().expect("git runs");
    wait_until("it is received", || {
        served.fake.received.lock().expect("whole").len() == 1
    });
    let crate::harness::Served {
        fake,
        runtime,
        folder,
        ..
    } = served;
    // As if the daemon was killed.
    runtime.shutdown_background();
    push.wait().expect("ended");
    *fake.hold.lock().expect("whole") = None;
    let again = serve_in(folder, Arc::clone(&fake), |_| {});
    again.runtime.block_on(again.git.resume()).expect("resumed");
    wait_until("it goes on", || fake.done.lock().expect("whole").len() == 1);
    let received = fake.received.lock().expect("whole");
    assert_eq!(received[0], received[1], "the same push");
    let journal = again.folder.path().join("repositories/.pushes");
    wait_until("it is done with", || {
        std::fs::read_dir(&journal).expect("there").next().is_none()
    });
}

fn tidied() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    work.git(&["push", "havre", "main"]);
    let objects = served.folder.path().join("repositories/shop.git/objects");
    let left = objects.join("tmp_objdir-incoming-abc");
    std::fs::create_dir(&left).expect("made");
    served.runtime.block_on(served.git.repositories().tidy());
    assert!(!left.exists());
    assert_eq!(served.main(), Some(work.head()));
}
