//! The machine's own certificate authority and the certificates it signs.
//!
//! A certificate's file name holds a digest of its hosts and the month it was made in, so that a
//! change of either is a change of the edge's state.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use sha2::{Digest as _, Sha256};

/// A leaf is made anew when it is older than this; it is valid for three times as long.
const RENEW_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);
/// By which its certificates name their signer.
pub(crate) const CA_NAME: &str = "Havre local CA";
const LEAF_DAYS: i64 = 90;
const CA_DAYS: i64 = 3650;
/// Clocks of clients may be behind.
const SKEW: Duration = Duration::from_secs(3600);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot {attempt} {path}", path = path.display())]
    File {
        attempt: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot make a certificate for {subject}")]
    Make {
        subject: String,
        source: rcgen::Error,
    },
    #[error("the local CA in {path} cannot be read", path = path.display())]
    BrokenCa { path: PathBuf, source: rcgen::Error },
}

/// A certificate's files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CertificateFiles {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// The certificate authority of this root.
#[derive(Debug)]
pub(crate) struct LocalCa {
    dir: PathBuf,
    /// Held while it is made: two callers at once would each make one, and one of them would have
    /// given out what is not kept.
    making: Mutex<()>,
}

impl LocalCa {
    /// The authority whose files are in `dir`; made when first needed.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            making: Mutex::new(()),
        }
    }

    /// Where the authority's certificate is, once it was needed.
    pub(crate) fn certificate_path(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The authority's certificate as PEM.
    pub(crate) fn certificate(&self) -> Result<String, TlsError> {
        let path = self.certificate_path();
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if !path.exists() || !self.dir.join("ca.key").exists() {
            self.create()?;
        }
        read(&path)
    }

    /// The certificate for `hosts`, made when missing, renewed when old.
    pub(crate) fn certificate_for(
        &self,
        hosts: &[String],
        now: SystemTime,
    ) -> Result<CertificateFiles, TlsError> {
        let ca_pem = self.certificate()?;
        let mut hasher = Sha256::new();
        hasher.update(&ca_pem);
        for host in hosts {
            hasher.update(host);
            hasher.update([0]);
        }
        let stem: String = hasher.finalize()[..8]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        if let Some(found) = self.newest(&stem, now)? {
            return Ok(found);
        }
        let since_epoch = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let stem = format!("{stem}-{}", since_epoch.as_secs());
        self.sign(hosts, &stem, now)
    }

    fn files(&self, stem: &str) -> CertificateFiles {
        CertificateFiles {
            chain: self.dir.join(format!("{stem}.pem")),
            key: self.dir.join(format!("{stem}.key")),
        }
    }

    /// The youngest certificate for the digest in `stem` that need not be renewed yet.
    fn newest(&self, stem: &str, now: SystemTime) -> Result<Option<CertificateFiles>, TlsError> {
        let error = |source| TlsError::File {
            attempt: "list",
            path: self.dir.clone(),
            source,
        };
        let mut best: Option<u64> = None;
        for entry in fs::read_dir(&self.dir).map_err(error)? {
            let name = entry.map_err(error)?.file_name();
            let Some(made) = name
                .to_str()
                .and_then(|name| {
                    name.strip_prefix(stem)?
                        .strip_prefix('-')?
                        .strip_suffix(".pem")
                })
                .and_then(|seconds| seconds.parse().ok())
            else {
                continue;
            };
            best = best.max(Some(made));
        }
        let Some(made) = best else { return Ok(None) };
        let files = self.files(&format!("{stem}-{made}"));
        let age = now
            .duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(made))
            .unwrap_or_default();
        Ok((age < RENEW_AFTER && files.key.exists()).then_some(files))
    }

    fn create(&self) -> Result<(), TlsError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|source| TlsError::File {
                attempt: "make the folder",
                path: self.dir.clone(),
                source,
            })?;
        let error = |source| TlsError::Make {
            subject: CA_NAME.to_owned(),
            source,
        };
        let key = KeyPair::generate().map_err(error)?;
        let certificate = ca_params(&key).self_signed(&key).map_err(error)?;
        // The key first: a certificate without its key would be used on, a key without its
        // certificate is replaced.
        write(&self.dir.join("ca.key"), &key.serialize_pem())?;
        write(&self.dir.join("ca.pem"), &certificate.pem())
    }

    fn sign(
        &self,
        hosts: &[String],
        stem: &str,
        now: SystemTime,
    ) -> Result<CertificateFiles, TlsError> {
        let broken = |source| TlsError::BrokenCa {
            path: self.dir.clone(),
            source,
        };
        let ca_key = KeyPair::from_pem(&read(&self.dir.join("ca.key"))?).map_err(broken)?;
        let issuer = Issuer::new(ca_params(&ca_key), ca_key);
        let error = |source| TlsError::Make {
            subject: hosts.join(", "),
            source,
        };
        let key = KeyPair::generate().map_err(error)?;
        let mut params = CertificateParams::new(hosts.to_vec()).map_err(error)?;
        if let Some(first) = hosts.first() {
            params
                .distinguished_name
                .push(DnType::CommonName, first.as_str());
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, now, LEAF_DAYS);
        let certificate = params.signed_by(&key, &issuer).map_err(error)?;
        let files = self.files(stem);
        write(&files.key, &key.serialize_pem())?;
        write(&files.chain, &certificate.pem())?;
        Ok(files)
    }
}

/// What the authority's certificate says. All of it follows from the key, so that a leaf can be
/// signed without reading the certificate.
fn ca_params(key: &KeyPair) -> CertificateParams {
    let mark: String = Sha256::digest(key.public_key_raw())[..4]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{CA_NAME} {mark}"));
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Havre");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, SystemTime::now(), CA_DAYS);
    params
}

fn validity(params: &mut CertificateParams, now: SystemTime, days: i64) {
    let start = now - SKEW;
    params.not_before = start.into();
    params.not_after = (start + Duration::from_secs(days.unsigned_abs() * 24 * 3600)).into();
}

fn read(path: &Path) -> Result<String, TlsError> {
    fs::read_to_string(path).map_err(|source| TlsError::File {
        attempt: "read",
        path: path.to_owned(),
        source,
    })
}

/// Writes a whole file or none, for root only.
fn write(path: &Path, content: &str) -> Result<(), TlsError> {
    let error = |source| TlsError::File {
        attempt: "write",
        path: path.to_owned(),
        source,
    };
    havre_base::replace(
        path,
        content.as_bytes(),
        0o600,
        havre_base::Durability::Durable,
    )
    .map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_kept_until_it_is_due() {
        let dir = tempfile::tempdir().unwrap();
        let ca = LocalCa::new(dir.path().join("tls"));
        let hosts = ["a.localhost".to_owned()];
        let now = SystemTime::now();
        let first = ca.certificate_for(&hosts, now).unwrap();
        assert_eq!(ca.certificate_for(&hosts, now).unwrap(), first);
        let later = now + RENEW_AFTER + Duration::from_secs(1);
        assert_ne!(ca.certificate_for(&hosts, later).unwrap(), first);
        assert_ne!(
            ca.certificate_for(&["b.localhost".to_owned()], now)
                .unwrap(),
            first
        );
    }

    #[test]
    fn a_lost_key_takes_a_new_authority() {
        let dir = tempfile::tempdir().unwrap();
        let ca = LocalCa::new(dir.path().join("tls"));
        let before = ca.certificate().unwrap();
        fs::remove_file(dir.path().join("tls/ca.key")).unwrap();
        assert_ne!(ca.certificate().unwrap(), before);
    }
}
