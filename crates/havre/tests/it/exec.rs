//! `exec`, with and without a terminal.

use havre_api::Up;
use std::io::Write;
use std::process::Stdio;

use bytes::Bytes;
use havre_api::*;
use rustix::termios::LocalModes;

use crate::fixtures::*;
use crate::machine::on_machine;
use crate::program::{Ran, World};
use crate::pty::Terminal;

#[test]
fn streams_and_exit_code_pass_through() {
    let world = World::new(backend(1).exec(async |request, mut session| {
        assert_eq!(request.environment, environment("shop"));
        assert_eq!(request.service, service("web"));
        assert_eq!(request.argv, ["sh", "-c", "cat"]);
        assert_eq!(
            request.replica.as_deref(),
            Some("shop.production.web.0a1b.0")
        );
        assert_eq!((&*request.env["A"], &*request.env["B"]), ("1", "2=3"));
        assert_eq!(request.user.as_deref(), Some("app"));
        assert_eq!(request.working_dir.as_deref(), Some("/srv"));
        assert_eq!((request.stdin, request.tty), (true, None));
        loop {
            match session.input.recv().await.unwrap() {
                ExecInput::Stdin(bytes) => {
                    session
                        .output
                        .send(ExecOutput::Stdout(bytes))
                        .await
                        .unwrap();
                }
                ExecInput::StdinClosed => break,
                ExecInput::Resize(size) => panic!("{size:?} without a terminal"),
            }
        }
        session
            .output
            .send(ExecOutput::Stderr(Bytes::from_static(b"oops\n")))
            .await
            .unwrap();
        Ok(42)
    }));
    let args = [
        "exec",
        "--replica",
        "web.0a1b.0",
        "-i",
        "-u",
        "app",
        "-w",
        "/srv",
        "-e",
        "A=1",
        "--env",
        "B=2=3",
        "web",
        "sh",
        "-c",
        "cat",
    ];
    let mut child = world
        .command(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&[b'x'; 100_000])
        .unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!((ran.code, ran.err.as_str()), (42, "oops\n"));
    assert_eq!(ran.out.len(), 100_000);
}

#[test]
fn failures_of_exec_itself_are_told_apart_from_the_commands() {
    let world = World::new(backend(1).exec(async |_, _session| {
        Err(ApiError::new(
            ErrorCode::NotFound,
            "shop/production has no service web",
        ))
    }));
    let ran = world.run(&["exec", "web", "true"]);
    assert_eq!(ran.code, 125);
    assert_eq!(ran.err, "error: shop/production has no service web\n");
    let refusing = World::new(backend(1).exec(async |_, _session| {
        let message = "exec needs the role admin of shop/production";
        Err(ApiError::new(ErrorCode::Forbidden, message))
    }));
    let ran = refusing.run(&["exec", "web", "true"]);
    assert_eq!(ran.code, 9, "{ran:?}");
    let ran = world.run(&["exec", "-it", "web", "sh"]);
    assert_eq!(ran.code, 125);
    assert!(ran.err.contains("-t needs a terminal"), "{}", ran.err);
}

/// A shell that echoes what is typed and says how large its terminal is, until `q`.
async fn shell(request: ExecRequest, mut session: ExecSession) -> Result<i32, ApiError> {
    let size = request.tty.expect("a terminal");
    assert!(request.env.contains_key("TERM"));
    let say = async |text: String| {
        session
            .output
            .send(ExecOutput::Stdout(text.into()))
            .await
            .unwrap();
    };
    say(format!("<{}x{}>", size.columns, size.rows)).await;
    while let Some(piece) = session.input.recv().await {
        match piece {
            ExecInput::Stdin(bytes) if &bytes[..] == b"q" => return Ok(3),
            ExecInput::Stdin(bytes) => say(format!("<{bytes:?}>")).await,
            ExecInput::Resize(size) => say(format!("<{}x{}>", size.columns, size.rows)).await,
            ExecInput::StdinClosed => say("<closed>".into()).await,
        }
    }
    Ok(1)
}

#[test]
fn a_terminal_is_handed_over_and_given_back() {
    let world = World::new(backend(1).exec(shell));
    let mut terminal = Terminal::start(world.command(&["exec", "-it", "web", "sh"]), 100, 30);
    let before = terminal.settings();
    assert!(
        before
            .local_modes
            .contains(LocalModes::ECHO | LocalModes::ISIG)
    );
    terminal.wait_for("<100x30>");
    let during = terminal.settings();
    assert!(
        !during
            .local_modes
            .intersects(LocalModes::ECHO | LocalModes::ISIG)
    );
    // Ctrl-C is a key for the command, not a signal for us.
    terminal.type_in("\x03");
    terminal.wait_for(r#"<b"\x03">"#);
    terminal.resize(132, 43);
    terminal.wait_for("<132x43>");
    terminal.type_in("q");
    assert_eq!(terminal.wait_end(), 3);
    assert_eq!(terminal.settings().local_modes, before.local_modes);
}

#[test]
fn a_terminal_is_given_back_when_the_program_is_told_to_end() {
    let world = World::new(backend(1).exec(shell));
    let mut terminal = Terminal::start(world.command(&["exec", "-it", "web", "sh"]), 100, 30);
    let before = terminal.settings();
    terminal.wait_for("<100x30>");
    let pid = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(terminal.wait_end(), 143);
    assert_eq!(terminal.settings().local_modes, before.local_modes);
}

#[test]
fn a_terminal_is_given_back_when_the_daemon_dies() {
    let world = World::new(backend(1).exec(shell));
    let mut terminal = Terminal::start(world.command(&["exec", "-it", "web", "sh"]), 100, 30);
    let before = terminal.settings();
    terminal.wait_for("<100x30>");
    world.daemon.stop();
    terminal.wait_for("<");
    let code = terminal.wait_end();
    assert!(code == 1 || code == 125, "{code}");
    assert_eq!(terminal.settings().local_modes, before.local_modes);
}

#[test]
fn progress_on_a_terminal_is_redrawn_in_place() {
    let world = World::new(backend(1).operation::<Up, _>(async |_, events| {
        for event in crate::fixtures::events() {
            events.emit(event);
        }
        Ok(up_outcome(true))
    }));
    let mut terminal = Terminal::start(world.command(&["up"]), 100, 30);
    assert_eq!(terminal.wait_end(), 0);
    terminal.wait_for("https://shop.localhost/api");
    let seen = terminal.seen();
    assert!(seen.contains("✓"), "{seen}");
    assert!(seen.contains("\x1b[J"), "{seen}");
    assert!(!seen.contains("== rollout"), "{seen}");
}

#[test]
fn a_variable_is_set_for_the_command_alone_in_a_real_replica() {
    on_machine(|machine| {
        machine.shop("one");
        machine.ok(&["up"]);
        let args = ["exec", "-e", "PAGE=a=b", "-e", "EMPTY=", "web", "env"];
        let env = machine.ok(&args).out;
        let has = |line: &str| env.lines().any(|one| one == line);
        assert!(has("PAGE=a=b") && has("EMPTY="), "{env}");
        let env = machine.ok(&["exec", "web", "env"]).out;
        assert!(!env.contains("a=b") && !env.contains("EMPTY"), "{env}");
    });
}
