//! The tokens by which a job shows at its own socket that it is the job, and not a program in its box that was told
//! nothing.
//!
//! They open nothing anywhere else, and nothing once the box is gone: its socket goes with it.

use havre_job::JOB_TOKEN;
use ring::hmac;

/// For what a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// `github.token`.
    Repository,
    /// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
    Identity,
}

/// Makes them; the daemon after this one makes the same.
#[derive(Clone)]
pub(super) struct JobKey(hmac::Key);

impl JobKey {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        // Another than that of artifacts and caches.
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"tokens of jobs");
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    pub(super) fn token(&self, purpose: Purpose, box_id: &str) -> String {
        let tag = hmac::sign(&self.0, text(purpose, box_id).as_bytes());
        let tag = data_encoding::BASE64URL_NOPAD.encode(tag.as_ref());
        format!("{JOB_TOKEN}{tag}")
    }

    pub(super) fn is(&self, token: &str, purpose: Purpose, box_id: &str) -> bool {
        let tag = token.strip_prefix(JOB_TOKEN);
        let tag = tag.and_then(|tag| data_encoding::BASE64URL_NOPAD.decode(tag.as_bytes()).ok());
        let text = text(purpose, box_id);
        tag.is_some_and(|tag| hmac::verify(&self.0, text.as_bytes(), &tag).is_ok())
    }
}

fn text(purpose: Purpose, box_id: &str) -> String {
    let purpose = match purpose {
        Purpose::Repository => "repository",
        Purpose::Identity => "identity",
    };
    format!("{purpose}\n{box_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_one_box_and_one_purpose() {
        let key = JobKey::new(&[7; 32]);
        let token = key.token(Purpose::Identity, "r1.a.0.1");
        assert!(key.is(&token, Purpose::Identity, "r1.a.0.1"));
        assert!(!key.is(&token, Purpose::Repository, "r1.a.0.1"));
        assert!(!key.is(&token, Purpose::Identity, "r1.a.0.2"));
        assert!(!JobKey::new(&[8; 32]).is(&token, Purpose::Identity, "r1.a.0.1"));
        assert!(!key.is("", Purpose::Identity, "r1.a.0.1"));
    }
}
