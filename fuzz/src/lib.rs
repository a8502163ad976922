//! What the targets share: an input must be dealt with in bounded time.

use std::time::Duration;

/// Computing time for one input of at most 64 KiB.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs `work`; too much computing is a crash. Time of the clock says nothing on a busy machine.
pub fn bounded(work: impl FnOnce()) {
    let start = thread_time();
    work();
    let took = thread_time() - start;
    assert!(took < PATIENCE, "took {took:?}");
}

fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
