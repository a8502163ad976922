//! What uploads and downloads have in common: signed addresses, and answers as Azure's.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::Response;
use serde::Deserialize;

use super::Server;
use crate::failure::{Code, Failure};
use crate::link::Purpose;

/// What an address has behind its path.
#[derive(Debug, Deserialize)]
pub(super) struct Query {
    #[serde(default)]
    se: i64,
    #[serde(default)]
    sig: String,
    /// What is done to a blob; nothing: all of it is put.
    pub(super) comp: Option<String>,
    /// Base64.
    pub(super) blockid: Option<String>,
}

impl Server {
    /// Refuses an address that was not given out.
    pub(super) fn check(
        &self,
        purpose: Purpose,
        (said, folder): (&str, &str),
        query: &Query,
    ) -> Result<(), Failure> {
        let holds = Purpose::parse(said) == Some(purpose)
            && self
                .results
                .link_holds(purpose, folder, query.se, &query.sig);
        match holds {
            true => Ok(()),
            false => Err(Failure::new(
                Code::PermissionDenied,
                "the address is not signed for this, or its time is over",
            )),
        }
    }
}

/// An answer that says why not.
pub(super) fn refuse(failure: &Failure) -> Response {
    // Where there is no room, another attempt is of no use: clients make one after a status of 500 and above.
    let (status, code) = match failure.code {
        Code::FailedPrecondition => (413, "RequestBodyTooLarge"),
        Code::NotFound => (404, "BlobNotFound"),
        Code::PermissionDenied => (403, "AuthenticationFailed"),
        Code::Aborted => (409, "InvalidBlobOrBlock"),
        Code::Internal => (500, "InternalError"),
        _ => (400, "InvalidInput"),
    };
    let message = &failure.message;
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/xml")
        .header("x-ms-error-code", code)
        .header("x-ms-request-id", "havre")
        .body(Body::from(body))
        .unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR))
}

/// An answer without a body.
pub(super) fn plain(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
