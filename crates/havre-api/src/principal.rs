//! Who asks.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};

use tokio::net::unix::UCred;

use crate::Grant;

/// Most of the user table that is looked through for a name.
const MAX_USERS_BYTES: u64 = 4 << 20;
/// What the kernel says of a process whom no login has started.
const NO_LOGIN: u32 = u32::MAX;

/// Who makes a call, and what they may do. The server finds it out from the connection; nothing that a
/// client sends can claim it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who.
    pub who: Who,
    /// What they may do, and where.
    pub grant: Grant,
}

/// Who makes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Who {
    /// A process of this machine, by what its kernel says.
    Local(LocalPeer),
    /// Whoever holds a token that somebody made.
    Token {
        /// Of the token; no secret.
        id: String,
        /// As it was named when it was made.
        name: String,
    },
    /// Whoever an issuer of identities has vouched for (OpenID Connect).
    Login {
        /// Of the short-lived token; no secret.
        id: String,
        /// The issuer, as this machine's configuration calls it.
        issuer: String,
        /// What the issuer calls them.
        subject: String,
    },
    /// Nobody yet: the request itself is to prove who asks.
    Nobody,
}

/// A process at the other end of the Unix socket, by what the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPeer {
    /// The user it runs as.
    pub uid: u32,
    /// The group it ran as when it connected.
    pub gid: u32,
    /// That user's name when it connected, or, of a process of root, the name of the person who logged in and
    /// became root (`sudo`, `su`). To be shown: it says nothing of what they may do.
    pub name: Option<String>,
}

impl LocalPeer {
    /// Of the peer of a Unix socket. Reads files; quick.
    pub(crate) fn of(peer: &UCred) -> Self {
        let uid = peer.uid();
        // Only root is asked who it was before: another's process could end, and its number be
        // given away, between two looks.
        let person = match uid {
            0 => peer.pid().and_then(login_of).unwrap_or(uid),
            _ => uid,
        };
        Self {
            uid,
            gid: peer.gid(),
            name: name_of(person),
        }
    }
}

/// The name that history shows.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Local(LocalPeer {
                name: Some(name), ..
            }) => f.write_str(name),
            Who::Local(LocalPeer {
                uid, name: None, ..
            }) => write!(f, "uid {uid}"),
            Who::Token { name, .. } => write!(f, "token {name}"),
            Who::Login {
                issuer, subject, ..
            } => write!(f, "{issuer}:{subject}"),
            Who::Nobody => f.write_str("nobody"),
        }
    }
}

/// The user who logged in to start what became this process.
fn login_of(pid: i32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    let login = text.trim().parse().ok()?;
    (login != NO_LOGIN).then_some(login)
}

fn name_of(uid: u32) -> Option<String> {
    let users = users().inspect_err(|error| tracing::warn!(%error, uid, "a user has no name"));
    name_in(&users.ok()?, uid)
}

fn users() -> io::Result<String> {
    let mut users = Vec::new();
    let file = fs::File::open("/etc/passwd")?;
    file.take(MAX_USERS_BYTES).read_to_end(&mut users)?;
    Ok(String::from_utf8_lossy(&users).into_owned())
}

/// The name of a user in a table as in passwd(5).
fn name_in(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let matches = fields.nth(1)?.parse() == Ok(uid);
        (matches && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_called_by_name_where_there_is_one() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\nbroken\n:x:7:7::/:\nanna:x:1000:1000::/home/anna:";
        assert_eq!(name_in(users, 0).as_deref(), Some("root"));
        assert_eq!(name_in(users, 1000).as_deref(), Some("anna"));
        assert_eq!(name_in(users, 7), None);
        assert_eq!(name_in(users, 33), None);
        let nameless = Principal {
            who: Who::Local(LocalPeer {
                uid: 33,
                gid: 33,
                name: None,
            }),
            grant: Grant::nothing(),
        };
        assert_eq!(nameless.to_string(), "uid 33");
    }
}
