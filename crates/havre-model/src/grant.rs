//! What somebody may do, and where.

use std::fmt;
use std::str::FromStr;

use crate::{EnvironmentId, ProjectName};
use serde::{Deserialize, Serialize};

/// What a person or program may do; each role may do all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look: status, logs, releases, why.
    Viewer,
    /// Change what runs: up, down, rollback, scale, restart.
    Deployer,
    /// All else: commands in containers, secrets, tokens, images, networks, the daemon.
    Admin,
}

impl Role {
    /// Every one, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Deployer, Self::Admin];

    /// Its word, as it is written in commands and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRole(String);

impl fmt::Display for NoRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no role: viewer, deployer or admin", self.0)
    }
}

impl std::error::Error for NoRole {}

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        let found = Self::ALL.into_iter().find(|role| role.word() == text);
        found.ok_or_else(|| NoRole(text.to_owned()))
    }
}

/// What a call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One environment, whether it exists or not.
    Environment(EnvironmentId),
    /// Whatever of the machine the principal may see: the handler shows nothing else of it.
    Visible,
    /// The machine and all that is on it.
    Machine,
}

/// `shop/production`, `shop/*`, `*/staging`, `shop/pr-*`, `*`: environments by project and name. A
/// `*` stands at the end of a part only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvironmentPattern {
    project: Glob,
    environment: Glob,
}

impl EnvironmentPattern {
    /// All environments.
    pub fn all() -> Self {
        Self {
            project: Glob::all(),
            environment: Glob::all(),
        }
    }

    /// Whether it names this environment.
    pub fn matches(&self, id: &EnvironmentId) -> bool {
        self.project.matches(id.project.as_str())
            && self.environment.matches(id.environment.as_str())
    }

    /// Whether it names all of a project's, whatever they are called.
    pub fn is_all_of(&self, project: &ProjectName) -> bool {
        self.project.matches(project.as_str()) && self.environment.is_all()
    }

    /// Whether it names all there are and can be.
    pub fn is_all(&self) -> bool {
        self.project.is_all() && self.environment.is_all()
    }
}

impl fmt::Display for EnvironmentPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_all() {
            true => f.write_str("*"),
            false => write!(f, "{}/{}", self.project, self.environment),
        }
    }
}

impl From<EnvironmentPattern> for String {
    fn from(pattern: EnvironmentPattern) -> Self {
        pattern.to_string()
    }
}

/// A text that names no environments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPattern(String);

impl fmt::Display for NoPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} names no environments: PROJECT/ENVIRONMENT, with `*` at the end of either, or `*`",
            self.0
        )
    }
}

impl std::error::Error for NoPattern {}

impl FromStr for EnvironmentPattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        let refused = || NoPattern(text.chars().take(130).collect());
        if text == "*" {
            return Ok(Self::all());
        }
        let (project, environment) = text.split_once('/').ok_or_else(refused)?;
        Ok(Self {
            project: Glob::read(project).ok_or_else(refused)?,
            environment: Glob::read(environment).ok_or_else(refused)?,
        })
    }
}

impl TryFrom<String> for EnvironmentPattern {
    type Error = NoPattern;

    fn try_from(text: String) -> Result<Self, NoPattern> {
        text.parse()
    }
}

/// A name, or what names begin with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Glob {
    start: String,
    open: bool,
}

impl Glob {
    fn all() -> Self {
        Self {
            start: String::new(),
            open: true,
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (start, open) = match text.strip_suffix('*') {
            Some(start) => (start, true),
            None => (text, false),
        };
        let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        let is_name = start.len() <= 63 && start.chars().all(sound);
        (is_name && (open || !start.is_empty())).then(|| Self {
            start: start.to_owned(),
            open,
        })
    }

    fn matches(&self, name: &str) -> bool {
        match self.open {
            true => name.starts_with(&self.start),
            false => name == self.start,
        }
    }

    fn is_all(&self) -> bool {
        self.open && self.start.is_empty()
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.start)?;
        f.write_str(if self.open { "*" } else { "" })
    }
}

/// What somebody may do, and in which environments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What.
    pub role: Role,
    /// Where; none: nowhere.
    pub environments: Vec<EnvironmentPattern>,
}

impl Grant {
    /// Of the whole machine.
    pub fn everywhere(role: Role) -> Self {
        Self {
            role,
            environments: vec![EnvironmentPattern::all()],
        }
    }

    /// Nothing anywhere.
    pub fn nothing() -> Self {
        Self {
            role: Role::Viewer,
            environments: Vec::new(),
        }
    }

    /// Whether a call may be made that needs this role and is about this.
    pub fn allows(&self, role: Role, scope: &Scope) -> bool {
        self.role >= role
            && match scope {
                Scope::Environment(id) => self.sees(id),
                Scope::Visible => !self.environments.is_empty(),
                Scope::Machine => self.sees_all(),
            }
    }

    /// Whether it reaches that environment.
    pub fn sees(&self, id: &EnvironmentId) -> bool {
        self.environments.iter().any(|one| one.matches(id))
    }

    /// Whether it reaches every environment that a project has or can have.
    pub fn sees_all_of(&self, project: &ProjectName) -> bool {
        self.environments.iter().any(|one| one.is_all_of(project))
    }

    /// Whether it reaches some environment that a project has or can have.
    pub fn sees_some_of(&self, project: &ProjectName) -> bool {
        let mut patterns = self.environments.iter();
        patterns.any(|one| one.project.matches(project.as_str()))
    }

    /// Whether it reaches the whole machine.
    pub fn sees_all(&self) -> bool {
        self.environments.iter().any(EnvironmentPattern::is_all)
    }
}

/// `deployer of shop/production, shop/staging`.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.environments.is_empty() {
            return f.write_str("nothing");
        }
        let places: Vec<String> = self.environments.iter().map(ToString::to_string).collect();
        match self.sees_all() {
            true => write!(f, "{} of everything", self.role),
            false => write!(f, "{} of {}", self.role, places.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{EnvironmentName, ProjectName};

    use super::*;

    fn id(text: &str) -> EnvironmentId {
        let (project, environment) = text.split_once('/').expect("both parts");
        EnvironmentId {
            project: ProjectName::new(project),
            environment: EnvironmentName::new(environment),
        }
    }

    #[test]
    fn a_pattern_names_what_it_says_and_nothing_else() {
        let matches = |pattern: &str, name: &str| {
            let pattern: EnvironmentPattern = pattern.parse().expect(pattern);
            pattern.matches(&id(name))
        };
        assert!(matches("shop/production", "shop/production"));
        assert!(!matches("shop/production", "shop/production-2"));
        assert!(!matches("shop/production", "shop2/production"));
        assert!(matches("shop/*", "shop/pr-7"));
        assert!(!matches("shop/*", "shop2/pr-7"));
        assert!(matches("shop/pr-*", "shop/pr-7"));
        assert!(!matches("shop/pr-*", "shop/production"));
        assert!(matches("*/staging", "blog/staging"));
        assert!(!matches("*/staging", "blog/production"));
        assert!(matches("*", "blog/production"));
        for text in [
            "", "shop", "shop/", "/", "a/b/c", "*x/y", "sh*p/y", "Shop/y", "a/../b", "**",
        ] {
            assert!(text.parse::<EnvironmentPattern>().is_err(), "{text}");
        }
        for text in ["shop/production", "shop/*", "*/staging", "shop/pr-*", "*"] {
            let pattern: EnvironmentPattern = text.parse().expect(text);
            assert_eq!(pattern.to_string(), text);
        }
        assert!("*/*".parse::<EnvironmentPattern>().expect("all").is_all());
    }

    #[test]
    fn a_grant_allows_its_role_where_it_reaches() {
        let grant = Grant {
            role: Role::Deployer,
            environments: vec!["shop/*".parse().expect("sound")],
        };
        let here = Scope::Environment(id("shop/staging"));
        let there = Scope::Environment(id("blog/staging"));
        assert!(grant.allows(Role::Viewer, &here));
        assert!(grant.allows(Role::Deployer, &here));
        assert!(!grant.allows(Role::Admin, &here));
        assert!(!grant.allows(Role::Viewer, &there));
        assert!(grant.allows(Role::Viewer, &Scope::Visible));
        assert!(!grant.allows(Role::Viewer, &Scope::Machine));
        assert!(Grant::everywhere(Role::Admin).allows(Role::Admin, &Scope::Machine));
        assert!(!Grant::everywhere(Role::Viewer).allows(Role::Deployer, &here));
        let nothing = Grant::nothing();
        for scope in [here, Scope::Visible, Scope::Machine] {
            assert!(!nothing.allows(Role::Viewer, &scope), "{scope:?}");
        }
        assert_eq!(grant.to_string(), "deployer of shop/*");
    }
}
