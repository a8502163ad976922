//! What a process keeps of the memory that it no longer uses.

/// Has the allocator keep little. To be called before there is another thread.
///
/// glibc gives every thread an arena of its own, each of which keeps what its busiest moment took.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt has no preconditions; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 * 1024);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
    }
}

/// Gives back what is free: after a crowd has left, its buffers are, but interspersed, and glibc returns those only
/// when asked.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
