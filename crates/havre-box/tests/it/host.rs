//! Boxes on the machine's own programs: what of the machine they see.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use havre_box::{Ending, Workspace};

use crate::harness::{Place, Test, hidden, host};

pub const TESTS: &[(&str, Test)] = &[
    ("host_programs_run_and_root_may_change_all", |p| {
        Box::pin(programs(p))
    }),
    ("host_secrets_are_not_there", |p| Box::pin(secrets(p))),
    ("host_folders_are_empty", |p| Box::pin(folders(p))),
    ("host_workspace_is_a_copy", |p| Box::pin(workspace(p))),
    ("host_box_cannot_reach_out", |p| {
        Box::pin(cannot_reach_out(p))
    }),
];

const DONE: Ending = Ending::Exited {
    code: 0,
    oom_killed: false,
};

async fn programs(place: &Place) {
    let script = "set -e; id -u; git --version; python3 -c 'print(6*7)'; pwd; stat -c %u:%g /etc/passwd /usr/bin . /; \
        echo new:x:7:7::/:/bin/sh >> /etc/passwd; echo x > /usr/bin/of-the-box; rm /etc/os-release /usr/bin/git; \
        ls /usr/bin | grep -c of-the-box; dpkg -s dpkg | grep Status; echo $HOME; PATH=$PATH:/run/havre/programs sudo id -u; \
        awk -F: '{print NF, $2}' /etc/shadow | sort -u; cat /proc/1/cmdline | tr '\\0' ' '; echo";
    let (lines, ending) = place.run(host("b1", script)).await;
    assert_eq!(ending, DONE, "{lines:?}");
    assert_eq!(lines[0], "0");
    assert!(lines[1].starts_with("git version"), "{lines:?}");
    let expected = [
        "42",
        "/home/runner/work/shop/shop",
        "0:0",
        "0:0",
        "0:0",
        "0:0",
        "1",
    ];
    assert_eq!(lines[2..9], expected, "{lines:?}");
    assert!(lines[9].contains("ok installed"), "{lines:?}");
    assert_eq!(lines[10..13], ["/home/runner", "0", "9 *"], "{lines:?}");
    assert_eq!(
        lines[13].trim(),
        "/run/havre/lib/loader --library-path /run/havre/lib /run/havre/bin/havre job-runner"
    );
    assert!(
        PathBuf::from("/usr/bin/git").exists() && !PathBuf::from("/usr/bin/of-the-box").exists()
    );
}

/// Files of the machine that are removed again, also where a test fails.
struct Planted(Vec<PathBuf>);

impl Planted {
    fn file(&mut self, path: &str, mode: u32) {
        let path = PathBuf::from(format!("{path}-{}", std::process::id()));
        fs::write(&path, "planted\n").expect("planted");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        self.0.push(path);
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(path),
                false => fs::remove_file(path),
            };
            removed.expect("removed");
        }
    }
}

async fn secrets(place: &Place) {
    let mut planted = Planted(Vec::new());
    let pid = std::process::id();
    planted.file("/etc/havre-box-secret", 0o600);
    planted.file("/etc/havre-box-group", 0o640);
    planted.file("/etc/havre-box-open", 0o644);
    planted.file("/usr/local/havre-box-secret", 0o600);
    planted.file("/usr/local/havre-box-open", 0o644);
    planted.file("/opt/havre-box-secret", 0o600);
    planted.file("/usr/share/havre-box-secret", 0o400);
    let closed = PathBuf::from(format!("/etc/havre-box-closed-{pid}"));
    fs::create_dir(&closed).expect("a folder");
    planted.0.push(closed.clone());
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).expect("a mode");
    fs::write(closed.join("inside"), "planted\n").expect("a file");
    for base in ["/etc", "/opt", "/usr/local"] {
        let socket = PathBuf::from(format!("{base}/havre-box-socket-{pid}"));
        drop(UnixListener::bind(&socket).expect("a socket"));
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).expect("a mode");
        planted.0.push(socket);
    }
    fs::create_dir(hidden()).expect("a folder");
    planted.0.push(hidden());
    fs::write(hidden().join("state"), "planted\n").expect("a file");

    let script = "find /etc /opt /usr -name 'havre-box-*' 2>&1 | sort; echo; \
        grep -rl planted /etc /opt /usr/local 2>/dev/null | sort; echo; \
        find /etc /opt /usr /var -type s -o -type p -o -type b -o -type c 2>/dev/null; echo; \
        ls -d /etc/ssh/*_key /etc/havre /etc/ssl/private /var/lib/havre 2>/dev/null; \
        cut -d: -f2 /etc/shadow | sort -u";
    let (lines, ending) = place.run(host("b1", script)).await;
    assert_eq!(ending, DONE, "{lines:?}");
    let open = [
        format!("/etc/havre-box-open-{pid}"),
        format!("/usr/local/havre-box-open-{pid}"),
    ];
    let expected = [
        &open[..],
        &[String::new()],
        &open,
        &[String::new(), String::new()],
        &["*".to_owned()],
    ];
    assert_eq!(lines, expected.concat());

    // What comes into /etc later is not seen, whatever its mode.
    let mut follow = Planted(Vec::new());
    follow.file("/etc/havre-box-later", 0o600);
    let (lines, _) = place
        .run(host("b2", "ls /etc | grep -c havre-box-later"))
        .await;
    assert_eq!(lines, ["0"]);
}

async fn folders(place: &Place) {
    let script = "ls -A /root /srv /mnt /media /tmp /var/tmp /boot; echo; ls /home /home/runner; echo; ls / | tr '\\n' ' '; \
        echo; ls /var/lib | tr '\\n' ' '; echo; ls /run | tr '\\n' ' '; echo; findmnt -rno TARGET | grep -v '^/proc\\|^/sys\\|^/dev' | tr '\\n' ' '";
    let (lines, ending) = place.run(host("b1", script)).await;
    assert_eq!(ending, DONE, "{lines:?}");
    let sections: Vec<Vec<&str>> = lines
        .split(|line| line.is_empty())
        .map(|lines| {
            lines
                .iter()
                .map(String::as_str)
                .filter(|it| !it.ends_with(':'))
                .collect()
        })
        .collect();
    // Each folder's name and nothing else.
    let text = lines.join("\n");
    assert!(text.contains("/home/runner:\nwork"), "{text}");
    let names: Vec<&str> = sections.iter().flatten().copied().collect();
    let root = names
        .iter()
        .find(|line| line.contains(" usr "))
        .expect("the root");
    for of_the_machine in ["work", "farm", "lost+found", "old_root"] {
        assert!(
            !root.split(' ').any(|name| name == of_the_machine),
            "{root}"
        );
    }
    let state = names
        .iter()
        .find(|line| line.contains("dpkg"))
        .expect("/var/lib");
    let allowed = ["apt", "dpkg", "misc", "pam", "sgml-base", "ucf", "xml-core"];
    assert!(
        state.split_whitespace().all(|name| allowed.contains(&name)),
        "{state}"
    );
    assert!(
        lines.iter().any(|line| line.trim() == "havre lock"),
        "{text}"
    );
}

async fn workspace(place: &Place) {
    let tree = place.dir.path().join("tree");
    fs::create_dir_all(tree.join("src")).expect("a folder");
    for name in ["src/main", "private", ""] {
        let path = tree.join(name);
        if !path.exists() {
            fs::write(&path, "original\n").expect("a file");
        }
        chown(&path, Some(1234), Some(1234)).expect("an owner");
    }
    fs::set_permissions(tree.join("private"), fs::Permissions::from_mode(0o600)).expect("a mode");
    let tree = tree.canonicalize().expect("a folder");
    let script = "set -e; cat private src/main; stat -c %u . private; echo changed > src/main; touch new; rm private; \
        ls | tr '\\n' ' '; echo; touch /opt/hostedtoolcache/tool; touch /home/runner/work/_temp/x; \
        test -d /home/runner/work/_actions; git -C /run/havre/repository.git rev-parse --is-bare-repository; \
        touch /run/havre/repository.git/x || echo refused; \
        python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.connect(\"/run/havre/results/results.sock\"); print(s.recv(9))'";
    let repository = place.dir.path().join("repository.git");
    let made = std::process::Command::new("git")
        .args(["init", "-q", "--bare"])
        .arg(&repository)
        .status();
    assert!(made.expect("git").success());
    let path = place.run.path().join("results.sock");
    let socket = UnixListener::bind(&path).expect("a socket");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    let answering = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut peer, _) = socket.accept().expect("a peer");
        peer.write_all(b"served").expect("written");
    });
    let mut request = host("b1", script);
    request.workspace = Workspace::Copy(tree.clone());
    request.repository = Some(repository.canonicalize().expect("a folder"));
    request.results = Some(place.run.path().canonicalize().expect("a folder"));
    let (lines, ending) = place.run(request).await;
    assert_eq!(ending, DONE, "{lines:?}");
    assert_eq!(lines[..4], ["original", "original", "0", "0"], "{lines:?}");
    assert_eq!(lines[4].trim(), "new src");
    assert_eq!(lines[5], "true");
    assert!(
        lines[6].contains("Read-only") && lines[7] == "refused",
        "{lines:?}"
    );
    assert_eq!(lines[8], "b'served'");
    answering.join().expect("answered");
    assert_eq!(
        fs::read_to_string(tree.join("src/main")).expect("there"),
        "original\n"
    );
    assert!(tree.join("private").exists() && !tree.join("new").exists());
}

async fn cannot_reach_out(place: &Place) {
    let script = "try() { \"$@\" >/dev/null 2>&1 && echo \"DONE $*\"; }; \
        try mount -t tmpfs none /mnt; try mount --bind /etc /mnt; try umount /usr; try umount /etc; \
        try sh -c 'echo x > /proc/sys/kernel/core_pattern'; try mknod /disk b 254 0; try chroot /proc/1/root; \
        try nsenter -t 1 -m true -U; try unshare -Ur mount -t tmpfs none /mnt; try kill -0 $$$$; \
        try dmesg; try ls /proc/1/root/root/.ssh; try hostname other; try ip link del eth0; \
        try sh -c 'test $(ls -d /proc/[0-9]* | wc -l) -gt 9'; ping -c1 -W1 127.0.0.1 >/dev/null && echo pinged; \
        python3 -c 'import socket; socket.socket().bind((\"\", 80)); print(\"bound\")'; echo over";
    let (lines, ending) = place.run(host("b1", script)).await;
    assert_eq!(ending, DONE, "{lines:?}");
    let allowed = ["pinged", "bound", "over", "DONE chroot /proc/1/root"];
    assert!(
        lines
            .iter()
            .all(|line| allowed.contains(&line.as_str()) || !line.starts_with("DONE")),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"bound".to_owned()) && lines.last().is_some_and(|it| it == "over"),
        "{lines:?}"
    );
}
