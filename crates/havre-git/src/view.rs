//! What git gives up before it begins, and what it sees: one repository, the hooks and the daemon's socket for them.
//!
//! Repositories lie in folders that are closed to all users but root. Git finds its own at another place, in mounts
//! of its own:
//!
//! ```text
//! /var/tmp/repository          the repository: nothing in it is a program
//! /var/tmp/hooks/              pre-receive, post-receive: `havre git-hook NAME`
//! /var/tmp/havre               this binary
//! /var/tmp/hooks.sock          the daemon, for hooks
//! ```

use std::ffi::{CStr, CString};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use havre_confine::GIT_USER;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount_bind, mount_bind_recursive, mount_change,
    mount_remount,
};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{Gid, Uid, UnshareFlags};
use tokio::process::Command;

/// On every machine there is something here.
const SEEN: &CStr = c"/var/tmp";
/// The repository, there.
pub(crate) const REPOSITORY: &str = "/var/tmp/repository";
const REPOSITORY_C: &CStr = c"/var/tmp/repository";
pub(crate) const HOOKS: &str = "/var/tmp/hooks";
pub(crate) const SOCKET: &str = "/var/tmp/hooks.sock";
pub(crate) const HOOK_NAMES: [&str; 2] = ["pre-receive", "post-receive"];

/// Address space of each process: what windows on packs, threads and one large file take.
const MOST_MEMORY: u64 = 2 << 30;
/// Processor time of each process.
const MOST_SECONDS: u64 = 1800;
/// Processes and threads of the user git runs as.
const MOST_TASKS: u64 = 1024;
/// The first to be ended when memory is short.
const OOM_SCORE: &[u8] = b"1000";

/// The folder that git sees in place of another.
#[derive(Clone, Debug)]
pub(crate) struct View {
    folder: PathBuf,
    exe: PathBuf,
}

impl View {
    /// Makes it below `run`, for hooks that are `exe`. What is there from before is made anew.
    pub(crate) fn create(run: &Path, exe: &Path) -> io::Result<Self> {
        let folder = run.join("view");
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let make = |path: &Path, mode| DirBuilder::new().recursive(true).mode(mode).create(path);
        make(run, 0o700)?;
        for path in [
            folder.clone(),
            folder.join("repository"),
            folder.join("hooks"),
        ] {
            make(&path, 0o755)?;
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
        fs::write(folder.join("havre"), "")?;
        for name in HOOK_NAMES {
            let path = folder.join("hooks").join(name);
            fs::write(
                &path,
                format!("#!/bin/sh\nexec /var/tmp/havre git-hook {name}\n"),
            )?;
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
        Ok(Self {
            folder,
            exe: exe.to_owned(),
        })
    }

    /// Where the daemon listens for hooks.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("hooks.sock")
    }

    /// Confines what `command` will run to `repository`, with files of at most `most_bytes`, in the control group
    /// behind `doors`.
    pub(crate) fn confine(
        &self,
        command: &mut Command,
        repository: &Path,
        most_bytes: u64,
        doors: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let path = |path: &Path| CString::new(path.as_os_str().as_bytes());
        let place = |name: &str| path(&self.folder.join(name));
        let mounts = Mounts {
            view: path(&self.folder)?,
            repository: (path(repository)?, place("repository")?),
            exe: (path(&self.exe)?, place("havre")?),
        };
        let confined = move || {
            for door in &doors {
                rustix::io::write(door.as_fd(), b"0")?;
            }
            be_ended_first()?;
            mounts.show()?;
            become_user()?;
            limit(most_bytes)
        };
        // SAFETY: system calls alone between fork and exec, no memory is allocated.
        unsafe { command.pre_exec(confined) };
        Ok(())
    }
}

/// Bounds what `command` will run as whoever asks: files of at most `most_bytes`, and time.
pub(crate) fn bounded(command: &mut Command, most_bytes: u64) {
    let bounds = [
        (Resource::Fsize, most_bytes),
        (Resource::Cpu, MOST_SECONDS),
        (Resource::Core, 0),
    ];
    // SAFETY: system calls alone between fork and exec, no memory is allocated.
    unsafe { command.pre_exec(move || set(&bounds)) };
}

struct Mounts {
    view: CString,
    /// Each with its place in the view.
    repository: (CString, CString),
    exe: (CString, CString),
}

impl Mounts {
    fn show(&self) -> io::Result<()> {
        // SAFETY: the flag concerns mounts, not descriptors.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
        // What is unmounted on the host is unmounted here, and nothing the other way round.
        let downstream = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change(c"/", downstream)?;
        let harmless = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV;
        // The view last: whatever lies where it is seen cannot be found any more.
        for ((from, to), flag) in [
            (&self.exe, MountFlags::RDONLY),
            (&self.repository, MountFlags::NOEXEC),
        ] {
            mount_bind(from.as_c_str(), to.as_c_str())?;
            mount_remount(to.as_c_str(), harmless | flag, c"")?;
        }
        mount_bind_recursive(self.view.as_c_str(), SEEN)?;
        // Its scripts run, wherever the run folder lies.
        mount_remount(SEEN, harmless | MountFlags::RDONLY, c"")?;
        Ok(rustix::process::chdir(REPOSITORY_C)?)
    }
}

/// As long as it may: /proc is root's once it is another user.
fn be_ended_first() -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let score = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty())?;
    rustix::io::write(&score, OOM_SCORE)?;
    Ok(())
}

fn become_user() -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(GIT_USER), Gid::from_raw(GIT_USER));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

fn limit(most_bytes: u64) -> io::Result<()> {
    set(&[
        (Resource::Fsize, most_bytes),
        (Resource::As, MOST_MEMORY),
        (Resource::Cpu, MOST_SECONDS),
        (Resource::Nproc, MOST_TASKS),
        (Resource::Core, 0),
    ])?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    Ok(())
}

fn set(bounds: &[(Resource, u64)]) -> io::Result<()> {
    for (resource, most) in bounds {
        let most = Some(*most);
        rustix::process::setrlimit(
            *resource,
            Rlimit {
                current: most,
                maximum: most,
            },
        )?;
    }
    Ok(())
}
