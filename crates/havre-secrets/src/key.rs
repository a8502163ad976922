//! Keys of 256 bits: where they come from, and what is done with them.

use std::fmt;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;
/// Random bytes before what is encrypted: enough that chance never repeats them.
pub(crate) const NONCE_BYTES: usize = 24;
/// What is encrypted has so many bytes more: the nonce, and a tag.
pub(crate) const SEALED_BYTES: usize = NONCE_BYTES + 16;

/// The kernel gave no random bytes, or the cipher refused its input: neither happens on a machine that
/// works.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub struct CryptoError(pub(crate) &'static str);

/// A key; its bytes are wiped when it goes.
#[derive(Clone)]
pub(crate) struct Key(Box<[u8; KEY_BYTES]>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Key {
    /// A new one.
    pub(crate) fn random() -> Result<Self, CryptoError> {
        let mut key = Self(Box::new([0; KEY_BYTES]));
        fill(&mut key.0[..])?;
        Ok(key)
    }

    /// From exactly its bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != KEY_BYTES {
            return None;
        }
        let mut key = Self(Box::new([0; KEY_BYTES]));
        key.0.copy_from_slice(bytes);
        Some(key)
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Another key that only who has this one can make; `purpose` tells it from others.
    pub(crate) fn derive(&self, purpose: &[impl AsRef<[u8]>]) -> Self {
        let mut key = Self(Box::new([0; KEY_BYTES]));
        hkdf(&self.0[..], &[], &joined(purpose), &mut key.0[..]);
        key
    }

    /// A keyed digest of `parts`, which cannot be confused with one of others that join alike.
    pub(crate) fn mac(&self, parts: &[impl AsRef<[u8]>]) -> [u8; 32] {
        hmac(&self.0[..], &joined(parts))
    }

    /// Whether `tag` is the digest of `parts`, in time that tells nothing.
    pub(crate) fn is_mac(&self, parts: &[impl AsRef<[u8]>], tag: &[u8]) -> bool {
        verify_hmac(&self.0[..], &joined(parts), tag)
    }

    /// Nonce and what `plain` became. `aad` has to be the same to decrypt it.
    pub(crate) fn encrypt(
        &self,
        aad: &[impl AsRef<[u8]>],
        plain: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let mut nonce = [0; NONCE_BYTES];
        fill(&mut nonce)?;
        let payload = Payload {
            msg: plain,
            aad: &joined(aad),
        };
        let cipher = XChaCha20Poly1305::new((&*self.0).into());
        let encrypted = cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| CryptoError("the cipher refuses what is to be sealed"))?;
        let mut sealed = Vec::with_capacity(NONCE_BYTES + encrypted.len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&encrypted);
        Ok(sealed)
    }

    /// What was encrypted with this key and this `aad`; `None` for anything else.
    pub(crate) fn decrypt(
        &self,
        aad: &[impl AsRef<[u8]>],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, encrypted) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: encrypted,
            aad: &joined(aad),
        };
        let cipher = XChaCha20Poly1305::new((&*self.0).into());
        let plain = cipher.decrypt(&XNonce::from(*nonce), payload).ok()?;
        Some(Zeroizing::new(plain))
    }

    /// A key that was encrypted.
    pub(crate) fn decrypt_key(&self, aad: &[impl AsRef<[u8]>], sealed: &[u8]) -> Option<Self> {
        Self::from_bytes(&self.decrypt(aad, sealed)?)
    }
}

/// Fills `bytes` from the kernel's generator.
pub(crate) fn fill(mut bytes: &mut [u8]) -> Result<(), CryptoError> {
    while !bytes.is_empty() {
        match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Ok(got) => bytes = &mut bytes[got..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Err(CryptoError("the kernel gives no random bytes")),
        }
    }
    Ok(())
}

/// HKDF-SHA256 into `output`, of at most 8,160 bytes.
pub(crate) fn hkdf(secret: &[u8], salt: &[u8], info: &[u8], output: &mut [u8]) {
    Hkdf::<Sha256>::new(Some(salt), secret)
        .expand(info, output)
        .expect("HKDF makes this many bytes");
}

/// HMAC-SHA256.
pub(crate) fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    keyed(key, message).finalize().into_bytes().into()
}

/// Whether `tag` is HMAC-SHA256 of `message`, in time that tells nothing.
pub(crate) fn verify_hmac(key: &[u8], message: &[u8], tag: &[u8]) -> bool {
    keyed(key, message).verify_slice(tag).is_ok()
}

fn keyed(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac
}

/// Parts one after the other, each with its length before it: no two lists of parts join alike.
fn joined(parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut all = Vec::new();
    for part in parts {
        let part = part.as_ref();
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_words_open() {
        let (key, other) = (Key::random().unwrap(), Key::random().unwrap());
        let sealed = key.encrypt(&["ab", "c"], b"plain").unwrap();
        assert_eq!(sealed.len(), NONCE_BYTES + b"plain".len() + 16);
        assert_eq!(*key.decrypt(&["ab", "c"], &sealed).unwrap(), b"plain");
        assert!(key.decrypt(&["a", "bc"], &sealed).is_none());
        assert!(other.decrypt(&["ab", "c"], &sealed).is_none());
        for at in 0..sealed.len() {
            let mut edited = sealed.clone();
            edited[at] ^= 1;
            assert!(key.decrypt(&["ab", "c"], &edited).is_none(), "{at}");
            assert!(key.decrypt(&["ab", "c"], &sealed[..at]).is_none());
        }
        assert_ne!(sealed, key.encrypt(&["ab", "c"], b"plain").unwrap());
    }

    #[test]
    fn what_is_derived_differs_by_purpose_and_tells_no_key() {
        let key = Key::from_bytes(&[7; KEY_BYTES]).unwrap();
        let derived = |purpose: &[&[u8]]| *key.derive(purpose).bytes();
        assert_eq!(derived(&[b"a"]), derived(&[b"a"]));
        assert_ne!(derived(&[b"a", b"b"]), derived(&[b"ab"]));
        assert_ne!(derived(&[b"a"]), *key.bytes());
        assert!(key.is_mac(&[b"x"], &key.mac(&[b"x"])));
        assert!(!key.is_mac(&[b"y"], &key.mac(&[b"x"])));
        assert_eq!(format!("{key:?}"), "Key(…)");
        assert!(Key::from_bytes(&[0; 31]).is_none());
    }
}
