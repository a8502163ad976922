//! `logs`.

use havre_api::Logs;
use std::io::Read;
use std::process::Stdio;

use havre_api::*;

use crate::fixtures::*;
use crate::program::World;
use crate::pty::Terminal;

fn line(replica: &str, stream: LogStream, text: &str) -> LogLine {
    LogLine {
        at: "2024-05-01T10:04:05.678901Z".parse().unwrap(),
        service: service("web"),
        replica: format!("shop.production.{replica}"),
        stream,
        text: text.into(),
        partial: false,
    }
}

fn lines() -> [LogLine; 3] {
    [
        line("web-7-1", LogStream::Stdout, "hello"),
        line("web-7-10", LogStream::Stderr, "\tworld"),
        line("web-7-1", LogStream::Stdout, ""),
    ]
}

fn world() -> World {
    World::new(backend(1).feed::<Logs, _>(async |_, sink| {
        for line in lines() {
            sink.send(line).await.unwrap();
        }
        Ok(())
    }))
}

#[test]
fn lines_name_their_replica() {
    let ran = world().run(&["logs"]);
    assert_eq!(
        ran.out,
        "web-7-1 | hello\nweb-7-10 | \tworld\nweb-7-1  | \n"
    );
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn lines_can_be_dated_and_bare() {
    let ran = world().run(&["logs", "--timestamps", "--no-prefix"]);
    assert!(
        ran.out.starts_with("2024-05-01T10:04:05.678Z hello\n"),
        "{}",
        ran.out
    );
}

#[test]
fn json_is_a_document_per_line() {
    let ran = world().run(&["logs", "--json"]);
    let read: Vec<LogLine> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read, lines());
}

#[test]
fn a_terminal_gets_no_escapes_and_a_pipe_all_of_them() {
    let text = "\x1b]0;title\x07\x1b[2Jred \x1b[31malert\x1b[0m\x1b[6n";
    let world = || {
        World::new(backend(1).feed::<Logs, _>(async move |_, sink| {
            let cut = LogLine {
                partial: true,
                ..line("web-7-1", LogStream::Stdout, text)
            };
            for line in [cut, line("web-7-1", LogStream::Stdout, "end")] {
                sink.send(line).await.ok();
            }
            Ok(())
        }))
    };
    let ran = world().run(&["logs", "--no-prefix"]);
    assert_eq!(ran.out, format!("{text}end\n"), "as it was printed");
    let world = world();
    let command = world.command(&["logs", "--no-prefix"]);
    let mut terminal = Terminal::start(command, 80, 24);
    assert_eq!(terminal.wait_end(), 0, "{}", terminal.seen());
    terminal.wait_for("red alertend");
    assert!(!terminal.seen().contains('\x1b'), "{:?}", terminal.seen());
}

#[test]
fn the_query_is_passed_on() {
    let world = World::new(backend(1).feed::<Logs, _>(async |query, _| {
        assert_eq!(query.environment, environment("shop"));
        assert_eq!(query.services, [service("web"), service("db")]);
        assert_eq!(query.tail, Some(20));
        assert_eq!(query.since.unwrap().to_string(), "2024-05-01T08:00:00Z");
        assert!(query.follow);
        Ok(())
    }));
    let since = "2024-05-01T10:00:00+02:00";
    let ran = world.run(&["logs", "-f", "-n", "20", "--since", since, "web", "db"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let world = World::new(backend(1).feed::<Logs, _>(async |_, sink| {
        while sink
            .send(line("web-7-1", LogStream::Stdout, "again"))
            .await
            .is_ok()
        {}
        Ok(())
    }));
    let mut child = world
        .command(&["logs", "-f"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
}

#[test]
fn without_a_project_logs_asks_for_one() {
    let world = World::new(backend(0));
    std::fs::remove_file(world.folder.path().join("compose.yaml")).unwrap();
    let ran = world.run(&["logs"]);
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("-p"), "{}", ran.err);
}
