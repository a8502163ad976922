//! What the machine's configuration says of authorities.

use std::path::PathBuf;

/// Whom to ask, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Told to authorities as the account's contact.
    pub email: Option<String>,
    /// In the order in which they are asked. With none of them nothing is ordered.
    pub authorities: Vec<AuthoritySettings>,
    /// The program that sets records of DNS.
    pub dns_hook: Option<PathBuf>,
}

/// One authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthoritySettings {
    /// By which it is known here.
    pub name: String,
    /// Address of its directory.
    pub directory: String,
    /// Further certificates to trust when talking to it.
    pub ca_file: Option<PathBuf>,
    /// Kind of certificate to ask for.
    pub profile: Option<String>,
    /// Credentials that it wants for an account.
    pub external_account: Option<ExternalAccount>,
}

/// Ties an account to one that the authority knows by other means (RFC 8555 §7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Its id.
    pub key_id: String,
    /// A file with the key in base64url.
    pub key_file: PathBuf,
}

impl AuthoritySettings {
    /// The one that is asked where the configuration names none.
    pub fn lets_encrypt() -> Self {
        Self {
            name: "letsencrypt".to_owned(),
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            ca_file: None,
            profile: None,
            external_account: None,
        }
    }
}
