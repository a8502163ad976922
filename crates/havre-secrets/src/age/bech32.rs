//! Bech32 (BIP 173) of 32 bytes, the form of age's keys.

const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const CHECKSUM: usize = 6;

/// `prefix`, `1`, 32 bytes and a checksum, in lower case.
pub(super) fn encode(prefix: &str, bytes: &[u8; 32]) -> String {
    let mut groups = Vec::with_capacity(52 + CHECKSUM);
    let (mut rest, mut bits) = (0u32, 0);
    for byte in bytes {
        rest = (rest << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            groups.push((rest >> bits & 31) as u8);
        }
    }
    groups.push((rest << (5 - bits) & 31) as u8);
    let sum = checksum(prefix, groups.iter().copied().chain([0; CHECKSUM])) ^ 1;
    groups.extend((0..CHECKSUM).rev().map(|at| (sum >> (5 * at) & 31) as u8));
    let mut text = format!("{prefix}1");
    text.extend(
        groups
            .iter()
            .map(|group| char::from(ALPHABET[usize::from(*group)])),
    );
    text
}

/// The bytes of a text with this prefix, all in lower or all in upper case; `None` for any other.
pub(super) fn decode(prefix: &str, text: &str) -> Option<[u8; 32]> {
    let lower = text.to_ascii_lowercase();
    if lower != text && text.to_ascii_uppercase() != text {
        return None;
    }
    let data = lower.strip_prefix(prefix)?.strip_prefix('1')?;
    let groups: Vec<u8> = data
        .bytes()
        .map(|byte| {
            ALPHABET
                .iter()
                .position(|known| *known == byte)
                .map(|at| at as u8)
        })
        .collect::<Option<_>>()?;
    if groups.len() != 52 + CHECKSUM || checksum(prefix, groups.iter().copied()) != 1 {
        return None;
    }
    let mut bytes = [0; 32];
    let (mut rest, mut bits, mut at) = (0u32, 0, 0);
    for group in &groups[..52] {
        rest = (rest << 5 | u32::from(*group)) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes[at] = (rest >> bits & 255) as u8;
            at += 1;
        }
    }
    // The bits that are over must be zero: one key has one text.
    (at == 32 && rest & ((1 << bits) - 1) == 0).then_some(bytes)
}

fn checksum(prefix: &str, groups: impl Iterator<Item = u8>) -> u32 {
    let high = prefix.bytes().map(|byte| byte >> 5);
    let low = prefix.bytes().map(|byte| byte & 31);
    let all = high.chain([0]).chain(low).chain(groups);
    all.fold(1, |sum, group| {
        let top = sum >> 25;
        let next = (sum & 0x01ff_ffff) << 5 ^ u32::from(group);
        [
            0x3b6a_57b2,
            0x2650_8e6d,
            0x1ea1_19fa,
            0x3d42_33dd,
            0x2a14_62b3,
        ]
        .iter()
        .enumerate()
        .filter(|(bit, _)| top >> bit & 1 == 1)
        .fold(next, |sum, (_, part)| sum ^ part)
    })
}
