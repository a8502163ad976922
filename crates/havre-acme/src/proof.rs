//! What an authority looks for, and who makes it seen.

use std::future::Future;
use std::pin::Pin;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};

use crate::name::Name;

/// A future that somebody else wrote.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something to be seen from outside while an authority looks for it.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// On port 80, at `/.well-known/acme-challenge/<token>`.
    Http {
        /// Last part of the path.
        token: String,
        /// The body.
        answer: String,
    },
    /// On port 443, for those who speak `acme-tls/1` alone.
    Tls {
        /// The name that is asked for.
        server_name: String,
        /// The certificate, as PEM.
        chain: String,
        /// Its key, as PEM.
        key: String,
    },
}

/// Makes proofs seen: the edge.
pub trait Proofs: Send + Sync {
    /// Returns once it can be seen, or says why it cannot.
    fn show<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, Result<(), String>>;
    /// Nobody looks for it any more.
    fn withdraw<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, ()>;
}

/// The certificate of a check over TLS (RFC 8737 §3), with the digest of the key authorization.
pub(crate) fn tls(name: &Name, digest: &[u8]) -> Result<Proof, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.as_str().to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    Ok(Proof::Tls {
        server_name: name.server_name(),
        chain: params.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}
