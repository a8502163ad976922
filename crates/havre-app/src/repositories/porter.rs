//! Who may fetch and push: decided by the guard that decides on calls, and written down as they are.
//!
//! To fetch needs the role viewer in some environment of the project. To push needs the role deployer in all that it
//! has and can have, as workflows that a push starts may deploy to any of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use havre_api::{
    ApiError, Asked, Credential, Ended, ErrorCode, Guard, Role, Scope, Who, credential,
};
use havre_base::clipped;
use havre_git::{Asks, Door, Outcome, Push, Refusal, Service, Update, Visitor, plain};
use havre_model::ProjectName;
use havre_release::Answer;
use tokio_util::sync::CancellationToken;

use crate::guard::Doorkeeper;
use crate::project_rights;

/// Digits of a commit that a person is shown.
const SHORT: usize = 7;
/// Most bytes of what the trail is told of a push.
const MOST_SUBJECT: usize = 200;

/// Lets people and programs in to repositories.
pub(crate) struct Porter {
    /// Decides, and writes down.
    pub(super) guard: Arc<dyn Guard>,
    /// Decides.
    pub(super) door: Arc<Doorkeeper>,
}

/// Somebody who was let in.
struct Visit {
    guard: Arc<dyn Guard>,
    begun: Instant,
    lost: CancellationToken,
    state: Mutex<State>,
}

struct State {
    asked: Asked,
    record: Option<u64>,
}

impl Door for Porter {
    fn admit<'a>(&'a self, asks: Asks<'a>) -> Answer<'a, Result<Arc<dyn Visitor>, Refusal>> {
        Box::pin(async move { self.let_in(&asks).map_err(|error| refusal(&error)) })
    }
}

impl Porter {
    fn let_in(&self, asks: &Asks<'_>) -> Result<Arc<dyn Visitor>, ApiError> {
        let credential = credential(&asks.head.extensions)?;
        // Git asks without a password first, whoever asks: that is no attempt.
        if let Credential::Remote(peer) = &credential
            && peer.bearer.is_none()
        {
            let message = "a token is needed, as the password; any user name does";
            return Err(ApiError::new(ErrorCode::Unauthenticated, message));
        }
        let principal = self.guard.authenticate(&credential)?;
        let (path, role) = match asks.service {
            Service::Fetch => ("/v1/git/fetch", Role::Viewer),
            Service::Push => ("/v1/git/push", Role::Deployer),
        };
        let asked = Asked {
            principal,
            address: credential.address(),
            path,
            role: Some(role),
            scope: Scope::Visible,
            subject: asks.project.to_string(),
            operation: None,
        };
        let begun = Instant::now();
        let lost = self
            .guard
            .hear(&asked)
            .and_then(|()| permit(&asked, asks.project.as_str(), asks.service))
            .and_then(|()| self.door.admit(&asked))
            .map(|admission| admission.lost);
        match lost {
            Ok(lost) => Ok(Arc::new(Visit {
                guard: Arc::clone(&self.guard),
                begun,
                lost,
                state: Mutex::new(State {
                    asked,
                    record: None,
                }),
            })),
            Err(error) => {
                let ended = Ended {
                    outcome: havre_api::Outcome::Failed(error.code),
                    elapsed: begun.elapsed(),
                    record: None,
                };
                self.guard.ended(&asked, ended);
                Err(error)
            }
        }
    }
}

/// Refuses what somebody may not do with a project's repository. Pure.
fn permit(asked: &Asked, project: &str, service: Service) -> Result<(), ApiError> {
    let name = ProjectName::new(project);
    let (needed, doing) = match service {
        Service::Fetch => (Role::Viewer, format!("fetching from {project}")),
        Service::Push => (Role::Deployer, format!("pushing to {project}")),
    };
    project_rights::permit(&asked.principal, &name, needed, &doing)
}

impl Visit {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visitor for Visit {
    fn name(&self) -> String {
        self.state().asked.principal.to_string()
    }

    fn key(&self) -> String {
        match &self.state().asked.principal.who {
            Who::Local(peer) => format!("uid {}", peer.uid),
            Who::Token { id, .. } | Who::Login { id, .. } => format!("token {id}"),
            _ => "nobody".to_owned(),
        }
    }

    fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    fn begin(&self, push: &Push) -> Result<(), Vec<String>> {
        let mut state = self.state();
        state.asked.subject = subject(push);
        let admitted = self.guard.admit(&state.asked);
        let admission = admitted.map_err(|error| lines(&error))?;
        state.record = admission.record;
        Ok(())
    }

    fn ended(&self, outcome: Outcome) {
        let state = self.state();
        let outcome = match outcome {
            Outcome::Done => havre_api::Outcome::Done,
            Outcome::Failed => havre_api::Outcome::Failed(ErrorCode::Failed),
            Outcome::Left => havre_api::Outcome::Left,
        };
        let ended = Ended {
            outcome,
            elapsed: self.begun.elapsed(),
            record: state.record,
        };
        self.guard.ended(&state.asked, ended);
    }
}

/// `shop: main 1a2b3c4..5d6e7f8`.
fn subject(push: &Push) -> String {
    let updates: Vec<String> = push.updates.iter().map(moved).collect();
    let subject = plain(&format!("{}: {}", push.project, updates.join(", ")));
    clipped(&subject, MOST_SUBJECT).to_owned()
}

/// What becomes of a reference, in a few words.
pub(crate) fn moved(update: &Update) -> String {
    let reference = &update.reference;
    let name = update
        .branch()
        .or_else(|| reference.strip_prefix("refs/tags/"))
        .unwrap_or(reference);
    let short = |oid: &havre_git::Oid| clipped(oid.as_str(), SHORT).to_owned();
    let forced = if update.forced { " (forced)" } else { "" };
    match (&update.old, &update.new) {
        (Some(old), Some(new)) => format!("{name} {}..{}{forced}", short(old), short(new)),
        (None, Some(new)) => format!("{name} {} (new)", short(new)),
        (_, None) => format!("{name} deleted"),
    }
}

fn refusal(error: &ApiError) -> Refusal {
    Refusal {
        status: error.code.status(),
        lines: lines(error),
    }
}

fn lines(error: &ApiError) -> Vec<String> {
    let hint = error.hint.as_ref().map(|hint| format!("hint: {hint}"));
    std::iter::once(error.message.clone()).chain(hint).collect()
}

#[cfg(test)]
mod tests {
    use havre_api::{Grant, LocalPeer, Principal};

    use super::*;

    fn may(role: Role, place: &str, service: Service) -> bool {
        let who = Who::Local(LocalPeer {
            uid: 1000,
            gid: 1000,
            name: None,
        });
        let environments = place.split(',').map(|one| one.parse().expect("a place"));
        let grant = Grant {
            role,
            environments: environments.collect(),
        };
        let asked = Asked {
            principal: Principal { who, grant },
            address: None,
            path: "/v1/git/push",
            role: Some(role),
            scope: Scope::Visible,
            subject: String::new(),
            operation: None,
        };
        permit(&asked, "shop", service).is_ok()
    }

    #[test]
    fn whoever_may_deploy_to_all_of_a_project_may_push() {
        for (role, place, fetches, pushes) in [
            (Role::Admin, "*", true, true),
            (Role::Deployer, "shop/*", true, true),
            (Role::Deployer, "shop/staging", true, false),
            (Role::Deployer, "other/*", false, false),
            (Role::Deployer, "*/staging", true, false),
            (Role::Viewer, "shop/*", true, false),
            (Role::Viewer, "other/*,shop/staging", true, false),
            (Role::Admin, "other/*", false, false),
        ] {
            assert_eq!(may(role, place, Service::Fetch), fetches, "{role} {place}");
            assert_eq!(may(role, place, Service::Push), pushes, "{role} {place}");
        }
    }

    #[test]
    fn what_moved_is_said_in_a_few_words() {
        let oid = |digit: &str| digit.repeat(40).parse().ok();
        let told = |reference: &str, old, new, forced| {
            moved(&Update {
                reference: reference.to_owned(),
                old,
                new,
                forced,
            })
        };
        let main = "refs/heads/main";
        let forced = told(main, oid("a"), oid("b"), true);
        assert_eq!(forced, "main aaaaaaa..bbbbbbb (forced)");
        assert_eq!(
            told("refs/tags/v1", None, oid("b"), false),
            "v1 bbbbbbb (new)"
        );
        assert_eq!(told(main, oid("a"), None, false), "main deleted");
    }
}
