//! What every command gets.

use std::fs::{self, DirBuilder};
use std::io::IsTerminal as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;

use havre_api::{Address, Client, Endpoint, SshOptions, Token};
use havre_app::Root;

use crate::contexts::{ConfigFolder, Wanted, WantedError, wanted};
use crate::error::Failure;
use crate::exit::Exit;
use crate::ui::Ui;

/// What shows a daemon over HTTPS who asks, whatever is kept for the context.
pub const TOKEN_VARIABLE: &str = "HAVRE_TOKEN";

/// Bytes that `ssh` makes of a shared connection's socket name behind the folder: `/ssh-`, forty digits, and
/// seventeen while it makes it. A socket's name has 103.
const SOCKET_NAME_BYTES: usize = 5 + 40 + 17;
const MAX_SOCKET_PATH_BYTES: usize = 103;

/// What every command gets.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where this installation keeps its files.
    pub root: Root,
    /// Whom it talks to.
    pub ui: Ui,
    /// The daemon that it is about.
    pub to: Destination,
}

/// The daemon that a command is about.
#[derive(Clone, Debug)]
pub enum Destination {
    /// This machine's.
    Here,
    /// One elsewhere.
    There(Endpoint),
}

impl Context {
    /// A client of the daemon meant.
    pub fn client(&self) -> Client {
        match &self.to {
            Destination::Here => Client::new(self.root.api_socket()),
            Destination::There(endpoint) => Client::of(endpoint.clone()),
        }
    }

    /// Whether it is about this machine.
    pub fn is_here(&self) -> bool {
        matches!(self.to, Destination::Here)
    }

    /// Refuses what is done on the machine itself, and why.
    pub fn only_here(&self, what: &str, why: &str) -> Result<(), Failure> {
        let Destination::There(endpoint) = &self.to else {
            return Ok(());
        };
        let message = format!("{what} is not done from elsewhere: {why}");
        Err(Failure::new(Exit::Usage, message).hint(format!(
            "run it on {}; `-c local` means this machine",
            host(&endpoint.address)
        )))
    }
}

/// The machine, as a person calls it.
fn host(address: &Address) -> String {
    match address {
        Address::Socket(path) | Address::Unix(path) => path.display().to_string(),
        Address::Ssh(address) => address.host.clone(),
        Address::Https(address) => address.host.clone(),
    }
}

/// Where a command goes that was given `named`, or nothing.
pub fn destination(named: Option<&str>, has_root: bool) -> Result<Destination, Failure> {
    let mut unreadable = None;
    let wanted = wanted(named, has_root, || {
        // Who has no folder has no contexts.
        let folder = ConfigFolder::of_user().ok()?;
        match folder.read() {
            Ok(contexts) => contexts.current,
            Err(error) => {
                unreadable = Some(error);
                None
            }
        }
    });
    if let Some(error) = unreadable {
        let failure = Failure::new(Exit::Failed, "cannot tell where commands go");
        let failure = failure.caused_by(&error);
        return Err(failure.hint("`-c local` means this machine"));
    }
    match wanted.map_err(|error| refused(&error))? {
        Wanted::Here => Ok(Destination::Here),
        Wanted::Named(name) => endpoint(&name).map(Destination::There),
        Wanted::At(address) => Ok(Destination::There(Endpoint {
            token: token_of_environment()?,
            ssh: ssh(),
            ..Endpoint::new(address)
        })),
    }
}

fn refused(error: &WantedError) -> Failure {
    let failure = Failure::new(Exit::Usage, error.to_string());
    match error {
        WantedError::Root { .. } => {
            failure.hint("leave out --root (HAVRE_ROOT), or say `-c local`")
        }
        WantedError::Address(_) => failure,
    }
}

/// A context of the user's, ready for use.
pub fn endpoint(name: &str) -> Result<Endpoint, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failed, format!("cannot read the context {name}")).caused_by(error)
    };
    let folder = ConfigFolder::of_user().map_err(|error| failed(&error))?;
    let contexts = folder.read().map_err(|error| failed(&error))?;
    let Some(saved) = contexts.contexts.get(name) else {
        return Err(unknown(name, contexts.contexts.keys()));
    };
    let address: Address = saved.address.parse().map_err(|error| failed(&error))?;
    let token = match (&address, token_of_environment()?) {
        (Address::Https(_) | Address::Unix(_), Some(token)) => Some(token),
        (Address::Https(_), None) => {
            let kept = folder.token(name, &address);
            kept.map_err(|error| failed(&error))?
        }
        (Address::Socket(_) | Address::Ssh(_) | Address::Unix(_), _) => None,
    };
    Ok(Endpoint {
        address,
        name: Some(name.to_owned()),
        token,
        ca_file: saved.ca_file.clone(),
        ssh: ssh(),
    })
}

/// That there is no such context, and which there are.
pub fn unknown<'n>(name: &str, known: impl Iterator<Item = &'n String>) -> Failure {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let failure = Failure::new(Exit::NotFound, format!("there is no context {name:?}"));
    match known.is_empty() {
        true => failure.hint("`havre context add NAME https://HOST` (or ssh://USER@HOST) adds one"),
        false => failure.hint(format!("there are {}", known.join(", "))),
    }
}

fn token_of_environment() -> Result<Option<Token>, Failure> {
    let Some(text) = std::env::var_os(TOKEN_VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let token = text.to_str().and_then(Token::new);
    let no_token = || Failure::new(Exit::Usage, format!("{TOKEN_VARIABLE} holds no token"));
    token.map(Some).ok_or_else(no_token)
}

/// Connections are shared where the user has a folder for what lasts as long as they are logged in.
fn ssh() -> SshOptions {
    SshOptions {
        control: control_folder(),
        asking: std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
    }
}

/// Made where there is none; `None` where it cannot be, or is somebody else's.
fn control_folder() -> Option<PathBuf> {
    let runtime = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    let folder = runtime.join("havre");
    let length = folder.as_os_str().len() + SOCKET_NAME_BYTES;
    // In a folder whose name ends the quotes of an option of ssh it would be another option.
    if !folder.is_absolute() || length > MAX_SOCKET_PATH_BYTES || folder.to_str()?.contains('"') {
        return None;
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .ok()?;
    let found = fs::symlink_metadata(&folder).ok()?;
    let own = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
    (own && found.is_dir()).then_some(folder)
}
