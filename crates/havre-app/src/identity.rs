//! This machine as an issuer of identity tokens for its jobs: where it is found, and by what keys.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::get;
use havre_access::{Issuer, discovery};
use havre_api::{ApiError, ErrorCode, IdentityIssuer, IdentityKey};
use havre_base::{blocking, one_line};
use havre_secrets::Seal;
use havre_store::Store;
use http::StatusCode;

use crate::options::DaemonOptions;
use crate::sealed::Sealed;

/// The port that an address need not name.
const HTTPS: u16 = 443;

/// The issuer of this machine.
#[derive(Clone)]
pub(crate) struct Identities {
    pub(crate) issuer: Issuer,
    address: Option<String>,
}

impl Identities {
    pub(crate) fn new(store: &Arc<Store>, seal: Seal, options: &DaemonOptions) -> Self {
        let api = options.machine.api.as_ref();
        Self {
            issuer: Issuer::new(Arc::clone(store), Arc::new(Sealed(seal))),
            address: api.map(|api| address(&api.host, &options.https)),
        }
    }

    /// Where others find what it publishes, as its tokens name it; none where nobody could reach it.
    pub(crate) fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// What everybody may see: of the issuer, and its public keys.
    pub(crate) fn published(&self) -> Option<Router> {
        let address = self.address.clone()?;
        let keys = self.clone();
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(async move || Json(discovery(&address))),
            )
            .route("/.well-known/jwks", get(async move || keys.keys().await));
        Some(router)
    }

    async fn keys(self) -> Response {
        let issuer = self.issuer;
        let published = blocking(move || issuer.published(SystemTime::now())).await;
        let why = match published {
            Ok(Ok(keys)) => return Json(keys).into_response(),
            Ok(Err(error)) => one_line(&error),
            Err(error) => one_line(&error),
        };
        tracing::warn!(
            error = why,
            "the keys of identity tokens cannot be published"
        );
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }

    pub(crate) fn shown(&self) -> Result<IdentityIssuer, ApiError> {
        let keys = self.issuer.keys(SystemTime::now()).map_err(failed)?;
        let keys = keys.into_iter().map(|key| IdentityKey {
            id: key.id,
            made: key.made.into(),
            signs_from: key.signs_from.into(),
        });
        Ok(IdentityIssuer {
            issuer: self.address.clone(),
            keys: keys.collect(),
        })
    }

    pub(crate) fn rotate(&self) -> Result<IdentityIssuer, ApiError> {
        self.issuer.rotate(SystemTime::now()).map_err(failed)?;
        self.shown()
    }
}

fn failed(error: havre_access::IssuerError) -> ApiError {
    ApiError::from_error(ErrorCode::Failed, &error)
}

fn address(host: &str, https: &[SocketAddr]) -> String {
    let ports: Vec<u16> = https.iter().map(SocketAddr::port).collect();
    match ports.first() {
        Some(port) if !ports.contains(&HTTPS) => format!("https://{host}:{port}"),
        Some(_) | None => format!("https://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_the_port_where_it_is_another() {
        let at = |ports: &[u16]| {
            let ports = ports.iter();
            let listens: Vec<SocketAddr> = ports
                .map(|port| SocketAddr::from(([0, 0, 0, 0], *port)))
                .collect();
            address("havre.example.org", &listens)
        };
        assert_eq!(at(&[443]), "https://havre.example.org");
        assert_eq!(at(&[8443, 443]), "https://havre.example.org");
        assert_eq!(at(&[8443]), "https://havre.example.org:8443");
        assert_eq!(at(&[]), "https://havre.example.org");
    }
}
