//! Who may use names of images, and give them: they are the machine's, and who may not see all of it has those
//! of its own environments.

use std::fmt;

use havre_api::{ApiError, EnvironmentId, ErrorCode, Event, EventSink, Grant, Principal, Role};
use havre_image::builder::BuildError;
use havre_image::{ImageError, ImageRef, NameRefused, NameRights, NameUse};
use havre_model::{EnvironmentName, Project, ProjectName};

use crate::pulls::FetchError;

/// Who gave a name, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Giver {
    /// Who imported it.
    Import,
    /// The registry that it names.
    Registry,
    /// Whose build it is.
    Environment(EnvironmentId),
    /// A text of another version.
    Unknown,
}

const REGISTRY: &str = "registry";
const ENVIRONMENT: &str = "environment ";

impl Giver {
    fn read(text: Option<&str>) -> Self {
        let Some(text) = text else {
            return Self::Import;
        };
        let id = text.strip_prefix(ENVIRONMENT);
        match id.and_then(|id| id.split_once('/')) {
            Some((project, environment)) => Self::Environment(EnvironmentId {
                project: ProjectName::new(project),
                environment: EnvironmentName::new(environment),
            }),
            None if text == REGISTRY => Self::Registry,
            None => Self::Unknown,
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Import | Self::Unknown => None,
            Self::Registry => Some(REGISTRY.to_owned()),
            Self::Environment(id) => Some(format!("{ENVIRONMENT}{id}")),
        }
    }
}

impl fmt::Display for Giver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Import => "imported on this machine",
            Self::Registry => "fetched from its registry",
            Self::Environment(_) | Self::Unknown => "built for another environment",
        })
    }
}

/// For whom and for what names are used.
#[derive(Clone, Copy)]
pub(crate) struct Use<'a> {
    pub(crate) by: &'a Principal,
    pub(crate) environment: &'a EnvironmentId,
    /// Where it is told whose images are used; nowhere for what is only looked at.
    pub(crate) events: Option<&'a EventSink>,
}

pub(crate) fn environment_of(project: &Project) -> EnvironmentId {
    EnvironmentId {
        project: project.name.clone(),
        environment: project.environment.clone(),
    }
}

impl Use<'_> {
    /// Names as builds use and give them.
    pub(crate) fn builds(self) -> NameRights {
        self.rights(Giver::Environment(self.environment.clone()))
    }

    /// Names as services use them, and fetching gives them.
    pub(crate) fn pulls(self) -> NameRights {
        self.rights(Giver::Registry)
    }

    /// Whose kept results of steps, and cache folders, builds use: the project's where somebody has all of it.
    /// Whoever has some environments only leaves nothing that the others' builds take for their own.
    pub(crate) fn cache_of(self) -> String {
        let project = &self.environment.project;
        match self.by.grant.sees_all_of(project) {
            true => project.to_string(),
            false => self.environment.to_string(),
        }
    }

    fn rights(self, giver: Giver) -> NameRights {
        let (grant, who) = (self.by.grant.clone(), self.by.to_string());
        let project = self.environment.project.clone();
        let events = self.events.cloned();
        NameRights::new(giver.text(), move |wanted, reference, given_by| {
            let before = Giver::read(given_by);
            if !may(&grant, wanted, &before, &giver) {
                return Err(refused(wanted, reference, &before, &giver, &who, &grant));
            }
            if let (NameUse::Read, Giver::Environment(id), Some(events)) =
                (wanted, &before, &events)
                && id.project != project
            {
                events.emit(Event::Warning {
                    message: format!("the image {reference} is what {id} built under that name"),
                    hint: Some(format!(
                        "where that is not meant: `havre image rm {reference}`, and it is fetched"
                    )),
                });
            }
            Ok(())
        })
    }
}

/// Names as jobs of a project use them, whoever has started them: those of its own environments, and what is for all.
pub(crate) fn of_jobs(project: &str) -> NameRights {
    let grant = Grant {
        role: Role::Deployer,
        environments: format!("{project}/*").parse().into_iter().collect(),
    };
    let who = format!("a job of {project}");
    NameRights::new(
        Giver::Registry.text(),
        move |wanted, reference, given_by| {
            let (before, giver) = (Giver::read(given_by), Giver::Registry);
            match may(&grant, wanted, &before, &giver) {
                true => Ok(()),
                false => Err(refused(wanted, reference, &before, &giver, &who, &grant)),
            }
        },
    )
}

/// Whether a name that `before` gave may be used so, by or for `giver`.
fn may(grant: &Grant, wanted: NameUse, before: &Giver, giver: &Giver) -> bool {
    if grant.sees_all() {
        return true;
    }
    match (before, wanted) {
        (Giver::Environment(id), _) => grant.role >= Role::Deployer && grant.sees(id),
        (Giver::Import | Giver::Registry, NameUse::Read) => true,
        // What the registry has now is what who names it wants.
        (Giver::Registry, NameUse::Give) => *giver == Giver::Registry,
        (Giver::Import, NameUse::Give) | (Giver::Unknown, _) => false,
    }
}

/// Of what is another environment's not even which one it is.
fn refused(
    wanted: NameUse,
    reference: &ImageRef,
    before: &Giver,
    giver: &Giver,
    who: &str,
    grant: &Grant,
) -> NameRefused {
    let reason = match wanted {
        NameUse::Read => format!("the image {reference} was {before}, and is for that alone"),
        NameUse::Give => {
            format!("the image {reference} was {before}: its name is not given to another one")
        }
    };
    let what = match (wanted, giver) {
        (NameUse::Read, _) => {
            "build it here under another name, or have an admin of the machine import it for all"
        }
        (NameUse::Give, Giver::Registry) => {
            "do without `--pull` and `pull_policy: always` for it, or have an admin of the machine fetch it"
        }
        (NameUse::Give, _) => "give this one another name: `image`, `build.tags`",
    };
    NameRefused {
        reason,
        hint: Some(format!("{what}; {who} is {grant}")),
    }
}

/// Why a stored image is not to be had.
pub(crate) fn image_error(error: &ImageError) -> ApiError {
    match error {
        ImageError::Refused(refused) => forbidden(refused),
        error => ApiError::from_error(ErrorCode::Failed, error),
    }
}

/// Why an image is not fetched, where its name is why.
pub(crate) fn of_fetch(error: &FetchError) -> Option<ApiError> {
    match error {
        FetchError::Pull(error) => error.refusal().map(forbidden),
        FetchError::Cancelled { .. } => None,
    }
}

/// Why there is no build, or none of it can be foretold.
pub(crate) fn build_error(error: &BuildError) -> ApiError {
    match error.refusal() {
        Some(refused) => forbidden(refused),
        None => ApiError::from_error(ErrorCode::Failed, error),
    }
}

fn forbidden(refused: &NameRefused) -> ApiError {
    let error = ApiError::from_error(ErrorCode::Forbidden, refused);
    match &refused.hint {
        Some(hint) => error.with_hint(hint.clone()),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Giver {
        let giver = Giver::read(Some(text));
        assert_eq!(giver.text().as_deref(), Some(text));
        giver
    }

    #[test]
    fn names_are_for_those_whose_environment_gave_them() {
        let grant = |role, place: &str| Grant {
            role,
            environments: vec![place.parse().expect("sound")],
        };
        let (bank, shop) = (of("environment bank/production"), of("environment shop/x"));
        let (registry, import) = (of("registry"), Giver::read(None));
        let unknown = Giver::read(Some("what another version wrote"));
        // Before, and whether it may be read, built anew, fetched anew.
        let of_shop = [
            (&shop, [true, true, true]),
            (&bank, [false, false, false]),
            (&unknown, [false, false, false]),
            (&registry, [true, false, true]),
            (&import, [true, false, false]),
        ];
        let may = |grant: &Grant, before: &Giver| {
            [
                may(grant, NameUse::Read, before, &shop),
                may(grant, NameUse::Give, before, &shop),
                may(grant, NameUse::Give, before, &registry),
            ]
        };
        for (before, expected) in of_shop {
            for role in [Role::Deployer, Role::Admin] {
                assert_eq!(may(&grant(role, "shop/*"), before), expected, "{before:?}");
            }
            let everything = Grant::everywhere(Role::Admin);
            assert_eq!(may(&everything, before), [true; 3], "{before:?}");
        }
        assert!(!may(&grant(Role::Viewer, "shop/*"), &shop)[0]);
    }

    #[test]
    fn who_has_a_part_of_a_project_fills_no_cache_of_the_others() {
        let cache_of = |place: &str| {
            let grant = Grant {
                role: Role::Deployer,
                environments: vec![place.parse().expect("sound")],
            };
            let environment = EnvironmentId {
                project: ProjectName::new("shop"),
                environment: EnvironmentName::new("pr-7"),
            };
            let using = Use {
                by: &crate::fake::principal("anna", grant),
                environment: &environment,
                events: None,
            };
            using.cache_of()
        };
        assert_eq!(["*", "shop/*", "sh*/*"].map(cache_of), ["shop"; 3]);
        assert_eq!(
            ["shop/pr-7", "shop/pr-*", "*/pr-7"].map(cache_of),
            ["shop/pr-7"; 3]
        );
    }

    #[test]
    fn a_refusal_says_what_it_is_and_not_whose() {
        let by = crate::fake::principal(
            "anna",
            Grant {
                role: Role::Deployer,
                environments: vec!["shop/*".parse().expect("sound")],
            },
        );
        let grant = &by.grant;
        let name = "bank-api".parse().expect("a name");
        let (bank, own) = (of("environment bank/production"), of("environment shop/x"));
        let said = refused(NameUse::Read, &name, &bank, &own, "anna", grant);
        let reason =
            "the image bank-api:latest was built for another environment, and is for that alone";
        assert_eq!(said.reason, reason);
        let hint = said.hint.expect("what to do");
        assert!(hint.ends_with("; anna is deployer of shop/*"), "{hint}");
        assert!(!hint.contains("bank"), "{hint}");
        let import = Giver::read(None);
        let said = refused(NameUse::Give, &name, &import, &own, "anna", grant);
        let reason = "the image bank-api:latest was imported on this machine: its name is not given to another one";
        assert_eq!(said.reason, reason);
    }
}
