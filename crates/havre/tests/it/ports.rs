//! Ports of the machine that are passed on as they are.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::machine::{Machine, on_machine};

fn write(machine: &Machine, page: &str, port: u16) {
    machine.web(&format!(
        "
  echo:
    build: .
    init: true
    command: [sh, -c, 'nc -ll -p 7000 -e sh -c \"echo $$PAGE; exec cat\"']
    environment: {{PAGE: {page}}}
    ports: ['{port}:7000']
"
    ));
    machine.write(
        "havre.yaml",
        "domain: shop.localhost\nroutes: [{path: /, service: web, port: 8080}]\n",
    );
}

/// A connection and the line it begins with.
fn connect(port: u16) -> std::io::Result<(BufReader<TcpStream>, String)> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok((reader, line))
}

#[test]
fn a_published_port_answers_through_releases_and_is_nobody_elses() {
    on_machine(|machine| {
        machine.shop("one");
        write(machine, "one", 7000);
        machine.ok(&["up"]);
        let (mut old, line) = connect(7000).unwrap();
        assert_eq!(line, "one\n");
        old.get_mut().write_all(b"hello\n").unwrap();
        let mut answer = String::new();
        old.read_line(&mut answer).unwrap();
        assert_eq!(answer, "hello\n");
        let routes = machine.status()["routes"].to_string();
        assert!(routes.contains("tcp://0.0.0.0:7000"), "{routes}");

        // New connections all the time, while the service is replaced.
        let over = AtomicBool::new(false);
        let lines = std::thread::scope(|scope| {
            let visitor = scope.spawn(|| {
                let mut lines = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    lines.push(connect(7000).map(|(_, line)| line));
                    std::thread::sleep(Duration::from_millis(20));
                }
                lines
            });
            write(machine, "two", 7000);
            machine.ok(&["up"]);
            over.store(true, Ordering::Relaxed);
            visitor.join().unwrap()
        });
        assert!(lines.len() > 5, "{lines:?}");
        for line in &lines {
            let line = line.as_ref().unwrap();
            assert!(line == "one\n" || line == "two\n", "{lines:?}");
        }
        assert_eq!(connect(7000).unwrap().1, "two\n");
        // The old replica has ended, and its connection with it.
        assert_eq!(old.read(&mut [0; 8]).unwrap_or_default(), 0);

        let other = machine.run(&["up", "-p", "other"]);
        assert_eq!(other.code, 7, "{}", other.err);
        let owner = "port 7000, which `echo` publishes, is taken by shop/production";
        assert!(other.err.contains(owner), "{}", other.err);

        let foreign = TcpListener::bind("0.0.0.0:7001").unwrap();
        write(machine, "three", 7001);
        let taken = machine.run(&["up"]);
        assert_eq!(taken.code, 7, "{}", taken.err);
        assert!(taken.err.contains("is taken by it"), "{}", taken.err);
        assert_eq!(connect(7000).unwrap().1, "two\n");
        drop(foreign);
        machine.ok(&["up"]);
        assert_eq!(connect(7001).unwrap().1, "three\n");
        assert!(
            connect(7000).is_err(),
            "closed with the release that had it"
        );
        machine.ok(&["down"]);
        assert!(connect(7001).is_err(), "closed with the environment");
    });
}
