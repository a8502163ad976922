//! What is checked out in a working tree, as its git tells.

use std::path::Path;
use std::process::Command;

use havre_runs::Source;

/// Where there is no commit.
const NONE: &str = "0000000000000000000000000000000000000000";

/// What is checked out; of a folder that is no repository, a name and nothing else.
pub fn source(root: &Path, default_branch: &str) -> Source {
    let git = |args: &[&str]| git(root, args);
    let folder = root.file_name().map(|name| name.to_string_lossy());
    let repository = git(&["config", "--get", "remote.origin.url"]);
    let repository = repository.as_deref().and_then(owner_and_name);
    let repository = repository
        .unwrap_or_else(|| format!("local/{}", folder.as_deref().unwrap_or("repository")));
    // Fields by a character that none of them has.
    let commit = git(&["log", "-1", "--format=%H%x00%an%x00%ae%x00%aI%x00%B"]);
    let commit = commit.unwrap_or_default();
    let mut fields = commit.splitn(5, '\0').map(|field| field.trim().to_owned());
    let mut next = || fields.next().unwrap_or_default();
    let (hash, name, address, at, message) = (next(), next(), next(), next(), next());
    Source {
        repository,
        default_branch: default_branch.to_owned(),
        commit: match hash.is_empty() {
            true => NONE.to_owned(),
            false => hash,
        },
        message,
        author: (name, address),
        at,
    }
}

fn git(root: &Path, args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // Another's repository is read, and none of its programs is run.
    command
        .arg("-C")
        .arg(root)
        .args(["-c", "core.fsmonitor=false", "-c", "safe.directory=*"]);
    let output = command.args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// `owner/name` of an address of a repository.
fn owner_and_name(address: &str) -> Option<String> {
    let address = address.trim_end_matches('/');
    let address = address.strip_suffix(".git").unwrap_or(address);
    let (_, path) = address.split_once("://").unwrap_or(("", address));
    let mut parts = path.rsplit(['/', ':']);
    let (name, owner) = (parts.next()?, parts.next()?);
    let sound = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.chars().all(plain)
    };
    (sound(name) && sound(owner)).then(|| format!("{owner}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::owner_and_name;

    #[test]
    fn addresses_of_repositories_tell_their_names() {
        for (address, expected) in [
            ("https://example.org/shop/web.git", Some("shop/web")),
            ("git@example.org:shop/web.git", Some("shop/web")),
            ("ssh://git@example.org:22/shop/web/", Some("shop/web")),
            ("https://example.org/group/sub/web", Some("sub/web")),
            ("/srv/git/web.git", Some("git/web")),
            ("web", None),
            ("https://example.org/a b/c", None),
        ] {
            assert_eq!(owner_and_name(address).as_deref(), expected, "{address}");
        }
    }
}
