//! Servers of this machine that are no containers, behind Unix sockets: the daemon's own gateway is one.
//!
//! Their sockets lie in the edge's run folder, all that it sees beside its state. That folder belongs to
//! the edge, which may have been taken over: so a socket is made, and given its owner, beside the
//! folder, and only then moved into it, by a name that is replaced and never followed. Only the edge
//! and root may connect to it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::state::SocketName;

/// Bytes of a socket's path; `sockaddr_un` holds no more.
pub const PATH_BYTES: usize = 107;

/// Where the edge whose run folder this is looks for a socket.
pub fn path_of(run: &Path, name: &SocketName) -> PathBuf {
    run.join(format!("up-{}.sock", name.as_str()))
}

/// A socket that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {} for the edge", .path.display())]
pub struct ListenForEdgeError {
    path: PathBuf,
    source: io::Error,
}

/// Listens where the edge whose run folder this is connects to for a [`crate::LocalServer`] of this
/// socket. One that is there already is replaced in one step: connections made before stay with whoever
/// accepted them, and there is no moment without a socket. For root, on a runtime of tokio; the edge
/// need not run yet. Whoever accepts may ask who connects: it is [`crate::USER`].
pub fn listen_for_edge(run: &Path, name: &SocketName) -> Result<UnixListener, ListenForEdgeError> {
    let path = path_of(run, name);
    listen(run, name, &path).map_err(|source| ListenForEdgeError { path, source })
}

fn listen(run: &Path, name: &SocketName, path: &Path) -> io::Result<UnixListener> {
    match DirBuilder::new().mode(0o700).create(run) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Its owner is the edge's at the next start, if it is not yet.
    let beside = run.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let new = path_of(beside, name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    let moved = fs::set_permissions(&new, Permissions::from_mode(0o600))
        .and_then(|()| chown(&new, Some(crate::USER), Some(crate::USER)))
        .and_then(|()| fs::rename(&new, path));
    if let Err(error) = moved {
        // It is of use to nobody; the next attempt removes it as well.
        drop(fs::remove_file(&new));
        return Err(error);
    }
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn name(name: &str) -> SocketName {
        name.parse().expect("a name")
    }

    #[tokio::test]
    async fn a_socket_is_the_edges_and_is_replaced_in_one_step() {
        let directory = tempfile::tempdir().expect("a directory");
        let run = directory.path().join("edge");
        let first = listen_for_edge(&run, &name("gateway")).expect("a socket");
        let path = path_of(&run, &name("gateway"));
        let metadata = fs::metadata(&path).expect("its metadata");
        assert_eq!(
            (metadata.uid(), metadata.mode() & 0o777),
            (crate::USER, 0o600)
        );
        let second = listen_for_edge(&run, &name("gateway")).expect("another one");
        let client = tokio::net::UnixStream::connect(&path).await;
        client.expect("a connection");
        second.accept().await.expect("of the second");
        let accepted = tokio::time::timeout(std::time::Duration::ZERO, first.accept());
        assert!(accepted.await.is_err());
        let left = fs::read_dir(directory.path()).expect("the folder beside");
        assert_eq!(left.count(), 1, "nothing but the run folder");
    }

    /// What an edge that was taken over could leave there.
    #[tokio::test]
    async fn what_stands_in_the_place_is_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let run = directory.path().join("edge");
        fs::create_dir(&run).expect("a folder");
        let precious = directory.path().join("precious");
        fs::write(&precious, "kept").expect("a file");
        let path = path_of(&run, &name("a"));
        std::os::unix::fs::symlink(&precious, &path).expect("a link");
        listen_for_edge(&run, &name("a")).expect("a socket");
        assert_eq!(fs::read_to_string(&precious).expect("it"), "kept");
        assert_ne!(fs::metadata(&precious).expect("it").uid(), crate::USER);
        fs::remove_file(&path).expect("to remove");
        fs::create_dir(&path).expect("a folder in its place");
        let error = listen_for_edge(&run, &name("a")).expect_err("no socket");
        let expected = format!("cannot listen on {} for the edge", path.display());
        assert_eq!(error.to_string(), expected);
        let left = fs::read_dir(directory.path()).expect("the folder beside");
        assert_eq!(left.count(), 2, "the run folder and the file");
    }
}
