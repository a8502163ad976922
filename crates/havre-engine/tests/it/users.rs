//! Containers whose users are others on the host.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use havre_engine::{
    Confidential, ContainerSpec, ExecSpec, FileSpec, IdRange, MountSpec, STANDARD_INPUT, WindowSize,
};
use havre_image::overlay::Writable;

use crate::harness::{Sandbox, Test, command, logged, logs, pid};
use crate::processes::read_until;

pub const TESTS: &[(&str, Test)] = &[
    ("users_root_is_nobody_on_the_host", |p| {
        Box::pin(root_is_nobody(p))
    }),
    ("users_files_of_layers_are_roots_own", |p| {
        Box::pin(files_of_layers(p))
    }),
    ("users_what_is_given_belongs_to_root", |p| {
        Box::pin(what_is_given(p))
    }),
    ("users_exec_is_inside_too", |p| Box::pin(exec_is_inside(p))),
    ("users_root_can_do_nothing_to_the_host", |p| {
        Box::pin(nothing_to_the_host(p))
    }),
    ("users_layers_show_their_owner_as_root", |p| {
        Box::pin(layers(p))
    }),
    ("users_input_ends_with_what_was_given", |p| {
        Box::pin(input(p))
    }),
    ("users_what_has_no_place_is_refused", |p| {
        Box::pin(refused(p))
    }),
];

const RANGE: IdRange = IdRange { first: 0x7f00_0000 };

fn spec(place: &Sandbox, name: &str, script: &str) -> ContainerSpec {
    let mut spec = place.spec(name, script);
    spec.security.user_namespace = Some(RANGE);
    spec
}

fn upper(spec: &ContainerSpec) -> &Path {
    &spec.rootfs.upper.as_ref().expect("writable").upper
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).expect("it is there");
    (meta.uid(), meta.gid())
}

/// Users on the host and in the container: real, effective, saved, of files.
fn ids(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("Uid:"));
    line.expect("users").replace('\t', " ")
}

async fn root_is_nobody(place: &Sandbox) {
    let script = "id -u; id -g; cat /proc/self/uid_map; echo done; exec sleep 1000";
    let spec = spec(place, "c1", script);
    place.start(&spec).await;
    let said = logged(&spec, "done").await;
    let words: Vec<_> = said.split_whitespace().collect();
    let first = RANGE.first.to_string();
    assert_eq!(words, ["0", "0", "0", first.as_str(), "65536", "done"]);
    let observed = place.engine().get(&spec.id).await.expect("known");
    let seen = ids(pid(&observed));
    assert_eq!(seen, format!("Uid: {first} {first} {first} {first}"));

    let mut other = self::spec(place, "c2", "id -u; echo done; exec sleep 1000");
    other.user = "app".to_owned();
    other.init = true;
    place.start(&other).await;
    logged(&other, "1000\ndone").await;
    let observed = place.engine().get(&other.id).await.expect("known");
    let app = RANGE.first + 1000;
    assert_eq!(ids(pid(&observed)), format!("Uid: {app} {app} {app} {app}"));
}

async fn files_of_layers(place: &Sandbox) {
    let script = "set -e; stat -c %u:%g /etc/passwd /data; echo more:x:9:9::/:/bin/sh >> /etc/passwd; \
        chown 33:33 /etc/group; rm /etc/script; mkdir /etc/new; echo x > /etc/new/file; \
        chmod 4755 /bin/busybox; stat -c %u:%g /etc/passwd /etc/group /etc/new/file /; cat /etc/passwd";
    let spec = spec(place, "c1", script);
    let lower = spec.rootfs.lower[0].join("etc/passwd");
    let before = fs::read_to_string(&lower).expect("accounts");
    let (exit, said) = place.run(&spec).await;
    assert_eq!(exit.code, 0, "{said}");
    let owners: Vec<_> = said.lines().take(6).collect();
    assert_eq!(owners, ["0:0", "1000:1001", "0:0", "33:33", "0:0", "0:0"]);
    assert!(said.ends_with("more:x:9:9::/:/bin/sh\n"), "{said}");

    assert_eq!(fs::read_to_string(&lower).expect("accounts"), before);
    let first = RANGE.first;
    let upper = upper(&spec);
    for path in ["", "etc/passwd", "etc/new", "etc/new/file", "bin/busybox"] {
        assert_eq!(owner(upper.join(path)), (first, first), "{path}");
    }
    assert_eq!(owner(upper.join("etc/group")), (first + 33, first + 33));
}

async fn what_is_given(place: &Sandbox) {
    let script = "set -e; stat -c %n:%u:%g:%a . /dev /dev/shm /memory /etc/given /dev/null /made; \
        touch /dev/shm/x /memory/x ./x; echo reopened > /dev/stdout; echo e > /proc/self/fd/2; \
        echo ok > /dev/null";
    let mut spec = spec(place, "c1", script);
    spec.cwd = "/made/deep".to_owned();
    spec.mounts.push(MountSpec::Tmpfs {
        target: "/memory".to_owned(),
        size_bytes: Some(1 << 20),
        mode: Some(0o700),
        owner: (0, 0),
        exec: false,
    });
    let source = place.dir.path().join("given");
    fs::write(&source, "given").expect("a file");
    spec.files.push(FileSpec {
        target: "/etc/given".to_owned(),
        source,
        uid: 0,
        gid: 33,
        mode: 0o640,
    });
    let (exit, said) = place.run(&spec).await;
    assert_eq!(exit.code, 0, "{said}");
    for line in [
        ".:0:0:755",
        "/dev:0:0:755",
        "/dev/shm:0:0:1777",
        "/memory:0:0:700",
        "/etc/given:0:33:640",
        "/made:0:0:755",
        "reopened",
    ] {
        assert!(said.lines().any(|it| it == line), "{line}: {said}");
    }
}

async fn exec_is_inside(place: &Sandbox) {
    let spec = spec(place, "c1", "echo up; exec sleep 1000");
    place.start(&spec).await;
    logged(&spec, "up").await;
    let script = "cat /proc/self/uid_map; id -u; echo x > /by-exec; echo again > /dev/stdout; \
        mount -t tmpfs none /mnt 2>&1 || echo refused";
    let (code, said) = place.exec(&spec, command(&["sh", "-c", script])).await;
    assert_eq!(code, 0, "{said}");
    let first = RANGE.first.to_string();
    assert!(said.contains(&first) && said.contains("\n0\n"), "{said}");
    assert!(said.contains("again") && said.contains("refused"), "{said}");
    assert_eq!(owner(upper(&spec).join("by-exec")).0, RANGE.first);

    let as_app = ExecSpec {
        user: Some("app".to_owned()),
        ..command(&[
            "sh",
            "-c",
            "id -u; cat /proc/self/uid_map; echo x > /dev/stderr",
        ])
    };
    let (code, said) = place.exec(&spec, as_app).await;
    assert!(
        code == 0 && said.starts_with("1000\n") && said.contains(&first),
        "{said}"
    );

    // All capabilities are those of the container.
    let privileged = ExecSpec {
        privileged: true,
        ..command(&[
            "sh",
            "-c",
            "cat /proc/self/uid_map; mount -t tmpfs none /mnt || echo refused; \
            mknod /disk b 254 0 || echo none",
        ])
    };
    let (_, said) = place.exec(&spec, privileged).await;
    assert!(
        said.contains(&first) && said.contains("refused") && said.contains("none"),
        "{said}"
    );

    let on_terminal = ExecSpec {
        tty: Some(WindowSize {
            rows: 24,
            columns: 80,
        }),
        ..command(&[
            "sh",
            "-c",
            "stat -c %u:%g $(tty); echo x > /dev/tty && echo wrote",
        ])
    };
    let mut session = place
        .engine()
        .exec(&spec.id, on_terminal)
        .await
        .expect("executed");
    let mut terminal = session.terminal.take().expect("a terminal");
    let text = read_until(&mut terminal, "wrote").await;
    assert!(text.contains("0:5"), "{text}");
}

async fn nothing_to_the_host(place: &Sandbox) {
    let witness = std::process::id();
    let script = "try() { \"$@\" 2>/dev/null && echo \"DONE $*\"; }; \
        try mount -t tmpfs none /mnt; try mount -o remount,rw /proc/sys; try umount /proc/sys; \
        try umount /dev/shm; try mount --bind /etc /mnt; \
        try sh -c 'echo x > /proc/sys/kernel/hostname'; \
        try sh -c 'echo 1 > /proc/sys/kernel/core_pattern'; \
        try sh -c 'echo b > /proc/sysrq-trigger'; \
        try mknod /disk b 254 0; try mknod /mem c 1 1; try unshare -m true; try unshare -r true; \
        try hostname other; try kill -0 $WITNESS; try ls /proc/$WITNESS/root; \
        try sh -c 'echo -1000 > /proc/self/oom_score_adj'; \
        try ip link set lo down; try chown 70000 /etc/passwd; \
        ls /proc | grep -c '^[0-9]'; echo over";
    let mut spec = spec(place, "c1", script);
    spec.env.insert("WITNESS".to_owned(), witness.to_string());
    // With every capability it may have namespaces of its own, below those that it is in.
    let below: &[&str] = &["DONE unshare -m true", "DONE unshare -r true"];
    for (capability, unconfined, expected) in [
        ("CHOWN", false, &[][..]),
        ("ALL", false, below),
        ("ALL", true, below),
    ] {
        spec.security.cap_add = vec![capability.to_owned()];
        spec.security.seccomp_unconfined = unconfined;
        let (_, said) = place.run(&spec).await;
        let done: Vec<_> = said
            .lines()
            .filter(|line| line.starts_with("DONE"))
            .collect();
        assert!(done.iter().all(|line| expected.contains(line)), "{said}");
        let processes = said
            .lines()
            .rev()
            .nth(1)
            .and_then(|it| it.parse::<u32>().ok());
        assert!(processes.is_some_and(|count| count < 6), "{said}");
        assert!(said.ends_with("over\n"), "{said}");
        assert!(place.engine().remove(&spec.id).await.is_empty());
        fs::remove_dir_all(&spec.log.dir).expect("to forget what it said");
    }
}

/// A tree of somebody's, a file that only its owner reads, and a folder for changes.
fn tree(place: &Sandbox) -> (PathBuf, Writable) {
    let dir = place.dir.path().canonicalize().expect("a folder");
    let tree = dir.join("tree");
    fs::create_dir_all(tree.join("src")).expect("a folder");
    for path in ["", "src", "src/main", "private"] {
        let path = tree.join(path);
        if !path.exists() {
            fs::write(&path, "original\n").expect("a file");
        }
        chown(&path, Some(4711), Some(4712)).expect("an owner");
    }
    let private = tree.join("private");
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).expect("a mode");
    fs::write(tree.join("of-root"), "").expect("a file");
    let writable = Writable {
        upper: dir.join("changes"),
        work: dir.join("scratch"),
    };
    for folder in [&writable.upper, &writable.work] {
        fs::create_dir_all(folder).expect("a folder");
    }
    (tree, writable)
}

async fn layers(place: &Sandbox) {
    let (tree, upper) = tree(place);
    let script = "exec 2>&1; set -e; cd /home/tree; stat -c %u:%g . src src/main of-root; cat private; \
        echo changed > src/main; rm private; echo new > new; cat src/main; \
        cat /one; stat -c %u /one; echo x > /one || echo read-only; ls /only";
    let mut spec = spec(place, "c1", script);
    let mount = |lower: Vec<PathBuf>, upper, target: &str| MountSpec::Layers {
        lower,
        upper,
        target: target.to_owned(),
        owner: (4711, 4712),
    };
    spec.mounts = vec![
        mount(vec![tree.clone()], Some(upper.clone()), "/home/tree"),
        mount(vec![tree.join("private")], None, "/one"),
        mount(vec![tree.join("src")], None, "/only"),
    ];
    let (exit, said) = place.run(&spec).await;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(exit.code, 0, "{said}");
    let expected = [
        "0:0",
        "0:0",
        "0:0",
        "4711:4712",
        "original",
        "changed",
        "original",
        "0",
    ];
    assert_eq!(lines[..8], expected, "{said}");
    assert!(
        said.contains("read-only\n") && said.ends_with("main\n"),
        "{said}"
    );
    for file in ["private", "src/main"] {
        let text = fs::read_to_string(tree.join(file)).expect("untouched");
        assert_eq!(text, "original\n");
        assert_eq!(owner(tree.join(file)), (4711, 4712));
    }
    assert!(!tree.join("new").exists());
    assert_eq!(owner(upper.upper.join("new")).0, RANGE.first);
}

async fn input(place: &Sandbox) {
    let spec = spec(place, "c1", "wc -c; cat; cat /proc/self/fd/0 | wc -c");
    let text = "x".repeat(3 << 20);
    let confidential = Confidential {
        files: [(STANDARD_INPUT.to_owned(), text.into_bytes().into())].into(),
        ..Confidential::default()
    };
    let created = place.engine().create_with(&spec, confidential).await;
    created.expect("created");
    place.engine().wait(&spec.id).await.expect("an end");
    let said = logs(&spec).await;
    let numbers: Vec<_> = said.split_whitespace().collect();
    assert_eq!(numbers.first(), Some(&"3145728"), "{said}");
}

async fn refused(place: &Sandbox) {
    let check = async |change: &dyn Fn(&mut ContainerSpec), text: &str| {
        let mut spec = spec(place, "c1", "true");
        change(&mut spec);
        let error = place.engine().create(&spec).await.expect_err("refused");
        let error = havre_base::one_line(&error);
        assert!(error.contains(text), "{error}");
        place.engine().remove(&spec.id).await;
    };
    check(&|it| it.security.privileged = true, "only the host's root").await;
    check(&|it| it.shares.network = true, "only the host's root").await;
    check(
        &|it| it.security.user_namespace = Some(IdRange { first: 0 }),
        "nobody's",
    )
    .await;
    check(&|it| it.user = "70000".to_owned(), "not among the 65536").await;
    let layers = |it: &mut ContainerSpec| {
        it.mounts.push(MountSpec::Layers {
            lower: vec!["/proc".into()],
            upper: None,
            target: "/x".to_owned(),
            owner: (0, 0),
        });
    };
    check(&layers, "its file system has to allow mapped mounts").await;
    let without = move |it: &mut ContainerSpec| {
        layers(it);
        it.security.user_namespace = None;
    };
    check(&without, "need a user namespace").await;
}
