//! A file of age's: its header with a stanza for each recipient, and one chunk of payload.

use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use data_encoding::BASE64_NOPAD;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{Identity, Recipient};
use crate::key::{CryptoError, fill, hkdf, hmac, verify_hmac};

const VERSION: &str = "age-encryption.org/v1";
const X25519: &str = "X25519";
const X25519_INFO: &[u8] = b"age-encryption.org/v1/X25519";
const FILE_KEY_BYTES: usize = 16;
/// Payload of one chunk; more is not written here, and not read.
const CHUNK_BYTES: usize = 64 * 1024;
/// Longer headers are not read.
const HEADER_BYTES: usize = 64 * 1024;
/// Columns of a stanza's body.
const COLUMNS: usize = 64;

/// Why a file cannot be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// It is no file of age's, or damaged.
    #[error("not an age file, or a damaged one")]
    Damaged,
    /// It is encrypted to others.
    #[error("this identity does not open the file")]
    NotForIt,
    /// More than one chunk.
    #[error("the file is larger than 64 KiB, which is not supported")]
    TooLarge,
}

/// Encrypts up to 64 KiB to one recipient.
pub fn encrypt(to: &Recipient, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
    if plain.len() > CHUNK_BYTES {
        return Err(CryptoError(
            "more than 64 KiB are not encrypted to age recipients",
        ));
    }
    let mut file_key = Zeroizing::new([0; FILE_KEY_BYTES]);
    fill(&mut file_key[..])?;
    let mut ephemeral = Zeroizing::new([0; 32]);
    fill(&mut ephemeral[..])?;
    let ephemeral = StaticSecret::from(*ephemeral);
    let share = PublicKey::from(&ephemeral);
    let wrap = wrap_key(&ephemeral, &to.0, &share, &to.0)
        .ok_or(CryptoError("the age recipient is a weak key"))?;
    let body = chacha(&wrap)
        .encrypt(&Nonce::from([0; 12]), &file_key[..])
        .map_err(|_| CryptoError("the cipher refuses a file key"))?;
    let mut header = format!(
        "{VERSION}\n-> {X25519} {}\n{}\n---",
        BASE64_NOPAD.encode(share.as_bytes()),
        BASE64_NOPAD.encode(&body),
    );
    let tag = hmac(&*mac_key(&file_key), header.as_bytes());
    header.push_str(&format!(" {}\n", BASE64_NOPAD.encode(&tag)));
    let mut file = header.into_bytes();
    let mut nonce = [0; 16];
    fill(&mut nonce)?;
    file.extend_from_slice(&nonce);
    let payload = chacha(&payload_key(&file_key, &nonce))
        .encrypt(&last_chunk(), plain)
        .map_err(|_| CryptoError("the cipher refuses a payload"))?;
    file.extend_from_slice(&payload);
    Ok(file)
}

/// What is in a file that was encrypted to this identity, perhaps among others.
pub fn decrypt(with: &Identity, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    let Header {
        shares,
        signed,
        tag,
        payload,
    } = header(file).ok_or(DecryptError::Damaged)?;
    let file_key = shares
        .iter()
        .find_map(|(share, body)| unwrap(with, share, body))
        .ok_or(DecryptError::NotForIt)?;
    if !verify_hmac(&*mac_key(&file_key), signed, &tag) {
        return Err(DecryptError::Damaged);
    }
    let (nonce, chunk) = payload
        .split_first_chunk::<16>()
        .ok_or(DecryptError::Damaged)?;
    if chunk.len() > CHUNK_BYTES + 16 {
        return Err(DecryptError::TooLarge);
    }
    let plain = chacha(&payload_key(&file_key, nonce))
        .decrypt(&last_chunk(), chunk)
        .map_err(|_| DecryptError::Damaged)?;
    Ok(Zeroizing::new(plain))
}

/// A header as far as it matters here.
struct Header<'a> {
    /// Shares and bodies of the X25519 stanzas.
    shares: Vec<([u8; 32], Vec<u8>)>,
    /// What the tag is of.
    signed: &'a [u8],
    tag: Vec<u8>,
    payload: &'a [u8],
}

fn header(file: &[u8]) -> Option<Header<'_>> {
    let mut at = 0;
    let mut line = || {
        let rest = &file[at..];
        let length = rest
            .iter()
            .take(HEADER_BYTES)
            .position(|byte| *byte == b'\n')?;
        let begin = at;
        at += length + 1;
        (at <= HEADER_BYTES).then_some(())?;
        Some((begin, std::str::from_utf8(&rest[..length]).ok()?))
    };
    (line()?.1 == VERSION).then_some(())?;
    let mut shares = Vec::new();
    loop {
        let (begin, text) = line()?;
        if let Some(tag) = text.strip_prefix("--- ") {
            let tag = BASE64_NOPAD.decode(tag.as_bytes()).ok()?;
            return Some(Header {
                shares,
                signed: &file[..begin + 3],
                tag,
                payload: &file[at..],
            });
        }
        let mut words = text.strip_prefix("-> ")?.split(' ');
        let kind = words.next()?;
        let mut body = String::new();
        loop {
            let (_, part) = line()?;
            (part.len() <= COLUMNS).then_some(())?;
            body.push_str(part);
            if part.len() < COLUMNS {
                break;
            }
        }
        if kind == X25519 {
            let share = BASE64_NOPAD.decode(words.next()?.as_bytes()).ok()?;
            words.next().is_none().then_some(())?;
            let body = BASE64_NOPAD.decode(body.as_bytes()).ok()?;
            shares.push((share.try_into().ok()?, body));
        }
    }
}

/// The file's key, where the stanza is for this identity.
fn unwrap(
    with: &Identity,
    share: &[u8; 32],
    body: &[u8],
) -> Option<Zeroizing<[u8; FILE_KEY_BYTES]>> {
    let share = PublicKey::from(*share);
    let wrap = wrap_key(&with.0, &share, &share, &with.recipient().0)?;
    let key = chacha(&wrap).decrypt(&Nonce::from([0; 12]), body).ok()?;
    let key = Zeroizing::new(key);
    Some(Zeroizing::new(key[..].try_into().ok()?))
}

/// The key that wraps a file's; `None` for a share of low order, which would make it known to all.
fn wrap_key(
    own: &StaticSecret,
    other: &PublicKey,
    share: &PublicKey,
    recipient: &PublicKey,
) -> Option<Zeroizing<[u8; 32]>> {
    let shared = own.diffie_hellman(other);
    shared.was_contributory().then_some(())?;
    let salt = [&share.as_bytes()[..], &recipient.as_bytes()[..]].concat();
    let mut key = Zeroizing::new([0; 32]);
    hkdf(shared.as_bytes(), &salt, X25519_INFO, &mut key[..]);
    Some(key)
}

fn mac_key(file_key: &[u8; FILE_KEY_BYTES]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf(file_key, &[], b"header", &mut key[..]);
    key
}

fn payload_key(file_key: &[u8; FILE_KEY_BYTES], nonce: &[u8; 16]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf(file_key, nonce, b"payload", &mut key[..]);
    key
}

fn chacha(key: &[u8; 32]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(key.into())
}

/// Of the first chunk that is the last one, too: a counter of eleven bytes and the mark of the end.
fn last_chunk() -> Nonce {
    let mut nonce = [0; 12];
    nonce[11] = 1;
    Nonce::from(nonce)
}
