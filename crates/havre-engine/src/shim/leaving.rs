//! Children whose end is only to be taken in, and ends that are kept back.
//!
//! A container with `CAP_SYS_PTRACE` can trace a further process. While its tracer has not looked at its
//! end, the kernel shows the end to nobody else, yet the pidfd stays readable: such a process is
//! looked at now and then instead of waited for.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::Shim;
use super::poller::Token;
use crate::sys;

/// Between two looks at ends that are kept back.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What is still to be reaped without anybody's waiting.
#[derive(Default)]
pub struct Leaving {
    /// Those that have set up a process and are about to end.
    setups: Vec<OwnedFd>,
    /// Groups of set-ups that were killed.
    groups: Vec<u32>,
    /// Numbers of processes that have ended and cannot be reaped yet.
    held: BTreeSet<u32>,
}

impl Leaving {
    /// When to look again, from now.
    pub fn wait(&self) -> Option<Duration> {
        let waiting = !self.groups.is_empty() || !self.held.is_empty();
        waiting.then_some(LOOK_AGAIN)
    }
}

impl Shim {
    /// A set-up has done its work.
    pub(super) fn setup_leaves(&mut self, pidfd: OwnedFd) -> std::io::Result<()> {
        let watched = self.poller.add(&pidfd, Token::Leaving);
        self.leaving.setups.push(pidfd);
        watched
    }

    /// A set-up was killed, and its group with it.
    pub(super) fn group_leaves(&mut self, pgid: u32) {
        self.leaving.groups.push(pgid);
        self.reap_groups();
    }

    /// A process has ended and shows it to another one first.
    pub(super) fn end_is_held(&mut self, number: u32) {
        if let Some(process) = self.processes.get(&number) {
            self.poller.remove(process.pidfd());
            self.leaving.held.insert(number);
        }
    }

    /// Reaps those that have set up a process.
    pub(super) fn reap_setups(&mut self) {
        let poller = &self.poller;
        self.leaving.setups.retain(|pidfd| match sys::reap(pidfd) {
            Ok(None) => true,
            Ok(Some(_)) | Err(_) => {
                poller.remove(pidfd);
                false
            }
        });
    }

    fn reap_groups(&mut self) {
        self.leaving.groups.retain(|group| {
            sys::reap_group(*group).unwrap_or_else(|error| {
                complain!("cannot reap a process of the container: {error}");
                false
            })
        });
    }

    /// Looks again at what was kept back.
    pub(super) fn look_again(&mut self) {
        self.reap_groups();
        for number in std::mem::take(&mut self.leaving.held) {
            self.process_ended(number);
        }
    }
}
