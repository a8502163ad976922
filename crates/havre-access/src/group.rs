//! The group whose members the daemon's socket is for.

use std::fs::File;
use std::io::{self, Read as _};

/// Its name.
pub const HAVRE_GROUP: &str = "havre";
/// Most of a table that is read.
const MAX_TABLE_BYTES: u64 = 4 << 20;

/// The tables of users and groups cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {table}")]
pub struct GroupError {
    table: &'static str,
    source: io::Error,
}

/// The group, where the machine has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub gid: u32,
    /// Names of users who are in it beside those whose own group it is.
    members: Vec<String>,
}

impl Group {
    /// As the machine's table of groups has it now. Directories of users elsewhere (LDAP) are not asked:
    /// their members are entered there by name.
    pub fn read() -> Result<Option<Self>, GroupError> {
        Ok(Self::find(&table("/etc/group")?, HAVRE_GROUP))
    }

    /// In a table as in group(5).
    fn find(groups: &str, name: &str) -> Option<Self> {
        groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            let gid = fields.nth(1)?.parse().ok()?;
            let members = fields.next().unwrap_or_default().split(',');
            let members = members.map(str::trim).filter(|name| !name.is_empty());
            Some(Self {
                gid,
                members: members.map(ToOwned::to_owned).collect(),
            })
        })
    }

    fn has(&self, user: &Line<'_>) -> bool {
        user.own_group == Some(self.gid) || self.members.iter().any(|name| name == user.name)
    }
}

/// What a user is called who is in the group now, whatever groups a session of theirs began with: all names
/// of that number where the group has one of them, else none.
pub fn names_of_member(uid: u32, group: &Group) -> Result<Vec<String>, GroupError> {
    Ok(names_in(&table("/etc/passwd")?, uid, group))
}

/// Whether whoever has that name, among others of the same number, is in the group now.
pub fn is_member(name: &str, group: &Group) -> Result<bool, GroupError> {
    Ok(is_in(&table("/etc/passwd")?, name, group))
}

/// By a table as in passwd(5).
fn names_in(users: &str, uid: u32, group: &Group) -> Vec<String> {
    let lines = || entries(users).filter(|one| one.uid == uid);
    match lines().any(|one| group.has(&one)) {
        true => lines().map(|one| one.name.to_owned()).collect(),
        false => Vec::new(),
    }
}

fn is_in(users: &str, name: &str, group: &Group) -> bool {
    let mut named = entries(users).filter(|one| one.name == name);
    named.any(|one| !names_in(users, one.uid, group).is_empty())
}

/// A line of passwd(5).
struct Line<'a> {
    name: &'a str,
    uid: u32,
    own_group: Option<u32>,
}

/// Those that name somebody.
fn entries(users: &str) -> impl Iterator<Item = Line<'_>> {
    users.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let own_group = fields.next()?.parse().ok();
        Some(Line {
            name,
            uid,
            own_group,
        })
    })
}

fn table(path: &'static str) -> Result<String, GroupError> {
    let failed = |source| GroupError {
        table: path,
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let mut file = file.take(MAX_TABLE_BYTES + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    // Of half a table nobody knows who is missing.
    if bytes.len() as u64 > MAX_TABLE_BYTES {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_those_of_the_table() {
        let groups = "root:x:0:\nbroken\nhavrex:x:7:eve\nhavre:x:990:anna, bob\n";
        let group = Group::find(groups, HAVRE_GROUP).expect("it is there");
        assert_eq!(group.gid, 990);
        assert_eq!(Group::find("root:x:0:", HAVRE_GROUP), None);
        let users = "root:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/:\nbob:x:1001:1001::/:\n\
                     carl:x:1002:990::/:\neve:x:1003:7::/:\n:x:1004:990::/:\nshort:x:1005\n\
                     bobby:x:1001:1001::/:\n";
        let of: [(u32, &[&str]); 8] = [
            (0, &[]),
            (1000, &["anna"]),
            // Also what the group does not call them.
            (1001, &["bob", "bobby"]),
            (1002, &["carl"]),
            (1003, &[]),
            (1004, &[]),
            (1005, &[]),
            (4242, &[]),
        ];
        for (uid, names) in of {
            assert_eq!(names_in(users, uid, &group), names, "{uid}");
        }
        for (name, expected) in [
            ("anna", true),
            ("bobby", true),
            ("carl", true),
            ("eve", false),
            ("", false),
            ("short", false),
        ] {
            assert_eq!(is_in(users, name, &group), expected, "{name}");
        }
    }
}
