//! A runner for tests: a process group with a mount and (without network) network namespace of its
//! own, in a chroot. Not a container: no capabilities are dropped and nothing is limited.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use havre_image::builder::{
    StepError, StepExit, StepFuture, StepLine, StepMount, StepRunner, StepSpec, Stream,
};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::UnshareFlags;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Runs steps, counts them and keeps what they were given.
#[derive(Default)]
pub struct ChrootRunner {
    pub ran: AtomicU32,
    pub last: Mutex<Option<StepSpec>>,
    /// What the next steps are said to have ended with, whatever they did.
    pub pretend: Mutex<Option<StepExit>>,
    /// Called before each step.
    pub before: Mutex<Option<Box<dyn Fn() + Send>>>,
}

enum News {
    Started(i32),
    Line(StepLine),
    Ended(io::Result<ExitStatus>),
}

impl StepRunner for ChrootRunner {
    fn run<'a>(
        &'a self,
        step: &'a StepSpec,
        output: &'a mut (dyn FnMut(StepLine) + Send),
        cancel: &'a CancellationToken,
    ) -> StepFuture<'a> {
        Box::pin(async move {
            self.ran.fetch_add(1, Ordering::SeqCst);
            *self.last.lock().expect("no panic") = Some(step.clone());
            if let Some(before) = &*self.before.lock().expect("no panic") {
                before();
            }
            let (sender, mut news) = mpsc::channel(64);
            let owned = step.clone();
            let thread = std::thread::spawn(move || {
                let result = run_in_namespaces(&owned, &sender);
                sender.blocking_send(News::Ended(result)).is_ok()
            });
            let mut pid = None;
            let status = loop {
                let next = tokio::select! {
                    next = news.recv() => next,
                    () = cancel.cancelled(), if pid.is_some() => {
                        if let Some(pid) = pid.take().and_then(Pid::from_raw) {
                            kill_process_group(pid, Signal::KILL).expect("the step can be killed");
                        }
                        continue;
                    }
                };
                match next.expect("the thread reports the end") {
                    News::Started(started) => pid = Some(started),
                    News::Line(line) => output(line),
                    News::Ended(status) => break status,
                }
            };
            thread.join().expect("no panic");
            if cancel.is_cancelled() {
                return Err(StepError::Cancelled);
            }
            let status = status.map_err(|error| StepError::Failed {
                what: format!("cannot start {}", step.argv.join(" ")),
                source: Some(Box::new(error)),
            })?;
            let code = status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            let pretended = *self.pretend.lock().expect("no panic");
            Ok(pretended.unwrap_or(StepExit {
                code,
                oom_killed: false,
            }))
        })
    }
}

fn run_in_namespaces(step: &StepSpec, news: &mpsc::Sender<News>) -> io::Result<ExitStatus> {
    let mut namespaces = UnshareFlags::NEWNS;
    namespaces.set(UnshareFlags::NEWNET, !step.network);
    // SAFETY: this thread was made for the step and shares no descriptor table anew.
    unsafe { rustix::thread::unshare_unsafe(namespaces)? };
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let dir = tempfile::tempdir()?;
    let root = dir.path();
    step.rootfs.mount(root)?;
    let mut mounted = vec![root.to_owned()];
    let result = mount_all(step, root, &mut mounted).and_then(|()| execute(step, root, news));
    for target in mounted.iter().rev() {
        unmount(target, UnmountFlags::empty())?;
    }
    result
}

fn inside(root: &Path, target: &str) -> PathBuf {
    root.join(target.trim_start_matches('/'))
}

fn mount_all(step: &StepSpec, root: &Path, mounted: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut tmpfs = |target: &str| -> io::Result<()> {
        let target = inside(root, target);
        fs::create_dir_all(&target)?;
        mount("tmpfs", &target, "tmpfs", MountFlags::empty(), None)?;
        mounted.push(target);
        Ok(())
    };
    tmpfs("/dev")?;
    for mount in &step.mounts {
        if let StepMount::Tmpfs { target, .. } = mount {
            tmpfs(target)?;
        }
    }
    fs::create_dir_all(inside(root, "/proc"))?;
    let null = inside(root, "/dev/null");
    fs::write(&null, "")?;
    mount_bind("/dev/null", &null)?;
    mounted.push(null);
    let resolv = inside(root, "/etc/resolv.conf");
    fs::create_dir_all(inside(root, "/etc"))?;
    if !resolv.exists() {
        fs::write(&resolv, "")?;
    }
    mount_bind("/dev/null", &resolv)?;
    mounted.push(resolv);
    for mount in &step.mounts {
        let StepMount::Secret {
            content,
            target,
            uid,
            gid,
            mode,
        } = mount
        else {
            continue;
        };
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), content.expose())?;
        std::os::unix::fs::chown(file.path(), Some(*uid), Some(*gid))?;
        fs::set_permissions(file.path(), fs::Permissions::from_mode(*mode))?;
        let target = inside(root, target);
        fs::create_dir_all(target.parent().expect("absolute"))?;
        fs::write(&target, "")?;
        mount_bind(file.path(), &target)?;
        mounted.push(target);
    }
    for mount in &step.mounts {
        let StepMount::Bind {
            source,
            target,
            read_only,
        } = mount
        else {
            continue;
        };
        let target = inside(root, target);
        if source.is_dir() {
            fs::create_dir_all(&target)?;
        } else {
            fs::create_dir_all(target.parent().expect("absolute"))?;
            fs::File::options()
                .create(true)
                .append(true)
                .open(&target)?;
        }
        mount_bind(source, &target)?;
        mounted.push(target.clone());
        if *read_only {
            mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, c"")?;
        }
    }
    Ok(())
}

/// Numbers only, or root; names are the engine's business.
fn number(text: &str) -> u32 {
    if text.is_empty() || text == "root" {
        0
    } else {
        text.parse().expect("a number")
    }
}

fn execute(step: &StepSpec, root: &Path, news: &mpsc::Sender<News>) -> io::Result<ExitStatus> {
    let (user, group) = step
        .user
        .split_once(':')
        .unwrap_or((&step.user, &step.user));
    let (uid, gid) = (number(user), number(group));
    let (root, cwd) = (root.to_owned(), step.cwd.clone());
    let mut command = Command::new(&step.argv[0]);
    command
        .args(&step.argv[1..])
        .env_clear()
        .envs(&step.env)
        .envs(
            step.secret_env
                .iter()
                .map(|(name, value)| (name, std::str::from_utf8(value.expose()).expect("text"))),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    // SAFETY: only system calls on values made before the fork.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            rustix::process::chroot(&root)?;
            rustix::process::chdir(&cwd)?;
            if libc::setgid(gid) != 0 || libc::setuid(uid) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id()).expect("a process id");
    let stdout = child.stdout.take().expect("piped");
    let stderr = child.stderr.take().expect("piped");
    std::thread::scope(|scope| {
        news.blocking_send(News::Started(pid))
            .expect("the test listens");
        scope.spawn(|| lines(stdout, Stream::Stdout, news));
        scope.spawn(|| lines(stderr, Stream::Stderr, news));
    });
    child.wait()
}

fn lines(source: impl io::Read, stream: Stream, news: &mpsc::Sender<News>) {
    for line in BufReader::new(source).split(b'\n') {
        let text = String::from_utf8_lossy(&line.expect("the pipe is readable")).into_owned();
        let line = StepLine { stream, text };
        news.blocking_send(News::Line(line))
            .expect("the test listens");
    }
}
