//! Clones and fetches.

use std::fmt::Write as _;

use crate::harness::{command, said, served};

pub const TESTS: &[(&str, fn())] = &[
    ("fetching::what_was_pushed_is_cloned", cloned),
    (
        "fetching::a_commit_that_no_branch_has_is_fetched_alone",
        shallow,
    ),
    ("fetching::a_long_request_comes_packed", packed),
    ("fetching::version_0_is_spoken_too", version_0),
];

fn cloned() {
    let served = served(|_| {});
    let work = served.work(&[("a/b", b"1")]);
    work.git(&["push", "havre", "main"]);
    let into = tempfile::tempdir().expect("a folder");
    let url = served.url("viewer", "shop");
    let (ok, told) = said(
        &command(into.path(), &["clone", "--quiet", &url, "."])
            .output()
            .expect("git runs"),
    );
    assert!(ok, "{told}");
    assert_eq!(std::fs::read(into.path().join("a/b")).expect("there"), b"1");
}

fn shallow() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    work.git(&["push", "havre", "main"]);
    let before = work.head();
    work.git(&["commit", "--quiet", "--amend", "-m", "otherwise"]);
    work.git(&["push", "--force", "havre", "main"]);
    let other = served.work(&[("b", b"1")]);
    other.git(&["fetch", "--depth=1", "havre", &before]);
    assert_eq!(other.git(&["rev-parse", "FETCH_HEAD"]), before);
}

fn packed() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    work.git(&["push", "havre", "main"]);
    // Many commits that the other side does not have: a long list of what there is already.
    let other = served.work(&[("b", b"1")]);
    let mut commits = String::new();
    for at in 0..300 {
        writeln!(
            commits,
            "commit refs/heads/b{at}\ncommitter A <a@b> {} +0000\ndata 1\nx",
            1_700_000_000 + at
        )
        .expect("written");
    }
    std::fs::write(other.path.join(".git/commits"), commits).expect("written");
    let stream = std::fs::File::open(other.path.join(".git/commits")).expect("there");
    let imported = other
        .command(&["fast-import", "--quiet"])
        .stdin(stream)
        .status();
    assert!(imported.expect("git runs").success());
    let mut fetch = other.command(&["fetch", "havre", "main"]);
    fetch.env("GIT_CURL_VERBOSE", "1");
    let (ok, told) = said(&fetch.output().expect("git runs"));
    assert!(ok, "{told}");
    let told = told.to_ascii_lowercase();
    assert!(told.contains("content-encoding: gzip"), "{told}");
    assert_eq!(other.git(&["rev-parse", "FETCH_HEAD"]), work.head());
}

fn version_0() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1")]);
    work.git(&["push", "havre", "main"]);
    let listed = work.git(&["-c", "protocol.version=0", "ls-remote", "havre", "main"]);
    assert!(listed.starts_with(&work.head()), "{listed}");
}
