//! `X-Hub-Signature-256`: whether a request comes from who knows the secret.

use data_encoding::HEXLOWER_PERMISSIVE;
use ring::hmac::{Context, HMAC_SHA256, Key, sign, verify};

/// What is signed, as it comes.
pub struct Signed {
    key: Key,
    context: Context,
}

impl Signed {
    /// By who knows `secret`.
    pub fn new(secret: &[u8]) -> Self {
        let key = Key::new(HMAC_SHA256, secret);
        let context = Context::with_key(&key);
        Self { key, context }
    }

    /// More of it.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// Whether `header`, `sha256=…`, is its signature. In constant time.
    pub fn is_by(self, header: &str) -> bool {
        let hex = header.strip_prefix("sha256=").unwrap_or_default();
        let shown = HEXLOWER_PERMISSIVE
            .decode(hex.as_bytes())
            .unwrap_or_default();
        let tag = self.context.sign();
        // Of the tags, so that the time it takes tells nothing.
        let own = sign(&self.key, tag.as_ref());
        verify(&self.key, &shown, own.as_ref()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GitHub's own example.
    #[test]
    fn a_signature_is_believed_from_who_knows_the_secret() {
        let shown = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let signed = |secret: &str, pieces: &[&str]| {
            let mut signed = Signed::new(secret.as_bytes());
            pieces
                .iter()
                .for_each(|piece| signed.update(piece.as_bytes()));
            signed
        };
        let secret = "It's a Secret to Everybody";
        assert!(signed(secret, &["Hello, World!"]).is_by(shown));
        assert!(signed(secret, &["Hello,", " World!"]).is_by(shown));
        assert!(!signed(secret, &["Hello, World"]).is_by(shown));
        assert!(!signed("another", &["Hello, World!"]).is_by(shown));
        let cut = &shown[..shown.len() - 2];
        let upper = shown.replace("sha256", "SHA256");
        for bad in ["", "sha256=", "sha256=xyz", cut, &upper, &shown[7..]] {
            assert!(!signed(secret, &["Hello, World!"]).is_by(bad), "{bad}");
        }
    }
}
