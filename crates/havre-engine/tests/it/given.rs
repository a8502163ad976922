//! What a container is given of the host when its owner says so, and what others still have not.

use std::fs;
use std::path::Path;

use havre_engine::{CreateError, DeviceSpec, Devices, Shares};

use crate::harness::{Sandbox, Test, command, logged};

pub const TESTS: &[(&str, Test)] = &[
    ("given_devices", |p| Box::pin(given_devices(p))),
    ("given_device_rules", |p| Box::pin(given_device_rules(p))),
    ("given_folder_of_devices", |p| {
        Box::pin(given_folder_of_devices(p))
    }),
    ("missing_device", |p| Box::pin(missing_device(p))),
    ("privileged", |p| Box::pin(privileged(p))),
    ("host_network", |p| Box::pin(host_network(p))),
    ("host_processes", |p| Box::pin(host_processes(p))),
    ("host_memory", |p| Box::pin(host_memory(p))),
    ("given_things_must_be_valid", |p| {
        Box::pin(given_things_must_be_valid(p))
    }),
];

/// A device that no container has by itself, to be opened without any effect.
const DEVICE: &str = "/dev/fuse";
/// Opens a device for reading and for writing; what of it succeeds.
const OPEN: &str = "(: < $D) 2>/dev/null && echo read; (: <> $D) 2>/dev/null && echo written; true";

fn has_device() -> bool {
    let is_there = Path::new(DEVICE).exists();
    if !is_there {
        println!("skipped: needs {DEVICE}");
    }
    is_there
}

fn given(source: &str, target: &str, permissions: &str) -> Devices {
    Devices {
        given: vec![DeviceSpec {
            source: source.into(),
            target: target.to_owned(),
            permissions: permissions.to_owned(),
        }],
        rules: Vec::new(),
    }
}

async fn given_devices(place: &Sandbox) {
    if !has_device() {
        return;
    }
    let try_out = |at: &str| format!("D={at}; {OPEN}; stat -c %a:%u:%g $D");
    let mode = fs::metadata(DEVICE).map(|meta| std::os::unix::fs::MetadataExt::mode(&meta) & 0o777);
    let mode = format!("{:o}:0:0\n", mode.expect("its mode"));
    let mut spec = place.spec("rw", &try_out("/dev/a/b"));
    spec.devices = given(DEVICE, "/dev/a/b", "rwm");
    assert_eq!(place.run(&spec).await.1, format!("read\nwritten\n{mode}"));
    let mut spec = place.spec("r", &try_out(DEVICE));
    spec.devices = given(DEVICE, DEVICE, "r");
    assert_eq!(place.run(&spec).await.1, format!("read\n{mode}"));
    // Made by itself it cannot be opened: the device beside it is nobody's.
    let other = "mknod /data/d c 10 237; D=/data/d; ";
    let mut spec = place.spec("other", &format!("{other} {OPEN}"));
    spec.devices = given(DEVICE, DEVICE, "rwm");
    assert_eq!(place.run(&spec).await.1, "");
    // And who was given nothing has nothing.
    let without = place.spec("none", &format!("ls {DEVICE} 2>/dev/null; {other} {OPEN}"));
    assert_eq!(place.run(&without).await.1, "");
}

async fn given_device_rules(place: &Sandbox) {
    if !has_device() {
        return;
    }
    let script = format!("mknod /data/d c 10 229; D=/data/d; {OPEN}");
    for (rule, expected) in [
        ("c 10:229 rw", "read\nwritten\n"),
        ("c 10:* r", "read\n"),
        ("c *:* rwm", "read\nwritten\n"),
        ("a 10:229 rw", "read\nwritten\n"),
        ("c 10:228 rwm", ""),
        ("b 10:229 rwm", ""),
    ] {
        let mut spec = place.spec(&rule.replace([' ', ':', '*'], "-"), &script);
        spec.devices.rules = vec![rule.to_owned()];
        assert_eq!(place.run(&spec).await.1, expected, "{rule}");
    }
}

async fn given_folder_of_devices(place: &Sandbox) {
    let folder = place.dir.path().join("devices");
    fs::create_dir_all(folder.join("deep")).expect("a folder");
    let made = std::process::Command::new("mknod")
        .arg(folder.join("deep/zero"))
        .args(["c", "1", "5"])
        .status();
    assert!(made.expect("mknod").success());
    let mut spec = place.spec(
        "c1",
        "head -c 3 /dev/x/deep/zero | od -An -tx1; ls -R /dev/x",
    );
    spec.devices = given(&folder.display().to_string(), "/dev/x", "r");
    let (_, output) = place.run(&spec).await;
    assert_eq!(output, " 00 00 00\n/dev/x:\ndeep\n\n/dev/x/deep:\nzero\n");
}

async fn missing_device(place: &Sandbox) {
    for (name, source) in [("gone", "/dev/no-such-device"), ("file", "/etc/passwd")] {
        let mut spec = place.spec(name, "true");
        spec.devices = given(source, "/dev/x", "rwm");
        let error = place.engine().create(&spec).await.expect_err("no device");
        assert!(error.to_string().contains(source), "{error}");
    }
}

async fn privileged(place: &Sandbox) {
    let script = "grep -E '^(CapEff|Seccomp:)' /proc/self/status; \
        for at in /proc /proc/sys /proc/sysrq-trigger /sys /sys/fs/cgroup; do \
            grep -c \" $at .*ro[, ]\" /proc/self/mounts; done; \
        [ -s /proc/timer_list ] && echo shown; mount -t tmpfs none /data && echo mounted";
    let mut spec = place.spec("all", script);
    spec.security.privileged = true;
    let (_, output) = place.run(&spec).await;
    let mut lines = output.lines();
    let caps = lines.next().and_then(|line| line.strip_prefix("CapEff:\t"));
    let caps = u64::from_str_radix(caps.expect("capabilities"), 16).expect("a number");
    assert_eq!(caps & (1 << 21), 1 << 21, "SYS_ADMIN: {output}");
    assert_eq!(lines.next(), Some("Seccomp:\t0"));
    assert!(output.ends_with("mounted\n"), "{output}");
    assert!(output.contains("Seccomp:\t0\n0\n0\n0\n0\n"), "{output}");
    // Exec'd processes are like the first.
    let mut spec = place.spec("exec", "exec sleep 1000");
    spec.security.privileged = true;
    place.start(&spec).await;
    let script = "grep Seccomp: /proc/self/status; ls /dev/pts/ptmx /dev/null";
    let (_, output) = place.exec(&spec, command(&["sh", "-c", script])).await;
    assert_eq!(output, "Seccomp:\t0\n/dev/null\n/dev/pts/ptmx\n");
    if has_device() {
        let mut spec = place.spec("devices", &format!("D={DEVICE}; {OPEN}"));
        spec.security.privileged = true;
        assert_eq!(place.run(&spec).await.1, "read\nwritten\n");
    }
}

fn shares(which: &str) -> Shares {
    Shares {
        network: which == "network",
        pid: which == "pid",
        ipc: which == "ipc",
    }
}

/// The namespace of this test process.
fn own(kind: &str) -> String {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).expect("a link");
    format!("{}\n", link.display())
}

async fn host_network(place: &Sandbox) {
    let script = "readlink /proc/self/ns/net; echo up; exec sleep 1000";
    let mut spec = place.spec("c1", script);
    spec.shares = shares("network");
    place.start(&spec).await;
    let output = logged(&spec, "up\n").await;
    assert_eq!(output, format!("{}up\n", own("net")));
    let exec = command(&["sh", "-c", "readlink /proc/self/ns/net"]);
    assert_eq!(place.exec(&spec, exec).await, (0, own("net")));
    // It has no power over it.
    let exec = command(&["sh", "-c", "ip link add havre9 type dummy 2>&1; echo $?"]);
    let (_, output) = place.exec(&spec, exec).await;
    assert!(!output.ends_with("\n0\n"), "{output}");
}

async fn host_processes(place: &Sandbox) {
    let script =
        "readlink /proc/self/ns/pid; (sleep 1000 & sleep 1000 &) ; echo up; exec sleep 1000";
    let mut spec = place.spec("c1", script);
    spec.shares = shares("pid");
    place.start(&spec).await;
    let output = logged(&spec, "up\n").await;
    assert_eq!(output, format!("{}up\n", own("pid")));
    let seen = format!("cat /proc/{}/comm", std::process::id());
    let (code, _) = place.exec(&spec, command(&["sh", "-c", &seen])).await;
    assert_eq!(code, 0, "it sees this test");
    // What it has left behind ends with it, though no namespace does.
    place.engine().stop(&spec.id, None).await.expect("stopped");
    let group = format!("havre-{}/run/test/deep/c1.c", place.instance);
    let points = [
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/pids",
    ];
    for point in points {
        let path = Path::new(point).join(&group).join("cgroup.procs");
        let left = fs::read_to_string(path).unwrap_or_default();
        assert_eq!(left, "", "{point}");
    }
}

async fn host_memory(place: &Sandbox) {
    let name = place.run.path().file_name().expect("its name");
    let script = format!(
        "readlink /proc/self/ns/ipc; ls -d /dev/shm/{}",
        name.display()
    );
    let mut spec = place.spec("c1", &script);
    spec.shares = shares("ipc");
    let expected = format!("{}/dev/shm/{}\n", own("ipc"), name.display());
    assert_eq!(place.run(&spec).await.1, expected);
}

async fn given_things_must_be_valid(place: &Sandbox) {
    let plain = place.spec("c1", "true");
    let mut wrong = Vec::new();
    for target in ["/etc/x", "/dev/../x", "/dev/pts/9", "/dev/shm"] {
        let mut spec = plain.clone();
        spec.devices = given("/dev/null", target, "rwm");
        wrong.push(spec);
    }
    let mut spec = plain.clone();
    spec.devices.rules = vec!["c 1:1".to_owned()];
    wrong.push(spec);
    for (share, sysctl) in [("network", "net.ipv4.ip_forward"), ("ipc", "kernel.msgmax")] {
        let mut spec = plain.clone();
        spec.shares = shares(share);
        spec.sysctls.insert(sysctl.to_owned(), "1".to_owned());
        wrong.push(spec);
    }
    let mut spec = plain;
    spec.shares = shares("network");
    spec.netns = Some("/proc/self/ns/net".into());
    wrong.push(spec);
    for spec in wrong {
        let refused = place.engine().create(&spec).await;
        assert!(
            matches!(refused, Err(CreateError::Invalid { .. })),
            "{refused:?}"
        );
    }
}
