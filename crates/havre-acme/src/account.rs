//! Our account with an authority. Its key is made once; a lost one is not replaced behind anybody's back,
//! since lasting records of DNS and the authority's limits hang on it.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};
use havre_base::{in_place, read_small};
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};

use crate::http::Conversation;
use crate::problem::Problem;
use crate::settings::AuthoritySettings;

/// Keys have some hundred bytes.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// An account with what has to be kept of it.
pub(crate) struct Made {
    pub(crate) account: Account,
    /// To be sealed: holds the key.
    pub(crate) credentials: Vec<u8>,
}

/// Opens an account of which `credentials` were kept.
pub(crate) async fn open(talk: &Conversation, credentials: &[u8]) -> Result<Account, Problem> {
    let credentials: AccountCredentials = serde_json::from_slice(credentials).map_err(|error| {
        Problem::own(format!("what was kept of the account is broken: {error}"))
    })?;
    let builder = Account::builder_with_http(Box::new(talk.clone()));
    let opened = builder.from_credentials(credentials).await;
    opened.map_err(|error| talk.problem(error))
}

/// Makes one.
pub(crate) async fn create(
    talk: &Conversation,
    settings: &AuthoritySettings,
    email: Option<&str>,
) -> Result<Made, Problem> {
    let external = settings.external_account.as_ref().map(|external| {
        let text = in_place(|| read_small(&external.key_file, MAX_KEY_FILE)).map_err(|error| {
            let path = external.key_file.display();
            Problem::own(format!(
                "cannot read the external account's key from {path}: {error}"
            ))
        })?;
        let key = decode(text.trim()).ok_or_else(|| {
            let path = external.key_file.display();
            Problem::own(format!(
                "the external account's key in {path} is not base64url"
            ))
        })?;
        Ok(ExternalAccountKey::new(external.key_id.clone(), &key))
    });
    let external = external.transpose()?;
    let contact = email.map(|email| format!("mailto:{email}"));
    let contacts: Vec<&str> = contact.iter().map(String::as_str).collect();
    let wanted = NewAccount {
        contact: &contacts,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let builder = Account::builder_with_http(Box::new(talk.clone()));
    let made = builder
        .create(&wanted, settings.directory.clone(), external.as_ref())
        .await;
    let (account, credentials) = made.map_err(|error| talk.problem(error))?;
    let credentials = serde_json::to_vec(&credentials)
        .map_err(|error| Problem::own(format!("the account cannot be kept: {error}")))?;
    Ok(Made {
        account,
        credentials,
    })
}

/// Authorities hand keys out in either alphabet.
fn decode(text: &str) -> Option<Vec<u8>> {
    let encodings = [BASE64URL_NOPAD, BASE64URL, BASE64, BASE64_NOPAD];
    let mut decoded = encodings
        .iter()
        .filter_map(|it| it.decode(text.as_bytes()).ok());
    decoded.next().filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_either_alphabet() {
        for text in ["-_-_", "+/+/"] {
            assert_eq!(decode(text), Some(vec![0xfb, 0xff, 0xbf]));
        }
        assert_eq!(decode("YQ"), decode("YQ=="));
        assert_eq!(decode("no key!"), None);
        assert_eq!(decode(""), None);
    }
}
