//! What git gives up before it begins.
//!
//! Its tree lies in a folder that is closed to all users but root. Git finds it at another place, in
//! mounts of its own, and so finds nothing else of what is kept beside it.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use havre_confine::GIT_USER;
use havre_engine::Group;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::{Gid, Uid, UnshareFlags};

/// Where git finds the folder that holds its tree: on every machine there is something here.
const SEEN: &CStr = c"/var/tmp";
/// The tree, there.
pub(super) const TREE: &str = "/var/tmp/context";
const TREE_C: &CStr = c"/var/tmp/context";
/// Address space of each process, and memory of all together: what windows on packs, threads and one
/// large file take.
pub(super) const MOST_MEMORY: u64 = 2 << 30;
/// Processor time of each process.
const MOST_SECONDS: u64 = 600;
/// The first to be ended when memory is short.
const OOM_SCORE: &[u8] = b"1000";

/// Confines what `command` will run to `folder`, with files of at most `most_bytes`, in a control group
/// where there is one.
pub(super) fn confine(
    command: &mut Command,
    folder: &Path,
    most_bytes: u64,
    group: Option<&Group>,
) -> io::Result<()> {
    let folder = CString::new(folder.as_os_str().as_bytes())?;
    let doors = group.map_or_else(|| Ok(Vec::new()), Group::doors)?;
    let confined = move || {
        doors
            .iter()
            .try_for_each(|door| havre_engine::enter(door.as_fd()))?;
        show(&folder)?;
        become_user()?;
        limit(most_bytes)
    };
    // SAFETY: system calls alone between fork and exec, no memory is allocated.
    unsafe { command.pre_exec(confined) };
    Ok(())
}

/// Makes `folder` what lies at [`SEEN`].
fn show(folder: &CStr) -> io::Result<()> {
    // As long as it may: /proc is root's once it is another user.
    let score = rustix::fs::open(
        c"/proc/self/oom_score_adj",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::io::write(&score, OOM_SCORE)?;
    // SAFETY: the flag concerns mounts, not descriptors.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    // What is unmounted on the host is unmounted here, and nothing the other way round.
    let downstream = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change(c"/", downstream)?;
    mount_bind(folder, SEEN)?;
    let harmless = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_remount(SEEN, harmless, c"")?;
    Ok(rustix::process::chdir(TREE_C)?)
}

fn become_user() -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(GIT_USER), Gid::from_raw(GIT_USER));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    rustix::thread::set_no_new_privs(true)?;
    // Once it is that user, as a change of it takes this back. It ends with the thread that waits
    // for it.
    Ok(rustix::process::set_parent_process_death_signal(Some(
        Signal::KILL,
    ))?)
}

fn limit(most_bytes: u64) -> io::Result<()> {
    for (resource, most) in [
        (Resource::Fsize, most_bytes),
        (Resource::As, MOST_MEMORY),
        (Resource::Cpu, MOST_SECONDS),
        (Resource::Core, 0),
    ] {
        let most = Some(most);
        let limit = Rlimit {
            current: most,
            maximum: most,
        };
        rustix::process::setrlimit(resource, limit)?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    #[allow(clippy::disallowed_macros, reason = "its output is for a person")]
    fn git_has_few_means_and_sees_its_folder_alone() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let closed = tempfile::tempdir().expect("a folder");
        let folder = closed.path().join("a");
        let tree = folder.join("context");
        std::fs::create_dir_all(&tree).expect("a tree");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o711)).expect("open");
        std::os::unix::fs::chown(&tree, Some(GIT_USER), Some(GIT_USER)).expect("its tree");
        std::fs::set_permissions(closed.path(), std::fs::Permissions::from_mode(0o700))
            .expect("closed");
        let script = "pwd; id -u; cat /proc/self/oom_score_adj; ulimit -v; ulimit -t; touch file; \
                      ls; grep NoNewPrivs /proc/self/status";
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        confine(&mut command, &folder, 1 << 20, None).expect("confined");
        let ran = command.output().expect("it runs");
        let printed = String::from_utf8_lossy(&ran.stdout);
        let expected = format!(
            "{TREE}\n{GIT_USER}\n1000\n{}\n600\nfile\nNoNewPrivs:\t1\n",
            MOST_MEMORY >> 10
        );
        assert_eq!(
            printed,
            expected,
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        assert!(tree.join("file").exists());
    }
}
