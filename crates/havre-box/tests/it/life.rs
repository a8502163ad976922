//! How boxes begin and end, and that nothing of them stays.

use std::time::{Duration, Instant};

use havre_box::{BoxError, Ending, Heard};
use havre_job::{JobResult, Told};

use crate::harness::{DEADLINE, Place, Test, all, host, image, lines};

pub const TESTS: &[(&str, Test)] = &[
    ("a_box_of_an_image", |p| Box::pin(of_an_image(p))),
    ("a_box_begins_soon", |p| Box::pin(begins_soon(p))),
    ("a_runner_is_asked_to_end_and_then_made_to", |p| {
        Box::pin(cancel(p))
    }),
    ("another_daemon_goes_on", |p| Box::pin(another_daemon(p))),
    ("what_cannot_be_made_leaves_nothing", |p| {
        Box::pin(nothing_left(p))
    }),
    ("much_output_is_told_whole", |p| Box::pin(much_output(p))),
    ("what_is_not_told_is_a_line", |p| Box::pin(not_told(p))),
    ("a_flood_of_forged_events_is_bounded", |p| {
        Box::pin(flood(p))
    }),
    ("a_job_that_forks_without_end_ends_whole", |p| {
        Box::pin(forks(p))
    }),
];

async fn of_an_image(place: &Place) {
    let script = "id -u; echo $FROM_IMAGE; pwd; ls /usr /etc; hostname; grep runner /etc/hosts | head -1; touch /x; \
        test -x /run/havre/programs/sudo && /run/havre/programs/sudo -E -n A=1 sh -c 'echo $A'; exit 3";
    let (lines, ending) = place.run(image("b1", script)).await;
    let failed = Ending::Exited {
        code: 3,
        oom_killed: false,
    };
    assert_eq!(ending, failed, "{lines:?}");
    assert_eq!(lines[..3], ["0", "yes", "/home/runner/work/shop/shop"]);
    assert!(lines.contains(&"runner".to_owned()), "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("1"), "{lines:?}");
}

/// The split of a start, on standard error, for who measures.
async fn begins_soon(place: &Place) {
    tokio::task::spawn_blocking({
        let boxes = place.boxes.clone();
        move || boxes.warm().expect("a look")
    })
    .await
    .expect("a look");
    let mut best = Duration::MAX;
    for round in 0..6 {
        let id = format!("b{round}");
        let begun = Instant::now();
        let started = place.boxes.start(host(&id, "true")).await.expect("started");
        let mut follow = place.boxes.follow(&id).expect("there");
        loop {
            if let Some(Heard::Told(Told::Began { .. })) = follow.next().await.expect("readable") {
                break;
            }
        }
        let took = begun.elapsed();
        eprintln!(
            "began after {took:?}: network and files {:?}, container {:?}",
            started.prepared, started.container
        );
        best = best.min(took);
        assert_eq!(place.boxes.remove(&id).await, [""; 0]);
    }
    // Far from the bar, so that a busy machine does not fail it.
    assert!(best < Duration::from_secs(1), "{best:?}");
}

async fn cancel(place: &Place) {
    let wait = async |id: &str, text: &str| {
        let mut follow = place.boxes.follow(id).expect("there");
        let found = tokio::time::timeout(DEADLINE, async {
            while let Some(heard) = follow.next().await.expect("readable") {
                if matches!(&heard, Heard::Told(Told::Line { text: it, .. }) if it == text) {
                    return;
                }
            }
            panic!("never {text}");
        });
        found.await.expect("in time");
    };
    place
        .boxes
        .start(host("b1", "sleep 1000"))
        .await
        .expect("started");
    wait("b1", "listening").await;
    place.boxes.cancel("b1", false).await.expect("asked");
    wait("b1", "asked to end").await;
    place.boxes.cancel("b1", true).await.expect("ended");
    let (told, ending) = place.told("b1").await;
    assert!(
        matches!(
            told.last(),
            Some(Told::Ended {
                result: JobResult::Cancelled,
                ..
            })
        ),
        "{told:?}"
    );
    assert!(
        matches!(ending, Ending::Exited { code: 9, .. }),
        "{ending:?}"
    );
    // It has ended: nothing to do.
    place.boxes.cancel("b1", false).await.expect("fine");

    place
        .boxes
        .start(host("b2", "sleep 1000"))
        .await
        .expect("started");
    wait("b2", "listening").await;
    place.boxes.cancel("b2", true).await.expect("ended");
    let (_, ending) = place.told("b2").await;
    assert!(
        matches!(ending, Ending::Exited { code: 9, .. }),
        "{ending:?}"
    );
}

async fn another_daemon(place: &Place) {
    let started = place
        .boxes
        .start(host("b1", "echo one; sleep 1; echo two"))
        .await;
    started.expect("started");
    let twice = place.boxes.start(host("b1", "true")).await;
    assert!(matches!(twice, Err(BoxError::Exists(_))), "{twice:?}");
    let (engine, boxes) = place.again().await;
    assert_eq!(
        boxes
            .list()
            .expect("a list")
            .into_iter()
            .collect::<Vec<_>>(),
        ["b1"]
    );
    let (told, ending) = all(&boxes, "b1").await;
    assert!(matches!(told.first(), Some(Told::Began { .. })));
    assert_eq!(lines(&told), ["one", "two"]);
    assert!(matches!(ending, Ending::Exited { code: 0, .. }));
    // Again from its start, and the same.
    assert_eq!(all(&boxes, "b1").await, (told, ending));
    assert_eq!(boxes.remove("b1").await, [""; 0]);
    assert_eq!(boxes.remove("b1").await, [""; 0]);
    assert!(boxes.list().expect("a list").is_empty());
    assert!(matches!(boxes.follow("b1"), Err(BoxError::NotFound(_))));
    engine.shutdown().await;
}

async fn nothing_left(place: &Place) {
    let mut request = host("b1", "true");
    request.repository = Some("/no/such/repository".into());
    let error = place.boxes.start(request).await.expect_err("no repository");
    assert!(error.to_string().contains("/no/such/repository"), "{error}");
    let mut request = host("b2", "true");
    request.limits.memory_bytes = 1;
    place.boxes.start(request).await.expect_err("no memory");
    let mut request = host("b3", "true");
    request.document.runner.workspace = "/etc".to_owned();
    place.boxes.start(request).await.expect_err("no workspace");
    assert!(place.boxes.list().expect("a list").is_empty());
}

async fn much_output(place: &Place) {
    // As much as a runner tells at most, told line by line.
    let script = "i=0; seq 1 200000 | sed 's/$/ 0123456789012345678901234567890123456789012345678901234567890123456789/'";
    let (lines, ending) = place.run(host("b1", script)).await;
    assert!(matches!(ending, Ending::Exited { code: 0, .. }));
    assert_eq!(lines.len(), 200_000);
    assert!(lines[199_999].starts_with("200000 "));
}

async fn not_told(place: &Place) {
    let script = "printf 'no document\\n{\"told\":\"what\"}\\n' > /proc/1/fd/1; echo oops > /proc/1/fd/2; printf unfinished > /proc/1/fd/2";
    let (told, ending) = {
        place
            .boxes
            .start(host("b1", script))
            .await
            .expect("started");
        place.told("b1").await
    };
    assert!(
        matches!(ending, Ending::Exited { code: 0, .. }),
        "{ending:?}"
    );
    let lines = lines(&told);
    for text in ["no document", "{\"told\":\"what\"}", "oops", "unfinished"] {
        assert!(lines.iter().any(|line| line == text), "{text}: {lines:?}");
    }
}

async fn flood(place: &Place) {
    // Past the runner, into what it tells by.
    let script = "yes '{\"told\":\"line\",\"step\":0,\"kind\":\"plain\",\"text\":\"forged\"}' | head -c 30000000 > /proc/1/fd/1; \
        echo over";
    place
        .boxes
        .start(host("b1", script))
        .await
        .expect("started");
    let mut follow = place.boxes.follow("b1").expect("there");
    let mut heard = 0_u64;
    let last = tokio::time::timeout(DEADLINE * 2, async {
        loop {
            match follow.next().await.expect("readable") {
                Some(Heard::Told(_)) => heard += 1,
                Some(Heard::Ended(ending)) => return ending,
                None => panic!("nothing after the end"),
            }
        }
    });
    let last = last.await.expect("it ends");
    assert!(matches!(last, Ending::Exited { code: 0, .. }), "{last:?}");
    assert!(heard > 1000, "{heard}");
    let spool = place.dir.path().join("boxes/b1/log");
    let bytes = havre_box::disk_of(&spool).expect("a spool");
    assert!(bytes < 300 << 20, "{bytes}");
    assert_eq!(place.boxes.remove("b1").await, [""; 0]);
}

async fn forks(place: &Place) {
    let script = "python3 -c 'import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
count = 0
while True:
    try: child = os.fork()
    except OSError: break
    if child == 0:
        os.setsid(); os.close(1); os.close(2)
        time.sleep(1000)
        os._exit(0)
    count += 1
print(\"forked\", count, flush=True)
os.kill(os.getppid(), signal.SIGKILL)'";
    let mut request = host("b1", script);
    request.limits.pids = 200;
    let begun = Instant::now();
    let (lines, ending) = place.run(request).await;
    let count = lines.iter().find_map(|line| line.strip_prefix("forked "));
    let count: u32 = count.expect("it was bounded").parse().expect("a number");
    assert!((100..200).contains(&count), "{count}");
    assert!(matches!(ending, Ending::Exited { .. }), "{ending:?}");
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    // What it left behind is gone with it: the test's end looks.
    assert_eq!(place.boxes.remove("b1").await, [""; 0]);
}
