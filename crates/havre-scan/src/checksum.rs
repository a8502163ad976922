//! The checksum at the end of some tokens: CRC-32 in base 62, six digits.

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const LENGTH: usize = 6;

/// Whether the last six digits are the checksum of those before.
pub(crate) fn holds(text: &str) -> bool {
    let Some((body, check)) = text
        .len()
        .checked_sub(LENGTH)
        .and_then(|at| text.split_at_checked(at))
    else {
        return false;
    };
    check.as_bytes() == digits(body)
}

fn digits(body: &str) -> [u8; LENGTH] {
    let mut number = crc32(body.as_bytes());
    let mut digits = [b'0'; LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[number as usize % DIGITS.len()];
        number /= 62;
    }
    digits
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
pub(crate) fn with_checksum(body: &str) -> String {
    format!("{body}{}", String::from_utf8_lossy(&digits(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_as_others_write_them() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        // The example of GitHub's own description of the form.
        assert!(holds("zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17"));
        assert!(!holds("zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18"));
        assert!(!holds("short"));
    }
}
