//! Mirrors: two served gits, one of which is elsewhere.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use havre_git::{MirrorError, Mirrored, Push, Remote};
use tokio_util::sync::CancellationToken;

use crate::harness::{Served, Work, name, served};

pub const TESTS: &[(&str, fn())] = &[
    ("mirroring::what_is_elsewhere_comes_here", from),
    ("mirroring::forced_moves_and_deletions_follow", follows),
    ("mirroring::what_a_check_refuses_is_told_and_comes", wrong),
    ("mirroring::an_empty_other_side_removes_nothing", emptied),
    ("mirroring::what_is_here_goes_elsewhere", to),
    ("mirroring::who_is_nobody_there_is_told_why", refused),
    ("mirroring::a_redirection_is_not_followed", redirected),
    ("mirroring::pull_requests_stay_where_they_are", pulls),
];

fn remote(there: &Served, who: &str) -> Remote {
    let url = format!("http://{}/shop.git", there.address);
    Remote::new(&url, Some(("anna", who))).expect("sound")
}

fn mirror_from(here: &Served, remote: &Remote) -> Result<Mirrored, MirrorError> {
    let end = CancellationToken::new();
    let shop = name("shop");
    let asked = here.git.mirror_from(&shop, remote, "mirror", &end);
    here.runtime.block_on(asked)
}

fn mirror(here: &Served, there: &Served) -> Mirrored {
    mirror_from(here, &remote(there, "viewer")).expect("mirrored")
}

fn references(of: &Served) -> BTreeMap<String, String> {
    let all = of.runtime.block_on(of.objects().references());
    let all = all.expect("read").into_iter();
    let shown = all.filter(|(name, _)| !name.starts_with("refs/mirror/"));
    shown.map(|(name, oid)| (name, oid.to_string())).collect()
}

fn received(of: &Served) -> Vec<Push> {
    std::mem::take(&mut of.fake.received.lock().expect("whole"))
}

fn moved(push: &Push) -> Vec<(&str, bool, bool)> {
    let updates = push.updates.iter();
    updates
        .map(|it| (it.reference.as_str(), it.new.is_some(), it.forced))
        .collect()
}

fn pushed(there: &Served, branch: &str) -> Work {
    let work = there.work(&[("a", b"1")]);
    work.git(&["branch", "--move", branch]);
    work.git(&["push", "havre", branch]);
    work
}

fn from() {
    let (there, here) = (served(|_| {}), served(|_| {}));
    let work = pushed(&there, "trunk");
    work.git(&["push", "havre", "trunk:other"]);
    work.git(&["tag", "-a", "-m", "first", "v1"]);
    work.git(&["push", "havre", "v1"]);
    let mirrored = mirror(&here, &there);
    assert_eq!(mirrored.updates.len(), 3, "{mirrored:?}");
    assert_eq!(mirrored.said, ["run 1 begins", "run 1 succeeded"]);
    assert_eq!(references(&here), references(&there));
    let pushes = received(&here);
    assert_eq!(
        pushes.len(),
        1,
        "what was there before is no news: {pushes:?}"
    );
    assert_eq!(moved(&pushes[0]), [("refs/heads/trunk", true, false)]);
    assert!(pushes[0].mirrored && pushes[0].principal == "mirror");
    let default = here.runtime.block_on(here.objects().default_branch());
    assert_eq!(default.expect("read"), "trunk");
    let listed = work.git(&["ls-remote", &here.url("viewer", "shop")]);
    assert!(!listed.contains("refs/mirror"), "{listed}");

    assert_eq!(mirror(&here, &there), Mirrored::default());
    assert!(received(&here).is_empty());
    work.commit(&[("a", b"2")]);
    work.git(&["push", "havre", "trunk"]);
    mirror(&here, &there);
    assert_eq!(references(&here), references(&there));
    assert_eq!(
        moved(&received(&here)[0]),
        [("refs/heads/trunk", true, false)]
    );
}

fn follows() {
    let (there, here) = (served(|_| {}), served(|_| {}));
    let work = pushed(&there, "main");
    work.git(&["push", "havre", "main:a"]);
    mirror(&here, &there);
    received(&here);
    work.git(&["commit", "--quiet", "--amend", "-m", "otherwise"]);
    work.git(&["push", "--force", "havre", "main"]);
    work.git(&["push", "havre", "--delete", "a"]);
    work.git(&["push", "havre", "main:a/b"]);
    mirror(&here, &there);
    assert_eq!(references(&here), references(&there));
    let expected = [
        ("refs/heads/a", false, false),
        ("refs/heads/a/b", true, false),
        ("refs/heads/main", true, true),
    ];
    assert_eq!(moved(&received(&here)[0]), expected);
}

fn wrong() {
    let (there, here) = (served(|_| {}), served(|_| {}));
    let work = pushed(&there, "main");
    mirror(&here, &there);
    // The other side knows no check.
    work.commit(&[("broken", b"1")]);
    push_past_hooks(&work, &there, "main");
    let head = work.head();
    let mirrored = mirror(&here, &there);
    let (commit, lines) = &mirrored.wrong[0];
    assert_eq!(commit.as_str(), head);
    assert_eq!(lines[0], "ci.yml:3:7: unknown key `job`");
    assert_eq!(here.main(), Some(head));
    assert_eq!(received(&here).len(), 2);
}

/// As somebody on that machine does, past all hooks.
fn push_past_hooks(work: &Work, there: &Served, to: &str) {
    let path = there.folder.path().join("repositories/shop.git");
    let own = |owner: u32| {
        let owner = format!("{owner}:{owner}");
        let mut chown = std::process::Command::new("chown");
        let changed = chown.arg("-R").arg(owner).arg(&path).status();
        assert!(changed.expect("chown runs").success());
    };
    own(0);
    work.git(&["push", &format!("file://{}", path.display()), to]);
    own(havre_confine::GIT_USER);
}

fn emptied() {
    let (there, here) = (served(|_| {}), served(|_| {}));
    pushed(&there, "main");
    mirror(&here, &there);
    let before = references(&here);
    let path = there.folder.path().join("repositories/shop.git");
    std::fs::remove_dir_all(&path).expect("removed");
    let made = there.git.repositories().clone();
    there
        .runtime
        .block_on(made.create(&name("shop")))
        .expect("made");
    let refused = mirror_from(&here, &remote(&there, "viewer"));
    assert!(matches!(refused, Err(MirrorError::Empty)), "{refused:?}");
    assert_eq!(references(&here), before);
}

fn to() {
    let (there, here) = (served(|_| {}), served(|_| {}));
    let old = there.work(&[("old", b"1")]);
    old.git(&["push", "havre", "main", "main:gone"]);
    let end = CancellationToken::new();
    let shop = name("shop");
    let mirror = |who| {
        let remote = remote(&there, who);
        here.runtime
            .block_on(here.git.mirror_to(&shop, &remote, &end))
    };
    here.runtime
        .block_on(here.git.repositories().create(&shop))
        .expect("made");
    assert!(matches!(mirror("pusher"), Err(MirrorError::Nothing)));
    assert_eq!(
        references(&there).len(),
        2,
        "nothing is no reason to remove"
    );
    let work = pushed(&here, "main");
    work.git(&["tag", "v1"]);
    work.git(&["push", "havre", "v1"]);
    mirror("pusher").expect("mirrored");
    assert_eq!(references(&here), references(&there));
    work.commit(&[("broken", b"1")]);
    let refused = mirror("viewer").expect_err("refused").to_string();
    assert!(refused.contains("403"), "{refused}");
}

fn refused() {
    let (there, here) = (served(|_| {}), served(|_| {}));
    pushed(&there, "main");
    let refused = mirror_from(&here, &remote(&there, "secret")).expect_err("refused");
    let told = refused.to_string();
    assert!(told.starts_with("fatal: "), "{told}");
    assert!(!told.contains("secret"), "{told}");
    assert!(references(&here).is_empty());
}

/// A server that sends everybody elsewhere. Says what it was asked.
fn redirected() {
    let here = served(|_| {});
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("known");
    let there = served(|_| {});
    pushed(&there, "main");
    let to = format!("http://{}/shop.git", there.address);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = String::new();
            let mut lines = BufReader::new(stream.try_clone().expect("cloned"));
            while head.ends_with("\r\n\r\n") || lines.read_line(&mut head).expect("read") > 2 {}
            let answer = format!(
                "HTTP/1.1 301 Moved\r\nLocation: {to}/info/refs?service=git-upload-pack\r\nContent-Length: 0\r\n\
                 Connection: close\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).expect("written");
        }
    });
    let url = format!("http://{address}/a.git");
    let remote = Remote::new(&url, Some(("anna", "viewer"))).expect("sound");
    let told = mirror_from(&here, &remote)
        .expect_err("refused")
        .to_string();
    assert!(told.contains("no other is asked"), "{told}");
    assert!(references(&here).is_empty());
}

fn pulls() {
    let (there, here) = (served(|_| {}), served(|_| {}));
    let work = pushed(&there, "main");
    work.commit(&[("hostile", b"1")]);
    push_past_hooks(&work, &there, "main:refs/pull/1/head");
    mirror(&here, &there);
    let all = here
        .runtime
        .block_on(here.objects().references())
        .expect("read");
    assert!(
        all.iter().all(|(name, _)| !name.contains("pull")),
        "{all:?}"
    );
    let wanted = work.head().parse().expect("sound");
    let hostile = here.runtime.block_on(here.objects().commit(&wanted));
    assert!(hostile.is_err(), "{hostile:?}");
}
