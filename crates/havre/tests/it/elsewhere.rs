//! Commands that go to another machine: through a real sshd, and over HTTPS.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use havre_api::*;
use havre_testing::wait_until;

use crate::fixtures::*;
use crate::machine::{Machine, SOON, on_machine};
use crate::program::{Ran, World};
use crate::sshd::Sshd;

const BOX: &str = "ssh://root@example.test";

fn run(mut command: Command) -> Ran {
    command.output().unwrap().into()
}

#[test]
fn every_kind_of_call_goes_through_ssh() {
    let world = World::new(
        backend(4)
            .call::<Status, _>(async |_| Ok(vec![running_environment()]))
            .operation::<Up, _>(async |request, events| {
                assert_eq!(request.project.name.as_str(), "shop");
                events.emit(Event::Phase {
                    phase: OperationPhase::Rollout,
                });
                Ok(up_outcome(true))
            })
            .exec(async |request, mut session| {
                assert_eq!(request.argv, ["cat"]);
                let mut said = Vec::new();
                while let Some(piece) = session.input.recv().await {
                    match piece {
                        ExecInput::Stdin(bytes) => said.extend_from_slice(&bytes),
                        ExecInput::StdinClosed => break,
                        _ => {}
                    }
                }
                let output = ExecOutput::Stdout(said.into());
                session.output.send(output).await.unwrap();
                Ok(7)
            }),
    );
    let Some(sshd) = Sshd::of(&world.daemon.root()) else {
        return;
    };
    let at = |args: &[&str]| {
        let mut command = sshd.command(args);
        command.current_dir(world.folder.path());
        command
    };
    assert_eq!(run(at(&["context", "add", "box", BOX, "--use"])).code, 0);
    let status = run(at(&["status", "--json"]));
    assert_eq!(status.code, 0, "{status:?}");
    assert_eq!(status.json()[0]["release"], 7);
    let up = run(at(&["up"]));
    assert_eq!(up.code, 0, "{up:?}");
    assert!(up.err.contains("== rollout"), "{up:?}");
    let mut exec = at(&["exec", "-i", "web", "cat"]);
    let file = world.folder.path().join("compose.yaml");
    exec.stdin(std::fs::File::open(&file).unwrap());
    let exec = run(exec);
    assert_eq!(exec.code, 7, "{exec:?}");
    assert_eq!(exec.out, std::fs::read_to_string(file).unwrap());
    // An address does where no context is wanted.
    let version = run(sshd.command(&["-c", BOX, "version"]));
    assert!(version.out.contains("pid 4711"), "{version:?}");
}

#[test]
fn what_bars_the_way_is_explained() {
    let root = tempfile::tempdir().unwrap();
    let Some(sshd) = Sshd::of(root.path()) else {
        return;
    };
    let status = || run(sshd.command(&["-c", BOX, "status"]));
    let expect = |said: &[&str]| {
        let ran = status();
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(ran.err.contains(BOX), "{ran:?}");
        for said in said {
            assert!(ran.err.contains(said), "{said}: {ran:?}");
        }
    };
    expect(&["on the server:", "api.sock", "havre daemon install"]);
    sshd.knows_nobody();
    expect(&[
        "Host key verification failed",
        "compare the key's fingerprint",
    ]);
    sshd.knows("other");
    expect(&["IDENTIFICATION HAS CHANGED", "ssh-keygen -R"]);
    sshd.knows("host");
    sshd.havre_is("#!/bin/sh\necho Welcome to the machine\n");
    expect(&["printed \"W\"", "~/.bashrc"]);
    sshd.havre_is("");
    expect(&["has no program `havre`", "/usr/local/bin"]);
    sshd.forgets_users();
    expect(&["Permission denied", "ssh-agent"]);
    let mut command = sshd.command(&["-c", BOX, "status"]);
    command.env("PATH", "/nonexistent");
    let ran = run(command);
    assert!(ran.err.contains("cannot run ssh"), "{ran:?}");
}

#[test]
fn connections_are_shared_where_there_is_a_folder_for_it() {
    let world = World::new(backend(3));
    let Some(sshd) = Sshd::of(&world.daemon.root()) else {
        return;
    };
    let runtime = sshd.folder().join("r");
    std::fs::create_dir(&runtime).unwrap();
    for _ in 0..3 {
        let mut command = sshd.command(&["-c", BOX, "version"]);
        let ran = run({
            command.env("XDG_RUNTIME_DIR", &runtime);
            command
        });
        assert!(ran.out.contains("pid 4711"), "{ran:?}");
    }
    let sockets = std::fs::read_dir(runtime.join("havre")).unwrap();
    let socket = sockets.flatten().next().expect("a shared connection");
    let ended = Command::new("ssh")
        .args(["-F", "/dev/null", "-O", "exit", "-o"])
        .arg(format!("ControlPath={}", socket.path().display()))
        .arg("example.test")
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(sshd.logins(), 1);
}

#[test]
fn a_connection_that_is_lost_meanwhile_is_told_with_what_to_do() {
    let world = World::new(backend(1).operation::<Up, _>(async |_, events| {
        events.emit(Event::Phase {
            phase: OperationPhase::Rollout,
        });
        std::future::pending().await
    }));
    let Some(sshd) = Sshd::of(&world.daemon.root()) else {
        return;
    };
    let mut child = sshd
        .command(&["-c", BOX, "up"])
        .current_dir(world.folder.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(
        lines
            .by_ref()
            .map(Result::unwrap)
            .any(|line| line == "== rollout")
    );
    end_children(child.id());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(4), "{rest:?}");
    let rest = rest.join("\n");
    assert!(rest.contains("what was begun goes on"), "{rest}");
}

/// Ends the processes that `parent` has started itself.
fn end_children(parent: u32) {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let children = std::fs::read_to_string(children).unwrap();
    for child in children.split_whitespace() {
        let pid = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

const SHOP: &str = r#"
name: shop
services:
  web:
    build: .
    command: [sleep, "1000000"]
    init: true
    secrets: [key]
    volumes: ["./conf/app.conf:/app.conf:ro", "./pages:/pages:ro"]
secrets:
  key: {file: ./key}
"#;

/// A project with something of all that is sent.
fn shop(machine: &Machine) {
    machine.shop("one");
    machine.write("compose.yaml", SHOP);
    machine.write("Dockerfile", "FROM base:1\nCOPY . /app\n");
    machine.write(".dockerignore", "key\nleft-out\n");
    machine.write("key", "value-of-the-key");
    machine.write("left-out", "what-is-left-out");
    for folder in ["conf", "pages", "bin"] {
        std::fs::create_dir(machine.project().join(folder)).unwrap();
    }
    machine.write("conf/app.conf", "verbose = true\n");
    machine.write("pages/index.html", "<h1>one</h1>\n");
    machine.write("bin/start", "#!/bin/sh\n");
    let start = machine.project().join("bin/start");
    std::fs::set_permissions(&start, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("bin/start", machine.project().join("start")).unwrap();
}

/// The same files on a laptop.
fn laptop_with_files(machine: &Machine, sshd: &Sshd) -> PathBuf {
    let laptop = sshd.folder().join("work");
    let copied = Command::new("cp")
        .arg("-a")
        .args([&machine.project(), &laptop])
        .status();
    assert!(copied.unwrap().success());
    laptop
}

#[test]
fn up_from_elsewhere_gives_the_release_that_up_gives_on_the_machine() {
    on_machine(|machine| {
        let Some(sshd) = Sshd::of(&machine.root()) else {
            return;
        };
        shop(machine);
        let digest = || machine.status()["services"][0]["digest"].clone();
        machine.ok(&["up"]);
        let expected = digest();
        machine.ok(&["down"]);
        let laptop = laptop_with_files(machine, &sshd);
        std::fs::remove_dir_all(machine.project()).unwrap();
        std::fs::create_dir(machine.project()).unwrap();
        let at = |args: &[&str]| {
            let mut command = sshd.command(&[&["-c", BOX], args].concat());
            command.current_dir(&laptop);
            run(command)
        };
        let plan = at(&["plan"]);
        assert_eq!(plan.code, 0, "{plan:?}");
        assert!(plan.err.contains("sending"), "{plan:?}");
        let up = at(&["up"]);
        assert_eq!(up.code, 0, "{up:?}");
        // `plan` has sent it.
        assert!(!up.err.contains("sending"), "{up:?}");
        let status = at(&["status", "--json"]).json();
        assert_eq!(status[0]["services"][0]["digest"], expected);
        let read = |path: &str| at(&["exec", "web", "cat", path]).out;
        assert_eq!(read("/app.conf"), "verbose = true\n");
        assert_eq!(read("/pages/index.html"), "<h1>one</h1>\n");
        assert_eq!(read("/run/secrets/key"), "value-of-the-key");
        assert_eq!(read("/app/start"), "#!/bin/sh\n");
        let touched = at(&["exec", "web", "touch", "/pages/new"]);
        assert_ne!(touched.code, 0, "{touched:?}");
        // Neither what is left out, nor a secret, was sent to lie there.
        for text in ["what-is-left-out", "value-of-the-key"] {
            let grep = Command::new("grep")
                .args(["-rlas", "-e", text])
                .arg(machine.root().join("lib/sources"))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&grep.stdout), "", "{text}");
        }
        let again = at(&["up"]);
        assert!(again.err.contains("nothing changed"), "{again:?}");
        assert!(!again.err.contains("sending"), "{again:?}");
        std::fs::write(laptop.join("pages/index.html"), "<h1>two</h1>\n").unwrap();
        let next = at(&["up"]);
        assert!(next.err.contains("sending 1 file"), "{next:?}");
        assert_eq!(read("/pages/index.html"), "<h1>two</h1>\n");
        // What a release names that a rollback goes to is still there.
        let back = at(&["rollback"]);
        assert_eq!(back.code, 0, "{back:?}");
        assert_eq!(read("/pages/index.html"), "<h1>one</h1>\n");
        // What the service would write has no place there.
        let data = SHOP.replace("./pages:/pages:ro", "./data:/data");
        std::fs::write(laptop.join("compose.yaml"), data).unwrap();
        let refused = at(&["up"]);
        assert_eq!(refused.code, 3, "{refused:?}");
        assert!(refused.err.contains("named volume"), "{refused:?}");
        machine.ok(&["down", "-p", "shop"]);
    });
}

#[test]
fn an_upload_that_is_killed_goes_on_where_it_stopped() {
    on_machine(|machine| {
        let Some(sshd) = Sshd::of(&machine.root()) else {
            return;
        };
        shop(machine);
        let laptop = laptop_with_files(machine, &sshd);
        machine.start_daemon();
        let mut large = vec![0; 48 << 20];
        std::io::Read::read_exact(
            &mut std::fs::File::open("/dev/urandom").unwrap(),
            &mut large,
        )
        .unwrap();
        std::fs::write(laptop.join("large"), &large).unwrap();
        let up = || {
            let mut command = sshd.command(&["-c", BOX, "up"]);
            command.current_dir(&laptop);
            command
        };
        let parts = machine.root().join("lib/sources/shop.production/parts");
        let longest = || {
            let parts = std::fs::read_dir(&parts).into_iter().flatten().flatten();
            let lengths = parts.map(|part| part.metadata().map_or(0, |found| found.len()));
            lengths.max().unwrap_or(0)
        };
        let mut killed = up().stderr(Stdio::null()).spawn().unwrap();
        wait_until("a part has come", SOON, || longest() > 8 << 20);
        killed.kill().unwrap();
        killed.wait().unwrap();
        let have = longest();
        assert!(have < large.len() as u64, "killed in the middle");
        let again = run(up());
        assert_eq!(again.code, 0, "{again:?}");
        let told = again.err.lines().find(|line| line.starts_with("sending"));
        assert!(told.is_some_and(|line| !line.contains("48")), "{again:?}");
        let sum = |output: Vec<u8>| String::from_utf8(output).unwrap()[..64].to_owned();
        let here = Command::new("sha256sum").arg(laptop.join("large")).output();
        let there = machine.ok(&["exec", "-p", "shop", "web", "sha256sum", "/app/large"]);
        assert_eq!(sum(there.out.into_bytes()), sum(here.unwrap().stdout));
        machine.ok(&["down", "-p", "shop"]);
    });
}

#[test]
fn a_server_without_room_says_so_before_anything_is_sent() {
    on_machine(|machine| {
        let Some(sshd) = Sshd::of(&machine.root()) else {
            return;
        };
        shop(machine);
        let laptop = laptop_with_files(machine, &sshd);
        machine.start_daemon();
        let sources = machine.root().join("lib/sources");
        std::fs::create_dir_all(&sources).unwrap();
        let disk = ["-t", "tmpfs", "-o", "size=64m", "tmpfs"];
        let mounted = Command::new("mount").args(disk).arg(&sources).status();
        assert!(mounted.unwrap().success());
        let up = || {
            let mut command = sshd.command(&["-c", BOX, "up"]);
            command.current_dir(&laptop);
            run(command)
        };
        let refused = up();
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.err.contains("has room for 0"), "{refused:?}");
        let ended = Command::new("umount").arg(&sources).status();
        assert!(ended.unwrap().success());
        let again = up();
        assert_eq!(again.code, 0, "{again:?}");
        machine.ok(&["down", "-p", "shop"]);
    });
}
