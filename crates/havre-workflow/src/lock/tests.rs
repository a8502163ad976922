//! What a lock file says, and what it may not.

use super::*;

const COMMIT: &str = "34e114876b0b11c390a56381ad16ebd13914f8d5";

fn text(listed: &str, key: &str) -> String {
    format!(
        "version: 'v0.0.2'\nworkflows:\n    '.github/workflows/ci.yml':\n        - '{listed}'\ndependencies:\n    \
         '{key}':\n        ref: 'v4.3.1'\n        commit: 'sha1-{COMMIT}'\n        owner_id: 44036562\n        \
         repo_id: 197814629\n"
    )
}

fn errors(text: &str) -> String {
    match read(Path::new(PATH), text) {
        Ok(_) => String::new(),
        Err(failure) => {
            let each = failure.errors.iter().map(|error| {
                let at = error.location.as_ref().map(|at| (at.line, at.column));
                let (line, column) = at.unwrap_or_default();
                format!("{line}:{column} {}", error.message)
            });
            each.collect::<Vec<_>>().join("; ")
        }
    }
}

#[test]
fn a_lock_file_says_commits_and_is_written_as_it_was() {
    let text = text("Actions/Checkout@v4", "actions/checkout@v4");
    let lock = read(Path::new(PATH), &text).expect("it is sound");
    assert_eq!(
        lock.commit(".github/workflows/ci.yml", "actions/checkout@v4"),
        Some(COMMIT)
    );
    assert_eq!(lock.commit("other.yml", "actions/checkout@v4"), None);
    let written = lock.text();
    let again = read(Path::new(PATH), &written).expect("what is written is read");
    assert_eq!(again.text(), written);
    assert!(written.ends_with(&text[text.find("dependencies").expect("there")..]));
}

#[test]
fn what_is_wrong_with_a_lock_file_is_told_with_its_place() {
    let sound = text("a/b@v1", "a/b@v1");
    assert_eq!(errors(&sound), "");
    for (from, to, expected) in [
        (
            "v0.0.2",
            "v9",
            "1:10 version `v9` of lock files is not known",
        ),
        (
            "version",
            "versio",
            "1:1 the lock file has unknown key `versio`; 1:1 version `` of lock files is not known",
        ),
        (
            "- 'a/b@v1'",
            "- 'a/b/c@v1'",
            "4:11 `a/b/c@v1` is not of the form `OWNER/REPOSITORY@REF`",
        ),
        (
            "- 'a/b@v1'",
            "- 'a/c@v1'",
            "4:11 `a/c@v1` is not in `dependencies`",
        ),
        (
            "sha1-34",
            "sha1-4",
            "8:17 `commit` must be `sha1-` with 40 hex digits, or `sha256-` with 64",
        ),
        (
            "owner_id: 44036562",
            "owner_id: 0",
            "9:19 `owner_id` must be a number, at least 1",
        ),
        (
            "owner_id",
            "hostname",
            "9:19 actions of `44036562` are not fetched: one server is asked for all",
        ),
    ] {
        assert_eq!(
            errors(&sound.replacen(from, to, 1)),
            expected,
            "{from} {to}"
        );
    }
}

#[test]
fn a_workflow_that_is_listed_finds_all_that_it_uses() {
    let path = ".github/workflows/ci.yml";
    let lock = read(Path::new(PATH), &text("a/b@v1", "a/b@v1")).expect("it is sound");
    let steps = |uses: &str| {
        let text = format!(
            "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: {uses}\n"
        );
        let read = crate::read(Path::new(""), Path::new(path), &text, &Limits::default());
        let read = read.expect("it is sound");
        let found = check(&read, path, &lock);
        assert_eq!(check(&read, "other.yml", &lock).len(), 0);
        let first = found.first().map(|error| {
            let at = error.location.as_ref().expect("it has a place");
            format!("{}:{} {}", at.line, at.column, error.message)
        });
        first.unwrap_or_default()
    };
    for uses in ["a/b@v1", "A/b/some/path@v1", "$/own", "docker://alpine"] {
        assert_eq!(steps(uses), "", "{uses}");
    }
    assert_eq!(steps("a/b@v2"), "6:15 `a/b@v2` is not in the lock file");
    assert_eq!(
        steps("./own"),
        "6:15 `./own` may use what no lock file knows, and this workflow has one"
    );
}
