//! Mirrors. To what leads out of the machine, and into it, only an admin of all of it says something.

use super::*;

impl Concern for MirrorSetRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        format!("{} {} {}", self.project, self.way, self.url)
    }
}

impl Concern for MirrorsQuery {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        self.project
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    }
}

/// Whoever answers decides who may.
impl Concern for MirrorQuery {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        format!("{} {}", self.project, self.way)
    }
}
