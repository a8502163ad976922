//! One encrypted value.

use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Nonce};
use data_encoding::BASE64;
use zeroize::Zeroizing;

type Cipher = AesGcm<Aes256, U32>;

/// Bytes of a data key, and of a nonce.
pub(crate) const KEY_BYTES: usize = 32;
pub(crate) const NONCE_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const PREFIX: &str = "ENC[AES256_GCM,";

/// Whether a text has the form of an encrypted value.
pub(crate) fn is_encrypted(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// What was encrypted, with that data; none: it was not, or is damaged.
pub(crate) fn open(key: &[u8; KEY_BYTES], data: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let inner = text.strip_prefix(PREFIX)?.strip_suffix(']')?;
    let mut fields = inner.split(',');
    let mut field = |name: &str| {
        let value = fields.next()?.strip_prefix(name)?.strip_prefix(':')?;
        BASE64.decode(value.as_bytes()).ok()
    };
    let (mut sealed, nonce, tag) = (field("data")?, field("iv")?, field("tag")?);
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
    if tag.len() != TAG_BYTES {
        return None;
    }
    sealed.extend_from_slice(&tag);
    let payload = Payload {
        msg: &sealed,
        aad: data.as_bytes(),
    };
    let opened = Cipher::new(&(*key).into()).decrypt(&Nonce::from(nonce), payload);
    opened.ok().map(Zeroizing::new)
}

/// Encrypts a text, with that data; none: it is too long.
pub(crate) fn seal(
    key: &[u8; KEY_BYTES],
    nonce: [u8; NONCE_BYTES],
    data: &str,
    plain: &str,
) -> Option<String> {
    let payload = Payload {
        msg: plain.as_bytes(),
        aad: data.as_bytes(),
    };
    let sealed = Cipher::new(&(*key).into())
        .encrypt(&Nonce::from(nonce), payload)
        .ok()?;
    let (sealed, tag) = sealed.split_at_checked(plain.len())?;
    Some(format!(
        "{PREFIX}data:{},iv:{},tag:{},type:str]",
        BASE64.encode(sealed),
        BASE64.encode(&nonce),
        BASE64.encode(tag)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_for_its_place_and_key() {
        let (key, nonce) = ([7; 32], [9; 32]);
        let sealed = seal(&key, nonce, "db:password:", "hunter2").unwrap();
        assert_eq!(
            open(&key, "db:password:", &sealed).unwrap().as_slice(),
            b"hunter2"
        );
        assert_eq!(open(&key, "db:user:", &sealed), None);
        assert_eq!(open(&[8; 32], "db:password:", &sealed), None);
        for damaged in [
            "",
            "ENC[AES256_GCM,]",
            "ENC[AES256_GCM,data:,iv:,tag:,type:str]",
            &sealed[..sealed.len() - 1],
            &sealed.replacen("data:", "data:AA", 1),
        ] {
            assert_eq!(open(&key, "db:password:", damaged), None, "{damaged}");
        }
    }
}
