//! The Huffman code of header fields (RFC 7541, appendix B). It is canonical: codes of one length
//! follow each other in the order of their symbols, so that the lengths say all.

use std::sync::LazyLock;

/// Bits of each byte's code.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const LONGEST: usize = 30;

/// Codes by their length.
struct Codes {
    /// The first code of each length, and the place of its symbol in `symbols`.
    first: [(u32, usize); LONGEST + 1],
    count: [u32; LONGEST + 1],
    /// In the order of their codes.
    symbols: [u8; 256],
}

static CODES: LazyLock<Codes> = LazyLock::new(|| {
    let mut order: Vec<u8> = (0..=u8::MAX).collect();
    order.sort_by_key(|symbol| (LENGTHS[usize::from(*symbol)], *symbol));
    let mut codes = Codes {
        first: [(0, 0); LONGEST + 1],
        count: [0; LONGEST + 1],
        symbols: [0; 256],
    };
    codes.symbols.copy_from_slice(&order);
    for length in LENGTHS {
        codes.count[usize::from(length)] += 1;
    }
    let (mut code, mut place) = (0, 0);
    for length in 1..=LONGEST {
        code <<= 1;
        codes.first[length] = (code, place);
        code += codes.count[length];
        place += codes.count[length] as usize;
    }
    codes
});

/// Decodes a string. `None` for one that no encoder makes: it ends within a code, or with other bits
/// than the beginning of the code for its end.
pub fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let codes = &*CODES;
    let mut out = Vec::with_capacity(bytes.len() * 2);
    let (mut code, mut length) = (0_u32, 0_usize);
    for byte in bytes {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(byte >> bit & 1);
            length += 1;
            let (first, place) = *codes.first.get(length)?;
            let at = code.wrapping_sub(first);
            if code >= first && at < codes.count[length] {
                out.push(*codes.symbols.get(place + at as usize)?);
                (code, length) = (0, 0);
            }
        }
    }
    let is_padding = length < 8 && code == (1 << length) - 1;
    is_padding.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, appendix C.
    #[test]
    fn the_examples_of_the_standard() {
        for (bytes, expected) in [
            (
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ][..],
                &b"www.example.com"[..],
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], b"no-cache"),
            (
                &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf],
                b"custom-value",
            ),
            (
                &[
                    0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04,
                    0x0b, 0x81, 0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
                ],
                b"Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (&[], b""),
        ] {
            assert_eq!(decode(bytes).as_deref(), Some(expected));
        }
        for wrong in [
            &[0xff_u8, 0xff, 0xff, 0xff][..],
            &[0xff],
            &[0xa8, 0xeb, 0x00],
        ] {
            let decoded = decode(wrong);
            assert!(decoded.is_none(), "{wrong:?}: {decoded:?}");
        }
    }
}
