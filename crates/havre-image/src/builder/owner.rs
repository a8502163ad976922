//! Whose files are: `user[:group]` of `--chown` and USER.

use std::path::Path;

use super::copy_error::CopyError;
use super::root::Root;

/// Owner and group by number.
pub(super) type Owner = (u32, u32);

/// The most of an account file that is read.
const MAX_ACCOUNTS: u64 = 1 << 20;

/// Resolves `user[:group]` against the image's own files. Without a user it is root, without a group
/// the user's own.
pub(super) fn resolve(root: &Root, text: &str) -> Result<Owner, CopyError> {
    let wrong = |reason: String| CopyError::Owner {
        text: text.to_owned(),
        reason,
    };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let (uid, own_gid) = match number(user) {
        // A number without a group stands for the group of the same number.
        Some(uid) => (uid, uid),
        None => {
            let passwd = read(root, "/etc/passwd")?;
            account(&passwd, user)
                .ok_or_else(|| wrong(format!("the image's /etc/passwd has no user {user:?}")))?
        }
    };
    let gid = match group.map(|group| (group, number(group))) {
        None => own_gid,
        Some((_, Some(gid))) => gid,
        Some((group, None)) => {
            let groups = read(root, "/etc/group")?;
            group_id(&groups, group)
                .ok_or_else(|| wrong(format!("the image's /etc/group has no group {group:?}")))?
        }
    };
    Ok((uid, gid))
}

/// Numbers need no account, and neither does root; the highest ones mean something else to the
/// kernel.
fn number(text: &str) -> Option<u32> {
    match text {
        "" | "root" => Some(0),
        text => text.parse().ok().filter(|id| i32::try_from(*id).is_ok()),
    }
}

fn read(root: &Root, path: &str) -> Result<String, CopyError> {
    root.read_text(Path::new(path), MAX_ACCOUNTS)
        .map_err(CopyError::io("read", Path::new(path)))
        .map(Option::unwrap_or_default)
}

fn account(passwd: &str, user: &str) -> Option<Owner> {
    let mut found = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (name == user).then_some((uid, gid))
    });
    found.next()
}

fn group_id(groups: &str, group: &str) -> Option<u32> {
    let mut found = groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        (name == group).then_some(gid)
    });
    found.next()
}
