//! Certificates: loading, choosing by SNI.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::problem::Problem;
use crate::route;
use crate::state::Certificate;

/// A certificate that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The chain.
    #[error("its chain cannot be read")]
    Chain(#[source] rustls::pki_types::pem::Error),
    /// No certificate in the chain.
    #[error("its chain holds no certificate")]
    Empty,
    /// The key.
    #[error("its private key cannot be read")]
    Key(#[source] rustls::pki_types::pem::Error),
    /// The two together.
    #[error("its key cannot serve it")]
    Unusable(#[source] rustls::Error),
}

impl Certificate {
    /// Whether it can be served.
    pub fn check(&self) -> Result<(), CertificateError> {
        load_pair(self).map(drop)
    }
}

/// A loaded certificate.
#[derive(Clone)]
pub struct LoadedCertificate {
    /// What was asked for.
    pub source: Certificate,
    /// The hosts of `source`, for connections to keep.
    pub hosts: Arc<[String]>,
    /// What signs its handshakes.
    pub key: Arc<CertifiedKey>,
}

impl fmt::Debug for LoadedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedCertificate")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// The certificates in use.
#[derive(Clone, Debug, Default)]
pub struct CertificateSet {
    certificates: Vec<LoadedCertificate>,
}

impl CertificateSet {
    /// Loads all. One that fails is a problem of its own hosts only; was
    /// one loaded for the same hosts, or else for some of them, that one is kept.
    pub fn load(wanted: &[Certificate], before: &Self, problems: &mut Vec<Problem>) -> Self {
        Self::load_by(load_pair, wanted, before, problems)
    }

    /// The same for those that are shown to authorities only. What they are made for is an extension that
    /// no TLS library knows how to check: whether the key is theirs is not looked at.
    pub fn load_challenges(
        wanted: &[Certificate],
        before: &Self,
        problems: &mut Vec<Problem>,
    ) -> Self {
        Self::load_by(load_unchecked, wanted, before, problems)
    }

    fn load_by(
        load: fn(&Certificate) -> Result<CertifiedKey, CertificateError>,
        wanted: &[Certificate],
        before: &Self,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut certificates = Vec::with_capacity(wanted.len());
        for certificate in wanted {
            match load(certificate) {
                Ok(key) => certificates.push(LoadedCertificate {
                    source: certificate.clone(),
                    hosts: certificate.hosts.clone().into(),
                    key: Arc::new(key),
                }),
                Err(error) => {
                    let hosts = &certificate.hosts;
                    let loaded = |serves: &dyn Fn(&LoadedCertificate) -> bool| {
                        before.certificates.iter().find(|old| serves(old))
                    };
                    let some = |old: &LoadedCertificate| hosts.iter().any(|host| old.covers(host));
                    let old = loaded(&|old| old.source.hosts == *hosts).or_else(|| loaded(&some));
                    let fate = if old.is_some() {
                        "the one loaded before stays in use"
                    } else {
                        "these hosts are not served over HTTPS"
                    };
                    problems.push(format!(
                        "certificate for {}: {}; {fate}",
                        certificate.hosts.join(", "),
                        havre_base::one_line(&error)
                    ));
                    certificates.extend(old.cloned());
                }
            }
        }
        Self { certificates }
    }

    /// Whether one of them serves the host, or pattern of hosts, of a route.
    pub fn covers(&self, host: &str) -> bool {
        let name = host.trim_matches(['[', ']']);
        let mut hosts = self
            .certificates
            .iter()
            .flat_map(|certificate| &certificate.source.hosts);
        hosts.any(|pattern| pattern == name || route::host_matches(pattern, name))
    }

    /// The first one that has this very name.
    pub fn exact(&self, name: &str) -> Option<&LoadedCertificate> {
        let mut all = self.certificates.iter();
        all.find(|certificate| certificate.source.hosts.iter().any(|host| host == name))
    }

    /// The certificate for a server name; exact names before wildcards. A client that names none
    /// (it was given an address) gets the one that covers an address, or the only one there is.
    pub fn choose(&self, server_name: Option<&str>) -> Option<&LoadedCertificate> {
        let Some(name) = server_name else {
            return match self.certificates.as_slice() {
                [only] => Some(only),
                several => several
                    .iter()
                    .find(|certificate| certificate.covers_an_address()),
            };
        };
        self.exact(name).or_else(|| {
            self.certificates
                .iter()
                .find(|certificate| certificate.covers(name))
        })
    }
}

impl LoadedCertificate {
    /// Whether it serves `host`.
    pub fn covers(&self, host: &str) -> bool {
        self.source
            .hosts
            .iter()
            .any(|pattern| route::host_matches(pattern, host))
    }

    fn covers_an_address(&self) -> bool {
        let is_address = |host: &String| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        self.source.hosts.iter().any(is_address)
    }
}

fn load_pair(certificate: &Certificate) -> Result<CertifiedKey, CertificateError> {
    let (chain, key) = read_pair(certificate)?;
    CertifiedKey::from_der(chain, key, &crypto::ring::default_provider())
        .map_err(CertificateError::Unusable)
}

fn load_unchecked(certificate: &Certificate) -> Result<CertifiedKey, CertificateError> {
    let (chain, key) = read_pair(certificate)?;
    let key = crypto::ring::sign::any_supported_type(&key).map_err(CertificateError::Unusable)?;
    Ok(CertifiedKey::new(chain, key))
}

fn read_pair(certificate: &Certificate) -> Result<Read, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(CertificateError::Chain)?;
    if chain.is_empty() {
        return Err(CertificateError::Empty);
    }
    let key = PrivateKeyDer::from_pem_slice(certificate.key.0.as_bytes())
        .map_err(CertificateError::Key)?;
    Ok((chain, key))
}

/// A chain and its key.
type Read = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);
