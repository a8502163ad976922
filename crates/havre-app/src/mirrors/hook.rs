//! `POST /hooks/PROJECT`: another server says that something was pushed there.
//!
//! What it says is not read: a signature shows that it is it, and then it is asked itself.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures_util::StreamExt as _;
use havre_base::{blocking, one_line};
use havre_mirror::{Signed, Way};
use havre_secrets::Secrets;
use http::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Mirrors, WEBHOOK, secret};

const SIGNATURE: &str = "x-hub-signature-256";
/// Of GitHub, Gitea and Forgejo.
const EVENTS: [&str; 3] = ["x-github-event", "x-gitea-event", "x-forgejo-event"];
/// Largest body; GitHub's bound.
const MOST_BYTES: usize = 25 << 20;
const WITHIN: Duration = Duration::from_secs(30);
/// Requests that are read at once.
const MOST_AT_ONCE: usize = 16;

#[derive(Clone)]
struct Hooks {
    mirrors: Arc<Mirrors>,
    secrets: Secrets,
    room: Arc<Semaphore>,
}

/// Serves it.
pub(crate) fn router(mirrors: Arc<Mirrors>, secrets: Secrets) -> Router {
    let hooks = Hooks {
        mirrors,
        secrets,
        room: Arc::new(Semaphore::new(MOST_AT_ONCE)),
    };
    Router::new().route(
        "/hooks/{project}",
        post(async move |Path(project): Path<String>, request: Request| {
            match hooks.heard(&project, request).await {
                Ok(said) => (StatusCode::ACCEPTED, said).into_response(),
                Err((status, said)) => refusal(status, said),
            }
        }),
    )
}

type Refusal = (StatusCode, &'static str);

/// Whoever is not believed learns nothing, not even whether there is such a project.
const UNKNOWN: Refusal = (
    StatusCode::FORBIDDEN,
    "no mirror has this address and signs like that\n",
);

impl Hooks {
    async fn heard(&self, project: &str, request: Request) -> Result<&'static str, Refusal> {
        let busy = (StatusCode::TOO_MANY_REQUESTS, "too many webhooks at once\n");
        let _room = self.room.try_acquire().map_err(|_| busy)?;
        let (head, body) = request.into_parts();
        let text = |name: &str| word(&head.headers, name);
        let signature = text(SIGNATURE).ok_or(UNKNOWN)?.to_owned();
        let event = EVENTS
            .iter()
            .find_map(|name| text(name))
            .unwrap_or_default()
            .to_owned();
        let key = self.key(project).await.unwrap_or_default();
        let late = (StatusCode::REQUEST_TIMEOUT, "it took too long\n");
        let is_believed = timeout(WITHIN, is_signed(&key, body, &signature)).await;
        if !is_believed.map_err(|_| late)?? {
            tracing::debug!(project, "a webhook is not believed");
            return Err(UNKNOWN);
        }
        match event.as_str() {
            "push" | "create" | "delete" => {}
            "ping" => return Ok("this machine hears you\n"),
            _ => return Ok("nothing to do: only push, create and delete lead to a fetch\n"),
        }
        let (mirrors, project) = (Arc::clone(&self.mirrors), project.to_owned());
        let hurried = blocking(move || mirrors.hurry(&project, Way::From)).await;
        match hurried {
            Ok(Ok(true)) => Ok("it is fetched\n"),
            Ok(Ok(false)) => Err(UNKNOWN),
            Ok(Err(error)) => Err(failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }

    /// By which the other side signs; `None`: there is no mirror, or its secret cannot be had.
    async fn key(&self, project: &str) -> Option<Vec<u8>> {
        let (mirrors, secrets, project) = (
            Arc::clone(&self.mirrors),
            self.secrets.clone(),
            project.to_owned(),
        );
        let found = blocking(move || {
            let mirror = mirrors
                .tables
                .get(&project, Way::From)
                .map_err(|error| one_line(&error))?;
            let key = mirror.map(|_| secret(&secrets, &project, WEBHOOK));
            key.transpose()
        });
        match found.await {
            Ok(Ok(key)) => key.map(|key| key.as_bytes().to_vec()),
            Ok(Err(why)) => {
                tracing::warn!(why, "a webhook cannot be checked");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a webhook cannot be checked");
                None
            }
        }
    }
}

/// Without a key nobody is believed, after the same work.
async fn is_signed(key: &[u8], body: Body, signature: &str) -> Result<bool, Refusal> {
    let mut signed = Signed::new(key);
    let mut bytes = 0;
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| (StatusCode::BAD_REQUEST, "it broke off\n"))?;
        bytes += piece.len();
        if bytes > MOST_BYTES {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "it has more than 25 MiB\n"));
        }
        signed.update(&piece);
    }
    let is_by = signed.is_by(signature);
    Ok(is_by && !key.is_empty())
}

fn word<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Refusal {
    tracing::error!(error = one_line(error), "a webhook leads to nothing");
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "it leads to nothing now: see the daemon's log\n",
    )
}

fn refusal(status: StatusCode, said: &'static str) -> Response {
    (status, said).into_response()
}
