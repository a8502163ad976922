//! The two services and their addresses, over HTTP.

mod blob;
mod blocklist;
mod download;
mod range;
mod twirp;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Uri};
use axum::routing::{get, post};
use havre_base::blocking;
use tokio::sync::Semaphore;

use crate::failure::Failure;
use crate::service::Results;

/// Most pieces of uploads that are written at a time; each is a megabyte or two. Others wait.
const WRITES: usize = 32;
/// How long a body may stand still, and how long a piece waits for its turn.
const PATIENCE: Duration = Duration::from_secs(120);

/// What all handlers share.
#[derive(Clone, Debug)]
struct Server {
    results: Results,
    writes: Arc<Semaphore>,
}

impl Results {
    /// Serves both services at `/twirp` and their addresses at `/results`. The addresses that it gives out are of the
    /// host that was asked (`Host`), over what `X-Forwarded-Proto` says or else plain HTTP.
    pub fn router(&self) -> Router {
        let server = Server {
            results: self.clone(),
            writes: Arc::new(Semaphore::new(WRITES)),
        };
        Router::new()
            .route("/twirp/{service}/{method}", post(twirp::call))
            .route(
                "/results/{purpose}/{folder}",
                get(download::get).put(upload::put),
            )
            .fallback(twirp::unknown)
            .method_not_allowed_fallback(twirp::unknown)
            // Each handler has a bound of its own.
            .layer(DefaultBodyLimit::disable())
            .with_state(server)
    }
}

impl Server {
    /// Does what blocks.
    async fn run<T, E>(
        &self,
        work: impl FnOnce(&Results) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let results = self.results.clone();
        match blocking(move || work(&results)).await {
            Ok(done) => done.map_err(Into::into),
            Err(error) => Err(Failure::internal(&error)),
        }
    }
}

/// Where the caller reached us, for the addresses that it is given.
fn origin(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = uri
        .authority()
        .map(|it| it.as_str())
        .or_else(|| text("host"))?;
    let is_host = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
    if host.is_empty() || host.len() > 255 || !host.bytes().all(is_host) {
        return None;
    }
    let scheme = match text("x-forwarded-proto") {
        Some("https") => "https",
        Some(_) | None => "http",
    };
    Some(format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_is_what_the_caller_asked() {
        let found = |host: Option<&str>, scheme: Option<&str>| {
            let mut headers = HeaderMap::new();
            let mut put = |name: &'static str, value: Option<&str>| {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            };
            put("host", host);
            put("x-forwarded-proto", scheme);
            origin(&Uri::from_static("/twirp"), &headers)
        };
        let is = |origin: &str| Some(origin.to_owned());
        assert_eq!(found(Some("127.0.0.1:80"), None), is("http://127.0.0.1:80"));
        assert_eq!(
            found(Some("[::1]:80"), Some("https")),
            is("https://[::1]:80")
        );
        assert_eq!(found(Some("a"), Some("ftp")), is("http://a"));
        for bad in ["a/b", "a b", "a@b", "a?b", ""] {
            assert_eq!(found(Some(bad), None), None, "{bad}");
        }
        assert_eq!(found(None, None), None);
    }
}
