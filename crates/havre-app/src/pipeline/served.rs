//! What a box is served beside artifacts and caches: the repository by git's protocol, identity tokens, and a word on
//! GitHub's API.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::Router;
use axum::extract::{Query, Request};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::get;
use data_encoding::BASE64;
use havre_audit::{Entry, Kind, Trail};
use havre_base::{blocking, clipped, one_line};
use havre_git::{Asks, Door, Git, Outcome, Push, Refusal, Service, Visitor};
use havre_release::Answer;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::job_key::{JobKey, Purpose};
use crate::audit;
use crate::identity::Identities;
use crate::jobs::Rights;
use crate::repositories::moved;

/// Most bytes of an audience.
const MAX_AUDIENCE: usize = 1000;
/// Most bytes of what the trail is told of a push.
const MOST_SUBJECT: usize = 200;

/// What a job asks for an identity token.
#[derive(Deserialize)]
struct Asked {
    /// For whom it is.
    audience: Option<String>,
}

/// What boxes are served.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) key: JobKey,
    pub(super) git: Git,
    pub(super) identities: Identities,
    pub(super) trail: Trail,
}

impl Served {
    /// Why a job that may ask for identity tokens gets none, for a person.
    pub(super) fn without_identity(&self, rights: &Rights) -> Option<&'static str> {
        let is_asked = rights.claims.is_some() && self.identities.address().is_none();
        is_asked.then_some(
            "`id-token: write`: nobody could verify this machine's tokens: machine.yaml has no `api:` with its host",
        )
    }

    /// The token by which a job asks for identity tokens.
    pub(super) fn identity(&self, id: &str, rights: &Rights) -> Option<String> {
        rights.claims.as_ref()?;
        self.identities.address()?;
        Some(self.key.token(Purpose::Identity, id))
    }

    /// What answers one box.
    pub(super) fn router(&self, id: &str, rights: Rights) -> Router {
        let door = JobDoor {
            key: self.key.clone(),
            id: id.to_owned(),
            rights: rights.clone(),
            trail: self.trail.clone(),
        };
        let (served, id) = (self.clone(), id.to_owned());
        let identity = async move |Query(asked): Query<Asked>, headers: HeaderMap| {
            let answered = served.sign(&id, &rights, asked, &headers).await;
            match answered {
                Ok(token) => Json(json!({ "value": token })).into_response(),
                Err((status, message)) => {
                    (status, Json(json!({ "message": message }))).into_response()
                }
            }
        };
        self.git
            .router(Arc::new(door))
            .route("/identity/token", get(identity))
            .fallback(no_github)
    }

    async fn sign(
        &self,
        id: &str,
        rights: &Rights,
        asked: Asked,
        headers: &HeaderMap,
    ) -> Result<String, (StatusCode, String)> {
        let refused = |status, message: &str| Err((status, message.to_owned()));
        let token = bearer(headers);
        if !token.is_some_and(|token| self.key.is(token, Purpose::Identity, id)) {
            let message = "that is not this job's ACTIONS_ID_TOKEN_REQUEST_TOKEN";
            return refused(StatusCode::UNAUTHORIZED, message);
        }
        let (Some(mut claims), Some(issuer)) = (rights.claims.clone(), self.identities.address())
        else {
            let message = "this job may not ask for identity tokens";
            return refused(StatusCode::FORBIDDEN, message);
        };
        let audience = match asked.audience {
            Some(audience) if audience.len() > MAX_AUDIENCE => {
                return refused(StatusCode::BAD_REQUEST, "the audience is too long");
            }
            Some(audience) if !audience.is_empty() => audience,
            // As GitHub's: who owns the repository, at the server.
            _ => format!("{issuer}/{}", rights.project),
        };
        claims.insert("iss".to_owned(), json!(issuer));
        claims.insert("aud".to_owned(), json!(audience));
        let identities = self.identities.clone();
        let signed = blocking(move || identities.issuer.token(claims, SystemTime::now())).await;
        let failed = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
        let signed = signed.map_err(|error| failed(one_line(&error)))?;
        signed.map_err(|error| failed(one_line(&error)))
    }
}

/// GitHub's clients show `message`, and do not try a 404 again.
async fn no_github(request: Request) -> Response {
    let message = format!(
        "this is Havre, which has no API of GitHub's: {} {} is not there. Call GitHub itself, with a token of yours",
        request.method(),
        clipped(request.uri().path(), 200),
    );
    let body = json!({"message": message, "documentation_url": "https://github.com/havre/havre/blob/main/docs/ci.md"});
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
    is_bearer.then(|| token.trim())
}

/// A token as git shows it, whoever's.
fn password(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, packed) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = BASE64.decode(packed.trim().as_bytes()).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (_, password) = pair.split_once(':')?;
    Some(password.to_owned())
}

/// Lets one job in to the repository of its project, as far as its workflow's `permissions` go.
struct JobDoor {
    key: JobKey,
    id: String,
    rights: Rights,
    trail: Trail,
}

impl Door for JobDoor {
    fn admit<'a>(&'a self, asks: Asks<'a>) -> Answer<'a, Result<Arc<dyn Visitor>, Refusal>> {
        Box::pin(async move {
            let refused = |status, line: String| {
                Err(Refusal {
                    status,
                    lines: vec![line],
                })
            };
            let headers = &asks.head.headers;
            let token = password(headers).or_else(|| bearer(headers).map(str::to_owned));
            let is_own = |token: String| self.key.is(&token, Purpose::Repository, &self.id);
            if !token.is_some_and(is_own) {
                let line = "the job's own token is needed, as the password: ${{ github.token }}";
                return refused(StatusCode::UNAUTHORIZED, line.to_owned());
            }
            let rights = &self.rights;
            if asks.project.as_str() != rights.project {
                let line = format!("a job of {} reaches no other repository", rights.project);
                return refused(StatusCode::FORBIDDEN, line);
            }
            let (may, needed) = match asks.service {
                Service::Fetch => (rights.fetches, "read"),
                Service::Push => (rights.pushes, "write"),
            };
            if !may {
                let line = format!(
                    "this job's token may not: its workflow needs `permissions: contents: {needed}`"
                );
                return refused(StatusCode::FORBIDDEN, line);
            }
            let visit: Arc<dyn Visitor> = Arc::new(Visit {
                id: self.id.clone(),
                rights: rights.clone(),
                trail: self.trail.clone(),
                pushed: Mutex::default(),
            });
            Ok(visit)
        })
    }
}

/// A job that was let in.
struct Visit {
    id: String,
    rights: Rights,
    trail: Trail,
    /// What its push moves, once that is known.
    pushed: Mutex<Option<String>>,
}

impl Visitor for Visit {
    fn name(&self) -> String {
        // A workflow says what its jobs are called.
        let name = havre_git::plain(&self.rights.name);
        format!("job {}", clipped(&name, MOST_SUBJECT))
    }

    fn key(&self) -> String {
        format!("job {}", self.id)
    }

    fn lost(&self) -> CancellationToken {
        // Its box, and with it the connection, goes when it may no longer.
        CancellationToken::new()
    }

    fn begin(&self, push: &Push) -> Result<(), Vec<String>> {
        let updates: Vec<String> = push.updates.iter().map(moved).collect();
        let subject = havre_git::plain(&format!("{}: {}", push.project, updates.join(", ")));
        let subject = clipped(&subject, MOST_SUBJECT).to_owned();
        *self.pushed.lock().unwrap_or_else(PoisonError::into_inner) = Some(subject);
        Ok(())
    }

    fn is_of_job(&self) -> bool {
        true
    }

    fn ended(&self, outcome: Outcome) {
        let pushed = self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        // What only looks is not written down.
        let Some(subject) = pushed.clone() else {
            return;
        };
        let outcome = match outcome {
            Outcome::Done => havre_audit::Outcome::Ok,
            Outcome::Failed | Outcome::Left => havre_audit::Outcome::Failed,
        };
        let principal = havre_audit::Principal {
            id: Some(self.id.clone()),
            kind: Kind::Token,
            name: self.name(),
        };
        let entry = Entry {
            project: Some(self.rights.project.clone()),
            subject: Some(subject),
            ..Entry::new(principal, "git/push", outcome)
        };
        audit::note(&self.trail, entry);
    }
}
