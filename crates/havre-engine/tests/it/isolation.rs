//! What a container may do, and that exec'd processes may do no more.

use havre_engine::{ExecSpec, Limits};

use crate::harness::{Sandbox, Test, command, logged};

pub const TESTS: &[(&str, Test)] = &[
    ("exec_equals_init", |p| Box::pin(exec_equals_init(p))),
    ("default_privileges", |p| Box::pin(default_privileges(p))),
    ("changed_privileges", |p| Box::pin(changed_privileges(p))),
    ("privileged_exec", |p| Box::pin(privileged_exec(p))),
    ("seccomp_refuses", |p| Box::pin(seccomp_refuses(p))),
    ("devices", |p| Box::pin(devices(p))),
    ("the_host_is_hidden", |p| Box::pin(the_host_is_hidden(p))),
    ("users_and_groups", |p| Box::pin(users_and_groups(p))),
    ("limits_are_applied", |p| Box::pin(limits_are_applied(p))),
    ("out_of_memory", |p| Box::pin(out_of_memory(p))),
    ("network_namespace", |p| Box::pin(network_namespace(p))),
    ("ulimits_and_sysctls", |p| Box::pin(ulimits_and_sysctls(p))),
];

/// Prints what the kernel knows about the calling process.
const ABOUT: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Sig[BI])' /proc/self/status; \
    ls /proc/self/fd; \
    cat /proc/self/cgroup; ls -l /proc/self/ns | grep -o '[a-z_]*:.*'; \
    cat /proc/self/limits; cat /proc/self/oom_score_adj; umask; pwd; env | grep -v -E '^(SHLVL|_)='";

async fn exec_equals_init(place: &Sandbox) {
    for (name, user, no_new_privileges) in [("root", "", false), ("app", "app", true)] {
        let mut spec = place.spec(name, &format!("{{ {ABOUT}; }}; echo up; exec sleep 1000"));
        spec.user = user.to_owned();
        spec.groups = vec!["web".to_owned()];
        spec.cwd = "/data".to_owned();
        spec.security.no_new_privileges = no_new_privileges;
        spec.security.cap_drop = vec!["MKNOD".to_owned()];
        spec.env.insert("A".to_owned(), "b c".to_owned());
        spec.ulimits.insert("nofile".to_owned(), (100, 200));
        place.start(&spec).await;
        let init = logged(&spec, "up\n").await.replace("up\n", "");
        let (code, exec) = place.exec(&spec, command(&["sh", "-c", ABOUT])).await;
        assert_eq!(code, 0);
        for (a, b) in exec.lines().zip(init.lines()) {
            assert_eq!(a, b);
        }
        assert_eq!(exec, init);
        assert!(init.contains("Seccomp:\t2"), "{init}");
        assert!(
            init.contains("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"),
            "{init}"
        );
        // Of the last one, ls has just opened the folder.
        assert!(
            init.contains("\n0\n1\n2\n3\n0:") || init.contains("\n0\n1\n2\n3\n9:"),
            "{init}"
        );
        assert!(
            init.contains(&format!("NoNewPrivs:\t{}", u8::from(no_new_privileges))),
            "{init}"
        );
    }
}

async fn default_privileges(place: &Sandbox) {
    let spec = place.spec("c1", "grep -E '^(Cap|NoNew)' /proc/self/status");
    let (_, output) = place.run(&spec).await;
    let expected = "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\n\
        CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n\
        NoNewPrivs:\t0\n";
    assert_eq!(output, expected);
    let mut spec = place.spec("c2", "grep -E '^Cap' /proc/self/status");
    spec.user = "app".to_owned();
    let (_, output) = place.run(&spec).await;
    let expected = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
        CapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n";
    assert_eq!(output, expected);
}

async fn changed_privileges(place: &Sandbox) {
    let mut spec = place.spec("c1", "grep -E '^(CapEff|Seccomp:)' /proc/self/status");
    spec.security.cap_drop = vec!["ALL".to_owned()];
    spec.security.cap_add = vec!["NET_BIND_SERVICE".to_owned()];
    spec.security.seccomp_unconfined = true;
    let (_, output) = place.run(&spec).await;
    assert_eq!(output, "CapEff:\t0000000000000400\nSeccomp:\t0\n");
}

async fn privileged_exec(place: &Sandbox) {
    let spec = place.spec("c1", "exec sleep 1000");
    place.start(&spec).await;
    let script = "mount -t tmpfs none /data && grep Seccomp: /proc/self/status";
    let plain = command(&["sh", "-c", script]);
    let (code, output) = place.exec(&spec, plain.clone()).await;
    assert_ne!(code, 0, "{output}");
    let (code, output) = place
        .exec(
            &spec,
            ExecSpec {
                privileged: true,
                ..plain
            },
        )
        .await;
    assert_eq!((code, output.as_str()), (0, "Seccomp:\t0\n"));
}

async fn seccomp_refuses(place: &Sandbox) {
    let script = "exec 2>&1; unshare -m true; echo $?; mount -t tmpfs none /data; echo $?; \
        chmod 4755 /bin/busybox; echo $?";
    let mut spec = place.spec("c1", script);
    let (_, output) = place.run(&spec).await;
    assert!(
        output.contains("unshare: unshare(0x20000): Operation not permitted\n1\n"),
        "{output}"
    );
    assert!(output.ends_with("0\n"), "{output}");
    // The filter itself refuses, not just the missing capability.
    spec = place.spec("c2", "exec 2>&1; unshare -U true; echo $?");
    spec.security.cap_add = vec!["SYS_ADMIN".to_owned()];
    let (_, output) = place.run(&spec).await;
    assert_eq!(output, "0\n");
    spec = place.spec("c3", "exec 2>&1; unshare -U true; echo $?");
    let (_, output) = place.run(&spec).await;
    assert!(output.ends_with("Operation not permitted\n1\n"), "{output}");
}

async fn devices(place: &Sandbox) {
    let script = "exec 2>&1; ls /dev | tr '\\n' ' '; echo; echo x > /dev/null && echo null; \
        head -c 4 /dev/zero | od -An -tx1; head -c 1 /dev/urandom | wc -c; \
        mknod /data/disk b 254 0 && echo made; cat /data/disk; \
        mknod /data/mem c 1 1 && echo made; cat /data/mem; \
        mknod /data/null c 1 3 && echo x > /data/null && echo works";
    let (_, output) = place.run(&place.spec("c1", script)).await;
    let lines: Vec<_> = output.lines().collect();
    let listed =
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ";
    assert_eq!(lines[0], listed);
    assert!(output.contains("null\n 00 00 00 00\n1\n"), "{output}");
    assert!(
        output.contains("can't open '/data/disk': Operation not permitted"),
        "{output}"
    );
    assert!(
        output.contains("can't open '/data/mem': Operation not permitted"),
        "{output}"
    );
    assert!(output.contains("works\n"), "{output}");
}

async fn the_host_is_hidden(place: &Sandbox) {
    let script = "exec 2>&1; hostname; cat /proc/keys /proc/timer_list 2>/dev/null | wc -c; \
        ls /sys/firmware | wc -l; echo x > /proc/sys/kernel/hostname; \
        touch /sys/x; touch /sys/fs/cgroup/x; \
        grep -c havre-engine- /proc/self/mountinfo; cat /proc/self/cgroup; \
        ls -A /sys/fs/cgroup | wc -l";
    let (_, output) = place.run(&place.spec("hidden", script)).await;
    let lines: Vec<_> = output
        .lines()
        .filter(|l| !l.contains("Read-only"))
        .collect();
    assert_eq!(&lines[..3], ["hidden", "0", "0"], "{output}");
    assert_eq!(
        output.matches("Read-only file system").count(),
        3,
        "{output}"
    );
    // The overlay's folders are the one thing that a container can see of the host, and where
    // they are mounted by descriptors not even they.
    assert!(matches!(lines[3], "0" | "1"), "{output}");
    assert!(!output.contains("/havre-"), "{output}");
    let cgroups: u32 = lines[lines.len() - 1].parse().expect("a number");
    assert!(cgroups > 0, "{output}");
}

async fn users_and_groups(place: &Sandbox) {
    let cases = [
        (
            "",
            vec![],
            "uid=0(root) gid=0(root) groups=0(root)",
            "/root",
        ),
        (
            "app",
            vec![],
            "uid=1000(app) gid=1001(app) groups=29(audio),1001(app)",
            "/home/app",
        ),
        (
            "app:web",
            vec![],
            "uid=1000(app) gid=33(web) groups=33(web)",
            "/home/app",
        ),
        (
            "4711:4712",
            vec!["29"],
            "uid=4711 gid=4712 groups=29(audio),4712",
            "/",
        ),
    ];
    for (number, (user, groups, id, home)) in cases.into_iter().enumerate() {
        let script = "id; echo $HOME; echo x > /dev/stdout; pwd; stat -c %u /dev/stdout/..";
        let mut spec = place.spec(&format!("c{number}"), script);
        spec.user = user.to_owned();
        spec.groups = groups.into_iter().map(str::to_owned).collect();
        spec.cwd = "/made/here".to_owned();
        let (_, output) = place.run(&spec).await;
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(lines[0], id, "{output}");
        assert_eq!(&lines[1..4], [home, "x", "/made/here"], "{output}");
    }
    let mut spec = place.spec("bad", "true");
    spec.user = "nobody".to_owned();
    let error = place
        .engine()
        .create(&spec)
        .await
        .expect_err("no such user")
        .to_string();
    assert!(
        error.ends_with("user \"nobody\" is not in the image's /etc/passwd"),
        "{error}"
    );
}

async fn limits_are_applied(place: &Sandbox) {
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max pids/pids.max \
        pids.max cpu/cpu.cfs_quota_us cpu.max cpu/cpu.shares cpu.weight 2>/dev/null; echo ready; exec sleep 1000";
    let mut spec = place.spec("c1", script);
    spec.limits = Limits {
        nano_cpus: Some(250_000_000),
        cpu_weight: Some(200),
        memory_bytes: Some(64 << 20),
        memory_reservation_bytes: Some(32 << 20),
        pids: Some(20),
        io_weight: Some(50),
    };
    place.start(&spec).await;
    let output = logged(&spec, "ready").await.replace("ready\n", "");
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(&lines[..2], ["67108864", "20"], "{output}");
    // Version 1 or version 2.
    let rest = lines[2..].join(" ");
    assert!(
        rest == "25000 2048" || rest == "25000 100000 200",
        "{output}"
    );
    let (_, output) = place
        .exec(
            &spec,
            command(&["sh", "-c", "for i in $(seq 30); do sleep 5 & done"]),
        )
        .await;
    assert!(output.contains("can't fork"), "{output}");
    let stats = place.engine().stats(&spec.id).await.expect("stats");
    assert!(
        stats.memory_current > 0 && stats.memory_current < 64 << 20,
        "{stats:?}"
    );
    assert!(
        stats.cpu_usec > 0 && stats.pids >= 1 && stats.oom_kills == 0,
        "{stats:?}"
    );
}

async fn out_of_memory(place: &Sandbox) {
    // Memory that cannot be given back: a string that doubles.
    let script = "x=0123456789abcdef; while :; do x=$x$x; done";
    let mut spec = place.spec("c1", script);
    spec.limits.memory_bytes = Some(32 << 20);
    let (exit, _) = place.run(&spec).await;
    assert_eq!(
        (exit.code, exit.signal, exit.oom_killed),
        (137, Some(9), true)
    );
    let peak = exit.memory_peak_bytes;
    assert!(
        peak.is_some_and(|peak| (24 << 20..=32 << 20).contains(&peak)),
        "{peak:?}"
    );
    let mut spec = place.spec("c2", &format!("sh -c '{script}'; echo $?; exit 0"));
    spec.limits.memory_bytes = Some(32 << 20);
    let (exit, output) = place.run(&spec).await;
    // The container itself got over it.
    assert_eq!((exit.code, exit.oom_killed), (0, false));
    assert!(output.contains("137"), "{output}");
    assert_eq!(
        place
            .engine()
            .stats(&spec.id)
            .await
            .expect("stats")
            .oom_kills,
        1
    );
}

async fn network_namespace(place: &Sandbox) {
    let script = "ip addr show lo; ls /sys/class/net; nc -l -p 8080 -e true & sleep 0.1; \
        echo hi | nc 127.0.0.1 8080; echo $?";
    let (_, output) = place.run(&place.spec("own", script)).await;
    assert!(output.contains("LOOPBACK,UP"), "{output}");
    assert!(output.contains("\nlo\n"), "{output}");
    // A pinned one is joined: the container and one that joins it see each other.
    let first = place.spec("first", "exec sleep 1000");
    place.start(&first).await;
    let pid = crate::harness::pid(&place.engine().get(&first.id).await.expect("known"));
    let mut second = place.spec("second", "ls -l /proc/self/ns/net | grep -o 'net:.*'");
    second.netns = Some(format!("/proc/{pid}/ns/net").into());
    let (_, joined) = place.run(&second).await;
    let (_, own) = place
        .exec(
            &first,
            command(&["sh", "-c", "ls -l /proc/self/ns/net | grep -o 'net:.*'"]),
        )
        .await;
    assert_eq!(joined, own);
    let mut missing = place.spec("missing", "true");
    missing.netns = Some("/no/such/namespace".into());
    let error = place
        .engine()
        .create(&missing)
        .await
        .expect_err("no namespace")
        .to_string();
    assert!(
        error.contains("cannot join the network namespace /no/such/namespace: No such file"),
        "{error}"
    );
}

async fn ulimits_and_sysctls(place: &Sandbox) {
    let mut spec = place.spec(
        "c1",
        "ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax",
    );
    spec.ulimits.insert("nofile".to_owned(), (77, 99));
    spec.sysctls
        .insert("net.ipv4.ip_default_ttl".to_owned(), "33".to_owned());
    spec.sysctls
        .insert("kernel.msgmax".to_owned(), "1234".to_owned());
    let (_, output) = place.run(&spec).await;
    assert_eq!(output, "77\n99\n33\n1234\n");
    spec.sysctls
        .insert("kernel.hostname".to_owned(), "x".to_owned());
    spec.id.0 = "c2".to_owned();
    let error = place.engine().create(&spec).await.expect_err("refused");
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(
        cause.as_deref(),
        Some("sysctls: \"kernel.hostname\" does not belong to a container")
    );
}
