//! What this program does as the program of a container that wants to get out of it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Tries the way that is named, and says what became of it.
pub fn main(arguments: &[OsString]) -> ExitCode {
    match arguments.first().and_then(|way| way.to_str()) {
        Some("trace") => trace_everything(),
        Some("calls") => try_calls(),
        Some("root") => change_root(),
        other => panic!("no way out is called {other:?}"),
    }
    ExitCode::SUCCESS
}

/// Holds on to each process it finds, and never looks at the end of any.
fn trace_everything() {
    println!("ready");
    let mut seized = BTreeSet::new();
    loop {
        for entry in fs::read_dir("/proc").expect("processes").flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            if pid != 1 && !seized.contains(&pid) {
                // SAFETY: no address of this process is involved.
                let result = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
                if result == 0 {
                    seized.insert(pid);
                    println!("seized {}", seized.len());
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Calls the filter must not let through, with arguments that are wrong on purpose: a call that gets
/// to the kernel fails with something else than a refusal.
fn try_calls() {
    const NOTHING: [i64; 6] = [0; 6];
    let user_namespace = i64::from(libc::CLONE_NEWUSER);
    let calls: [(&str, i64, [i64; 6]); 26] = [
        ("socket AF_ALG", libc::SYS_socket, [38, 5, 0, 0, 0, 0]),
        ("socket AF_VSOCK", libc::SYS_socket, [40, 1, 0, 0, 0, 0]),
        (
            "unshare",
            libc::SYS_unshare,
            [user_namespace, 0, 0, 0, 0, 0],
        ),
        (
            "clone CLONE_NEWUSER",
            libc::SYS_clone,
            [user_namespace, 0, 0, 0, 0, 0],
        ),
        ("clone3", libc::SYS_clone3, NOTHING),
        ("setns", libc::SYS_setns, [-1, 0, 0, 0, 0, 0]),
        ("mount", libc::SYS_mount, NOTHING),
        ("umount2", libc::SYS_umount2, NOTHING),
        ("pivot_root", libc::SYS_pivot_root, NOTHING),
        ("open_tree", libc::SYS_open_tree, [-1, 0, 0, 0, 0, 0]),
        ("move_mount", libc::SYS_move_mount, [-1, 0, -1, 0, 0, 0]),
        ("fsopen", libc::SYS_fsopen, NOTHING),
        (
            "mount_setattr",
            libc::SYS_mount_setattr,
            [-1, 0, 0, 0, 0, 0],
        ),
        (
            "open_by_handle_at",
            libc::SYS_open_by_handle_at,
            [-1, 0, 0, 0, 0, 0],
        ),
        ("bpf", libc::SYS_bpf, [-1, 0, 0, 0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, NOTHING),
        ("userfaultfd", libc::SYS_userfaultfd, [-1, 0, 0, 0, 0, 0]),
        ("perf_event_open", libc::SYS_perf_event_open, NOTHING),
        ("keyctl", libc::SYS_keyctl, [-1, 0, 0, 0, 0, 0]),
        ("add_key", libc::SYS_add_key, NOTHING),
        ("request_key", libc::SYS_request_key, NOTHING),
        ("init_module", libc::SYS_init_module, NOTHING),
        ("finit_module", libc::SYS_finit_module, [-1, 0, 0, 0, 0, 0]),
        ("kexec_load", libc::SYS_kexec_load, [0, 0, 0, -1, 0, 0]),
        ("reboot", libc::SYS_reboot, NOTHING),
        ("x32", 0x4000_0000 | libc::SYS_getpid, NOTHING),
    ];
    for (name, number, a) in calls {
        // SAFETY: the arguments hold no address; what the kernel takes for one is null.
        let result = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
        let error = std::io::Error::last_os_error().raw_os_error();
        let refused = result == -1 && matches!(error, Some(libc::EPERM | libc::ENOSYS));
        let verdict = if refused { "refused" } else { "open" };
        println!("{verdict} {name}");
    }
}

/// A second root inside, left by a folder that was opened before, and upwards from there.
fn change_root() {
    let secret = std::env::var("SECRET").expect("where it is");
    let top = File::open("/").expect("the root");
    fs::create_dir("/cell").expect("a folder");
    std::os::unix::fs::chroot("/cell").expect("changed");
    // SAFETY: an open folder.
    assert_eq!(unsafe { libc::fchdir(top.as_raw_fd()) }, 0);
    for _ in 0..64 {
        std::env::set_current_dir("..").expect("upwards");
    }
    std::os::unix::fs::chroot(".").expect("changed");
    let found = Path::new(&secret).exists();
    println!("{} change of root", if found { "open" } else { "refused" });
}
