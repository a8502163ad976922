//! Processes that are confined and report what they can still do.
//!
//! This binary is the confined process as well: started as `confined FOLDER` it confines itself and
//! tries.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, ExitCode};

use havre_confine::{Confinement, EDGE_USER, Filter, Folder, Rule};
use libtest_mimic::{Arguments, Trial};
use rustix::thread::CapabilitySet;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if let [name, folder] = args.as_slice()
        && name == OsStr::new("confined")
    {
        confined(Path::new(folder));
        return ExitCode::SUCCESS;
    }
    let test = |name: &str, run: fn()| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
    };
    let trials = vec![
        test(
            "a_confined_process_has_what_it_was_left",
            a_confined_process_has_what_it_was_left,
        ),
        test(
            "a_folder_that_is_missing_is_named",
            a_folder_that_is_missing_is_named,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Everything but one call, which the test makes.
fn filter() -> Filter {
    let all = (0..600).filter(|nr| *nr != libc::SYS_getpriority);
    Filter::new(all.map(|nr| (nr, Rule::Allow)))
}

fn confined(folder: &Path) {
    let (own, read_only) = (folder.join("own"), folder.join("read"));
    let folders = [
        Folder {
            path: &own,
            writable: true,
        },
        Folder {
            path: &read_only,
            writable: false,
        },
    ];
    // Open before, and open still.
    let status = fs::File::open("/proc/self/status").expect("its status");
    Confinement {
        user: EDGE_USER,
        capabilities: CapabilitySet::NET_BIND_SERVICE,
        folders: Some(&folders),
        filter: filter(),
    }
    .enter()
    .expect("to be confined");

    let text = std::io::read_to_string(status).expect("a status");
    let ids = format!("{EDGE_USER}\t{EDGE_USER}\t{EDGE_USER}\t{EDGE_USER}");
    for line in [
        format!("Uid:\t{ids}"),
        format!("Gid:\t{ids}"),
        "Groups:\t ".to_owned(),
        "CapPrm:\t0000000000000400".to_owned(),
        "CapEff:\t0000000000000400".to_owned(),
        "CapBnd:\t0000000000000000".to_owned(),
        "CapAmb:\t0000000000000000".to_owned(),
        "NoNewPrivs:\t1".to_owned(),
        "Seccomp:\t2".to_owned(),
    ] {
        assert!(text.lines().any(|it| it == line), "{line:?} in:\n{text}");
    }
    let kind = |result: std::io::Result<()>| result.expect_err("a refusal").kind();
    fs::write(own.join("new"), "x").expect("its own folder");
    assert_eq!(fs::read(read_only.join("file")).expect("a file"), b"seen");
    assert_eq!(
        kind(fs::write(read_only.join("new"), "x")),
        ErrorKind::ReadOnlyFilesystem
    );
    for hidden in [
        &folder.join("secret"),
        Path::new("/etc/passwd"),
        Path::new("/proc"),
    ] {
        let error = kind(fs::metadata(hidden).map(drop));
        assert_eq!(error, ErrorKind::NotFound, "{}", hidden.display());
    }
    assert_eq!(
        kind(fs::create_dir("/new")),
        ErrorKind::PermissionDenied,
        "the root belongs to another"
    );
    let refused = rustix::process::getpriority_process(None).expect_err("a refusal");
    assert_eq!(refused, rustix::io::Errno::PERM);
}

fn a_confined_process_has_what_it_was_left() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["own", "read"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    fs::write(folder.path().join("read/file"), "seen").expect("a file");
    fs::write(folder.path().join("secret"), "unseen").expect("a file");
    let user = Some(EDGE_USER);
    std::os::unix::fs::chown(folder.path().join("own"), user, user).expect("its folder");
    let before = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let output = Command::new(std::env::current_exe().expect("this binary"))
        .arg("confined")
        .arg(folder.path())
        .output()
        .expect("to run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(folder.path().join("own/new").exists());
    let after = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let ours = |text: &str| {
        let path = folder.path().display().to_string();
        text.lines().filter(|line| line.contains(&path)).count()
    };
    assert_eq!((ours(&before), ours(&after)), (0, 0), "{after}");
}

fn a_folder_that_is_missing_is_named() {
    let output = Command::new(std::env::current_exe().expect("this binary"))
        .args(["confined", "/"])
        .current_dir("/")
        .output()
        .expect("to run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("take hold of /own"), "{said}");
}
