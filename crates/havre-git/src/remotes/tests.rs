//! Repositories of a server of the machine's own git.

use std::os::unix::fs::symlink;
use std::process::Command;

use havre_base::one_line;

use super::*;

/// A server of files, with one repository `Acme/Tool`: a commit `v1`, and a later one on `main`.
struct Server {
    folder: tempfile::TempDir,
    first: Oid,
    last: Oid,
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "user.name=a", "-c", "user.email=a@b"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn server() -> Server {
    let folder = tempfile::tempdir().expect("there is a folder for tests");
    let tree = folder.path().join("srv/acme/tool");
    fs::create_dir_all(tree.join("sub")).expect("made");
    git(&tree, &["init", "--quiet", "--initial-branch=main"]);
    fs::write(tree.join("action.yml"), "one").expect("written");
    fs::write(tree.join("sub/run.sh"), "#!/bin/sh\n").expect("written");
    fs::set_permissions(tree.join("sub/run.sh"), fs::Permissions::from_mode(0o755)).expect("set");
    symlink("/etc/passwd", tree.join("link")).expect("made");
    git(&tree, &["add", "."]);
    git(&tree, &["commit", "--quiet", "-m", "one"]);
    let first = git(&tree, &["rev-parse", "HEAD"]);
    git(&tree, &["tag", "-a", "v1", "-m", "v1"]);
    fs::write(tree.join("action.yml"), "two").expect("written");
    git(&tree, &["commit", "--quiet", "-am", "two"]);
    let last = git(&tree, &["rev-parse", "HEAD"]);
    Server {
        folder,
        first: first.parse().expect("a commit"),
        last: last.parse().expect("a commit"),
    }
}

impl Server {
    fn remotes(&self) -> Remotes {
        let settings = RemoteSettings {
            server: format!("file://{}/srv", self.folder.path().display()),
            folder: self.folder.path().join("kept"),
            confined: None,
        };
        Remotes::open(settings, None).expect("it opens")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_found_fetched_once_and_laid_out() {
    let server = server();
    let remotes = server.remotes();
    let name = RemoteName::new("Acme", "Tool").expect("a name");
    for (reference, expected) in [
        ("v1", &server.first),
        ("main", &server.last),
        ("refs/heads/main", &server.last),
        (server.first.as_str(), &server.first),
    ] {
        let found = remotes.resolve(&name, reference).await;
        assert_eq!(&found.expect("it is there"), expected, "{reference}");
    }
    let folder = remotes
        .folder(&name, &server.first)
        .await
        .expect("it is fetched");
    assert_eq!(
        fs::read_to_string(folder.join("action.yml")).expect("read"),
        "one"
    );
    let mode = |path: &str| {
        let meta = fs::symlink_metadata(folder.join(path)).expect("there");
        (
            meta.permissions().mode() & 0o777,
            meta.file_type().is_symlink(),
        )
    };
    assert_eq!(mode("action.yml").0, 0o644);
    assert_eq!(mode("sub/run.sh").0, 0o755);
    assert!(mode("link").1);
    // What is kept needs no server.
    fs::rename(
        server.folder.path().join("srv"),
        server.folder.path().join("gone"),
    )
    .expect("moved");
    let again = server.remotes();
    let kept = again
        .folder(&name, &server.first)
        .await
        .expect("it is kept");
    assert_eq!(kept, folder);
    let objects = again.fetch(&name, &server.first).await.expect("it is kept");
    let file = objects.file(&server.first, "action.yml", 100).await;
    assert_eq!(file.expect("read"), Some(b"one".to_vec()));
    let later = again.folder(&name, &server.last).await;
    let why = one_line(&later.expect_err("nobody has it"));
    assert!(
        why.starts_with(&format!("cannot fetch {} of file://", server.last)),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said() {
    let server = server();
    let remotes = server.remotes();
    let name = RemoteName::new("acme", "tool").expect("a name");
    let why = |error: RemoteError| one_line(&error);
    let missing = remotes.resolve(&name, "v9").await.expect_err("no such tag");
    assert!(why(missing).ends_with("/srv/acme/tool has no branch or tag `v9`"));
    let nobody = RemoteName::new("acme", "nobody").expect("a name");
    let missing = remotes.resolve(&nobody, "v1").await.expect_err("none");
    assert!(why(missing).starts_with("cannot ask file://"));
    for reference in ["", "-x", "a b", "a..b", "a^{}", "--upload-pack=x", "x:y"] {
        let refused = remotes.resolve(&name, reference).await;
        assert!(matches!(refused, Err(RemoteError::Name(_))), "{reference}");
    }
    for (owner, repository) in [
        ("..", "a"),
        ("a", "../b"),
        ("-a", "b"),
        ("a", ""),
        ("a b", "c"),
    ] {
        assert!(
            RemoteName::new(owner, repository).is_err(),
            "{owner}/{repository}"
        );
    }
    let blob = git(
        &server.folder.path().join("srv/acme/tool"),
        &["rev-parse", "HEAD:action.yml"],
    );
    let blob = blob.parse().expect("an object");
    assert!(remotes.fetch(&name, &blob).await.is_err());
    let settings = RemoteSettings {
        server: "ext::sh -c true".to_owned(),
        folder: server.folder.path().join("other"),
        confined: None,
    };
    assert!(matches!(
        Remotes::open(settings, None),
        Err(RemoteError::Server(_))
    ));
}
