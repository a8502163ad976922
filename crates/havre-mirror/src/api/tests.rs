//! A FAKE of the API: it takes what GitHub would take, and nothing else.

use std::sync::Mutex;

use axum::Router;
use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;

use super::*;
use crate::tables::{Fate, State};

/// Takes what GitHub would take, and nothing else.
type Heard = Arc<Mutex<Vec<(String, Value)>>>;

async fn fake(Shared(heard): Shared<Heard>, request: axum::extract::Request) -> Response {
    let (head, body) = request.into_parts();
    let value = |name: &str| {
        head.headers
            .get(name)
            .and_then(|it| it.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let said = |status: StatusCode, message: &str| {
        (
            status,
            [("retry-after", "7")],
            json!({ "message": message }).to_string(),
        )
            .into_response()
    };
    if value("authorization") != "Bearer t0ken" {
        return said(StatusCode::UNAUTHORIZED, "Bad credentials");
    }
    if value("user-agent").is_empty() || value("content-type") != "application/json" {
        return said(StatusCode::FORBIDDEN, "no agent");
    }
    let body = axum::body::to_bytes(body, 10_000).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let states = ["pending", "success", "failure", "error"];
    if !states.contains(&text("state").as_str()) || text("description").chars().count() > 140 {
        return said(StatusCode::UNPROCESSABLE_ENTITY, "Validation Failed");
    }
    let path = head.uri.path().to_owned();
    if path.ends_with("/statuses/gone") {
        return said(
            StatusCode::UNPROCESSABLE_ENTITY,
            "No commit found for SHA: gone",
        );
    }
    heard.lock().unwrap().push((path, body));
    StatusCode::CREATED.into_response()
}

async fn served() -> (String, Heard) {
    let heard = Heard::default();
    let router = Router::new()
        .route("/api/v3/repos/{owner}/{name}/statuses/{commit}", post(fake))
        .with_state(Arc::clone(&heard));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), heard)
}

fn word(commit: &str) -> Word {
    Word {
        project: "shop".to_owned(),
        commit: commit.to_owned(),
        context: "havre / CI".to_owned(),
        state: State::Success,
        description: "long ".repeat(50),
        target: Some("https://preview.example.org".to_owned()),
        changed_ms: 1,
        fate: Fate::Waits,
        tries: 0,
        why: None,
        next_ms: 1,
    }
}

#[tokio::test]
async fn a_word_is_told_as_github_takes_it() {
    let (site, heard) = served().await;
    let url = format!("{site}/acme/shop.git");
    let api = Api::new(&Api::of(&url).unwrap(), &url).unwrap();
    let token = Zeroizing::new("t0ken".to_owned());
    api.tell(&token, &word("abc")).await.unwrap();
    let (path, body) = heard.lock().unwrap().pop().unwrap();
    assert_eq!(path, "/api/v3/repos/acme/shop/statuses/abc");
    assert_eq!(
        (&body["state"], &body["context"]),
        (&json!("success"), &json!("havre / CI"))
    );
    assert_eq!(body["target_url"], "https://preview.example.org");

    let gone = api.tell(&token, &word("gone")).await.unwrap_err();
    assert!(
        matches!(gone, ApiError::Refused { lasting: true, .. }),
        "{gone}"
    );
    let other = Zeroizing::new("other".to_owned());
    let refused = api.tell(&other, &word("abc")).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "it answered 401 Unauthorized: Bad credentials"
    );
    let ApiError::Refused {
        patience,
        lasting: false,
        ..
    } = refused
    else {
        panic!("{refused}")
    };
    assert_eq!(patience, Some(Duration::from_secs(7)));
    let nobody = Api::new("http://127.0.0.1:1", &url).unwrap();
    let unreachable = nobody.tell(&token, &word("abc")).await.unwrap_err();
    assert!(
        unreachable
            .to_string()
            .starts_with("cannot reach 127.0.0.1: "),
        "{unreachable}"
    );
}

#[test]
fn who_is_told_is_known_from_the_repository() {
    let of = |url| Api::of(url).unwrap();
    assert_eq!(
        of("https://github.com/acme/shop.git"),
        "https://api.github.com"
    );
    assert_eq!(
        of("https://git.example.org:8443/a/b"),
        "https://git.example.org:8443/api/v3"
    );
    for bad in [
        "http://example.org",
        "https://u:p@example.org",
        "x",
        "https://example.org/?a",
    ] {
        assert!(
            Api::new(bad, "https://github.com/acme/shop").is_err(),
            "{bad}"
        );
    }
    for bad in [
        "https://github.com/acme",
        "https://github.com/a/b/c",
        "https://github.com/../x",
    ] {
        assert!(Api::new("https://api.github.com", bad).is_err(), "{bad}");
    }
}
