//! Commands that go to another machine: through a real sshd, and over HTTPS.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use havre_api::*;

use crate::fixtures::*;
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
