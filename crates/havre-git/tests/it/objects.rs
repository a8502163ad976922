//! What is read of a repository.

use havre_git::{EntryKind, Merged, ObjectError, Oid};

use crate::harness::served;

pub const TESTS: &[(&str, fn())] = &[
    ("objects::a_commit_tells_what_it_holds", told),
    ("objects::what_is_not_known_is_not_guessed", unknown),
    ("objects::what_would_come_of_a_merge_is_a_commit", merged),
];

fn told() {
    let served = served(|_| {});
    let work = served.work(&[(".github/workflows/ci.yml", b"on: push\n"), ("a", b"1")]);
    let first: Oid = work.head().parse().expect("an object");
    work.commit(&[("a", b"2"), ("b c", b"3")]);
    let second: Oid = work.head().parse().expect("an object");
    work.git(&["push", "havre", "main", "main:other"]);
    let objects = served.objects();
    served.runtime.block_on(async {
        let folder = objects.folder(&second, ".github/workflows", 10).await;
        let folder = folder.expect("read").expect("there");
        assert_eq!(folder.len(), 1);
        assert_eq!(
            (folder[0].name.as_str(), folder[0].kind),
            ("ci.yml", EntryKind::File)
        );
        let blob = objects.blob(&folder[0].oid, 100).await.expect("read");
        assert_eq!(blob, b"on: push\n");
        let root = objects
            .folder(&second, "", 10)
            .await
            .expect("read")
            .expect("there");
        assert_eq!(root.len(), 3);
        let changed = objects.changed(Some(&first), &second, 10).await;
        assert_eq!(changed.expect("read").expect("known"), ["a", "b c"]);
        let changed = objects.changed(Some(&first), &second, 1).await;
        assert_eq!(changed.expect("read"), None);
        let all = objects.changed(None, &first, 10).await.expect("read");
        assert_eq!(all.expect("known"), [".github/workflows/ci.yml", "a"]);
        let commit = objects.commit(&second).await.expect("read");
        assert_eq!(commit.parents.as_slice(), std::slice::from_ref(&first));
        assert_eq!(
            (commit.message.as_str(), commit.author.name.as_str()),
            ("a change\n", "Anna")
        );
        assert!(objects.is_ancestor(&first, &second).await.expect("known"));
        assert!(!objects.is_ancestor(&second, &first).await.expect("known"));
        let branches = objects.branches_containing(&first).await.expect("known");
        assert_eq!(branches, ["main", "other"]);
        let mut tar = Vec::new();
        objects.archive(&second, &mut tar).await.expect("passed on");
        assert!(tar.len() > 1024 && tar.windows(3).any(|part| part == b"b c"));
    });
}

fn merged() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"1\n"), ("b", b"1\n")]);
    let first: Oid = work.head().parse().expect("an object");
    work.git(&["branch", "feature"]);
    work.commit(&[("a", b"2\n")]);
    let main: Oid = work.head().parse().expect("an object");
    work.git(&["switch", "--quiet", "feature"]);
    work.commit(&[("b", b"2\n")]);
    let feature: Oid = work.head().parse().expect("an object");
    work.commit(&[("a", b"3\n")]);
    let other: Oid = work.head().parse().expect("an object");
    work.git(&["push", "havre", "main", "feature"]);
    let objects = served.objects();
    let reference = "refs/pull/1/merge";
    served.runtime.block_on(async {
        let made = objects.merge(&main, &feature, "merge", reference).await;
        let Merged::Commit(commit) = made.expect("merged") else {
            panic!("they change different files");
        };
        let facts = objects.commit(&commit).await.expect("read");
        assert_eq!(facts.parents, [main.clone(), feature.clone()]);
        for (path, held) in [("a", "2\n"), ("b", "2\n")] {
            let file = objects.file(&commit, path, 10).await.expect("read");
            assert_eq!(file.as_deref(), Some(held.as_bytes()), "{path}");
        }
        let points = objects.resolve(reference).await.expect("read");
        assert_eq!(points.as_ref(), Some(&commit));
        let again = objects.merge(&main, &feature, "merge", reference).await;
        assert_eq!(again.expect("merged"), Merged::Commit(commit.clone()));
        let nothing = objects.merge(&main, &first, "merge", reference).await;
        assert_eq!(nothing.expect("merged"), Merged::Nothing);
        let conflict = objects.merge(&main, &other, "merge", reference).await;
        let why = Merged::Conflict("both change a".to_owned());
        assert_eq!(conflict.expect("merged"), why);
        let points = objects.resolve(reference).await.expect("read");
        assert_eq!(points, Some(commit), "what cannot be merged moves nothing");
    });
    // People fetch it, and do not push there.
    let fetched = work.run(&["fetch", "havre", reference]);
    assert!(fetched.0, "{fetched:?}");
    assert!(!work.run(&["push", "havre", "HEAD:refs/pull/1/merge"]).0);
}

fn unknown() {
    let served = served(|_| {});
    let work = served.work(&[("a", b"12345")]);
    work.git(&["push", "havre", "main"]);
    let head: Oid = work.head().parse().expect("an object");
    let none: Oid = "1".repeat(40).parse().expect("an object");
    let objects = served.objects();
    served.runtime.block_on(async {
        assert_eq!(objects.folder(&head, "a", 10).await.expect("read"), None);
        assert_eq!(objects.folder(&head, "no", 10).await.expect("read"), None);
        assert_eq!(objects.file(&head, "no", 10).await.expect("read"), None);
        let large = objects.file(&head, "a", 4).await;
        assert!(matches!(large, Err(ObjectError::TooLarge { size: 5, .. })));
        assert_eq!(
            objects.changed(Some(&none), &head, 10).await.expect("read"),
            None
        );
        assert!(!objects.is_ancestor(&none, &head).await.expect("known"));
        assert_eq!(objects.resolve("refs/heads/no").await.expect("read"), None);
        for path in ["../x", "/etc/passwd", "a\nHEAD"] {
            let refused = objects.file(&head, path, 10).await;
            assert!(matches!(refused, Err(ObjectError::Path)), "{path}");
        }
        for reference in ["main", "--all", "refs/heads/main@{1}", "refs/heads/a^0"] {
            assert!(objects.resolve(reference).await.is_err(), "{reference}");
        }
        let commit = objects.commit(&none).await;
        assert!(matches!(commit, Err(ObjectError::Missing { .. })));
        let mut tar = Vec::new();
        objects
            .archive(&none, &mut tar)
            .await
            .expect_err("not there");
    });
}
