//! `user[:group]` and supplementary groups, resolved by the files of the container's own root.

use std::io;
use std::path::Path;

use havre_confine::OWN_USERS;
use havre_image::root::Root;

/// Largest account file that is read.
const MAX_FILE: u64 = 4 << 20;

/// Who the process will be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, the primary one among them.
    pub groups: Vec<u32>,
    /// Home folder; `/` where no account names one.
    pub home: String,
}

/// The user or a group cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("user {0:?} is not in the image's /etc/passwd")]
    NoUser(String),
    /// No such group.
    #[error("group {0:?} is not in the image's /etc/group")]
    NoGroup(String),
    /// A number of Havre's own processes.
    #[error("{kind} {id} belongs to Havre's own processes: no container runs as it")]
    Own {
        /// `user` or `group`.
        kind: &'static str,
        /// Its number.
        id: u32,
    },
    /// An account file.
    #[error("cannot read {0} of the image")]
    Read(&'static str, #[source] io::Error),
}

/// Resolves by the account files below `root`.
pub fn resolve(root: &Root, user: &str, groups: &[String]) -> Result<Identity, UserError> {
    let (passwd, group) = (read(root, "/etc/passwd")?, read(root, "/etc/group")?);
    decide(user, groups, &passwd, &group)
}

/// Who owns a file: numbers, or names of the account files below `root`.
pub fn owner(root: &Root, user: &str, group: &str) -> Result<(u32, u32), UserError> {
    let numbers = (user.parse(), group.parse());
    if let (Ok(uid), Ok(gid)) = numbers {
        return Ok((uid, gid));
    }
    let (passwd, groups) = (read(root, "/etc/passwd")?, read(root, "/etc/group")?);
    let mut accounts = passwd.lines().filter_map(Account::parse);
    let uid = match user.parse() {
        Ok(uid) => uid,
        Err(_) => accounts
            .find(|account| account.name == user)
            .map(|account| account.uid)
            .ok_or_else(|| UserError::NoUser(user.to_owned()))?,
    };
    Ok((uid, find_group(group, &groups)?))
}

/// Links lead nowhere but below `root`; what is no file, or not there, names nobody.
fn read(root: &Root, path: &'static str) -> Result<String, UserError> {
    let text = root.read_text(Path::new(path), MAX_FILE);
    Ok(text
        .map_err(|error| UserError::Read(path, error))?
        .unwrap_or_default())
}

/// A name is looked up; a number needs no account, but uses one that is there.
fn decide(user: &str, extra: &[String], passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (user, own_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let account = passwd
        .lines()
        .filter_map(Account::parse)
        .find(|a| match number {
            Some(uid) => a.uid == uid,
            None => a.name == user,
        });
    let uid = match (number, &account) {
        (Some(uid), _) => uid,
        (None, Some(account)) => account.uid,
        (None, None) => return Err(UserError::NoUser(user.to_owned())),
    };
    let mut identity = Identity {
        uid,
        gid: account.as_ref().map_or(0, |a| a.gid),
        groups: Vec::new(),
        home: account.as_ref().map_or("/", |a| a.home).to_owned(),
    };
    match (own_group, &account) {
        (Some(name), _) => identity.gid = find_group(name, group)?,
        (None, Some(account)) => identity.groups = memberships(account.name, group),
        (None, None) => {}
    }
    // Also among the supplementary ones, so that a program that drops its primary group does not
    // gain what is denied to that group.
    if !identity.groups.contains(&identity.gid) {
        identity.groups.insert(0, identity.gid);
    }
    for name in extra {
        let gid = find_group(name, group)?;
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    if identity.home.is_empty() {
        "/".clone_into(&mut identity.home);
    }
    refuse_own("user", &[identity.uid])?;
    refuse_own("group", &identity.groups)?;
    Ok(identity)
}

fn refuse_own(kind: &'static str, ids: &[u32]) -> Result<(), UserError> {
    match ids.iter().find(|id| OWN_USERS.contains(id)) {
        Some(&id) => Err(UserError::Own { kind, id }),
        None => Ok(()),
    }
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Account<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else {
            return None;
        };
        Some(Self {
            name,
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home,
        })
    }
}

/// `(name, gid, members)` of each group.
fn group_lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name, gid.parse().ok()?, fields.next().unwrap_or_default()))
    })
}

fn find_group(name: &str, group: &str) -> Result<u32, UserError> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    group_lines(group)
        .find(|(n, _, _)| *n == name)
        .map(|(_, gid, _)| gid)
        .ok_or_else(|| UserError::NoGroup(name.to_owned()))
}

fn memberships(user: &str, group: &str) -> Vec<u32> {
    group_lines(group)
        .filter(|(_, _, members)| members.split(',').any(|m| m == user))
        .map(|(_, gid, _)| gid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/srv/app:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\naudio:x:29:app,other\nweb:x:33:\n";

    fn check(user: &str, extra: &[&str]) -> Result<(u32, u32, Vec<u32>, String), String> {
        let extra: Vec<_> = extra.iter().map(|s| (*s).to_owned()).collect();
        decide(user, &extra, PASSWD, GROUP)
            .map(|i| (i.uid, i.gid, i.groups, i.home))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_forms_of_docker() {
        assert_eq!(check("", &[]), Ok((0, 0, vec![0], "/root".into())));
        assert_eq!(
            check("app", &["web"]),
            Ok((1000, 1001, vec![1001, 29, 33], "/srv/app".into()))
        );
        assert_eq!(
            check("1000", &[]),
            Ok((1000, 1001, vec![1001, 29], "/srv/app".into()))
        );
        assert_eq!(
            check("app:web", &[]),
            Ok((1000, 33, vec![33], "/srv/app".into()))
        );
        assert_eq!(check("4711", &["7"]), Ok((4711, 0, vec![0, 7], "/".into())));
        assert_eq!(check("4711:12", &[]), Ok((4711, 12, vec![12], "/".into())));
        assert_eq!(
            check("nobody", &[]),
            Err("user \"nobody\" is not in the image's /etc/passwd".into())
        );
        assert_eq!(
            check("0:no", &[]),
            Err("group \"no\" is not in the image's /etc/group".into())
        );
    }

    #[test]
    fn users_and_groups_of_havre_are_nobodys() {
        let own = havre_confine::EDGE_USER;
        let passwd = format!("proxy:x:{own}:1:::\nmate:x:1000:1:::\nkin:x:1001:{own}:::\n");
        let group = format!("edge:x:{own}:mate\n");
        let refused = |user: &str, extra: &[&str]| {
            let extra: Vec<_> = extra.iter().map(|s| (*s).to_owned()).collect();
            decide(user, &extra, &passwd, &group).map_err(|e| e.to_string())
        };
        let said = |kind| {
            let text =
                format!("{kind} {own} belongs to Havre's own processes: no container runs as it");
            Err(text)
        };
        for user in ["60943", "060943", "+60943", "proxy", "proxy:0"] {
            assert_eq!(refused(user, &[]), said("user"), "{user}");
        }
        for user in ["0:60943", "0:edge", "mate", "kin", "1000"] {
            assert_eq!(refused(user, &[]), said("group"), "{user}");
        }
        for group in ["60943", "edge"] {
            assert_eq!(refused("0", &[group]), said("group"), "{group}");
        }
        for other in havre_confine::OWN_USERS {
            assert!(refused(&format!("{other}:0"), &[]).is_err());
        }
        assert!(refused("mate:0", &[]).is_ok());
    }
}
