//! Exec'd processes, terminals, probes, init.

use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use havre_engine::{ExecError, ExecSpec, HealthProbe, HealthStatus, Limits, WindowSize, enter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{DEADLINE, Sandbox, Test, command, logged, wait_until};

pub const TESTS: &[(&str, Test)] = &[
    ("exec_pipes_and_codes", |p| {
        Box::pin(exec_pipes_and_codes(p))
    }),
    ("exec_fails_clearly", |p| Box::pin(exec_fails_clearly(p))),
    ("exec_with_a_terminal", |p| {
        Box::pin(exec_with_a_terminal(p))
    }),
    ("dropping_a_session_kills", |p| {
        Box::pin(dropping_a_session_kills(p))
    }),
    ("a_container_with_a_terminal", |p| {
        Box::pin(a_container_with_a_terminal(p))
    }),
    ("health", |p| Box::pin(health(p))),
    ("a_probe_that_hangs", |p| Box::pin(a_probe_that_hangs(p))),
    ("processes_of_our_own_are_bounded_together", |p| {
        Box::pin(processes_of_our_own_are_bounded_together(p))
    }),
    ("init_reaps_and_forwards", |p| {
        Box::pin(init_reaps_and_forwards(p))
    }),
];

async fn exec_pipes_and_codes(place: &Sandbox) {
    let mut spec = place.spec("c1", "exec sleep 1000");
    spec.env.insert("FROM".to_owned(), "container".to_owned());
    place.start(&spec).await;
    let mut exec = command(&[
        "sh",
        "-c",
        "echo $FROM $MORE; id -u; pwd; cat; echo err >&2; exit 5",
    ]);
    exec.env.insert("MORE".to_owned(), "exec".to_owned());
    exec.user = Some("app".to_owned());
    exec.cwd = Some("/data".to_owned());
    exec.stdin = true;
    let mut session = place.engine().exec(&spec.id, exec).await.expect("executed");
    let mut stdin = session.stdin.take().expect("input");
    stdin.write_all(b"typed\n").await.expect("written");
    drop(stdin);
    let mut output = String::new();
    session
        .stdout
        .take()
        .expect("output")
        .read_to_string(&mut output)
        .await
        .expect("read");
    assert_eq!(output, "container exec\n1000\n/data\ntyped\n");
    assert_eq!(session.wait().await.expect("a code"), 5);
    assert_eq!(session.wait().await.expect("the same"), 5);
    let (code, _) = place
        .exec(&spec, command(&["sh", "-c", "kill -9 $$"]))
        .await;
    assert_eq!(code, 137);
    // Several at once.
    let many = (0..10).map(|n| {
        let script = format!("exit {n}");
        async move {
            place
                .exec(&place.spec("c1", ""), command(&["sh", "-c", &script]))
                .await
                .0
        }
    });
    let codes = futures(many).await;
    assert_eq!(codes, (0..10).collect::<Vec<_>>());
}

async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pinned: Vec<_> = all.map(|f| Box::pin(f)).collect();
    let mut done: Vec<Option<T>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, slot) in pinned.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *slot = Some(value);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

async fn exec_fails_clearly(place: &Sandbox) {
    let spec = place.spec("c1", "exec sleep 1000");
    place.start(&spec).await;
    for (argv, expected_code, expected) in [
        ("nope", 127, "command \"nope\" not found in PATH"),
        (
            "/etc/passwd",
            126,
            "cannot run /etc/passwd: it is not executable",
        ),
    ] {
        match place.engine().exec(&spec.id, command(&[argv])).await {
            Err(ExecError::Failed {
                exit_code, reason, ..
            }) => {
                assert_eq!((exit_code, reason.as_str()), (expected_code, expected));
            }
            other => panic!("{other:?}"),
        }
    }
    place
        .engine()
        .stop(&spec.id, Some(Duration::ZERO))
        .await
        .expect("stopped");
    let error = place
        .engine()
        .exec(&spec.id, command(&["true"]))
        .await
        .expect_err("ended");
    assert_eq!(error.to_string(), "container c1 is not running");
}

/// Reads until a text has come.
pub async fn read_until(terminal: &mut (impl AsyncReadExt + Unpin), text: &str) -> String {
    let mut all = String::new();
    let mut buffer = [0; 1024];
    let read = async {
        while !all.contains(text) {
            let len = terminal.read(&mut buffer).await.expect("readable");
            assert!(len > 0, "ended after {all:?}");
            all += &String::from_utf8_lossy(&buffer[..len]);
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, read).await;
    assert!(in_time.is_ok(), "no {text:?} in {all:?}");
    all
}

async fn exec_with_a_terminal(place: &Sandbox) {
    let spec = place.spec("c1", "exec sleep 1000");
    place.start(&spec).await;
    let size = WindowSize {
        rows: 40,
        columns: 100,
    };
    let exec = ExecSpec {
        tty: Some(size),
        ..command(&["sh"])
    };
    let mut session = place.engine().exec(&spec.id, exec).await.expect("executed");
    let mut terminal = session.terminal.clone().expect("a terminal");
    terminal
        .write_all(b"stty size; tty; echo $TERM\n")
        .await
        .expect("written");
    let output = read_until(&mut terminal, "xterm\r\n").await;
    assert!(
        output.contains("40 100") && output.contains("/dev/pts/0"),
        "{output}"
    );
    session
        .resize(WindowSize {
            rows: 50,
            columns: 132,
        })
        .expect("resized");
    terminal.write_all(b"stty size\n").await.expect("written");
    read_until(&mut terminal, "50 132").await;
    terminal.write_all(b"sleep 1000\n").await.expect("written");
    // Control-C reaches the foreground process, not the shell.
    tokio::time::sleep(Duration::from_millis(50)).await;
    terminal.write_all(b"\x03").await.expect("written");
    terminal.write_all(b"exit 4\n").await.expect("written");
    assert_eq!(session.wait().await.expect("a code"), 4);
    let mut rest = Vec::new();
    terminal
        .read_to_end(&mut rest)
        .await
        .expect("an end, not an error");
}

async fn dropping_a_session_kills(place: &Sandbox) {
    let spec = place.spec("c1", "exec sleep 1000");
    place.start(&spec).await;
    let script = "echo $$ > /data/pid; sleep 2000 & wait";
    let session = place
        .engine()
        .exec(&spec.id, command(&["sh", "-c", script]))
        .await;
    let host = format!("/proc/{}", session.expect("executed").pid);
    wait_until("killed", || !std::path::Path::new(&host).exists()).await;
    let (_, output) = place.exec(&spec, command(&["ps"])).await;
    assert!(!output.contains("sleep 2000"), "{output}");
}

async fn a_container_with_a_terminal(place: &Sandbox) {
    let mut spec = place.spec(
        "c1",
        "tty; printf 'prompt> '; stat -c %t /dev/console; sleep 1000",
    );
    spec.tty = true;
    place.start(&spec).await;
    let output = logged(&spec, "prompt> ").await;
    assert!(output.starts_with("/dev/pts/0\r\n"), "{output:?}");
    logged(&spec, "88\r\n").await;
    place
        .engine()
        .stop(&spec.id, Some(Duration::ZERO))
        .await
        .expect("stopped");
}

fn probe(script: &str) -> HealthProbe {
    HealthProbe {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        interval: Duration::from_millis(50),
        timeout: Duration::from_secs(5),
        retries: 2,
        start_period: Duration::from_millis(300),
        start_interval: Duration::from_millis(30),
    }
}

async fn health(place: &Sandbox) {
    let mut spec = place.spec("c1", "sleep 1000");
    spec.health = Some(probe("echo checking; cat /data/ok"));
    place.start(&spec).await;
    let status = |wanted: HealthStatus| {
        move |o: &havre_engine::Observed| o.health.as_ref().is_some_and(|h| h.status == wanted)
    };
    let first = place
        .until(&spec, "probed", |o| {
            o.health.as_ref().is_some_and(|h| h.last.is_some())
        })
        .await;
    assert_eq!(
        first.health.expect("a probe").status,
        HealthStatus::Starting
    );
    place.exec(&spec, command(&["touch", "/data/ok"])).await;
    let healthy = place
        .until(&spec, "healthy", status(HealthStatus::Healthy))
        .await;
    let last = healthy.health.and_then(|h| h.last).expect("a result");
    assert_eq!(
        (last.exit_code, last.output.as_str()),
        (Some(0), "checking\n")
    );
    place.exec(&spec, command(&["rm", "/data/ok"])).await;
    let sick = place
        .until(&spec, "unhealthy", status(HealthStatus::Unhealthy))
        .await
        .health;
    let sick = sick.expect("a probe");
    assert!(sick.failing_streak >= 2);
    let output = sick.last.expect("a result").output;
    assert_eq!(
        output,
        "checking\ncat: can't open '/data/ok': No such file or directory\n"
    );
    place
        .engine()
        .restart(&spec.id, Default::default())
        .await
        .expect("restarted");
    place
        .until(&spec, "starting again", status(HealthStatus::Starting))
        .await;
    let mut broken = place.spec("c2", "sleep 1000");
    broken.health = Some(HealthProbe {
        argv: vec!["nope".to_owned()],
        ..probe("")
    });
    place.start(&broken).await;
    let sick = place
        .until(&broken, "unhealthy", status(HealthStatus::Unhealthy))
        .await;
    let last = sick.health.and_then(|h| h.last).expect("a result");
    assert_eq!(
        (last.exit_code, last.output.as_str()),
        (Some(127), "command \"nope\" not found in PATH")
    );
}

async fn a_probe_that_hangs(place: &Sandbox) {
    let mut spec = place.spec("c1", "sleep 1000");
    let mut hanging = probe("echo waiting; sleep 3000 & sleep 3000");
    hanging.timeout = Duration::from_millis(150);
    hanging.start_period = Duration::ZERO;
    spec.health = Some(hanging);
    place.start(&spec).await;
    let sick = place
        .until(&spec, "unhealthy", |o| {
            o.health
                .as_ref()
                .is_some_and(|h| h.status == HealthStatus::Unhealthy)
        })
        .await;
    let last = sick.health.and_then(|h| h.last).expect("a result");
    assert_eq!((last.exit_code, last.output.as_str()), (None, "waiting\n"));
    let (_, output) = place.exec(&spec, command(&["ps"])).await;
    assert!(output.matches("sleep 3000").count() <= 3, "{output}");
}

async fn init_reaps_and_forwards(place: &Sandbox) {
    let script = "trap 'echo got it; exit 9' USR1; (setsid sh -c 'sleep 0.05' &); echo up; \
        while :; do sleep 0.05; done";
    let mut spec = place.spec("c1", script);
    spec.init = true;
    spec.user = "app".to_owned();
    place.start(&spec).await;
    logged(&spec, "up").await;
    let (_, output) = place
        .exec(
            &spec,
            command(&[
                "sh",
                "-c",
                "cat /proc/1/comm; cat /proc/1/maps; ps | grep -v grep | grep -c ' Z '",
            ]),
        )
        .await;
    assert!(output.starts_with("init\n"), "{output}");
    // It is Havre's own binary: not even its files can be looked at.
    let refused = "cat: can't open '/proc/1/maps': Permission denied";
    assert!(
        output.contains("\n0\n") && output.contains(refused),
        "{output}"
    );
    place
        .engine()
        .signal(&spec.id, libc_usr1())
        .await
        .expect("sent");
    let exit = place.engine().wait(&spec.id).await.expect("an exit");
    assert_eq!(exit.code, 9);
    logged(&spec, "got it").await;
    let mut missing = place.spec("c2", "");
    missing.init = true;
    missing.argv = vec!["nope".to_owned()];
    let error = place
        .engine()
        .create(&missing)
        .await
        .expect_err("no command")
        .to_string();
    assert!(
        error.ends_with("command \"nope\" not found in PATH"),
        "{error}"
    );
}

fn libc_usr1() -> i32 {
    havre_engine::signal_number("SIGUSR1").expect("known")
}

/// Each of two processes has room, both together have not; what stays behind ends with the group.
async fn processes_of_our_own_are_bounded_together(place: &Sandbox) {
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        pids: Some(16),
        ..Limits::default()
    };
    let group = place.engine().group("own", "fetch", &limits);
    let group = group.expect("a group");
    let run = |script: &str| {
        let doors = group.doors().expect("its doors");
        let mut command = std::process::Command::new("/bin/busybox");
        command.args(["sh", "-c", script]);
        let join = move || doors.iter().try_for_each(|door| enter(door.as_fd()));
        // SAFETY: system calls alone between fork and exec.
        unsafe { command.pre_exec(join) };
        command.spawn().expect("it runs")
    };
    // Its buffer is full, and nobody takes it.
    let eat = "busybox dd if=/dev/zero bs=40M count=1 | busybox sleep 2";
    let alone = run(eat).wait().expect("its end");
    assert!(alone.success() && !group.ran_out_of_memory());
    run(&format!("{eat} & {eat} & wait"))
        .wait()
        .expect("its end");
    assert!(group.ran_out_of_memory());
    let mut stays = run("exec busybox sleep 1000");
    let found = place.engine().reconcile().await.expect("a look");
    assert_eq!(found.orphans, 0);
    assert!(
        stays.try_wait().expect("its state").is_none(),
        "it is no container"
    );
    let begun = std::time::Instant::now();
    drop(group);
    stays.wait().expect("its end");
    assert!(begun.elapsed() < DEADLINE);
}
