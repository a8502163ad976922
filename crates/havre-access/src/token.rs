//! The text of a token: `havre_`, 256 random bits and a checksum, in letters and digits.
//!
//! The prefix and the checksum let programs that scan for secrets recognise one for sure, and have a
//! mistyped one found without a look at the database.

use std::io;

use sha2::{Digest as _, Sha256};

const PREFIX: &str = "havre_";
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SECRET_BYTES: usize = 32;
/// 62⁴³ > 2²⁵⁶, and 62⁶ > 2³².
const SECRET_DIGITS: usize = 43;
const CHECK_DIGITS: usize = 6;
/// Of the number by which a token is named.
const ID_DIGITS: usize = 8;

/// What the database has of a token.
pub(crate) type Hash = [u8; 32];

/// A new token's text.
pub(crate) fn generate() -> io::Result<String> {
    let mut secret = [0; SECRET_BYTES];
    fill(&mut secret)?;
    let body = base62(&secret, SECRET_DIGITS);
    let check = checksum(&body);
    Ok(format!("{PREFIX}{body}{check}"))
}

/// A new token's number; no secret.
pub(crate) fn generate_id() -> io::Result<String> {
    let mut bytes = [0; 6];
    fill(&mut bytes)?;
    Ok(base62(&bytes, ID_DIGITS).to_ascii_lowercase())
}

/// The hash by which a token is found; `None` for a text that cannot be one.
pub(crate) fn hash(text: &str) -> Option<Hash> {
    let rest = text.strip_prefix(PREFIX)?;
    let plain = rest.len() == SECRET_DIGITS + CHECK_DIGITS
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !plain {
        return None;
    }
    let (body, check) = rest.split_at(SECRET_DIGITS);
    (checksum(body) == check).then(|| Sha256::digest(text.as_bytes()).into())
}

/// Whether two hashes are the same, in a time that does not tell where they differ.
pub(crate) fn same(one: &Hash, other: &Hash) -> bool {
    let differing = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differing) == 0
}

fn fill(buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut buffer[filled..], flags)?;
    }
    Ok(())
}

fn checksum(body: &str) -> String {
    base62(&crc32(body.as_bytes()).to_be_bytes(), CHECK_DIGITS)
}

/// A big-endian number in base 62, with leading zeros.
fn base62(bytes: &[u8], digits: usize) -> String {
    let mut number = bytes.to_vec();
    let mut text = vec![b'0'; digits];
    for digit in text.iter_mut().rev() {
        let mut rest = 0;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            // Less than 256, as the rest is less than 62.
            *byte = (value / 62) as u8;
            rest = value % 62;
        }
        *digit = DIGITS[rest as usize];
    }
    text.into_iter().map(char::from).collect()
}

/// As in zip and PNG (reflected, polynomial 0xEDB88320).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 * (crc & 1))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_checksums_are_as_others_write_them() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(base62(&[0], 2), "00");
        assert_eq!(base62(&[61], 2), "0z");
        assert_eq!(base62(&[1, 0], 3), "048");
        // 2²⁵⁶ − 1 has room.
        let most = base62(&[255; SECRET_BYTES], SECRET_DIGITS);
        assert_ne!(most.as_bytes()[0], b'0');
    }

    #[test]
    fn a_token_is_recognised_and_one_that_was_mistyped_is_not() {
        let text = generate().expect("random");
        assert_eq!(text.len(), 55);
        let known = hash(&text).expect("a token");
        assert!(same(&known, &hash(&text).expect("a token")));
        let other = generate().expect("random");
        assert!(!same(&known, &hash(&other).expect("a token")));
        for at in PREFIX.len()..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'7' { b'8' } else { b'7' };
            let wrong = String::from_utf8(wrong).expect("ASCII");
            assert_eq!(hash(&wrong), None, "{at}");
        }
        for wrong in ["", "havre_", &text[1..], &text[..54], &format!("{text}0")] {
            assert_eq!(hash(wrong), None, "{wrong}");
        }
    }
}
