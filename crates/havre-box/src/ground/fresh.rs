//! What of a box on the machine's own programs is not the machine's.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::GroundError;

/// Empty folders, with their modes.
const FOLDERS: [(&str, u32); 24] = [
    ("root", 0o700),
    ("home", 0o755),
    ("home/runner", 0o755),
    ("tmp", 0o1777),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("mnt", 0o755),
    ("media", 0o755),
    ("boot", 0o755),
    ("dev", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
    ("var", 0o755),
    ("var/tmp", 0o1777),
    ("var/log", 0o755),
    ("var/log/apt", 0o755),
    ("var/cache", 0o755),
    ("var/cache/apt", 0o755),
    ("var/cache/apt/archives", 0o755),
    ("var/cache/apt/archives/partial", 0o755),
    ("var/lib", 0o755),
    ("var/lib/misc", 0o755),
    ("var/spool", 0o755),
];

/// Most bytes of an account file.
const MAX_ACCOUNTS: u64 = 4 << 20;

/// Root may be anybody, as its users are nobody on the machine.
const SUDOERS: &str =
    "Defaults !requiretty\nroot ALL=(ALL:ALL) NOPASSWD: ALL\nALL ALL=(ALL:ALL) NOPASSWD: ALL\n";

/// A folder with those above it.
pub fn folder(path: &Path, mode: u32) -> Result<(), GroundError> {
    fs::create_dir_all(path).map_err(GroundError::file("make", path))?;
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), GroundError> {
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, mode).map_err(GroundError::file("make", path))
}

/// The folders that each machine has.
pub fn skeleton(root: &Path) -> Result<(), GroundError> {
    set_mode(root, 0o755)?;
    for (name, mode) in FOLDERS {
        folder(&root.join(name), mode)?;
    }
    for (to, name) in [("/run", "var/run"), ("/run/lock", "var/lock")] {
        let link = root.join(name);
        symlink(to, &link).map_err(GroundError::file("make", &link))?;
    }
    Ok(())
}

/// Passwords of nobody, for the accounts that were copied.
pub fn accounts(root: &Path) -> Result<(), GroundError> {
    for (of, name, rest) in [
        ("etc/passwd", "etc/shadow", "*:19000:0:99999:7:::"),
        ("etc/group", "etc/gshadow", "*::"),
    ] {
        let from = root.join(of);
        let accounts = match havre_base::read_small(&from, MAX_ACCOUNTS) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(GroundError::file("read", &from))?,
        };
        write(&root.join(name), &locked(&accounts, rest), 0o640)?;
    }
    write(&root.join("etc/sudoers"), SUDOERS, 0o440)?;
    folder(&root.join("etc/sudoers.d"), 0o750)
}

/// A line for each account that has a name.
fn locked(accounts: &str, rest: &str) -> String {
    let names = accounts.lines().filter_map(|line| line.split_once(':'));
    let names = names.filter(|(name, _)| !name.is_empty() && !name.starts_with(['+', '-', '#']));
    names.map(|(name, _)| format!("{name}:{rest}\n")).collect()
}

pub fn write(path: &Path, text: &str, mode: u32) -> Result<(), GroundError> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above).map_err(GroundError::file("make", above))?;
    }
    fs::write(path, text).map_err(GroundError::file("write", path))?;
    set_mode(path, mode)
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_account_is_locked() {
        let accounts =
            "root:x:0:0:root:/root:/bin/sh\n+::::::\nbroken\n:x:1:\napp:secret:1000:1000::/:\n";
        let locked = super::locked(accounts, "*:1:::::");
        assert_eq!(locked, "root:*:1:::::\napp:*:1:::::\n");
    }
}
