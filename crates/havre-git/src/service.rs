//! The two things that are asked of git.

/// What is asked of git.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `git-upload-pack`: to clone and to fetch.
    Fetch,
    /// `git-receive-pack`: to push.
    Push,
}

impl Service {
    /// Git's command, without `git-`.
    pub fn command(self) -> &'static str {
        match self {
            Self::Fetch => "upload-pack",
            Self::Push => "receive-pack",
        }
    }

    /// By the name that clients give (`git-upload-pack`).
    pub fn named(name: &str) -> Option<Self> {
        [Self::Fetch, Self::Push]
            .into_iter()
            .find(|service| name.strip_prefix("git-") == Some(service.command()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_name() {
        assert_eq!(Service::named("git-receive-pack"), Some(Service::Push));
        assert_eq!(Service::named("git-upload-pack"), Some(Service::Fetch));
        for other in ["upload-pack", "git-upload-archive", ""] {
            assert_eq!(Service::named(other), None);
        }
    }
}
