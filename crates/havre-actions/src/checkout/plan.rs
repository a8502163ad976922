//! What is fetched for a checkout, and what is checked out then: as actions/checkout decides it.

/// What is wanted of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// In full (`refs/…`), or a name that may be a branch or a tag, or empty.
    pub(super) reference: String,
    /// Object name, or empty.
    pub(super) commit: String,
}

/// What is checked out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A local branch, set to a remote one.
    Branch { name: String, start: String },
    /// Anything else.
    Detached(String),
    /// A branch or a tag, whichever there is.
    BranchOrTag(String),
}

impl Wanted {
    /// `asked`: the input `ref`; the event's reference and commit are those of a checkout of the own repository.
    pub(super) fn new(asked: &str, event: Option<(&str, &str)>) -> Self {
        if is_commit(asked) {
            return Self {
                reference: String::new(),
                commit: asked.to_owned(),
            };
        }
        let (reference, commit) = match (asked, event) {
            ("", Some((reference, commit))) => (reference, commit),
            (asked, _) => (asked, ""),
        };
        let full = if !commit.is_empty() && !reference.is_empty() && !reference.starts_with("refs/")
        {
            format!("refs/heads/{reference}")
        } else {
            reference.to_owned()
        };
        Self {
            reference: full,
            commit: commit.to_owned(),
        }
    }

    /// What is fetched to have it.
    pub(super) fn refspecs(&self) -> Vec<String> {
        let source = if self.commit.is_empty() {
            &self.reference
        } else {
            &self.commit
        };
        match place(&self.reference) {
            Some(place) => vec![format!("+{source}:{place}")],
            None if !self.commit.is_empty() => vec![self.commit.clone()],
            None => {
                let name = &self.reference;
                vec![
                    format!("+refs/heads/{name}*:refs/remotes/origin/{name}*"),
                    format!("+refs/tags/{name}*:refs/tags/{name}*"),
                ]
            }
        }
    }

    pub(super) fn target(&self) -> Target {
        match (
            self.reference.strip_prefix("refs/heads/"),
            place(&self.reference),
        ) {
            (Some(name), Some(start)) => Target::Branch {
                name: name.to_owned(),
                start,
            },
            (_, Some(place)) => Target::Detached(place),
            (_, None) if self.reference.is_empty() => Target::Detached(self.commit.clone()),
            (_, None) => Target::BranchOrTag(self.reference.clone()),
        }
    }
}

/// All branches and tags.
pub(super) const EVERYTHING: [&str; 2] = ["+refs/heads/*:refs/remotes/origin/*", TAGS];
pub(super) const TAGS: &str = "+refs/tags/*:refs/tags/*";

/// Where a reference in full is kept here.
fn place(reference: &str) -> Option<String> {
    if let Some(branch) = reference.strip_prefix("refs/heads/") {
        Some(format!("refs/remotes/origin/{branch}"))
    } else if let Some(pull) = reference.strip_prefix("refs/pull/") {
        Some(format!("refs/remotes/pull/{pull}"))
    } else {
        reference.starts_with("refs/").then(|| reference.to_owned())
    }
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    fn check(asked: &str, event: Option<(&str, &str)>, refspecs: &[&str], target: Target) {
        let wanted = Wanted::new(asked, event);
        assert_eq!(wanted.refspecs(), refspecs);
        assert_eq!(wanted.target(), target);
    }

    fn branch(name: &str) -> Target {
        Target::Branch {
            name: name.to_owned(),
            start: format!("refs/remotes/origin/{name}"),
        }
    }

    #[test]
    fn an_event_is_checked_out_at_its_commit() {
        let spec = |place: &str| format!("+{COMMIT}:{place}");
        check(
            "",
            Some(("refs/heads/main", COMMIT)),
            &[&spec("refs/remotes/origin/main")],
            branch("main"),
        );
        let tag = Target::Detached("refs/tags/v1".to_owned());
        check(
            "",
            Some(("refs/tags/v1", COMMIT)),
            &[&spec("refs/tags/v1")],
            tag,
        );
        let pull = Target::Detached("refs/remotes/pull/7/merge".to_owned());
        check(
            "",
            Some(("refs/pull/7/merge", COMMIT)),
            &[&spec("refs/remotes/pull/7/merge")],
            pull,
        );
        check(
            "",
            Some(("main", COMMIT)),
            &[&spec("refs/remotes/origin/main")],
            branch("main"),
        );
    }

    #[test]
    fn what_is_asked_for_goes_before_the_event() {
        let event = Some(("refs/heads/main", COMMIT));
        let either = [
            "+refs/heads/dev*:refs/remotes/origin/dev*",
            "+refs/tags/dev*:refs/tags/dev*",
        ];
        check("dev", event, &either, Target::BranchOrTag("dev".to_owned()));
        let full = ["+refs/heads/dev:refs/remotes/origin/dev"];
        check("refs/heads/dev", event, &full, branch("dev"));
        let other = "a".repeat(40);
        check(&other, event, &[&other], Target::Detached(other.clone()));
        check(COMMIT, None, &[COMMIT], Target::Detached(COMMIT.to_owned()));
    }
}
