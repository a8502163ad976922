//! From before the edge had a user and folders of its own: its state and its logs lay in the state
//! folder, its sockets in the run folder, and certificates stood in its state by the names of their
//! files.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown, symlink};
use std::path::Path;

use havre_base::{Durability, replace};
use serde_json::Value;

use crate::root::Root;

/// The file with its state, in its folder.
pub(super) const STATE: &str = "edge.json";
/// The log and those it was renamed to.
const ACCESS_LOGS: [&str; 3] = ["access.log", "access.log.1", "access.log.2"];
const RUN_FILES: [&str; 3] = ["edge.sock", "edge-handover.sock", "edge.lock"];

/// Brings what the edge keeps into its folder, so that one that is started now serves as the one
/// before did. The log is found under its old name as well.
///
/// A name in the edge's folder is only ever replaced, never followed: the edge may have been taken
/// over.
pub(super) fn move_state(root: &Root) -> io::Result<()> {
    let (from, to) = (root.state_dir(), root.edge_state_dir());
    match fs::DirBuilder::new().mode(0o700).create(&to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if let Some(state) = read_state(&from.join(STATE))? {
        let ready = from.join("edge.json.moving");
        replace(
            &ready,
            &serde_json::to_vec_pretty(&state)?,
            0o600,
            Durability::Durable,
        )?;
        give(&ready, &to.join(STATE))?;
        fs::remove_file(from.join(STATE))?;
    }
    for name in ACCESS_LOGS {
        let old = from.join(name);
        if fs::symlink_metadata(&old).is_ok_and(|metadata| metadata.is_file()) {
            give(&old, &to.join(name))?;
        }
    }
    match symlink(
        Path::new("edge").join(ACCESS_LOGS[0]),
        from.join(ACCESS_LOGS[0]),
    ) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn give(from: &Path, to: &Path) -> io::Result<()> {
    let user = Some(havre_edge::USER);
    chown(from, user, user)?;
    fs::rename(from, to)
}

/// A state with its certificates in place of their files' names. One that cannot be read is of no
/// use to any edge.
fn read_state(path: &Path) -> io::Result<Option<Value>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(mut state) = serde_json::from_slice::<Value>(&bytes) else {
        tracing::warn!(path = %path.display(), "the former edge's state is damaged and not taken over");
        fs::remove_file(path)?;
        return Ok(None);
    };
    let certificates = state.get_mut("certificates").and_then(Value::as_array_mut);
    for certificate in certificates.into_iter().flatten() {
        for key in ["chain", "key"] {
            let Some(Value::String(text)) = certificate.get_mut(key) else {
                continue;
            };
            match fs::read_to_string(&*text) {
                Ok(content) => *text = content,
                Err(error) => {
                    tracing::warn!(path = text, %error, "a certificate is not taken over")
                }
            }
        }
    }
    Ok(Some(state))
}

/// Removes the sockets of an edge that has ended since.
pub(super) fn forget(root: &Root) -> io::Result<()> {
    for name in RUN_FILES {
        match fs::remove_file(root.run_dir().join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn what_a_former_edge_kept_is_the_new_ones() {
        let base = tempfile::tempdir().unwrap();
        let root = Root::new(Some(base.path().to_owned()));
        fs::create_dir(root.state_dir()).unwrap();
        let file = |name: &str, text: &str| {
            let path = root.state_dir().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (chain, key) = (file("a.pem", "CHAIN"), file("a.key", "KEY"));
        let lost = root.state_dir().join("b.pem").display().to_string();
        let state = serde_json::json!({"generation": 7, "certificates": [
            {"hosts": ["a"], "chain": chain, "key": key},
            {"hosts": ["b"], "chain": lost, "key": key},
        ]});
        file("edge.json", &state.to_string());
        file("access.log", "a line\n");
        for _ in 0..2 {
            move_state(&root).unwrap();
            let own = root.edge_state_dir();
            let moved: Value = serde_json::from_slice(&fs::read(own.join(STATE)).unwrap()).unwrap();
            assert_eq!(moved["generation"], 7);
            assert_eq!(moved["certificates"][0]["chain"], "CHAIN");
            assert_eq!(moved["certificates"][0]["key"], "KEY");
            assert_eq!(moved["certificates"][1]["chain"], lost.as_str());
            assert!(!root.state_dir().join(STATE).exists());
            let log = fs::read_to_string(root.state_dir().join("access.log")).unwrap();
            assert_eq!(log, "a line\n", "by its old name");
            for name in [STATE, "access.log"] {
                let metadata = fs::symlink_metadata(own.join(name)).unwrap();
                assert!(metadata.is_file());
                assert_eq!(metadata.uid(), havre_edge::USER, "{name}");
                assert_eq!(metadata.mode() & 0o007, if name == STATE { 0 } else { 4 });
            }
        }
    }

    #[test]
    fn a_link_in_the_edges_folder_leads_nowhere() {
        let base = tempfile::tempdir().unwrap();
        let root = Root::new(Some(base.path().to_owned()));
        fs::create_dir_all(root.edge_state_dir()).unwrap();
        let victim = base.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        symlink(&victim, root.edge_state_dir().join(STATE)).unwrap();
        fs::write(root.state_dir().join(STATE), "{}").unwrap();
        move_state(&root).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        assert_eq!(fs::metadata(&victim).unwrap().uid(), 0);
    }
}
