//! What survives the daemon, and what is cleaned up after everything else.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use havre_engine::{ContainerSpec, Engine, EngineConfig, RestartRule, State};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{
    DEADLINE, Sandbox, Test, command, logged, pid, reconciled, until_in, wait_until,
};

pub const TESTS: &[(&str, Test)] = &[
    ("another_daemon_takes_over", |p| {
        Box::pin(another_daemon_takes_over(p))
    }),
    ("a_stop_outlives_the_daemon", |p| {
        Box::pin(a_stop_outlives_the_daemon(p))
    }),
    ("a_killed_shim_takes_its_container_along", |p| {
        Box::pin(a_killed_shim(p))
    }),
    ("a_shim_that_does_not_answer_is_ended", |p| {
        Box::pin(a_shim_that_does_not_answer(p))
    }),
    ("hostile_bytes", |p| Box::pin(hostile_bytes(p))),
    ("the_run_directory_is_cleared", |p| {
        Box::pin(the_run_directory_is_cleared(p))
    }),
    ("events_in_order", |p| Box::pin(events_in_order(p))),
    ("restart_and_start_again", |p| {
        Box::pin(restart_and_start_again(p))
    }),
    ("ids_are_unique", |p| Box::pin(ids_are_unique(p))),
    ("many_at_once", |p| Box::pin(many_at_once(p))),
    ("killed_at_any_instruction", |p| {
        Box::pin(killed_at_any_instruction(p))
    }),
    ("terminating_the_shim_stops_in_order", |p| {
        Box::pin(terminating_the_shim(p))
    }),
    ("the_binary_cannot_be_overwritten", |p| {
        Box::pin(the_binary_cannot_be_overwritten(p))
    }),
    ("figures", |p| Box::pin(figures(p))),
];

/// Entry of the test binary: a daemon that creates the container of a file and waits.
pub fn create_and_wait(args: &[std::ffi::OsString]) -> ExitCode {
    let [run_dir, instance, spec] = args else {
        return ExitCode::from(2);
    };
    let spec: ContainerSpec =
        serde_json::from_slice(&fs::read(spec).expect("readable")).expect("a spec");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let engine = Engine::new(EngineConfig {
            run_dir: run_dir.into(),
            exe: std::env::current_exe().expect("this binary"),
            exe_args: Vec::new(),
            instance: instance.to_string_lossy().into_owned(),
        });
        let engine = engine.expect("an engine");
        engine.create(&spec).await.expect("created");
        println!("created");
        if spec.labels.contains_key("stop") {
            logged(&spec, "up").await;
            engine.stop(&spec.id, None).await.expect("stopped");
        }
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

/// Lets another process create the container, and kills it.
async fn created_by_another(place: &Sandbox, spec: &ContainerSpec, until: &str) {
    let file = place.dir.path().join("spec.json");
    fs::write(&file, serde_json::to_vec(spec).expect("a spec")).expect("written");
    let mut daemon = Command::new(std::env::current_exe().expect("this binary"))
        .arg("create-and-wait")
        .arg(place.run.path())
        .arg(&place.instance)
        .arg(file)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().expect("output"))
        .read_line(&mut line)
        .expect("a line");
    assert_eq!(line, "created\n");
    logged(spec, until).await;
    daemon.kill().expect("killed");
    daemon.wait().expect("reaped");
}

async fn another_daemon_takes_over(place: &Sandbox) {
    let script =
        "trap 'echo bye; exit 3' TERM; n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done";
    let mut spec = place.spec("c1", script);
    spec.restart = RestartRule::Always;
    created_by_another(place, &spec, "1\n").await;
    let engine = place.engine();
    let list = reconciled(engine).await;
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].labels, spec.labels);
    assert!(matches!(list[0].state, State::Running { .. }), "{list:?}");
    assert_eq!(engine.spec(&spec.id).await.as_ref(), Some(&spec));
    // Output goes on, and so does exec.
    let so_far = logged(&spec, "\n5\n").await.lines().count();
    logged(&spec, &format!("\n{}\n", so_far + 3)).await;
    assert_eq!(
        place.exec(&spec, command(&["echo", "hi"])).await,
        (0, "hi\n".to_owned())
    );
    engine.stop(&spec.id, None).await.expect("stopped");
    let exit = engine.wait(&spec.id).await.expect("an exit");
    assert_eq!((exit.code, exit.requested, exit.signal), (3, true, None));
    // A third one learns from disk how it ended.
    let third = place.another_engine();
    let list = reconciled(&third).await;
    assert_eq!(list[0].last_exit.as_ref(), Some(&exit));
    assert_eq!(list[0].state, State::Exited);
}

async fn a_stop_outlives_the_daemon(place: &Sandbox) {
    let mut spec = place.spec("c1", "trap 'echo asked' TERM; while :; do sleep 0.05; done");
    spec.labels.insert("stop".to_owned(), String::new());
    spec.stop_grace = Duration::from_millis(700);
    spec.restart = RestartRule::Always;
    spec.argv[2] = "trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done".to_owned();
    created_by_another(place, &spec, "asked").await;
    let engine = place.engine();
    reconciled(engine).await;
    let exit = tokio::time::timeout(DEADLINE, engine.wait(&spec.id)).await;
    let exit = exit.expect("in time").expect("an exit");
    assert_eq!((exit.signal, exit.requested), (Some(9), true));
}

pub fn shim_of(spec: &ContainerSpec, place: &Sandbox) -> Pid {
    let dir = place.run_dir(spec).display().to_string();
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        let number = entry.file_name().to_string_lossy().parse().ok();
        if let Some(pid) = number.and_then(Pid::from_raw)
            && command.split('\0').any(|a| a == dir)
        {
            return pid;
        }
    }
    panic!("no shim of {dir}");
}

async fn a_shim_that_does_not_answer(place: &Sandbox) {
    let (stuck, other) = (
        place.spec("c1", "exec sleep 1000"),
        place.spec("c11", "exec sleep 1000"),
    );
    place.start(&stuck).await;
    place.start(&other).await;
    kill_process(shim_of(&stuck, place), Signal::STOP).expect("stopped");
    let errors = place.engine().remove(&stuck.id).await;
    assert!(errors.is_empty(), "{errors:?}");
    assert!(!place.run_dir(&stuck).exists());
    let observed = place.engine().get(&other.id).await.expect("known");
    assert!(matches!(observed.state, State::Running { .. }));
}

async fn a_killed_shim(place: &Sandbox) {
    let plain = "sleep 1000 & exec sleep 1000";
    // Whoever changes its user loses the signal that would end it with its shim.
    let changing = "exec su app -c 'exec sleep 1000'";
    for (name, init, user, script) in [
        ("c1", false, "app", plain),
        ("c2", true, "app", plain),
        ("c3", false, "root", changing),
    ] {
        let mut spec = place.spec(name, script);
        spec.init = init;
        spec.user = user.to_owned();
        spec.restart = RestartRule::Always;
        place.start(&spec).await;
        let running = place.engine().get(&spec.id).await.expect("known");
        let process = format!("/proc/{}", pid(&running));
        kill_process(shim_of(&spec, place), Signal::KILL).expect("killed");
        let lost = place.until(&spec, "lost", |o| o.state == State::Lost).await;
        assert_eq!(lost.labels, spec.labels);
        wait_until("dead", || !std::path::Path::new(&process).exists()).await;
        assert!(place.engine().wait(&spec.id).await.is_err());
        // Seen by an engine that was not there.
        let list = reconciled(&place.another_engine()).await;
        assert_eq!(list[0].state, State::Lost);
        assert!(place.engine().remove(&spec.id).await.is_empty());
    }
}

async fn hostile_bytes(place: &Sandbox) {
    let spec = place.spec("c1", "exec sleep 1000");
    place.start(&spec).await;
    let address = SocketAddrUnix::new(place.run_dir(&spec).join("sock")).expect("short enough");
    let connect = || {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let socket = rustix::net::socket_with(family, kind, flags, None).expect("a socket");
        // Refused for the moment where more are waiting than the shim wants.
        rustix::net::connect(&socket, &address)
            .ok()
            .map(|()| socket)
    };
    let deep = "[".repeat(100_000);
    for bytes in [
        &b""[..],
        b"\0",
        b"{",
        b"null",
        b"{\"op\":\"format the disk\"}",
        b"{\"op\":\"signal\",\"signal\":4711}",
        b"{\"op\":\"exec\",\"argv\":[\"\"]}",
        b"{\"op\":\"exec\",\"argv\":[]}",
        b"{\"op\":\"exec\",\"argv\":[\"a\\u0000b\"]}",
        b"{\"op\":\"stop\",\"grace_ms\":-1}",
        b"\xff\xfe\xfd",
        deep.as_bytes(),
        &[b'a'; 180_000],
    ] {
        let socket = connect().expect("connected");
        // A packet that is too large ends the connection, which may be seen here.
        rustix::net::send(&socket, bytes, SendFlags::NOSIGNAL).unwrap_or(0);
    }
    // Clients that never read their answers, and more of them than are allowed.
    let silent: Vec<_> = (0..100).filter_map(|_| connect()).collect();
    for socket in &silent {
        for _ in 0..50 {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            rustix::net::send(socket, b"{\"op\":\"subscribe\"}", flags).unwrap_or(0);
        }
    }
    assert!(!silent.is_empty(), "{}", silent.len());
    drop(silent);
    wait_until("listening again", || {
        place.run_dir(&spec).join("sock").exists()
    })
    .await;
    let (code, _) = place.exec(&spec, command(&["true"])).await;
    assert_eq!(code, 0);
    assert!(matches!(
        place.engine().get(&spec.id).await.map(|o| o.state),
        Some(State::Running { .. })
    ));
    // Folders that are no containers, and files with rubbish.
    let odd = place.run.path().join("c");
    fs::create_dir_all(odd.join("UPPER")).expect("a folder");
    fs::create_dir_all(odd.join("half")).expect("a folder");
    fs::write(odd.join("half/meta.json"), "{\"version\":").expect("a file");
    let list = reconciled(&place.another_engine()).await;
    let states: Vec<_> = list.iter().map(|o| (o.id.0.as_str(), &o.state)).collect();
    assert_eq!(states.len(), 2, "{states:?}");
    assert_eq!(states[1], ("half", &State::Lost));
    fs::remove_dir_all(odd.join("UPPER")).expect("removed");
}

async fn the_run_directory_is_cleared(place: &Sandbox) {
    let mut spec = place.spec("c1", "exec sleep 1000");
    spec.restart = RestartRule::Always;
    created_by_another(place, &place_with_up(&spec), "up").await;
    let running = place.another_engine();
    let list = reconciled(&running).await;
    let process = format!("/proc/{}", pid(&list[0]));
    running.shutdown().await;
    drop(running);
    fs::remove_dir_all(place.run.path().join("c")).expect("cleared");
    let found = place.engine().reconcile().await.expect("a look");
    assert_eq!((found.containers, found.orphans), (0, 1));
    wait_until("dead", || !std::path::Path::new(&process).exists()).await;
}

fn place_with_up(spec: &ContainerSpec) -> ContainerSpec {
    let mut spec = spec.clone();
    spec.argv[2] = format!("echo up; {}", spec.argv[2]);
    spec
}

async fn events_in_order(place: &Sandbox) {
    let mut spec = place.spec("c1", "sleep 0.1; exit 1");
    spec.restart = RestartRule::OnFailure {
        max_retries: Some(1),
    };
    let mut siblings = place.engine().watch_containers(&spec.cgroup_parent);
    let mut seen = Vec::new();
    let watched = async {
        while seen.last() != Some(&"exited") {
            siblings.changed().await.expect("open");
            let name = match &siblings.borrow_and_update()[0].state {
                State::Creating => "creating",
                State::Failed { .. } => "failed",
                State::Running { .. } => "running",
                State::BackOff { .. } => "back-off",
                State::Exited => "exited",
                State::Lost => "lost",
            };
            if seen.last() != Some(&name) {
                seen.push(name);
            }
        }
    };
    let (watched, ()) = tokio::join!(tokio::time::timeout(DEADLINE, watched), place.start(&spec));
    watched.expect("in time");
    // Of states that follow each other at once only the newest may be seen.
    let mut all = [
        "creating", "running", "back-off", "creating", "running", "exited",
    ]
    .into_iter();
    assert!(
        seen.iter().all(|one| all.any(|next| next == *one)),
        "{seen:?}"
    );
    assert!(
        seen.contains(&"running") && seen.contains(&"back-off"),
        "{seen:?}"
    );
}

async fn restart_and_start_again(place: &Sandbox) {
    let mut spec = place.spec(
        "c1",
        "echo run; trap 'exit 0' TERM; while :; do sleep 0.02; done",
    );
    spec.restart = RestartRule::Always;
    place.start(&spec).await;
    let first = place.engine().get(&spec.id).await.expect("known");
    logged(&spec, "run").await;
    place
        .engine()
        .restart(&spec.id, Default::default())
        .await
        .expect("restarted");
    let second = place.engine().get(&spec.id).await.expect("known");
    assert_ne!(pid(&first), pid(&second));
    assert_eq!(second.restarts, 1);
    assert_eq!(
        second.last_exit.map(|e| (e.code, e.requested)),
        Some((0, true))
    );
    logged(&spec, "run\nrun").await;
    place.engine().stop(&spec.id, None).await.expect("stopped");
    // The shim is gone; another one starts the same container.
    place
        .engine()
        .restart(&spec.id, Default::default())
        .await
        .expect("started again");
    logged(&spec, "run\nrun\nrun").await;
    let third = until_in(place.engine(), &spec, "running", |o| {
        matches!(o.state, State::Running { .. })
    })
    .await;
    assert_eq!(third.restarts, 0);
}

/// A daemon that dies while it creates a container leaves one that runs, one that is lost, or
/// none; whatever it is can be removed.
async fn killed_at_any_instruction(place: &Sandbox) {
    let binary = std::env::current_exe().expect("this binary");
    for step in 0..25_u64 {
        let spec = place.spec(&format!("c{step}"), "exec sleep 1000");
        let file = place.dir.path().join("spec.json");
        fs::write(&file, serde_json::to_vec(&spec).expect("a spec")).expect("written");
        let mut daemon = Command::new(&binary)
            .arg("create-and-wait")
            .arg(place.run.path())
            .arg(&place.instance)
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let delay = Duration::from_millis(step * 4);
        tokio::time::sleep(delay).await;
        daemon.kill().expect("killed");
        daemon.wait().expect("reaped");
        let engine = place.another_engine();
        reconciled(&engine).await;
        if engine.get(&spec.id).await.is_some() {
            let settled = until_in(&engine, &spec, "settled", |o| o.state != State::Creating).await;
            let fine = matches!(settled.state, State::Running { .. } | State::Lost);
            assert!(fine, "killed after {delay:?}: {settled:?}");
        }
        let left = engine.remove(&spec.id).await;
        assert!(left.is_empty(), "killed after {delay:?}: {left:?}");
        assert!(reconciled(&engine).await.is_empty());
    }
}

async fn terminating_the_shim(place: &Sandbox) {
    let mut spec = place.spec(
        "c1",
        "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done",
    );
    spec.restart = RestartRule::Always;
    place.start(&spec).await;
    logged(&spec, "up").await;
    kill_process(shim_of(&spec, place), Signal::TERM).expect("sent");
    let exit = place.engine().wait(&spec.id).await.expect("an exit");
    assert_eq!((exit.code, exit.requested), (3, true));
}

/// What a process of a container could do with a descriptor of `/proc/<pid>/exe` of a shim or of
/// something that runs our code inside.
async fn the_binary_cannot_be_overwritten(place: &Sandbox) {
    let binary = place.dir.path().join("havre");
    fs::copy(std::env::current_exe().expect("this binary"), &binary).expect("copied");
    let engine = Engine::new(EngineConfig {
        run_dir: place.run.path().to_owned(),
        exe: binary.clone(),
        exe_args: Vec::new(),
        instance: place.instance.clone(),
    });
    let engine = engine.expect("an engine");
    let spec = place.spec("c1", "exec sleep 1000");
    engine.create(&spec).await.expect("created");
    let exe = format!("/proc/{}/exe", shim_of(&spec, place).as_raw_nonzero());
    let held = fs::File::open(exe).expect("readable");
    assert!(engine.remove(&spec.id).await.is_empty());
    use std::os::fd::AsRawFd;
    let again = fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/self/fd/{}", held.as_raw_fd()));
    assert_eq!(
        again.expect_err("refused").kind(),
        std::io::ErrorKind::ReadOnlyFilesystem
    );
    // The owner of the machine can, of course.
    fs::OpenOptions::new()
        .write(true)
        .open(&binary)
        .expect("writable");
}

async fn ids_are_unique(place: &Sandbox) {
    let spec = place.spec("c1", "exec sleep 1000");
    place.start(&spec).await;
    let again = place
        .engine()
        .create(&spec)
        .await
        .expect_err("taken")
        .to_string();
    assert_eq!(again, "container c1 exists already");
    let other = place
        .another_engine()
        .create(&spec)
        .await
        .expect_err("taken")
        .to_string();
    assert_eq!(other, "container c1 exists already");
    let running = place.engine().get(&spec.id).await.expect("known");
    assert!(
        matches!(running.state, State::Running { .. }),
        "undisturbed"
    );
}

async fn many_at_once(place: &Sandbox) {
    let specs: Vec<_> = (0..12)
        .map(|n| place.spec(&format!("c{n}"), &format!("exit {n}")))
        .collect();
    let mut tasks = tokio::task::JoinSet::new();
    for (number, spec) in specs.into_iter().enumerate() {
        let engine = place.engine().clone();
        tasks.spawn(async move {
            engine.create(&spec).await.expect("created");
            let exit = engine.wait(&spec.id).await.expect("an exit");
            assert_eq!(exit.code, number as i32);
            let left = engine.remove(&spec.id).await;
            assert!(left.is_empty(), "{left:?}");
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
}

/// Not a bar here (that is the bench's job), but printed, and far beyond means broken.
async fn figures(place: &Sandbox) {
    let mut times = Vec::new();
    for number in 0..10 {
        let spec = place.spec(&format!("c{number}"), "exit 0");
        let began = Instant::now();
        place.start(&spec).await;
        place.engine().wait(&spec.id).await.expect("an exit");
        let left = place.engine().remove(&spec.id).await;
        assert!(left.is_empty(), "{left:?}");
        times.push(began.elapsed());
    }
    times.sort();
    let spec = place.spec("idle", "exec sleep 1000");
    place.start(&spec).await;
    let rollup = fs::read_to_string(format!(
        "/proc/{}/smaps_rollup",
        shim_of(&spec, place).as_raw_nonzero()
    ));
    let rollup = rollup.expect("readable");
    let dirty = rollup
        .lines()
        .find(|l| l.starts_with("Private_Dirty"))
        .expect("a line");
    println!("create, exit, remove: median {:?}; shim {dirty}", times[5]);
    assert!(times[5] < Duration::from_secs(10), "{times:?}");
}
