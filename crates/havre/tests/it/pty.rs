//! A terminal for the program, and what it shows.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use havre_testing::wait_until;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

const SOON: Duration = Duration::from_secs(20);

/// A terminal with a program in it.
pub struct Terminal {
    controller: File,
    user: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
    pub child: Child,
}

impl Terminal {
    pub fn start(mut command: Command, columns: u16, rows: u16) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new())
            .unwrap()
            .into_string()
            .unwrap();
        let user = File::options().read(true).write(true).open(name).unwrap();
        tcsetwinsize(&user, size(columns, rows)).unwrap();
        let end = || user.try_clone().unwrap();
        command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .env("TERM", "xterm-256color");
        // SAFETY: both calls are async-signal-safe and touch no memory of the parent.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(std::io::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let controller = File::from(controller);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (controller.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                to.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self {
            controller,
            user: user.into(),
            seen,
            child,
        }
    }

    pub fn type_in(&mut self, text: &str) {
        self.controller.write_all(text.as_bytes()).unwrap();
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(self.user.as_fd(), size(columns, rows)).unwrap();
    }

    pub fn settings(&self) -> Termios {
        tcgetattr(self.user.as_fd()).unwrap()
    }

    /// Its device.
    pub fn name(&self) -> String {
        let name = ptsname(&self.controller, Vec::new()).unwrap();
        name.into_string().unwrap()
    }

    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        wait_until(&format!("{text:?} is shown"), SOON, || {
            self.seen().contains(text)
        });
    }

    #[track_caller]
    pub fn wait_end(&mut self) -> i32 {
        let mut code = None;
        wait_until("the program ends", SOON, || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.and_then(|status| status.code()).expect("an exit code")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Only where a test failed in between; an ended one is reaped already.
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_col: columns,
        ws_row: rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
