//! Containers that try to reach the host, a test for each known class. All must be refused.
//!
//! The host's secret is a file whose path the container knows; whoever reads it has escaped.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use havre_engine::{
    ContainerSpec, ExecSpec, FileSpec, HealthProbe, MountSpec, RestartRule, State, WindowSize,
    copy_folder,
};

use crate::harness::{Sandbox, Test, command, logged, logs};

pub const TESTS: &[(&str, Test)] = &[
    ("escape_by_descriptor_as_working_directory", |p| {
        Box::pin(descriptor_as_working_directory(p))
    }),
    ("escape_by_descriptor_as_directory_of_an_exec", |p| {
        Box::pin(descriptor_as_directory_of_an_exec(p))
    }),
    ("escape_by_working_directory_swapped_for_a_link", |p| {
        Box::pin(working_directory_swapped(p))
    }),
    ("escape_by_working_directory_swapped_before_a_probe", |p| {
        Box::pin(working_directory_swapped_before_a_probe(p))
    }),
    ("escape_by_mount_target_behind_a_descriptor", |p| {
        Box::pin(mount_target_behind_a_descriptor(p))
    }),
    ("escape_by_mount_target_behind_a_link_to_the_kernel", |p| {
        Box::pin(mount_target_behind_a_link_to_the_kernel(p))
    }),
    ("escape_by_link_in_place_of_proc_sys_or_dev", |p| {
        Box::pin(link_in_place_of_the_kernel(p))
    }),
    ("escape_by_unmasked_paths", |p| Box::pin(unmasked_paths(p))),
    ("escape_by_link_in_a_volume", |p| {
        Box::pin(link_in_a_volume(p))
    }),
    ("escape_by_link_in_place_of_a_mounts_source", |p| {
        Box::pin(link_in_place_of_a_source(p))
    }),
    ("escape_by_root_of_an_exec", |p| {
        Box::pin(root_of_an_exec(p))
    }),
    ("escape_by_system_calls", |p| Box::pin(system_calls(p))),
    ("escape_by_change_of_root", |p| Box::pin(change_of_root(p))),
    ("escape_by_tracing_an_exec", |p| {
        Box::pin(tracing_an_exec(p))
    }),
    ("escape_by_devices_of_a_running_container", |p| {
        Box::pin(devices_of_a_running_container(p))
    }),
    ("escape_by_standard_input", |p| Box::pin(standard_input(p))),
    ("escape_by_account_files", |p| Box::pin(account_files(p))),
    ("escape_by_device_nodes", |p| Box::pin(device_nodes(p))),
    ("escape_by_set_user_id", |p| Box::pin(set_user_id(p))),
    ("escape_by_kernel_settings", |p| {
        Box::pin(kernel_settings(p))
    }),
    ("escape_by_own_program", |p| Box::pin(own_program(p))),
];

/// Descriptors tried: more than a shim has.
const DESCRIPTORS: std::ops::Range<u32> = 3..48;

const SECRET: &str = "the host's secret";

/// Puts the secret on the host and tells the container where.
fn hide_secret(place: &Sandbox, spec: &mut ContainerSpec) -> PathBuf {
    let path = place.dir.path().join("secret");
    fs::write(&path, SECRET).expect("a file");
    let name = path.to_string_lossy().into_owned();
    spec.env.insert("SECRET".to_owned(), name);
    path
}

/// Looks for the secret from the working directory upwards.
const CLIMB: &str = "up=.; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do up=$up/..; \
    cat $up$SECRET 2>/dev/null && break; done; ls -a . | tr '\\n' ' '";

/// What the cgroup folder of a container on the host has, and its root has not.
const HOST_FOLDER: &str = "cgroup.procs";

fn assert_refused(class: &str, output: &str) {
    assert!(!output.contains(SECRET), "{class}: {output}");
    assert!(!output.contains(HOST_FOLDER), "{class}: {output}");
}

/// Starts a container that must not come up, or see nothing; what it put out, or why not.
async fn try_container(place: &Sandbox, spec: &ContainerSpec) -> String {
    let outcome = match place.engine().create(spec).await {
        Ok(()) => {
            place.engine().wait(&spec.id).await.expect("an end");
            logs(spec).await
        }
        Err(error) => error.to_string(),
    };
    let errors = place.engine().remove(&spec.id).await;
    assert!(errors.is_empty(), "{errors:?}");
    outcome
}

fn upper(spec: &ContainerSpec) -> PathBuf {
    let writable = spec.rootfs.upper.as_ref().expect("writable");
    writable.upper.clone()
}

async fn descriptor_as_working_directory(place: &Sandbox) {
    for number in DESCRIPTORS {
        let mut spec = place.spec(&format!("c{number}"), CLIMB);
        hide_secret(place, &mut spec);
        let fd = format!("/proc/self/fd/{number}");
        symlink(&fd, upper(&spec).join("work")).expect("a link");
        for (way, cwd) in [("itself", fd.as_str()), ("link", "/work")] {
            spec.cwd = cwd.to_owned();
            spec.log.dir.push(way);
            let output = try_container(place, &spec).await;
            assert_refused(&format!("{cwd}, {fd}"), &output);
        }
    }
}

async fn descriptor_as_directory_of_an_exec(place: &Sandbox) {
    let mut spec = place.spec("c1", "exec sleep 1000");
    hide_secret(place, &mut spec);
    place.start(&spec).await;
    for number in DESCRIPTORS {
        for of in ["self", "thread-self", "1"] {
            let cwd = format!("/proc/{of}/fd/{number}");
            let exec = ExecSpec {
                cwd: Some(cwd.clone()),
                ..command(&["sh", "-c", CLIMB])
            };
            assert_refused(&cwd, &try_exec(place, &spec, exec).await);
        }
    }
    let exec = ExecSpec {
        cwd: Some("/proc/1/cwd".to_owned()),
        ..command(&["sh", "-c", CLIMB])
    };
    assert_refused("/proc/1/cwd", &try_exec(place, &spec, exec).await);
}

async fn try_exec(place: &Sandbox, spec: &ContainerSpec, exec: ExecSpec) -> String {
    use tokio::io::AsyncReadExt as _;
    match place.engine().exec(&spec.id, exec).await {
        Ok(mut session) => {
            let mut output = String::new();
            let mut stdout = session.stdout.take().expect("a pipe");
            stdout.read_to_string(&mut output).await.expect("output");
            output
        }
        Err(error) => error.to_string(),
    }
}

async fn working_directory_swapped(place: &Sandbox) {
    let mut spec = place.spec("c1", "exec sleep 1000");
    hide_secret(place, &mut spec);
    spec.cwd = "/work".to_owned();
    place.start(&spec).await;
    for number in DESCRIPTORS {
        let swap = format!("rm -rf /work; ln -sfn /proc/self/fd/{number} /work");
        let exec = ExecSpec {
            cwd: Some("/".to_owned()),
            ..command(&["busybox", "sh", "-c", &swap.replace("ln ", "busybox ln ")])
        };
        assert_eq!(place.exec(&spec, exec).await.0, 0);
        let output = try_exec(place, &spec, command(&["sh", "-c", CLIMB])).await;
        assert_refused(&format!("link to {number}"), &output);
    }
}

async fn working_directory_swapped_before_a_probe(place: &Sandbox) {
    let script = "for n in $(seq 3 47); do rm -rf /work; \
        busybox ln -sfn /proc/self/fd/$n /work; usleep 20000; done; echo swapped; exec sleep 1000";
    let mut spec = place.spec("c1", script);
    hide_secret(place, &mut spec);
    spec.cwd = "/work".to_owned();
    // Says what it found: only where it ran, and by its code.
    let probe = format!("{{ {CLIMB}; }} >> /found; exit 7");
    spec.health = Some(HealthProbe {
        argv: ["sh", "-c", &probe].map(str::to_owned).to_vec(),
        interval: Duration::from_millis(1),
        timeout: Duration::from_secs(10),
        retries: 1_000_000,
        start_period: Duration::from_secs(1000),
        start_interval: Duration::from_millis(1),
    });
    place.start(&spec).await;
    logged(&spec, "swapped").await;
    let refused = |observed: &havre_engine::Observed| {
        let last = observed
            .health
            .as_ref()
            .and_then(|health| health.last.as_ref());
        last.is_some_and(|last| last.exit_code == Some(126) && last.output.contains("enter /work"))
    };
    place.until(&spec, "refused a probe", refused).await;
    let found = fs::read_to_string(upper(&spec).join("found")).unwrap_or_default();
    assert_refused("a probe", &found);
}

fn tmpfs(target: &str) -> MountSpec {
    MountSpec::Tmpfs {
        target: target.to_owned(),
        size_bytes: None,
        mode: None,
        owner: (0, 0),
        exec: false,
    }
}

/// A mount of each kind at `target`.
fn mounts_at(place: &Sandbox, target: &str) -> Vec<(&'static str, MountSpec)> {
    let folder = |name: &str| {
        let path = place.dir.path().join(name);
        fs::create_dir_all(&path).expect("a folder");
        path
    };
    let volume = folder("volume");
    fs::remove_dir_all(&volume).expect("removed");
    fs::create_dir(&volume).expect("a folder");
    vec![
        ("tmpfs", tmpfs(target)),
        (
            "bind",
            MountSpec::Bind {
                source: folder("bind"),
                target: target.to_owned(),
                read_only: false,
                subpath: None,
            },
        ),
        (
            "volume",
            MountSpec::Volume {
                source: volume,
                target: target.to_owned(),
                read_only: false,
                subpath: None,
            },
        ),
    ]
}

async fn mount_target_behind_a_descriptor(place: &Sandbox) {
    for number in DESCRIPTORS {
        for (kind, mount) in mounts_at(place, "/trap/made") {
            let mut spec = place.spec(&format!("{kind}{number}"), "echo ran");
            symlink(format!("/proc/self/fd/{number}"), upper(&spec).join("trap")).expect("a link");
            spec.mounts = vec![mount];
            let output = try_container(place, &spec).await;
            assert!(!output.contains("ran"), "{kind} at {number}: {output}");
        }
        let mut spec = place.spec(&format!("file{number}"), "echo ran");
        symlink(format!("/proc/self/fd/{number}"), upper(&spec).join("trap")).expect("a link");
        spec.files = vec![FileSpec {
            target: "/trap/made".to_owned(),
            source: "/etc/hostname".into(),
            uid: 0,
            gid: 0,
            mode: 0o644,
        }];
        let output = try_container(place, &spec).await;
        assert!(!output.contains("ran"), "a file at {number}: {output}");
    }
    let kept: Vec<_> = fs::read_dir(place.dir.path().join("volume"))
        .expect("a folder")
        .collect();
    assert!(kept.is_empty(), "{kept:?}");
}

async fn mount_target_behind_a_link_to_the_kernel(place: &Sandbox) {
    let places = [
        "/",
        "/proc",
        "/proc/sys",
        "/proc/self",
        "/proc/1/root",
        "/sys",
        "/sys/kernel",
        "/sys/fs/cgroup",
        "/dev",
        "/dev/pts",
        "/dev/fd",
        "/dev/mqueue",
        "../../../proc/../dev",
    ];
    for (index, link) in places.into_iter().enumerate() {
        for (kind, mount) in mounts_at(place, "/trap") {
            let mut spec = place.spec(&format!("{kind}{index}"), "echo ran");
            symlink(link, upper(&spec).join("trap")).expect("a link");
            spec.mounts = vec![mount];
            let output = try_container(place, &spec).await;
            assert!(!output.contains("ran"), "{kind} at {link}: {output}");
            assert!(
                output.contains("where nothing can be mounted")
                    || output.contains("mount at /trap"),
                "{kind} at {link}: {output}"
            );
        }
    }
    for (index, link) in ["/proc/sys/kernel/core_pattern", "/dev/null", "/dev/stdin"]
        .into_iter()
        .enumerate()
    {
        let mut spec = place.spec(&format!("file{index}"), "echo ran");
        symlink(link, upper(&spec).join("trap")).expect("a link");
        spec.files = vec![FileSpec {
            target: "/trap".to_owned(),
            source: "/etc/hostname".into(),
            uid: 0,
            gid: 0,
            mode: 0o644,
        }];
        let output = try_container(place, &spec).await;
        assert!(!output.contains("ran"), "a file at {link}: {output}");
    }
    // What a link of the image usually means goes on working.
    let mut spec = place.spec(
        "usual",
        "grep -c -E ' (/run/app|/dev/shm/x|/made/later) ' /proc/mounts",
    );
    symlink("/made", upper(&spec).join("dangling")).expect("a link");
    symlink("/dev/shm", upper(&spec).join("shm")).expect("a link");
    spec.mounts = ["/var/run/app", "/shm/x", "/dangling/later"]
        .map(tmpfs)
        .to_vec();
    let (_, output) = place.run(&spec).await;
    assert_eq!(output, "3\n");
}

async fn link_in_place_of_the_kernel(place: &Sandbox) {
    for name in ["proc", "sys", "dev"] {
        let mut spec = place.spec(name, "echo ran");
        let image = place.dir.path().join(format!("image-{name}"));
        fs::create_dir_all(image.join("bin")).expect("a folder");
        fs::create_dir_all(image.join("elsewhere")).expect("a folder");
        fs::copy("/bin/busybox", image.join("bin/sh")).expect("busybox");
        symlink("/elsewhere", image.join(name)).expect("a link");
        spec.rootfs.lower = vec![image];
        let output = try_container(place, &spec).await;
        assert!(
            output.ends_with(&format!("/{name} of the image is no directory")),
            "{output}"
        );
    }
}

async fn unmasked_paths(place: &Sandbox) {
    // A volume that would stand for /dev, with a link for the null device, and one for /proc.
    let trap = place.dir.path().join("bind");
    fs::create_dir_all(&trap).expect("a folder");
    symlink("/proc/sys/kernel/core_pattern", trap.join("null")).expect("a link");
    let script = "exec 2>&1; \
        for f in acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats; do \
          [ -e /proc/$f ] || continue; \
          if [ -d /proc/$f ]; then ls -A /proc/$f; else head -c 1 /proc/$f; fi; done; \
        for f in /sys/firmware /sys/devices/virtual/powercap /sys/devices/system/cpu/cpu*/thermal_throttle; do \
          [ -e $f ] && ls -A $f; done; \
        for f in bus fs irq sys sysrq-trigger; do [ -e /proc/$f ] || continue; grep -q \" /proc/$f proc ro\" /proc/mounts || echo /proc/$f; done; \
        umount /proc/kcore; rm -f /dev/null; \
        busybox ln -s /proc/sys/kernel/core_pattern /dev/null; echo x > /dev/null; echo done";
    let (_, output) = place.run(&place.spec("c1", script)).await;
    let expected = "umount: can't unmount /proc/kcore: Operation not permitted\n\
        sh: can't create /dev/null: Read-only file system\ndone\n";
    assert_eq!(output, expected);
    // The same container once more: what it left in its layer does not matter.
    let spec = place.spec("c1", script);
    let errors = place.engine().remove(&spec.id).await;
    assert!(errors.is_empty(), "{errors:?}");
    fs::remove_dir_all(&spec.log.dir).expect("removed");
    let (_, output) = place.run(&spec).await;
    assert_eq!(output, expected);
}

async fn link_in_a_volume(place: &Sandbox) {
    let host = place.dir.path().join("host");
    fs::create_dir_all(&host).expect("a folder");
    fs::write(host.join("secret"), SECRET).expect("a file");
    let image = place.dir.path().join("image");
    fs::create_dir_all(image.join("run/app/deep")).expect("a folder");
    fs::create_dir_all(image.join("var")).expect("a folder");
    fs::write(image.join("run/app/deep/mine"), "mine").expect("a file");
    fs::hard_link(image.join("run/app/deep/mine"), image.join("run/app/same")).expect("a link");
    fs::set_permissions(
        image.join("run/app/deep/mine"),
        fs::Permissions::from_mode(0o4750),
    )
    .expect("mode");
    std::os::unix::fs::chown(image.join("run/app/deep/mine"), Some(7), Some(8)).expect("owner");
    fs::set_permissions(
        image.join("run/app/deep/mine"),
        fs::Permissions::from_mode(0o4750),
    )
    .expect("mode");
    symlink("/run", image.join("var/run")).expect("a link");
    symlink(&host, image.join("data")).expect("a link");
    symlink("../".repeat(20) + &host.to_string_lossy(), image.join("up")).expect("a link");
    symlink(&host, image.join("run/app/kept")).expect("a link");
    for (index, target) in ["/data", "/up", "/var/run/app/kept", "/no/such"]
        .into_iter()
        .enumerate()
    {
        let volume = place.dir.path().join(format!("volume{index}"));
        fs::create_dir(&volume).expect("a folder");
        copy_folder(&image, target, &volume).expect("nothing to copy");
        let kept: Vec<_> = fs::read_dir(&volume).expect("a folder").collect();
        assert!(kept.is_empty(), "{target}: {kept:?}");
    }
    let volume = place.dir.path().join("filled");
    fs::create_dir(&volume).expect("a folder");
    copy_folder(&image, "/var/run/app", &volume).expect("copied");
    // A link is copied as what it is.
    assert_eq!(fs::read_link(volume.join("kept")).expect("a link"), host);
    let meta = |path: PathBuf| fs::metadata(path).expect("there");
    let (mine, same) = (meta(volume.join("deep/mine")), meta(volume.join("same")));
    assert_eq!((mine.ino(), mine.nlink()), (same.ino(), 2));
    assert_eq!(
        (mine.uid(), mine.gid(), mine.mode() & 0o7777),
        (7, 8, 0o4750)
    );
    let original = meta(image.join("run/app/deep/mine"));
    assert_eq!(mine.mtime_nsec(), original.mtime_nsec());
    // The same where the container itself mounts the volume.
    for (index, target) in ["/data", "/up"].into_iter().enumerate() {
        let volume = place.dir.path().join(format!("mounted{index}"));
        fs::create_dir(&volume).expect("a folder");
        let mut spec = place.spec(&format!("c{index}"), &format!("ls -A {target}"));
        symlink(&host, upper(&spec).join("data")).expect("a link");
        symlink(
            "../../..".to_owned() + &host.to_string_lossy(),
            upper(&spec).join("up"),
        )
        .expect("a link");
        spec.mounts = vec![MountSpec::Volume {
            source: volume,
            target: target.to_owned(),
            read_only: false,
            subpath: None,
        }];
        assert_eq!(try_container(place, &spec).await, "");
    }
}

/// A container's mounts lie in one another, and it swaps one for a link before it is started again.
async fn link_in_place_of_a_source(place: &Sandbox) {
    let host = place.dir.path().join("host");
    fs::create_dir_all(host.join("in")).expect("a folder");
    fs::write(host.join("secret"), SECRET).expect("a file");
    fs::write(host.join("in/secret"), SECRET).expect("a file");
    let bind = |source: PathBuf, target: &str, subpath: Option<&str>| MountSpec::Bind {
        source,
        target: target.to_owned(),
        read_only: false,
        subpath: subpath.map(str::to_owned),
    };
    let volume = |source: PathBuf, subpath: Option<&str>| MountSpec::Volume {
        source,
        target: "/x".to_owned(),
        read_only: true,
        subpath: subpath.map(str::to_owned),
    };
    type Make<'a> = &'a dyn Fn(PathBuf) -> MountSpec;
    let kinds: [(&str, Make<'_>); 6] = [
        ("bind", &|sub| bind(sub, "/x", None)),
        ("below", &|sub| bind(sub.join("in"), "/x", None)),
        ("file", &|sub| bind(sub.join("in/secret"), "/x", None)),
        ("part", &|sub| bind(sub, "/x", Some("in"))),
        ("volume", &|sub| volume(sub, None)),
        ("subpath", &|sub| volume(sub, Some("in"))),
    ];
    for (name, mount) in kinds {
        let data = place.dir.path().join(format!("data-{name}"));
        fs::create_dir_all(data.join("sub/in")).expect("a folder");
        fs::write(data.join("sub/in/secret"), "its own").expect("a file");
        let script = "cat /x /x/secret /x/in/secret 2>/dev/null; \
            rm -rf /data/sub; busybox ln -s $HOST /data/sub; exit 1";
        let mut spec = place.spec(name, script);
        spec.env
            .insert("HOST".to_owned(), host.to_string_lossy().into_owned());
        spec.restart = RestartRule::OnFailure {
            max_retries: Some(1),
        };
        spec.mounts = vec![bind(data.clone(), "/data", None), mount(data.join("sub"))];
        place.start(&spec).await;
        let ended = place.engine().wait(&spec.id).await;
        let output = logs(&spec).await;
        assert_refused(name, &output);
        assert!(output.contains("its own"), "{name}: {output}");
        let reason = ended.expect_err("not started again").to_string();
        assert!(reason.contains("a link is in its way"), "{name}: {reason}");
    }
}

async fn root_of_an_exec(place: &Sandbox) {
    // Looks at every process for as long as it can be seen, with the right to look into it.
    let script = "echo ready; while :; do for p in /proc/[0-9]*; do \
        [ -e $p/root$SECRET ] && echo root of $p; \
        [ -e $p/cwd$SECRET ] && echo cwd of $p; \
        for f in $p/fd/[0-9]*; do [ -d $f/. ] && { \
          o=/proc/self/fd/9; [ $o -ef / ] || [ $o -ef /proc ] || echo $f; } 9<$f/.; done; \
        { o=/proc/self/fd/9; [ $o -ef /bin/busybox ] || { touch -c $o && echo exe of $p; }; } 9<$p/exe; \
        while read k v; do case $k in CapEff:) \
          [ $v = 00000000a80c25fb ] || echo $p may $v;; Seccomp:) [ $v = 2 ] || echo $p unfiltered;; esac; \
        done < $p/status; done; done 2>/dev/null";
    let mut spec = place.spec("c1", script);
    hide_secret(place, &mut spec);
    spec.security.cap_add = vec!["SYS_PTRACE".to_owned()];
    // The first process is ours then, and can be looked into as well.
    spec.init = true;
    place.start(&spec).await;
    logged(&spec, "ready").await;
    for number in 0..60 {
        let exec = ExecSpec {
            tty: (number % 3 == 0).then_some(WindowSize {
                rows: 24,
                columns: 80,
            }),
            ..command(&["true"])
        };
        let mut session = place.engine().exec(&spec.id, exec).await.expect("executed");
        assert_eq!(session.wait().await.expect("a code"), 0);
    }
    assert_eq!(logs(&spec).await, "ready\n");
}

/// A container that runs this program as its attacker.
fn attack(place: &Sandbox, way: &str) -> ContainerSpec {
    let mut spec = place.spec("c1", "");
    spec.argv = ["/attacker", "attack", way].map(str::to_owned).to_vec();
    let this = std::env::current_exe().expect("this binary");
    let bind = |source: PathBuf, target: &str| MountSpec::Bind {
        source,
        target: target.to_owned(),
        read_only: true,
        subpath: None,
    };
    spec.mounts = vec![bind(this, "/attacker")];
    for libraries in ["/lib", "/lib64", "/usr/lib"] {
        // A link on machines of today, and sources have none.
        let real = fs::canonicalize(libraries).expect("libraries");
        spec.mounts.push(bind(real, libraries));
    }
    spec
}

async fn system_calls(place: &Sandbox) {
    let (_, output) = place.run(&attack(place, "calls")).await;
    assert!(output.lines().count() > 20, "{output}");
    for line in output.lines() {
        assert!(line.starts_with("refused "), "{output}");
    }
}

async fn change_of_root(place: &Sandbox) {
    let mut spec = attack(place, "root");
    hide_secret(place, &mut spec);
    let (_, output) = place.run(&spec).await;
    assert_eq!(output, "refused change of root\n");
}

/// A container that holds on to the end of further processes neither keeps its shim busy nor itself
/// from being ended.
async fn tracing_an_exec(place: &Sandbox) {
    let mut spec = attack(place, "trace");
    spec.security.cap_add = vec!["SYS_PTRACE".to_owned()];
    place.start(&spec).await;
    logged(&spec, "ready").await;
    let mut held = Vec::new();
    for number in 1..=3 {
        let exec = command(&["sleep", "1000"]);
        let session = place.engine().exec(&spec.id, exec).await.expect("executed");
        logged(&spec, &format!("seized {number}")).await;
        let pid = rustix::process::Pid::from_raw(session.pid as i32).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        held.push(session);
    }
    let pid = crate::harness::pid(&place.engine().get(&spec.id).await.expect("known"));
    let stat = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        let (_, rest) = text.rsplit_once(") ").expect("its name");
        let fields: Vec<_> = rest.split(' ').map(str::to_owned).collect();
        fields
    };
    let shim = stat(&pid.to_string())[1].clone();
    let ticks = || -> u64 {
        let fields = stat(&shim);
        let number = |at: usize| fields[at].parse::<u64>().expect("a number");
        number(11) + number(12)
    };
    // Whatever else the machine does, one that is busy gets as much time as this thread.
    let before = ticks();
    tokio::task::spawn_blocking(|| compute_for(BUSY))
        .await
        .expect("computed");
    let used = Duration::from_millis(10 * (ticks() - before));
    assert!(used < BUSY / 10, "the shim is busy: {used:?}");
    place
        .engine()
        .stop(&spec.id, Some(Duration::ZERO))
        .await
        .expect("stopped");
    for mut session in held {
        assert_eq!(session.wait().await.expect("a code"), 137);
    }
}

/// How long a process computes that is compared with one that should not.
const BUSY: Duration = Duration::from_secs(1);

/// Uses that much time of a processor.
fn compute_for(time: Duration) {
    let used = || {
        let clock = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(clock.tv_sec as u64, clock.tv_nsec as u32)
    };
    let end = used() + time;
    while used() < end {}
}

async fn devices_of_a_running_container(place: &Sandbox) {
    let script = "rm /dev/null; busybox ln -s /proc/sys/kernel/core_pattern /dev/null; \
        echo ready; exec sleep 1000";
    let spec = place.spec("c1", script);
    place.start(&spec).await;
    logged(&spec, "ready").await;
    let output = try_exec(place, &spec, command(&["sh", "-c", "echo ran"])).await;
    assert!(output.contains("/dev/null"), "{output}");
    // A pipe nobody writes to keeps nobody waiting; one that is connected is not taken.
    let spec = place.spec(
        "c2",
        "rm /dev/null; busybox mkfifo /dev/null; echo ready; exec sleep 1000",
    );
    place.start(&spec).await;
    logged(&spec, "ready").await;
    let output = try_exec(place, &spec, command(&["sh", "-c", "echo ran"])).await;
    assert!(output.contains("is not the null device"), "{output}");
}

async fn standard_input(place: &Sandbox) {
    let mode = || fs::metadata("/dev/null").expect("there").mode() & 0o7777;
    let before = mode();
    let script = "chmod 0667 /dev/stdin; chown 0:12 /dev/stdin; echo ready; exec sleep 1000";
    let spec = place.spec("c1", script);
    place.start(&spec).await;
    logged(&spec, "ready").await;
    let script = "chmod 0667 /dev/stdin; chown 0:12 /dev/stdin; stat -L -c '%a %g' /dev/stdin";
    let (_, output) = place.exec(&spec, command(&["sh", "-c", script])).await;
    let gid = fs::metadata("/dev/null").expect("there").gid();
    let after = mode();
    // Mended at once, should it have been broken.
    fs::set_permissions("/dev/null", fs::Permissions::from_mode(before)).expect("mode");
    std::os::unix::fs::chown("/dev/null", None, Some(0)).expect("group");
    assert_eq!((after, gid), (before, 0));
    assert_eq!(output, "667 12\n");
}

async fn account_files(place: &Sandbox) {
    let mut spec = place.spec("c1", "exec sleep 1000");
    let secret = hide_secret(place, &mut spec);
    fs::write(&secret, "host:x:4321:4321::/:/bin/sh\n").expect("a file");
    place.start(&spec).await;
    let swap = |command_line: &str| {
        let script = format!("rm -f /etc/passwd; {command_line}");
        command(&["busybox", "sh", "-c", &script])
    };
    let as_host = || ExecSpec {
        user: Some("host".to_owned()),
        ..command(&["id", "-u"])
    };
    let mut ways = vec![format!("busybox ln -s {} /etc/passwd", secret.display())];
    ways.push("busybox mkfifo /etc/passwd".to_owned());
    ways.extend(
        DESCRIPTORS.map(|number| format!("busybox ln -s /proc/self/fd/{number} /etc/passwd")),
    );
    for way in ways {
        assert_eq!(place.exec(&spec, swap(&way)).await.0, 0, "{way}");
        let output = try_exec(place, &spec, as_host()).await;
        assert!(
            output.contains("/etc/passwd") && !output.contains("4321"),
            "{way}: {output}"
        );
    }
}

async fn device_nodes(place: &Sandbox) {
    let script = "for d in 'b 8 0' 'b 254 0' 'b 259 0' 'b 7 0' 'c 1 1' 'c 1 2' 'c 1 4' 'c 1 11' \
          'c 10 200' 'c 10 229' 'c 10 232' 'c 10 237' 'c 108 0' 'c 4 1' 'c 29 0'; do \
        rm -f /n; mknod /n $d || continue; \
        head -c 1 /n > /dev/null 2>&1 && echo opened $d; done; echo done";
    let (_, output) = place.run(&place.spec("c1", script)).await;
    assert_eq!(output, "done\n");
    // One that the image brings along.
    let spec = place.spec(
        "c2",
        "head -c 1 /disk > /dev/null 2>&1 && echo opened; echo done",
    );
    let device = rustix::fs::makedev(254, 0);
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let kind = rustix::fs::FileType::BlockDevice;
    let at = rustix::fs::CWD;
    rustix::fs::mknodat(at, upper(&spec).join("disk"), kind, mode, device).expect("a node");
    let (_, output) = place.run(&spec).await;
    assert_eq!(output, "done\n");
}

async fn set_user_id(place: &Sandbox) {
    let mut spec = place.spec("c1", "/busybox id -u; id -u");
    let program = upper(&spec).join("busybox");
    fs::copy("/bin/busybox", &program).expect("busybox");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("mode");
    spec.user = "app".to_owned();
    spec.security.no_new_privileges = true;
    let (_, output) = place.run(&spec).await;
    assert_eq!(output, "1000\n1000\n");
    // Without the option it is as with Docker: root, with what is in the bounding set and no more.
    let mut spec = place.spec("c2", "/busybox grep CapEff /proc/self/status");
    let program = upper(&spec).join("busybox");
    fs::copy("/bin/busybox", &program).expect("busybox");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("mode");
    spec.user = "app".to_owned();
    let (_, output) = place.run(&spec).await;
    assert!(
        output == "CapEff:\t00000000a80425fb\n" || output == "CapEff:\t0000000000000000\n",
        "{output}"
    );
}

async fn kernel_settings(place: &Sandbox) {
    let script = "for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe \
          /proc/sysrq-trigger /proc/sys/vm/drop_caches /sys/kernel/uevent_helper \
          /sys/kernel/mm/ksm/run /sys/fs/cgroup/release_agent /sys/fs/cgroup/*/release_agent \
          /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do \
        [ -e $f ] || continue; { echo 1 >> $f; } 2>/dev/null && echo wrote $f; done; \
        for f in /proc /proc/sys /sys /sys/fs/cgroup; do \
        mount -o remount,rw $f 2>/dev/null && echo remounted $f; done; \
        umount /proc/sys 2>/dev/null && echo unmounted; echo done";
    let (_, output) = place.run(&place.spec("c1", script)).await;
    assert_eq!(output, "done\n");
}

async fn own_program(place: &Sandbox) {
    let before = fs::metadata(std::env::current_exe().expect("this binary")).expect("there");
    for (index, argv) in [
        vec!["/proc/self/exe", "--list"],
        vec!["/proc/thread-self/exe"],
        vec!["/proc/1/exe", "id"],
    ]
    .into_iter()
    .enumerate()
    {
        let mut spec = place.spec(&format!("c{index}"), "");
        spec.argv = argv.into_iter().map(str::to_owned).collect();
        let output = try_container(place, &spec).await;
        assert_refused("its own program", &output);
    }
    // The first process is ours, and who may look into processes finds it.
    let mut spec = place.spec("running", "exec sleep 1000");
    spec.init = true;
    spec.security.cap_add = vec!["SYS_PTRACE".to_owned()];
    place.start(&spec).await;
    let script = "for p in /proc/[0-9]*; do [ $p/exe -ef /bin/busybox ] || \
        { touch -c $p/exe && echo $p; }; done; echo done";
    let (_, output) = place.exec(&spec, command(&["sh", "-c", script])).await;
    assert_eq!(output, "done\ntouch: /proc/1/exe: Read-only file system\n");
    let after = fs::metadata(std::env::current_exe().expect("this binary")).expect("there");
    assert_eq!((after.len(), after.mtime()), (before.len(), before.mtime()));
    let observed = place.engine().get(&spec.id).await.expect("known");
    assert!(matches!(observed.state, State::Running { .. }));
}
