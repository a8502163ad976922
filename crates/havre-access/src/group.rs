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
}

/// Whether a user is in the group now, whatever groups a session of theirs began with.
pub fn is_member(uid: u32, group: &Group) -> Result<bool, GroupError> {
    Ok(is_in(&table("/etc/passwd")?, uid, group))
}

/// By a table as in passwd(5).
fn is_in(users: &str, uid: u32, group: &Group) -> bool {
    users.lines().any(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, user, own_group, ..] = fields[..] else {
            return false;
        };
        user.parse() == Ok(uid)
            && !name.is_empty()
            && (own_group.parse() == Ok(group.gid) || group.members.iter().any(|one| one == name))
    })
}

fn table(path: &'static str) -> Result<String, GroupError> {
    let failed = |source| GroupError {
        table: path,
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let mut file = file.take(MAX_TABLE_BYTES);
    file.read_to_end(&mut bytes).map_err(failed)?;
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
                     carl:x:1002:990::/:\neve:x:1003:7::/:\n:x:1004:990::/:\nshort:x:1005\n";
        for (uid, expected) in [
            (0, false),
            (1000, true),
            (1001, true),
            (1002, true),
            (1003, false),
            (1004, false),
            (1005, false),
            (4242, false),
        ] {
            assert_eq!(is_in(users, uid, &group), expected, "{uid}");
        }
    }
}
