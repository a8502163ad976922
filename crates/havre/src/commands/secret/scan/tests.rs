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
    write("compose.yaml", &format!("x: {{JWT_SECRET: {TOKEN}}}\n"));
    write("node_modules/x/.env", &line);
    write(".git/config.env", &line);
    write("binary.env", &format!("\0{line}"));
    std::os::unix::fs::symlink("a/.env", folder.path().join("link.env")).unwrap();
    let scanned = folder::scan(folder.path()).unwrap();
    assert_eq!(
        lines(&scanned),
        [
            "a/.env:2 k3Jx… havre secret import a/.env",
            "compose.yaml:1 k3Jx… havre secret set jwt_secret"
        ]
    );
    let text = render(&scanned.findings, Paint::plain());
    assert!(!text.contains("k3Jx8"), "{text}");
    assert!(
        text.contains(
            "  --> a/.env:2:11  API_TOKEN = k3Jx…\n   = help: havre secret import a/.env\n"
        ),
        "{text}"
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
        ["app.env:1 k3Jx… havre secret import app.env"]
    );
    let commit = scanned.findings[0].commit.clone().unwrap();
    let second = git(&["rev-parse", "--short", "HEAD~1"]);
    assert!(
        [first.trim(), second.trim()].contains(&commit.as_str()),
        "{commit}"
    );
    let other = tempfile::tempdir().unwrap();
    assert!(history::scan(other.path()).is_err());
}
