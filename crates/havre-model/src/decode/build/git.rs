//! Build contexts that are git repositories: `https://example.org/app.git#main:folder`.

use std::path::{Component, Path};

use crate::project::GitContext;
use crate::read::{Field, refuse};
use crate::report::Report;

/// Longest address, and name in it.
const LONGEST: usize = 2000;

/// Whether it is meant as one.
pub(super) fn is_address(text: &str) -> bool {
    let begins = [
        "https://",
        "http://",
        "git://",
        "ssh://",
        "git@",
        "github.com/",
    ];
    begins.iter().any(|begin| text.starts_with(begin))
}

/// Reads such an address; `None` after an error.
pub(super) fn context(text: &str, field: Field<'_>, report: &mut Report) -> Option<GitContext> {
    match read(text) {
        Ok(git) => {
            if !git.url.starts_with("https://") {
                let message = format!(
                    "{}: {} is fetched without encryption: whoever is on the way decides what is \
                     built",
                    field.owner, git.url
                );
                report
                    .warn("compose/unencrypted", field.span(), message)
                    .hint("write its https address");
            }
            Some(git)
        }
        Err((why, hint)) => {
            refuse(field, why, hint, report);
            None
        }
    }
}

/// Why not, and what to do.
type Refusal = (&'static str, &'static str);

fn read(text: &str) -> Result<GitContext, Refusal> {
    let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
    if address.starts_with("git@") || address.starts_with("ssh://") {
        return Err(("builds are given no keys", "write its https address"));
    }
    let url = match address.strip_prefix("github.com/") {
        Some(path) => format!("https://github.com/{path}"),
        None => address.to_owned(),
    };
    check_url(&url)?;
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    if !reference.is_empty() && !is_reference(reference) {
        let hint = "write a branch, a tag or a commit after `#`";
        return Err(("its reference is not one", hint));
    }
    let subdir = subdir.trim_matches('/');
    if !subdir.is_empty() && !stays_inside(Path::new(subdir)) {
        let hint = "write a path without `..` after `#REFERENCE:`";
        return Err(("its folder is not in the repository", hint));
    }
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(GitContext {
        url,
        reference: said(reference),
        subdir: said(subdir),
    })
}

fn check_url(url: &str) -> Result<(), Refusal> {
    let rest = ["https://", "http://", "git://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let Some(rest) = rest else {
        let why = "a repository is fetched by https, http or git only";
        return Err((why, "write its https address, or clone it first"));
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains('@') {
        let why = "a password in an address is seen by everybody";
        return Err((why, "clone it first, and build from the folder"));
    }
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\' | b'`' | b'?');
    let well_formed = url.len() <= LONGEST
        && url.bytes().all(plain)
        && host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        && !path.is_empty();
    if !well_formed {
        return Err((
            "it is no address of a repository",
            "write its https address",
        ));
    }
    let is_git = url.starts_with("git://") || path.ends_with(".git") || host == "github.com";
    if !is_git {
        let why = "what is not a git repository is not fetched";
        return Err((why, "let its address end in `.git`, or fetch it first"));
    }
    Ok(())
}

/// git-check-ref-format(1), and nothing that could be an option.
fn is_reference(text: &str) -> bool {
    let plain =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b'+' | b'@');
    text.len() <= LONGEST
        && text.bytes().all(plain)
        && !text.starts_with(['-', '/', '.'])
        && !text.ends_with(['/', '.'])
        && !["..", "//", "@{", "/."]
            .iter()
            .any(|bad| text.contains(bad))
        && text != "@"
}

/// Whether a path leads nowhere else.
pub(super) fn stays_inside(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_docker_writes_them() {
        let shown = |text: &str| {
            read(text).map(|git| {
                let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
                format!(
                    "{} {} {}",
                    git.url,
                    or_none(git.reference),
                    or_none(git.subdir)
                )
            })
        };
        for (text, expected) in [
            ("https://example.org/a.git", "https://example.org/a.git - -"),
            (
                "https://example.org/a.git#main",
                "https://example.org/a.git main -",
            ),
            (
                "https://example.org/a.git#:web/app/",
                "https://example.org/a.git - web/app",
            ),
            (
                "https://example.org:8443/a.git#v1.2:web",
                "https://example.org:8443/a.git v1.2 web",
            ),
            (
                "github.com/a/b#refs/heads/x",
                "https://github.com/a/b refs/heads/x -",
            ),
            ("git://10.0.0.1/a", "git://10.0.0.1/a - -"),
            ("http://[::1]:80/a.git", "http://[::1]:80/a.git - -"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_taken() {
        for text in [
            "git@github.com:a/b.git",
            "ssh://git@example.org/a.git",
            "file:///srv/a.git",
            "ext::sh -c true://x.git",
            "https://user:password@example.org/a.git",
            "https://example.org/a.tar.gz",
            "https://example.org/a.git?ref=main",
            "https://-oProxyCommand=x/a.git",
            "https:///a.git",
            "https://example.org",
            "https://example.org/a b.git",
            "https://example.org/a.git#--upload-pack=x",
            "https://example.org/a.git#a..b",
            "https://example.org/a.git#+main:other:third/../..",
            "https://example.org/a.git#main:../x",
            "https://example.org/a.git#main:a/../../x",
            "https://example.org/a.git#x y",
            "https://example.org/a.git#HEAD@{1}",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
