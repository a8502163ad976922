//! What a certificate says of itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use data_encoding::BASE64URL_NOPAD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::moment::Moment;
use crate::name::Name;

/// The first certificate of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Key identifier of its authority and serial number (RFC 9773 §4.1); of one without a key identifier,
    /// as an own authority may sign, the serial number alone.
    pub id: String,
    /// What it is for, in lower case.
    pub names: Vec<String>,
    /// Who signed it, as it says.
    pub issuer: String,
    /// Its first moment.
    pub from: Moment,
    /// Its last moment.
    pub until: Moment,
}

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be read.
    #[error("it is no certificate in PEM: {0}")]
    Unreadable(String),
    /// The key cannot be read, or belongs to another one.
    #[error("its key cannot be used: {0}")]
    Key(String),
    /// It is not for the name.
    #[error("it is for {}, not for {wanted}", names.join(", "))]
    OtherNames {
        /// What it is for.
        names: Vec<String>,
        /// What was wanted.
        wanted: Name,
    },
    /// Its time is over.
    #[error("it expired at {0}")]
    Expired(Moment),
}

/// Reads a chain, the site's own certificate first.
pub fn facts(chain: &str) -> Result<Facts, CertificateError> {
    let unreadable = |error: String| CertificateError::Unreadable(error);
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes())
        .map_err(|error| unreadable(error.to_string()))?;
    let (_, leaf) =
        X509Certificate::from_der(&leaf).map_err(|error| unreadable(error.to_string()))?;
    let extensions = || leaf.iter_extensions().map(|it| it.parsed_extension());
    let authority = extensions().find_map(|extension| match extension {
        ParsedExtension::AuthorityKeyIdentifier(it) => it.key_identifier.as_ref(),
        _ => None,
    });
    let serial = BASE64URL_NOPAD.encode(leaf.tbs_certificate.raw_serial());
    let id = match authority {
        Some(authority) => format!("{}.{serial}", BASE64URL_NOPAD.encode(authority.0)),
        None => serial,
    };
    let alternative = leaf
        .subject_alternative_name()
        .map_err(|error| unreadable(error.to_string()))?;
    let names = alternative.iter().flat_map(|it| &it.value.general_names);
    Ok(Facts {
        id,
        names: names.filter_map(text_of).collect(),
        issuer: line(&leaf.issuer().to_string()),
        from: Moment(leaf.validity().not_before.timestamp()),
        until: Moment(leaf.validity().not_after.timestamp()),
    })
}

/// What others wrote, as it may be shown on a terminal.
fn line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

fn text_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(line(&name.to_ascii_lowercase())),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|it| Ipv4Addr::from(it).to_string());
            let v6 = <[u8; 16]>::try_from(*bytes).map(|it| Ipv6Addr::from(it).to_string());
            v4.or(v6).ok()
        }
        // Not what browsers look for.
        _ => None,
    }
}

/// Whether a chain and its key can serve `name` from `now` on. One whose life has not begun can: more
/// often it is our clock that is behind.
pub fn check(chain: &str, key: &str, name: &Name, now: Moment) -> Result<Facts, CertificateError> {
    let facts = facts(chain)?;
    let key_error = |error: String| CertificateError::Key(error);
    let loaded = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| key_error(error.to_string()))?;
    let all = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::Unreadable(error.to_string()))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(all, loaded, &provider).map_err(|error| key_error(error.to_string()))?;
    if !facts.names.iter().any(|own| covers(own, name)) {
        return Err(CertificateError::OtherNames {
            names: facts.names,
            wanted: name.clone(),
        });
    }
    match facts.until <= now {
        true => Err(CertificateError::Expired(facts.until)),
        false => Ok(facts),
    }
}

/// Whether a certificate for `own` is one for `name`.
fn covers(own: &str, name: &Name) -> bool {
    let name = name.as_str();
    let parent = own.strip_prefix("*.");
    own == name
        || parent.is_some_and(|parent| {
            let rest = name.split_once('.');
            rest.is_some_and(|(label, rest)| label != "*" && rest == parent)
        })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn made(names: &[&str], days: i64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let day = Duration::from_secs(24 * 3600);
        params.not_before = (SystemTime::now() - day * 10).into();
        let distance = day * u32::try_from(days.unsigned_abs()).unwrap();
        params.not_after = match days < 0 {
            true => SystemTime::now() - distance,
            false => SystemTime::now() + distance,
        }
        .into();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn what_cannot_serve_is_told_from_what_can() {
        let (chain, key) = made(&["a.dev", "*.w.dev", "192.0.2.1"], 5);
        let check = |chain: &str, key: &str, name: &str| {
            let name = Name::parse(name).unwrap();
            super::check(chain, key, &name, Moment::now()).map_err(|error| error.to_string())
        };
        for name in ["a.dev", "x.w.dev", "*.w.dev", "192.0.2.1"] {
            assert!(check(&chain, &key, name).is_ok(), "{name}");
        }
        let other = check(&chain, &key, "x.y.w.dev").unwrap_err();
        assert!(other.starts_with("it is for a.dev, *.w.dev"), "{other}");
        let (_, strange) = made(&["a.dev"], 5);
        let error = check(&chain, &strange, "a.dev").unwrap_err();
        assert!(error.starts_with("its key cannot be used"), "{error}");
        let (old, old_key) = made(&["a.dev"], -1);
        let error = check(&old, &old_key, "a.dev").unwrap_err();
        assert!(error.starts_with("it expired at "), "{error}");
        assert!(check("garbage", &key, "a.dev").is_err());
    }
}
