//! Kernel settings of the calling thread's network namespace.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::error::NetError;

/// Sets `name` (as `net/ipv4/ip_forward`) unless it has that value. True when it was changed.
pub fn set(name: &str, value: &'static str) -> Result<bool, NetError> {
    let path: PathBuf = ["/proc/sys", name].iter().collect();
    let failed = |source| NetError::Setting {
        name: name.to_owned(),
        value,
        source,
    };
    if fs::read_to_string(&path).map_err(failed)?.trim() == value {
        return Ok(false);
    }
    fs::write(&path, value).map_err(failed)?;
    Ok(true)
}

/// Whether `name` has that value.
pub fn is(name: &str, value: &'static str) -> Result<bool, NetError> {
    let path: PathBuf = ["/proc/sys", name].iter().collect();
    let found = fs::read_to_string(&path).map_err(NetError::file("read", &path))?;
    Ok(found.trim() == value)
}

/// [`set`] for a setting that a kernel may be built without.
pub fn set_if_present(name: &str, value: &'static str) -> Result<bool, NetError> {
    match set(name, value) {
        Err(NetError::Setting { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(false)
        }
        result => result,
    }
}
