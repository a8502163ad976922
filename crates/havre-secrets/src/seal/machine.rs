//! What this machine alone has: an identity in a file for root only, or in a credential of systemd's.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use havre_base::{Durability, replace};
use zeroize::Zeroizing;

use super::record::{Opener, Slot};
use crate::age::{Identity, KeyTextError};
use crate::key::CryptoError;
use crate::wipe::wipe;

/// Name of the credential: one that was made for something else does not open it.
const CREDENTIAL: &str = "havre-seal";
/// A key file is shorter.
const FILE_BYTES: u64 = 4096;
const SYSTEMD_CREDS: &str = "systemd-creds";
/// How long it may take: a TPM answers within seconds.
const CREDS_DEADLINE: Duration = Duration::from_secs(30);
const CREDS_POLL: Duration = Duration::from_millis(5);

/// How the machine keeps its part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MachineKind {
    /// A file that only root can read.
    #[default]
    File,
    /// A credential of systemd's, by the host's key.
    Host,
    /// The same, and the machine's TPM has to agree (bound to no PCR).
    HostAndTpm,
}

/// Why the machine's part cannot be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Its file cannot be read or written.
    #[error("cannot {attempt} {path}", path = path.display())]
    File {
        /// What.
        attempt: &'static str,
        /// Which.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is not what it has to be.
    #[error("{path} is no key of this machine", path = path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
        /// Why.
        source: KeyTextError,
    },
    /// A key of ours where none is removed.
    #[error("{path} is not in {dir}: remove it yourself", path = path.display(), dir = dir.display())]
    Elsewhere {
        /// Which.
        path: PathBuf,
        /// Where the machine's keys are.
        dir: PathBuf,
    },
    /// The program cannot be run.
    #[error("cannot run {SYSTEMD_CREDS}")]
    Run {
        /// The reason.
        source: io::Error,
    },
    /// It says no.
    #[error("{SYSTEMD_CREDS} failed: {said}")]
    Refused {
        /// Its words.
        said: String,
    },
    /// There are no random bytes.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Makes the machine's part for slot `number`. A file that an attempt before this one made is used.
pub(crate) fn make(
    kind: MachineKind,
    dir: &Path,
    number: u32,
) -> Result<(Identity, Opener), MachineError> {
    match kind {
        MachineKind::File => {
            let path = dir.join(format!("seal-{number}.key"));
            let identity = match read(&path) {
                Err(MachineError::File { source, .. })
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    write_new(&path)?
                }
                there => there?,
            };
            Ok((identity, Opener::MachineFile { path }))
        }
        MachineKind::Host | MachineKind::HostAndTpm => {
            let tpm = kind == MachineKind::HostAndTpm;
            let identity = Identity::generate()?;
            let credential = encrypt(&identity, tpm)?;
            Ok((identity, Opener::MachineCredential { tpm, credential }))
        }
    }
}

/// The identity of a machine's slot, whose keys are in `dir`; `None` where the slot is no machine's.
pub(crate) fn identity(
    opener: &Opener,
    recipient: &str,
    dir: &Path,
) -> Option<Result<Identity, MachineError>> {
    match opener {
        Opener::MachineFile { path } => Some(read(&located(path, recipient, dir))),
        Opener::MachineCredential { credential, .. } => Some(decrypt(credential)),
        Opener::Passphrase { .. } | Opener::Age => None,
    }
}

/// Where the key of a slot is: where the record says, or, since a root folder may be moved with all in it, by the
/// same name in `dir`.
pub(super) fn located(path: &Path, recipient: &str, dir: &Path) -> PathBuf {
    let is_it = |path: &Path| recipient_in(path).is_some_and(|found| found == recipient);
    let moved = path.file_name().map(|name| dir.join(name));
    match moved {
        Some(moved) if !is_it(path) && is_it(&moved) => moved,
        _ => path.to_owned(),
    }
}

fn recipient_in(path: &Path) -> Option<String> {
    let (identity, _) = parsed(path).ok()?;
    Some(identity.recipient().to_string())
}

/// Wipes what a slot that is gone had outside of the record: its own key in `dir`, and nothing else that
/// the record may name, which comes from a backup or from another machine.
pub(crate) fn forget(slot: &Slot, dir: &Path) -> Result<(), MachineError> {
    let Opener::MachineFile { path } = &slot.opener else {
        return Ok(());
    };
    let path = &located(path, &slot.recipient, dir);
    match parsed(path) {
        Ok((identity, _)) if identity.recipient().to_string() == slot.recipient => {}
        // Another seal's, or something else.
        Ok(_) | Err(MachineError::NoKey { .. }) => return Ok(()),
        Err(MachineError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    if path.parent() != Some(dir) {
        let (path, dir) = (path.clone(), dir.to_owned());
        return Err(MachineError::Elsewhere { path, dir });
    }
    wipe(path).map_err(|source| MachineError::File {
        attempt: "wipe",
        path: path.clone(),
        source,
    })
}

/// Key files in `dir` that none of these slots has and none is opened by: of attempts that were killed, or of other
/// states.
pub(crate) fn strays<'a>(dir: &Path, slots: impl Iterator<Item = &'a Slot>) -> Vec<PathBuf> {
    let slots: Vec<&Slot> = slots.collect();
    let known: Vec<&Path> = slots
        .iter()
        .filter_map(|slot| match &slot.opener {
            Opener::MachineFile { path } => Some(path.as_path()),
            Opener::MachineCredential { .. } | Opener::Passphrase { .. } | Opener::Age => None,
        })
        .collect();
    // Where the folder cannot be listed, its own slot says so.
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut strays: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("seal-") && name.ends_with(".key"))
        })
        .filter(|path| !known.contains(&path.as_path()))
        .filter(|path| {
            let opens = |found: String| slots.iter().any(|slot| slot.recipient == found);
            !recipient_in(path).is_some_and(opens)
        })
        .collect();
    strays.sort();
    strays
}

fn write_new(path: &Path) -> Result<Identity, MachineError> {
    let error = |source| MachineError::File {
        attempt: "write",
        path: path.to_owned(),
        source,
    };
    if let Some(dir) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .map_err(error)?;
    }
    let identity = Identity::generate()?;
    let text = Zeroizing::new(format!(
        "# The key with which this machine opens the secrets of Havre by itself (an age identity).\n\
         # Who has this file and Havre's state folder has all secrets: keep the two apart in backups.\n\
         {}\n",
        *identity.secret_text()
    ));
    replace(path, text.as_bytes(), 0o400, Durability::Durable).map_err(error)?;
    Ok(identity)
}

/// The identity in a file, which is closed to others if it holds one.
fn read(path: &Path) -> Result<Identity, MachineError> {
    let (identity, file) = parsed(path)?;
    let error = |source| MachineError::File {
        attempt: "close to others",
        path: path.to_owned(),
        source,
    };
    let about = file.metadata().map_err(error)?;
    // Who copied it here, or an administrator's `chmod -R`, may have opened it to others.
    if about.uid() == rustix::process::geteuid().as_raw() && about.mode() & 0o377 != 0 {
        file.set_permissions(Permissions::from_mode(0o400))
            .map_err(error)?;
    }
    Ok(identity)
}

/// The identity in a file, and the file.
fn parsed(path: &Path) -> Result<(Identity, File), MachineError> {
    let error = |source| MachineError::File {
        attempt: "read",
        path: path.to_owned(),
        source,
    };
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(error)?;
    let about = file.metadata().map_err(error)?;
    let no_key = || MachineError::NoKey {
        path: path.to_owned(),
        source: KeyTextError::Identity,
    };
    if !about.is_file() || about.len() > FILE_BYTES {
        return Err(no_key());
    }
    let mut text = Zeroizing::new(Vec::new());
    (&file)
        .take(FILE_BYTES)
        .read_to_end(&mut text)
        .map_err(error)?;
    let text = std::str::from_utf8(&text).map_err(|_| no_key())?;
    let identity = text.parse().map_err(|_| no_key())?;
    Ok((identity, file))
}

fn encrypt(identity: &Identity, tpm: bool) -> Result<Vec<u8>, MachineError> {
    let name = format!("--name={CREDENTIAL}");
    let mut arguments = vec!["encrypt", &name];
    match tpm {
        // Bound to no PCR: a new firmware or boot loader locks nobody out.
        true => arguments.extend(["--with-key=host+tpm2", "--tpm2-pcrs="]),
        false => arguments.push("--with-key=host"),
    }
    arguments.extend(["-", "-"]);
    let credential = run(&arguments, identity.secret_text().as_bytes())?;
    Ok(credential.to_vec())
}

fn decrypt(credential: &[u8]) -> Result<Identity, MachineError> {
    let name = format!("--name={CREDENTIAL}");
    let text = run(&["decrypt", &name, "-", "-"], credential)?;
    let text = std::str::from_utf8(&text).unwrap_or_default();
    text.parse().map_err(|source| MachineError::NoKey {
        path: PathBuf::from(SYSTEMD_CREDS),
        source,
    })
}

fn run(arguments: &[&str], input: &[u8]) -> Result<Zeroizing<Vec<u8>>, MachineError> {
    let run = |source| MachineError::Run { source };
    let mut child = Command::new(SYSTEMD_CREDS)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It is smaller than a pipe; who does not read it says why on its standard error.
        match stdin.write_all(input) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(run(error)),
            _ => {}
        }
    }
    // What it says fits into the pipes: it can end before anybody reads.
    let deadline = Instant::now() + CREDS_DEADLINE;
    while child.try_wait().map_err(run)?.is_none() {
        if Instant::now() >= deadline {
            child.kill().map_err(run)?;
            child.wait().map_err(run)?;
            return Err(run(io::ErrorKind::TimedOut.into()));
        }
        std::thread::sleep(CREDS_POLL);
    }
    let output = child.wait_with_output().map_err(run)?;
    let answer = Zeroizing::new(output.stdout);
    if output.status.success() {
        return Ok(answer);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(MachineError::Refused {
        said: said.trim().chars().take(500).collect(),
    })
}
