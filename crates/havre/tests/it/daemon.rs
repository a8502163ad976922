//! Starting the real daemon in the background, and ending it.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use havre_testing::wait_until;
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{kill, runs};
use crate::program::{Ran, command};

const SOON: Duration = Duration::from_secs(20);

/// Ports are chosen by the kernel: tests run side by side.
pub fn with_ports(root: &Path, args: &[&str]) -> Command {
    let mut command = command(root, args);
    command
        .env("HAVRE_HTTP", "127.0.0.1:0")
        .env("HAVRE_HTTPS", "127.0.0.1:0");
    command
}

pub fn run(root: &Path, args: &[&str]) -> Ran {
    with_ports(root, args).output().unwrap().into()
}

/// Ends what a test started, also where it failed in between.
pub struct Root(pub tempfile::TempDir);

impl Drop for Root {
    fn drop(&mut self) {
        let ended = run(self.0.path(), &["daemon", "stop", "--force"]);
        assert!(ended.code == 0 || std::thread::panicking(), "{ended:?}");
    }
}

/// Processes whose command line names `root`.
fn processes(root: &Path) -> Vec<String> {
    let root = root.to_str().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.contains(root))
        .collect()
}

#[test]
fn several_commands_at_once_start_one_daemon_that_ends_without_a_trace() {
    let root = Root(tempfile::tempdir().unwrap());
    let path = root.0.path();
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let mut command = with_ports(path, &["ca", "export"]);
            command
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let pems: Vec<Ran> = starts
        .into_iter()
        .map(|child| child.wait_with_output().unwrap().into())
        .collect();
    for pem in &pems {
        assert_eq!(pem.code, 0);
        assert!(
            pem.out.starts_with("-----BEGIN CERTIFICATE-----"),
            "{pem:?}"
        );
        assert_eq!(pem.out, pems[0].out);
    }
    let version = run(path, &["version", "--json"]).json();
    assert_eq!(version["daemon"]["root"], path.to_str().unwrap());
    assert_eq!(run(path, &["daemon", "stop"]).code, 0);
    wait_until("all processes have ended", SOON, || {
        processes(path).is_empty()
    });
    let again = run(path, &["daemon", "stop"]);
    assert_eq!((again.code, again.err.as_str()), (0, "no daemon runs\n"));
}

#[test]
fn a_daemon_killed_in_its_sleep_is_started_again() {
    let root = Root(tempfile::tempdir().unwrap());
    let path = root.0.path();
    assert_eq!(run(path, &["ca", "export"]).code, 0);
    let pid = |_: ()| run(path, &["version", "--json"]).json()["daemon"]["pid"].as_i64();
    let first = pid(()).unwrap();
    kill(u64::try_from(first).unwrap());
    let ran = run(path, &["ca", "export"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_ne!(pid(()).unwrap(), first);
}

/// The edge of a daemon, which answers within a moment of its start.
fn edge(path: &Path) -> u64 {
    let mut pid = None;
    wait_until("the edge answers", SOON, || {
        let version = run(path, &["version", "--json"]).json();
        pid = version["daemon"]["edge"]["pid"].as_u64();
        pid.is_some()
    });
    pid.unwrap()
}

#[test]
fn an_edge_whose_daemon_has_died_is_stopped() {
    let root = Root(tempfile::tempdir().unwrap());
    let path = root.0.path();
    assert_eq!(run(path, &["ca", "export"]).code, 0);
    let edge = edge(path);
    let version = run(path, &["version", "--json"]).json();
    kill(version["daemon"]["pid"].as_u64().unwrap());
    assert!(runs(edge), "it serves on without the daemon");
    let stopped = run(path, &["daemon", "stop"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert!(
        stopped.err.contains("the edge that was left has ended"),
        "{stopped:?}"
    );
    // Its lock is free before the kernel is done with its threads.
    wait_until("the edge is gone", SOON, || !runs(edge));
}

/// A daemon that has its lock and does not answer: what is started beside it says so and waits.
#[test]
fn a_daemon_that_is_starting_is_waited_for() {
    let root = Root(tempfile::tempdir().unwrap());
    let path = root.0.path();
    let mut daemon = with_ports(path, &["daemon"]).spawn().unwrap();
    wait_until("the daemon answers", SOON, || {
        run(path, &["version", "--json"]).json()["daemon"].is_object()
    });
    let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap()).unwrap();
    // As if it had not come to its socket yet.
    kill_process(pid, Signal::STOP).unwrap();
    std::fs::rename(path.join("run/api.sock"), path.join("run/later")).unwrap();
    let mut command = with_ports(path, &["ca", "export"]);
    let mut waiting = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut talk = std::io::BufReader::new(waiting.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut talk, &mut said).unwrap();
    assert_eq!(
        said,
        format!("the daemon (pid {}) is starting\n", daemon.id())
    );
    std::fs::rename(path.join("run/later"), path.join("run/api.sock")).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
    let ended: Ran = waiting.wait_with_output().unwrap().into();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(run(path, &["daemon", "stop"]).code, 0);
    daemon.wait().unwrap();
}

#[test]
fn a_daemon_that_cannot_start_shows_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = with_ports(folder.path(), &["ca", "export"]);
    let ran: Ran = command
        .env("HAVRE_HTTP", "nonsense")
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 4);
    assert!(ran.err.contains("the daemon ended at once"), "{}", ran.err);
    assert!(ran.err.contains("'nonsense'"), "{}", ran.err);
}

#[test]
fn an_init_system_hears_when_it_answers_and_whether_to_start_another() {
    let root = Root(tempfile::tempdir().unwrap());
    let path = root.0.path();
    let socket = path.join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    for (by_call, code) in [(false, 0), (true, 130)] {
        let mut daemon = with_ports(path, &["daemon"])
            .env("NOTIFY_SOCKET", &socket)
            .spawn()
            .unwrap();
        let mut message = [0; 64];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1");
        let version = run(path, &["version", "--json"]).json();
        assert_eq!(version["daemon"]["pid"], daemon.id());
        if by_call {
            assert_eq!(run(path, &["daemon", "stop"]).code, 0);
        } else {
            let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap()).unwrap();
            kill_process(pid, Signal::TERM).unwrap();
        }
        assert_eq!(daemon.wait().unwrap().code(), Some(code));
    }
}
