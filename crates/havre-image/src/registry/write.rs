//! What changes a repository: uploads, and manifests. Redirects are followed of questions only.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;

use super::{
    Registry, RequestError, Sent, accepted, authority, detail, header, sent_to, uri, whole,
};
use crate::Digest;

const PUSH: &str = "pull,push";

/// Makes a request's body, once for each time that it is sent.
pub(crate) type Bodies<'a> = &'a (dyn Fn() -> Result<Sent, RequestError> + Send + Sync);

impl Registry {
    /// Whether the repository has a blob.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, RequestError> {
        let path = format!("blobs/{digest}");
        let none = HeaderMap::new();
        let mut challenged = 0;
        loop {
            let known = self.authorization.lock().await.clone();
            let sent = self.send(&Method::HEAD, &path, &none, known.clone());
            let (host, response) = sent.await?;
            match response.status() {
                StatusCode::UNAUTHORIZED => {
                    challenged += 1;
                    self.convince(host, response, known, challenged, PUSH)
                        .await?;
                }
                StatusCode::NOT_FOUND => return Ok(false),
                _ => return accepted(host, &path, response).await.map(|_| true),
            }
        }
    }

    /// Gives the repository a blob of `size` bytes.
    pub(crate) async fn put_blob(
        &self,
        digest: &Digest,
        size: u64,
        bodies: Bodies<'_>,
    ) -> Result<(), RequestError> {
        let path = self.address("blobs/uploads/").await?;
        let nothing = || Ok(whole(Bytes::new()));
        let what = "a place for a blob";
        let headers = |length: u64, kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_LENGTH, length.into());
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            headers
        };
        let bytes = "application/octet-stream";
        let (at, response) = self
            .change(Method::POST, path, headers(0, bytes), &nothing, what)
            .await?;
        let mut place = sent_to(&at, &response, "an upload")?.to_string();
        place.push(if place.contains('?') { '&' } else { '?' });
        place.push_str(&format!(
            "digest={}",
            digest.to_string().replace(':', "%3A")
        ));
        let place = uri(&place)?;
        let what = format!("blob {digest}");
        self.change(Method::PUT, place, headers(size, bytes), bodies, &what)
            .await
            .map(drop)
    }

    /// Gives a manifest a name: a tag or its digest.
    pub(crate) async fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<(), RequestError> {
        let path = format!("manifests/{name}");
        let target = self.address(&path).await?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, header(media_type, "the manifest's type")?);
        headers.insert(CONTENT_LENGTH, (bytes.len() as u64).into());
        let body = || Ok(whole(bytes.clone()));
        self.change(Method::PUT, target, headers, &body, &path)
            .await
            .map(drop)
    }

    async fn address(&self, path: &str) -> Result<Uri, RequestError> {
        let base = self.base.lock().await.clone();
        uri(&format!(
            "{}://{}/v2/{}/{path}",
            base.scheme, base.authority, self.repository
        ))
    }

    /// Sends a request that changes something, with the credentials that are wanted; a registry may send uploads to
    /// another host, which gets none.
    async fn change(
        &self,
        method: Method,
        target: Uri,
        headers: HeaderMap,
        bodies: Bodies<'_>,
        what: &str,
    ) -> Result<(Uri, Response<Incoming>), RequestError> {
        let host = authority(&target);
        let own = self.base.lock().await.authority == host;
        let mut challenged = 0;
        loop {
            let known = self.authorization.lock().await.clone().filter(|_| own);
            let mut request = Request::builder()
                .method(method.clone())
                .uri(target.clone());
            if let Some(all) = request.headers_mut() {
                all.extend(headers.clone());
                if let Some(value) = &known {
                    all.insert(AUTHORIZATION, value.clone());
                }
            }
            let response = self.exchange(request, bodies()?, &host).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED if own => {
                    challenged += 1;
                    self.convince(host.clone(), response, known, challenged, PUSH)
                        .await?;
                }
                status if status.is_redirection() => {
                    return Err(RequestError::Protocol {
                        host,
                        reason: format!("it wants {what} to be sent elsewhere"),
                    });
                }
                StatusCode::FORBIDDEN => {
                    let detail = detail(response).await;
                    return Err(self.unauthorized(host, detail).await);
                }
                _ => {
                    let response = accepted(host, what, response).await?;
                    return Ok((target, response));
                }
            }
        }
    }
}
