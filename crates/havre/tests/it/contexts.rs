//! Contexts: what is kept where, and where commands go.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::program::Ran;
use crate::sshd::laptop;

fn run(home: &Path, args: &[&str]) -> Ran {
    laptop(home, args).output().unwrap().into()
}

#[test]
fn contexts_are_added_chosen_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let added = run(
        home,
        &["context", "add", "prod", "https://Havre.example.org:443"],
    );
    assert_eq!(added.code, 0, "{added:?}");
    assert!(added.err.contains("`havre -c prod login`"), "{added:?}");
    let added = run(
        home,
        &["context", "add", "box", "ssh://root@10.0.0.1:2222", "--use"],
    );
    assert_eq!(added.code, 0, "{added:?}");
    let listed = run(home, &["context", "ls", "--json"]).json();
    let shown: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|shown| {
            let text = |key: &str| shown[key].as_str().unwrap().to_owned();
            (text("name"), text("address"), shown["current"] == true)
        })
        .collect();
    let expected = [
        ("local", "/run/havre/api.sock", false),
        ("box", "ssh://root@10.0.0.1:2222", true),
        ("prod", "https://havre.example.org", false),
    ];
    let expected =
        expected.map(|(name, address, current)| (name.to_owned(), address.to_owned(), current));
    assert_eq!(shown, expected);
    let file = home.join("config/havre/contexts.json");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);

    assert_eq!(run(home, &["context", "use", "prod"]).code, 0);
    let shown = run(home, &["context", "show", "--json"]).json();
    assert_eq!(shown["name"], "prod");
    assert_eq!(run(home, &["context", "use", "nowhere"]).code, 6);
    let gone = run(home, &["context", "rm", "prod"]);
    assert!(gone.err.contains("go to this machine"), "{gone:?}");
    assert_eq!(run(home, &["context", "rm", "prod"]).code, 6);
    let shown = run(home, &["context", "show", "--json"]).json();
    assert_eq!(shown["name"], "local");
}

#[test]
fn what_would_mislead_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    for (args, said) in [
        (
            &["add", "prod", "ssh://-oProxyCommand=touch%20x"][..],
            "no address",
        ),
        (&["add", "prod", "http://example.org"], "without TLS"),
        (&["add", "local", "ssh://example.org"], "this machine"),
        (&["add", "../x", "ssh://example.org"], "not a name"),
        (
            &["add", "x", "ssh://example.org", "--ca-file", "/etc/hosts"],
            "about https",
        ),
    ] {
        let ran = run(home, &[&["context"], args].concat());
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains(said), "{ran:?}");
    }
    let ca = ["--ca-file", "/etc/hosts"];
    let ran = run(
        home,
        &[&["context", "add", "x", "https://a.b"], &ca[..]].concat(),
    );
    assert!(ran.err.contains("it holds none"), "{ran:?}");
    assert_eq!(run(home, &["context", "add", "x", "ssh://a"]).code, 0);
    let other = run(home, &["context", "add", "x", "ssh://b"]);
    assert_eq!(other.code, 7, "{other:?}");
    assert_eq!(
        run(home, &["context", "add", "x", "ssh://b", "--replace"]).code,
        0
    );
    let ran = run(home, &["-c", "nowhere", "status"]);
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.err.contains("there are x"), "{ran:?}");
    let ran = run(home, &["-c", "x", "--root", "/tmp/none", "status"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    // A root of this machine means this machine, whatever is in use.
    assert_eq!(run(home, &["context", "use", "x"]).code, 0);
    let ran = run(home, &["--root", "/nonexistent", "status"]);
    assert!(ran.err.contains("/nonexistent/run/api.sock"), "{ran:?}");
}

#[test]
fn what_is_done_on_the_machine_itself_says_so() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    assert_eq!(run(home, &["context", "add", "x", "ssh://box"]).code, 0);
    for args in [
        &["daemon"][..],
        &["daemon", "stop"],
        &["daemon", "install"],
        &["ca", "trust"],
        &["doctor"],
        &["image", "import", "/etc/hosts"],
    ] {
        let ran = run(home, &[&["-c", "x"], args].concat());
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert!(ran.err.contains("not done from elsewhere"), "{ran:?}");
        assert!(ran.err.contains("run it on box"), "{ran:?}");
    }
    let ran = run(home, &["-c", "x", "login", "--token-stdin"]);
    assert!(ran.err.contains("no login is needed"), "{ran:?}");
    let ran = run(home, &["login", "--token-stdin"]);
    assert!(ran.err.contains("no login is needed"), "{ran:?}");
}
