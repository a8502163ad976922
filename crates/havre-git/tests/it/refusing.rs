//! What is refused, and what is said of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use havre_git::Outcome;

use crate::harness::{Served, serve_in, served, wait_until};
use crate::pushing::noise;

pub const TESTS: &[(&str, fn())] = &[
    ("refusing::a_broken_push_is_refused_with_its_lines", broken),
    ("refusing::what_cannot_be_recorded_is_refused", unrecorded),
    ("refusing::a_wrong_password_is_refused", wrong_password),
    ("refusing::a_viewer_does_not_push", viewer),
    ("refusing::hostile_names_name_nothing", names),
    ("refusing::what_is_too_large_is_refused", too_large),
    ("refusing::a_full_repository_takes_nothing", full_repository),
    ("refusing::a_full_disk_takes_nothing", full_disk),
    ("refusing::all_repositories_have_a_bound", all_full),
    (
        "refusing::a_disk_that_fills_during_a_push_keeps_nothing_half",
        disk_fills,
    ),
    ("refusing::another_namespace_is_refused", namespaces),
    ("refusing::too_many_at_once_are_refused", too_many),
    (
        "refusing::a_client_that_says_nothing_is_not_waited_for",
        silent,
    ),
    ("refusing::bad_requests_are_refused", bad_requests),
];

/// A raw answer.
fn asked(served: &Served, text: &str) -> String {
    let mut stream = TcpStream::connect(served.address).expect("connected");
    stream.write_all(text.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(line: &str, more: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Basic YW5uYTpwdXNoZXI=\r\n{more}\r\n"
    )
}

fn broken() {
    let served = served(|_| {});
    let work = served.work(&[("broken", b"")]);
    let (ok, said) = work.run(&["push", "havre", "main"]);
    assert!(!ok);
    assert!(
        said.contains("remote: ci.yml:3:7: unknown key `job`"),
        "{said}"
    );
    assert!(said.contains("remote: fix it"), "{said}");
    assert!(
        said.contains("[remote rejected] main -> main (pre-receive hook declined)"),
        "{said}"
    );
    assert_eq!(served.main(), None);
    assert!(served.fake.received.lock().expect("whole").is_empty());
    let objects = served.folder.path().join("repositories/shop.git/objects");
    let left = std::fs::read_dir(objects).expect("there").filter(|entry| {
        let name = entry.as_ref().expect("read").file_name();
        !["info", "pack"].contains(&name.to_string_lossy().as_ref())
    });
    assert_eq!(left.count(), 0, "nothing of it is kept");
}

fn unrecorded() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    let (ok, said) = work.run(&["push", "-o", "unrecorded", "havre", "main"]);
    assert!(!ok && said.contains("nothing may go unrecorded"), "{said}");
    assert_eq!(served.main(), None);
}

fn wrong_password() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    let url = served.url("guess", "shop");
    let (ok, said) = work.run(&["push", &url, "main"]);
    assert!(!ok && said.contains("Authentication failed"), "{said}");
    let answer = asked(
        &served,
        "GET /shop.git/info/refs?service=git-upload-pack HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(
        answer.contains("www-authenticate: Basic realm="),
        "{answer}"
    );
    assert!(!served.folder.path().join("repositories/shop.git").exists());
}

fn viewer() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    let (ok, said) = work.run(&["push", &served.url("viewer", "shop"), "main"]);
    assert!(
        !ok && said.contains("remote: pushing needs the role deployer"),
        "{said}"
    );
    assert!(!served.folder.path().join("repositories/shop.git").exists());
    let (ok, said) = work.run(&["ls-remote", &served.url("viewer", "shop")]);
    assert!(!ok && said.contains("the first push makes it"), "{said}");
}

fn names() {
    let served = served(|_| {});
    for name in [
        "../x.git",
        "..%2fx.git",
        "%2e%2e%2fx.git",
        "..git",
        ".git",
        "x",
        "X.git",
        "x%00.git",
        "a%2fb.git",
        "--upload-pack=x.git",
    ] {
        let line = format!("GET /{name}/info/refs?service=git-receive-pack");
        let answer = asked(&served, &request(&line, ""));
        assert!(answer.starts_with("HTTP/1.1 404"), "{name}: {answer}");
    }
    let made = std::fs::read_dir(served.folder.path().join("repositories")).expect("there");
    assert_eq!(made.count(), 1, "the journal alone");
}

fn too_large() {
    let served = served(|settings| settings.most_push = 1 << 20);
    let work = served.work(&[("noise", &noise(5 << 20))]);
    let (ok, said) = work.run(&["push", "havre", "main"]);
    assert!(
        !ok && said.contains("exceeds maximum allowed size"),
        "{said}"
    );
    assert_eq!(served.main(), None);
    assert!(served.fake.received.lock().expect("whole").is_empty());
}

fn full_repository() {
    let served = served(|settings| settings.most_repository = 2 << 20);
    let work = served.work(&[("noise", &noise(3 << 20))]);
    let (ok, said) = work.run(&["push", "havre", "main"]);
    assert!(!ok, "{said}");
    let other = served.work(&[("noise", &noise(1 << 20)), ("more", &noise(900_000))]);
    let (ok, said) = other.run(&["push", "havre", "main"]);
    assert!(ok, "{said}");
    other.commit(&[("still more", &noise(1_000_001))]);
    let (ok, said) = other.run(&["push", "havre", "main"]);
    assert!(!ok, "{said}");
}

fn full_disk() {
    let served = served(|settings| settings.least_free = u64::MAX);
    let work = served.work(&[("a", b"1")]);
    let (ok, said) = work.run(&["push", "havre", "main"]);
    assert!(
        !ok && said.contains("remote: the disk of this machine is full"),
        "{said}"
    );
}

fn all_full() {
    let served = served(|settings| settings.most_total = 2 << 20);
    let work = served.work(&[("noise", &noise(1_200_000))]);
    let (ok, said) = work.run(&["push", "havre", "main"]);
    assert!(ok, "{said}");
    // Another project has what is left, and no more.
    let url = served.url("pusher", "other");
    let other = served.work(&[("noise", &noise(1_200_001))]);
    let (ok, said) = other.run(&["push", &url, "main"]);
    assert!(!ok && said.contains("exceeds maximum"), "{said}");
    let little = served.work(&[("noise", &noise(600_000))]);
    let (ok, said) = little.run(&["push", &url, "main"]);
    assert!(ok, "{said}");
    work.commit(&[("more", &noise(100_003))]);
    let (ok, said) = work.run(&["push", "havre", "main"]);
    assert!(ok, "{said}");
    little.commit(&[("more", &noise(400_001))]);
    let (ok, said) = little.run(&["push", &url, "main"]);
    assert!(!ok, "{said}");
}

/// A file system of a few megabytes, for as long as it is held.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(at: &std::path::Path) -> Self {
        let small = Self(at.to_owned());
        small.ask(&["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs"]);
        small
    }

    fn ask(&self, words: &[&str]) {
        let mut command = std::process::Command::new(words[0]);
        let status = command.args(&words[1..]).arg(&self.0).status();
        let done = status.is_ok_and(|status| status.success());
        assert!(done || std::thread::panicking(), "{words:?}");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.ask(&["umount", "-l"]);
    }
}

fn disk_fills() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("repositories");
    std::fs::create_dir(&at).expect("made");
    let small = Small::mount(&at);
    let served = serve_in(folder, Default::default(), |_| {});
    let work = served.work(&[("a", b"1")]);
    work.git(&["push", "havre", "main"]);
    let before = served.main();
    work.commit(&[("noise", &noise(12 << 20))]);
    let (ok, said) = work.run(&["push", "havre", "main"]);
    assert!(!ok && said.contains("No space left on device"), "{said}");
    assert_eq!(served.main(), before);
    assert_eq!(served.fake.received.lock().expect("whole").len(), 1);
    served.runtime.block_on(served.git.repositories().tidy());
    let objects = at.join("shop.git/objects");
    let left = std::fs::read_dir(objects).expect("there").flatten();
    let left: Vec<_> = left
        .filter(|one| one.path().to_string_lossy().contains("tmp_"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    small.ask(&["mount", "-o", "remount,size=64m"]);
    let (ok, said) = work.run(&["push", "havre", "main"]);
    assert!(ok, "{said}");
    assert_eq!(served.main(), Some(work.head()));
}

fn namespaces() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    let (ok, said) = work.run(&["push", "havre", "main:refs/pull/1/head"]);
    assert!(!ok && said.contains("neither a branch nor a tag"), "{said}");
}

fn too_many() {
    let served = served(|settings| settings.most_each = 0);
    let work = served.work(&[("a", b"1")]);
    let (ok, said) = work.run(&["push", "havre", "main"]);
    assert!(!ok && said.contains("too many git processes"), "{said}");
}

fn silent() {
    let served = served(|settings| settings.idle = std::time::Duration::from_millis(300));
    let work = served.work(&[("a", b"1")]);
    work.git(&["push", "havre", "main"]);
    let before = served.ended.lock().expect("whole").len();
    let mut stream = TcpStream::connect(served.address).expect("connected");
    let more = "content-type: application/x-git-receive-pack-request\r\ncontent-length: 1000\r\n";
    let text = request("POST /shop.git/git-receive-pack", more);
    stream.write_all(text.as_bytes()).expect("sent");
    wait_until("git is ended", || {
        served.ended.lock().expect("whole").len() > before
    });
    let ended = served.ended.lock().expect("whole").last().copied();
    assert_ne!(ended, Some(Outcome::Done));
}

fn bad_requests() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    work.git(&["push", "havre", "main"]);
    let post = "POST /shop.git/git-upload-pack";
    for (line, more, status) in [
        ("GET /shop.git/info/refs", "", "403"),
        (
            "GET /shop.git/info/refs?service=git-upload-archive",
            "",
            "403",
        ),
        (post, "content-length: 0\r\n", "415"),
        (
            post,
            "content-type: application/x-git-upload-pack-request\r\ncontent-encoding: br\r\n",
            "415",
        ),
        ("POST /shop.git/connect/git-upload-pack", "", "426"),
        ("POST /shop.git/connect/sh", "", "404"),
        ("GET /shop.git/HEAD", "", "404"),
    ] {
        let answer = asked(&served, &request(line, more));
        let expected = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&expected), "{line}: {answer}");
    }
}
