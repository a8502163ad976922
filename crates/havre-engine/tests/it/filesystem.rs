//! Root file system, mounts and files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use havre_engine::{FileSpec, MountSpec};

use crate::harness::{Sandbox, Test};

pub const TESTS: &[(&str, Test)] = &[
    ("writes_go_to_the_upper_layer", |p| {
        Box::pin(writes_go_to_the_upper_layer(p))
    }),
    ("read_only_root", |p| Box::pin(read_only_root(p))),
    ("a_single_layer", |p| Box::pin(a_single_layer(p))),
    ("binds_and_tmpfs", |p| Box::pin(binds_and_tmpfs(p))),
    ("links_of_the_image_lead_nowhere", |p| {
        Box::pin(links_of_the_image_lead_nowhere(p))
    }),
    ("files_in_memory", |p| Box::pin(files_in_memory(p))),
    ("new_volumes_are_filled", |p| {
        Box::pin(new_volumes_are_filled(p))
    }),
    ("forbidden_targets", |p| Box::pin(forbidden_targets(p))),
];

async fn writes_go_to_the_upper_layer(place: &Sandbox) {
    let spec = place.spec(
        "c1",
        "echo new > /data/new; rm /data/sub/file; grep ' / ' /proc/mounts",
    );
    let (exit, output) = place.run(&spec).await;
    assert_eq!(exit.code, 0);
    assert!(output.starts_with("havre / overlay rw"), "{output}");
    let upper = &spec.rootfs.upper.as_ref().expect("writable").upper;
    assert_eq!(
        fs::read_to_string(upper.join("data/new")).expect("written"),
        "new\n"
    );
    assert!(
        fs::read_dir(place.run_dir(&spec).join("rootfs"))
            .expect("there")
            .next()
            .is_none()
    );
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(&*place.dir.path().to_string_lossy()));
}

async fn read_only_root(place: &Sandbox) {
    let mut spec = place.spec(
        "c1",
        "touch /x; touch /dev/shm/y && echo shm; touch /scratch/z && echo tmp",
    );
    spec.read_only = true;
    spec.mounts.push(MountSpec::Tmpfs {
        target: "/scratch".into(),
        size_bytes: None,
        mode: None,
        owner: (0, 0),
        exec: false,
    });
    let (_, output) = place.run(&spec).await;
    assert_eq!(
        output.replace("touch: /x: Read-only file system\n", ""),
        "shm\ntmp\n"
    );
    assert!(output.contains("Read-only"), "{output}");
}

async fn a_single_layer(place: &Sandbox) {
    let image = place.dir.path().join("image");
    for dir in ["bin", "proc", "sys", "dev"] {
        fs::create_dir_all(image.join(dir)).expect("a folder");
    }
    fs::copy("/bin/busybox", image.join("bin/sh")).expect("busybox");
    let mut spec = place.spec("c1", "echo hi; echo x > /bin/x");
    spec.rootfs.lower = vec![image];
    spec.rootfs.upper = None;
    let (_, output) = place.run(&spec).await;
    assert!(
        output.contains("hi\n") && output.contains("Read-only file system"),
        "{output}"
    );
}

async fn binds_and_tmpfs(place: &Sandbox) {
    let host = place.dir.path().join("host");
    fs::create_dir_all(&host).expect("a folder");
    fs::write(host.join("file"), "of the host\n").expect("a file");
    let script = "exec 2>&1; cat /mnt/a/file /one/file; echo x > /mnt/a/x; echo y > /mnt/ro/y; \
        grep ' /t ' /proc/mounts; dd if=/dev/zero of=/t/big bs=1024 count=2000 2>&1; \
        grep ' /dev/shm ' /proc/mounts; stat -c '%a %u:%g' /t";
    let mut spec = place.spec("c1", script);
    spec.shm_size_bytes = 8 << 20;
    let bind = |source: std::path::PathBuf, target: &str, read_only| MountSpec::Bind {
        source,
        target: target.to_owned(),
        read_only,
        subpath: None,
    };
    spec.mounts = vec![
        bind(host.clone(), "/mnt/a", false),
        bind(host.clone(), "/mnt/ro", true),
        bind(host.join("file"), "/one/file", false),
        MountSpec::Tmpfs {
            target: "/t".into(),
            size_bytes: Some(1 << 20),
            mode: Some(0o750),
            owner: (1000, 1001),
            exec: false,
        },
    ];
    let (_, output) = place.run(&spec).await;
    assert!(output.contains("of the host\nof the host\n"), "{output}");
    assert_eq!(fs::read_to_string(host.join("x")).expect("written"), "x\n");
    assert!(
        !host.join("y").exists() && output.contains("can't create /mnt/ro/y: Read-only"),
        "{output}"
    );
    assert!(output.contains("size=1024k"), "{output}");
    assert!(output.contains("No space left on device"), "{output}");
    assert!(output.contains("size=8192k"), "{output}");
    assert!(output.ends_with("750 1000:1001\n"), "{output}");
    let mut spec = place.spec("c2", "true");
    spec.mounts = vec![bind(place.dir.path().join("missing"), "/m", false)];
    let error = place
        .engine()
        .create(&spec)
        .await
        .expect_err("no source")
        .to_string();
    assert!(
        error.contains("/missing at /m: No such file or directory"),
        "{error}"
    );
}

async fn links_of_the_image_lead_nowhere(place: &Sandbox) {
    let host = place.dir.path().join("host");
    fs::create_dir_all(&host).expect("a folder");
    let mut spec = place.spec("c1", "touch /var/run/app/mark; ls /run/app");
    // /var/run is a link to /run; a second one points to a folder that only the host has.
    let upper = spec.rootfs.upper.as_ref().expect("writable").upper.clone();
    std::os::unix::fs::symlink(&host, upper.join("trap")).expect("a link");
    let mount = |target: &str| MountSpec::Bind {
        source: host.clone(),
        target: target.to_owned(),
        read_only: false,
        subpath: None,
    };
    spec.mounts = vec![mount("/var/run/app")];
    let (_, output) = place.run(&spec).await;
    assert_eq!(output, "mark\n");
    assert!(host.join("mark").exists());
    spec.id.0 = "c2".to_owned();
    spec.argv[2] = "ls -d /trap/in".to_owned();
    spec.mounts = vec![MountSpec::Tmpfs {
        target: "/trap/in".into(),
        size_bytes: None,
        mode: None,
        owner: (0, 0),
        exec: false,
    }];
    match place.engine().create(&spec).await {
        // Made inside the root, where the link's target does not exist.
        Ok(()) | Err(_) => assert!(!host.join("in").exists()),
    }
}

async fn files_in_memory(place: &Sandbox) {
    let source = place.dir.path().join("secret");
    fs::write(&source, "hunter2\n").expect("a file");
    let file = |target: &str, mode| FileSpec {
        target: target.to_owned(),
        source: source.clone(),
        uid: 1000,
        gid: 1001,
        mode,
    };
    let script = "exec 2>&1; cat /run/secrets/db; stat -c '%u:%g %a' /run/secrets/db; \
        echo x > /run/secrets/db; echo '1.2.3.4 x' >> /etc/hosts; cat /etc/hosts; \
        grep ' /run/secrets/db ' /proc/mounts";
    let mut spec = place.spec("c1", script);
    spec.user = "app".to_owned();
    spec.files = vec![file("/run/secrets/db", 0o400), file("/etc/hosts", 0o644)];
    spec.read_only = true;
    let (_, output) = place.run(&spec).await;
    assert!(output.starts_with("hunter2\n1000:1001 400\n"), "{output}");
    assert!(
        output.contains("can't create /run/secrets/db: Read-only file system"),
        "{output}"
    );
    assert!(output.contains("hunter2\n1.2.3.4 x\n"), "{output}");
    assert!(output.contains("tmpfs ro,"), "{output}");
    assert_eq!(fs::read_to_string(&source).expect("unchanged"), "hunter2\n");
    // Neither on disk nor in what the engine keeps.
    let kept = ["upper/c1", "log/c1"].map(|d| place.dir.path().join(d));
    for dir in [&kept[0], &kept[1], place.run.path()] {
        let found = std::process::Command::new("grep")
            .args(["-rls", "^hunter2"])
            .arg(dir)
            .output()
            .expect("grep");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    }
}

async fn new_volumes_are_filled(place: &Sandbox) {
    let volume = place.dir.path().join("volume");
    fs::create_dir_all(&volume).expect("a folder");
    let mut spec = place.spec(
        "c1",
        "cat /data/sub/file; echo mine > /data/sub/file; stat -c '%u:%g' /data",
    );
    spec.mounts = vec![MountSpec::Volume {
        source: volume.clone(),
        target: "/data".into(),
        read_only: false,
        subpath: None,
    }];
    let (_, output) = place.run(&spec).await;
    assert_eq!(output, "from the image\n1000:1001\n");
    let meta = fs::metadata(&volume).expect("there");
    assert_eq!(
        (meta.uid(), meta.gid(), meta.permissions().mode() & 0o777),
        (1000, 1001, 0o755)
    );
    // Not again: it is in use.
    spec.id.0 = "c2".to_owned();
    spec.log.dir.push("second");
    let (_, output) = place.run(&spec).await;
    assert_eq!(output, "mine\n1000:1001\n");
    // A folder of it is filled by itself.
    spec.id.0 = "c3".to_owned();
    spec.log.dir.push("third");
    spec.mounts = vec![MountSpec::Volume {
        source: volume.clone(),
        target: "/data".into(),
        read_only: false,
        subpath: Some("of/another".into()),
    }];
    let (_, output) = place.run(&spec).await;
    assert_eq!(output, "from the image\n1000:1001\n");
    let written = fs::read_to_string(volume.join("of/another/sub/file"));
    assert_eq!(written.expect("there"), "mine\n");
}

async fn forbidden_targets(place: &Sandbox) {
    for target in [
        "/",
        "/proc/sys",
        "/sys/fs/cgroup/memory",
        "relative",
        "/a/../proc",
        "/dev",
    ] {
        let mut spec = place.spec("c1", "true");
        spec.mounts = vec![MountSpec::Tmpfs {
            target: target.into(),
            size_bytes: None,
            mode: None,
            owner: (0, 0),
            exec: false,
        }];
        let error = place.engine().create(&spec).await.expect_err(target);
        assert_eq!(error.to_string(), "invalid container c1");
    }
    assert!(place.engine().containers().is_empty());
}
