//! The folder of one container below the run directory.
//!
//! ```text
//! <run>/c/<id>/meta.json   what was asked; written once, before the shim starts
//!              lock        locked by the shim as long as it lives
//!              sock        where the shim listens
//!              exit.json   how it ended; there before anyone is told, absent while it lives
//!              rootfs/     mount point in the container's own mount namespace, empty for others
//!              shim.log    what a shim had to complain about
//! ```

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use havre_base::{Durability, replace};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use crate::spec::{ContainerSpec, Observed};

/// Contents of `meta.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Meta {
    /// Form of the file.
    pub version: u32,
    /// Counts the shims of this container: a restart after its end makes another.
    pub generation: u64,
    /// The kernel's boot this belongs to.
    pub boot_id: String,
    /// Names the cgroups.
    pub instance: String,
    /// All of it.
    pub spec: ContainerSpec,
}

/// The folder of one container.
#[derive(Clone, Debug)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Nothing is touched yet.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Mount point of the root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    /// Makes the folder; `AlreadyExists` when it is there.
    pub fn create(&self) -> io::Result<()> {
        if let Some(parent) = self.0.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&self.0)?;
        fs::DirBuilder::new().mode(0o700).create(self.rootfs())?;
        File::create(self.0.join("lock")).map(drop)
    }

    /// Opens and locks `lock`; `None` while another process holds it. The file is made with the
    /// folder and never again, so that looking does not disturb a removal.
    pub fn try_lock(&self) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(self.0.join("lock"), flags, Mode::empty())?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads `meta.json`.
    pub fn meta(&self) -> io::Result<Meta> {
        Ok(serde_json::from_slice(&fs::read(
            self.0.join("meta.json"),
        )?)?)
    }

    /// Writes `meta.json`.
    pub fn write_meta(&self, meta: &Meta) -> io::Result<()> {
        // Worth nothing after a crash of the machine, so it need not reach the disk.
        replace(
            &self.0.join("meta.json"),
            &serde_json::to_vec(meta)?,
            0o600,
            Durability::UntilReboot,
        )
    }

    /// How the container ended, if it has.
    pub fn exit(&self) -> io::Result<Option<Observed>> {
        match fs::read(self.0.join("exit.json")) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Records how the container ended.
    pub fn write_exit(&self, observed: &Observed) -> io::Result<()> {
        replace(
            &self.0.join("exit.json"),
            &serde_json::to_vec(observed)?,
            0o600,
            Durability::Durable,
        )
    }

    /// Before another shim.
    pub fn clear_exit(&self) -> io::Result<()> {
        match fs::remove_file(self.0.join("exit.json")) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// A listening socket.
    pub fn listen(&self) -> io::Result<OwnedFd> {
        match fs::remove_file(self.0.join("sock")) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = seqpacket()?;
        let (_dir, address) = self.address()?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, 16)?;
        Ok(socket)
    }

    /// A connection to the shim; `ConnectionRefused` or `NotFound` without one.
    pub fn connect(&self) -> io::Result<OwnedFd> {
        let socket = seqpacket()?;
        let (_dir, address) = self.address()?;
        rustix::net::connect(&socket, &address)?;
        Ok(socket)
    }

    /// Through a descriptor, since addresses end at 108 bytes and paths do not.
    fn address(&self) -> io::Result<(OwnedFd, SocketAddrUnix)> {
        use std::os::fd::AsRawFd;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&self.0, flags, Mode::empty())?;
        let path = format!("/proc/self/fd/{}/sock", dir.as_raw_fd());
        Ok((dir, SocketAddrUnix::new(path)?))
    }

    /// Removes the folder and all in it; one that is gone is fine.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether a file of such a folder is missing or half written, rather than unreadable for now.
pub fn is_incomplete(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::InvalidData | ErrorKind::UnexpectedEof
    )
}

fn seqpacket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

/// The kernel's id of this boot.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}
