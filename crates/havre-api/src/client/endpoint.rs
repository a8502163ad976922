//! Where a daemon is, and what shows it who asks.

use std::fmt;
use std::path::PathBuf;

use super::address::Address;
use super::ssh::SshOptions;

/// Most bytes of a token.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What shows who makes a call over HTTPS. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// `None` where it holds what no token holds: it would end the head of the request that it is put into.
    pub fn new(text: &str) -> Option<Self> {
        let sound = |byte: u8| byte.is_ascii_graphic();
        let text = text.trim();
        (!text.is_empty() && text.len() <= MAX_TOKEN_BYTES && text.bytes().all(sound))
            .then(|| Self(text.to_owned()))
    }

    /// Its text, to be kept where only its owner reads it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Where a daemon is, and with what it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub address: Address,
    /// The name that the user gave it.
    pub name: Option<String>,
    /// Sent over HTTPS and from a box alone: elsewhere the kernel says who asks.
    pub token: Option<Token>,
    /// Authorities to be believed over HTTPS, beside the machine's.
    pub ca_file: Option<PathBuf>,
    /// How `ssh` is called.
    pub ssh: SshOptions,
}

impl Endpoint {
    /// What is at an address, with nothing further said of it.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            name: None,
            token: None,
            ca_file: None,
            ssh: SshOptions::default(),
        }
    }
}

/// For messages.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        match &self.name {
            Some(name) => write!(f, " (context {name})"),
            None => Ok(()),
        }
    }
}
