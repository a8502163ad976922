//! Which calls are written down. Pure.

use havre_api::{Call, Login, Role};

/// What becomes of a call in the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It only looks: written down where it is refused.
    Looks,
    /// Written down before and after. Where it cannot be, it is not done.
    Recorded,
    /// Written down before and after. Where it cannot be, as on a full disk, it is done all the same: it makes room, stops
    /// something, or revokes a token.
    Mends,
    /// Whoever calls is not known before. Written down afterwards alone: strangers call it.
    Proves,
}

/// Calls that need more than to look, and only look; what is sent changes nothing until an `up` names it.
const LOOKS: &[&str] = &[
    "/v1/plan",
    "/v1/sources/offer",
    "/v1/sources/put",
    "/v1/audit/log",
    "/v1/audit/verify",
    "/v1/tokens",
    "/v1/users",
];
/// Calls that mend.
const MENDS: &[&str] = &[
    "/v1/cancel",
    "/v1/ci/caches/remove",
    "/v1/ci/cancel",
    "/v1/ci/logs/remove",
    "/v1/down",
    "/v1/images/prune",
    "/v1/images/remove",
    "/v1/restart",
    "/v1/rollback",
    "/v1/shutdown",
    "/v1/steer",
    "/v1/tokens/revoke",
];

/// By what a call is, and the role that it needs. One that nobody thought of here is recorded.
pub(crate) fn rule(path: &str, role: Option<Role>) -> Rule {
    match role {
        None if path == Login::PATH => Rule::Looks,
        None => Rule::Proves,
        Some(Role::Viewer) => Rule::Looks,
        Some(Role::Deployer | Role::Admin) if LOOKS.contains(&path) => Rule::Looks,
        Some(Role::Deployer | Role::Admin) if MENDS.contains(&path) => Rule::Mends,
        Some(Role::Deployer | Role::Admin) => Rule::Recorded,
    }
}

/// How a call is named in the trail.
pub(crate) fn action(path: &str) -> &str {
    path.trim_start_matches("/v1/")
}

#[cfg(test)]
mod tests {
    use havre_api::{Cancel, Declared, EXEC_PATH, EXEC_ROLE, Feed, Operation, declared};

    use super::*;

    #[derive(Default)]
    struct Paths(Vec<(&'static str, Option<Role>)>);

    impl Declared for Paths {
        fn call<C: Call>(&mut self) {
            self.0.push((C::PATH, C::ROLE));
        }
        fn operation<O: Operation>(&mut self) {
            self.0.push((O::PATH, Some(O::ROLE)));
        }
        fn feed<F: Feed>(&mut self) {
            self.0.push((F::PATH, Some(F::ROLE)));
        }
    }

    fn paths() -> Vec<(&'static str, Option<Role>)> {
        let mut paths = Paths::default();
        declared(&mut paths);
        paths.0.push((EXEC_PATH, Some(EXEC_ROLE)));
        paths.0.push((Cancel::PATH, Cancel::ROLE));
        paths.0
    }

    #[test]
    fn what_is_listed_is_a_call() {
        let paths = paths();
        for listed in LOOKS.iter().chain(MENDS) {
            assert!(paths.iter().any(|(path, _)| path == listed), "{listed}");
        }
    }

    #[test]
    fn what_changes_something_is_recorded() {
        let ruled = |wanted: Rule| -> Vec<&str> {
            let paths = paths().into_iter();
            let mut ruled: Vec<_> = paths
                .filter(|(path, role)| rule(path, *role) == wanted)
                .map(|(path, _)| action(path))
                .collect();
            ruled.sort_unstable();
            ruled
        };
        // A new call shows here: whether it only looks is to be decided.
        for call in [
            "up",
            "scale",
            "exec",
            "images/import",
            "networks/create",
            "tokens/create",
            "audit/export",
            "ci/dispatch",
            "ci/event",
            "vars/set",
            "ci/rerun",
        ] {
            assert!(ruled(Rule::Recorded).contains(&call), "{call}");
        }
        for call in ["status", "logs", "why", "plan", "audit/log", "ci/logs"] {
            assert!(ruled(Rule::Looks).contains(&call), "{call}");
        }
    }
}
