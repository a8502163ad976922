//! Memory that is passed on as a descriptor.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

/// Memory with these bytes, which nobody can change any more.
pub fn sealed(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create(name, flags)?);
    file.write_all(bytes)?;
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::GROW)
    .union(SealFlags::SHRINK)
    .union(SealFlags::SEAL);

/// Sealed memory that this process sees; its children do not, nor does a core dump show it.
#[derive(Debug)]
pub struct Mapping {
    start: *const u8,
    len: usize,
}

impl Mapping {
    /// Refuses what others could still change or cut.
    pub fn new(memory: impl AsFd) -> io::Result<Self> {
        let memory = memory.as_fd();
        if !rustix::fs::fcntl_get_seals(memory)?.contains(SEALS) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the memory is not sealed",
            ));
        }
        let len = rustix::fs::fstat(memory)?.st_size as usize;
        if len == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        // SAFETY: a new mapping at a place of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_SHARED,
                memory.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = Self {
            start: start.cast(),
            len,
        };
        for advice in [libc::MADV_DONTFORK, libc::MADV_DONTDUMP] {
            // SAFETY: the range is the mapping's; neither advice changes what it holds here.
            if unsafe { libc::madvise(start, len, advice) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(mapping)
    }

    /// Keeps it out of swap for as long as this lives, for all who have the memory.
    pub fn lock(&self) -> io::Result<()> {
        // SAFETY: the range is the mapping's; what it holds stays as it is.
        match unsafe { libc::mlock(self.start.cast(), self.len) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: mapped for as long as this lives, of this length, and sealed, so it never changes.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping's and no reference to it is left.
        unsafe { libc::munmap(self.start.cast_mut().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_change_is_mapped() {
        let memory = sealed(c"test", b"bytes").expect("memory");
        let mapping = Mapping::new(&memory).expect("a mapping");
        mapping.lock().expect("locked");
        assert_eq!(mapping.as_ref(), b"bytes");
        assert!(File::from(memory).write_all(b"others").is_err());
        let open = rustix::fs::memfd_create(c"test", MemfdFlags::CLOEXEC).expect("memory");
        assert!(Mapping::new(&open).is_err());
    }
}
