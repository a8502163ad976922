//! Scans of folders and of real repositories.

use std::fs;
use std::process::Command;

use super::*;

const TOKEN: &str = "k3Jx8QwErTyUi";

fn lines(scanned: &Scanned) -> Vec<String> {
    let line = |one: &Finding| format!("{}:{} {} {}", one.file, one.line, one.masked, one.fix);
    scanned.findings.iter().map(line).collect()
}

#[test]
fn a_folder_is_looked_through_but_for_what_others_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let line = format!("API_TOKEN={TOKEN}\n");
    write("a/.env", &format!("A=1\n{line}"));
    write(
        "compose.yaml",
        &format!("name: shop\nx: {{JWT_SECRET: {TOKEN}}}\n"),
    );
    write("node_modules/x/.env", &line);
    write(".git/config.env", &line);
    write("binary.env", &format!("\0{line}"));
    std::os::unix::fs::symlink("a/.env", folder.path().join("link.env")).unwrap();
    let scanned = folder::scan(folder.path()).unwrap();
    // As they are pasted where the scan was called.
    let here = folder.path().display();
    assert_eq!(
        lines(&scanned),
        [
            format!("a/.env:2 k3Jx… havre secret import {here}/a/.env -p shop -E production"),
            "compose.yaml:2 k3Jx… havre secret set jwt_secret -p shop -E production".to_owned()
        ]
    );
    let text = render(&scanned.findings, Paint::plain());
    assert!(!text.contains("k3Jx8"), "{text}");
    let told = format!(
        "  --> a/.env:2:11  API_TOKEN = k3Jx…\n   = help: havre secret import {here}/a/.env -p shop"
    );
    assert!(text.contains(&told), "{text}");
    let single = folder::scan(&folder.path().join("a/.env")).unwrap();
    assert_eq!(
        lines(&single),
        [format!(".env:2 k3Jx… havre secret import {here}/a/.env")]
    );
    assert!(folder::scan(&folder.path().join("none")).is_err());
}

#[test]
fn what_was_removed_from_a_repository_is_in_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(args)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "-q"]);
    let path = folder.path().join("app.env");
    fs::write(&path, format!("API_TOKEN={TOKEN}\n")).unwrap();
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    let first = git(&["rev-parse", "--short", "HEAD"]);
    fs::write(&path, format!("API_TOKEN={TOKEN}\nMORE=1\n")).unwrap();
    git(&["commit", "-qam", "two"]);
    fs::remove_file(&path).unwrap();
    git(&["commit", "-qam", "three"]);
    assert_eq!(folder::scan(folder.path()).unwrap().findings, []);
    let scanned = history::scan(folder.path()).unwrap();
    assert_eq!(
        lines(&scanned),
        // The file is gone.
        ["app.env:1 k3Jx… havre secret set api_token"]
    );
    let commit = scanned.findings[0].commit.clone().unwrap();
    let second = git(&["rev-parse", "--short", "HEAD~1"]);
    assert!(
        [first.trim(), second.trim()].contains(&commit.as_str()),
        "{commit}"
    );
    // A tag can name a file itself, which is in no folder.
    let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\n";
    fs::write(&path, key).unwrap();
    let blob = git(&["hash-object", "-w", "app.env"]);
    fs::remove_file(&path).unwrap();
    for tag in [&["tag", "light"][..], &["tag", "-am", "x", "heavy"]] {
        git(&[tag, &[blob.trim()]].concat());
        let scanned = history::scan(folder.path()).unwrap();
        assert_eq!((scanned.findings.len(), scanned.unread), (2, 0));
        assert_eq!(scanned.findings[1].file, blob.trim());
        git(&["tag", "-d", tag[tag.len() - 1]]);
    }
    let other = tempfile::tempdir().unwrap();
    assert!(history::scan(other.path()).is_err());
}

#[test]
fn what_is_not_looked_at_is_told_and_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let large = MAX_FILE_BYTES as usize + 1;
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("a.txt", b"A=1\n");
    write("film", &vec![0; large]);
    let scanned = folder::scan(folder.path()).unwrap();
    assert_eq!((scanned.unread, exit(&scanned)), (0, Exit::Ok));
    write("dump\x1b[2J.sql", &vec![b'x'; large]);
    let scanned = folder::scan(folder.path()).unwrap();
    assert_eq!(
        scanned.reasons,
        ["not looked at: dump.sql: it is larger than 8 MiB"]
    );
    assert_eq!(exit(&scanned), Exit::Failed);
    let deep = (0..=folder::MAX_DEPTH).fold(folder.path().to_owned(), |path, _| path.join("d"));
    fs::create_dir_all(deep).unwrap();
    assert_eq!(folder::scan(folder.path()).unwrap().unread, 2);
    write("b.env", format!("API_TOKEN={TOKEN}\n").as_bytes());
    assert_eq!(exit(&folder::scan(folder.path()).unwrap()), Exit::Project);
}

#[test]
fn no_program_that_a_repository_names_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let (repository, ran) = (folder.path().join("r"), folder.path().join("ran"));
    fs::create_dir(&repository).unwrap();
    let program = folder.path().join("program");
    fs::write(
        &program,
        format!("#!/bin/sh\necho \"$0 $*\" >> {}\nexit 1\n", ran.display()),
    )
    .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).unwrap();
    let git = |args: &[&str], input: &str| {
        let mut git = Command::new("git");
        git.args(args).current_dir(&repository);
        git.stdin(std::process::Stdio::piped());
        let mut git = git.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut stdin = git.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
        drop(stdin);
        let output = git.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"], "");
    fs::write(repository.join("app.env"), format!("API_TOKEN={TOKEN}\n")).unwrap();
    fs::write(repository.join(".gitattributes"), "* diff=own filter=own\n").unwrap();
    git(&["add", "."], "");
    let tree = git(&["write-tree"], "");
    // A commit that says it is signed.
    let person = "t <t@example.org> 1700000000 +0000";
    let commit = format!(
        "tree {tree}\nauthor {person}\ncommitter {person}\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n          -----END PGP SIGNATURE-----\n\none\n"
    );
    let commit = git(&["hash-object", "-t", "commit", "-w", "--stdin"], &commit);
    git(&["update-ref", "HEAD", &commit], "");
    let own = program.to_str().unwrap();
    for (name, value) in [
        ("log.showSignature", "true"),
        ("gpg.program", own),
        ("gpg.openpgp.program", own),
        ("core.fsmonitor", own),
        ("core.pager", own),
        ("core.sshCommand", own),
        ("diff.external", own),
        ("diff.own.command", own),
        ("diff.own.textconv", own),
        ("filter.own.smudge", own),
        ("filter.own.clean", own),
        ("filter.own.process", own),
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.url", &format!("ext::{own} %S")),
        ("remote.origin.promisor", "true"),
        ("protocol.ext.allow", "always"),
    ] {
        git(&["config", name, value], "");
    }
    let scanned = history::scan(&repository).unwrap();
    assert_eq!(lines(&scanned).len(), 1);
    assert!(scanned.findings[0].commit.is_some());
    // A version that is missing would be fetched.
    let blob = git(&["rev-parse", "HEAD:app.env"], "");
    fs::remove_file(
        repository
            .join(".git/objects")
            .join(&blob[..2])
            .join(&blob[2..]),
    )
    .unwrap();
    if let Ok(scanned) = history::scan(&repository) {
        assert_eq!(exit(&scanned), Exit::Failed, "{:?}", scanned.reasons);
    }
    let ran = fs::read_to_string(&ran).unwrap_or_default();
    assert_eq!(ran, "");
}
