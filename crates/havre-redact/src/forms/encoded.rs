//! Base64, hex and URL forms.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

/// Columns after which encoders begin a new line: MIME and `base64`, PEM. What goes on in the next line is
/// found without forms of its own (`rows.rs`); these are for lines that stand apart, indented or quoted.
const COLUMNS: [usize; 2] = [76, 64];

/// A shorter piece of a line is not masked.
const MIN_LINE: usize = 8;

/// At each of the three places where a value can begin in what is encoded, without the characters
/// that depend on what is around it. With `rich` also in the alphabet for URLs, and on several lines.
pub fn base64(value: &[u8], rich: bool, mut add: impl FnMut(Vec<u8>)) {
    for shift in 0..3 {
        let shifted = [&[0; 2][..shift], value].concat();
        let first = (shift * 8).div_ceil(6);
        let end = shifted.len() * 8 / 6;
        let plain = BASE64_NOPAD.encode(&shifted).into_bytes();
        if rich && shift == 0 {
            for columns in COLUMNS.into_iter().filter(|columns| *columns < end) {
                let lines = plain[..end].chunks(columns);
                lines
                    .filter(|line| line.len() >= MIN_LINE)
                    .for_each(|line| add(line.to_vec()));
            }
        }
        add(plain[first..end].to_vec());
        if rich {
            let url = BASE64URL_NOPAD.encode(&shifted).into_bytes();
            add(url[first..end].to_vec());
        }
    }
}

/// In both cases.
pub fn hex(value: &[u8], mut add: impl FnMut(Vec<u8>)) {
    add(HEXLOWER.encode(value).into_bytes());
    add(HEXUPPER.encode(value).into_bytes());
}

/// As `encodeURIComponent`, RFC 3986, forms, paths and query strings have it, with digits of both cases.
pub fn url(value: &[u8], mut add: impl FnMut(Vec<u8>)) {
    const KEPT: [&[u8]; 4] = [b"-_.~", b"-_.!~*'()", b"-_.*", b"-_.~/"];
    for kept in KEPT {
        for plus in [false, true] {
            for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
                let mut form = Vec::with_capacity(value.len() * 3);
                for byte in value {
                    match byte {
                        b' ' if plus => form.push(b'+'),
                        _ if byte.is_ascii_alphanumeric() || kept.contains(byte) => {
                            form.push(*byte)
                        }
                        _ => {
                            let digit = |n: u8| digits[usize::from(n)];
                            form.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
                        }
                    }
                }
                add(form);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64;

    #[test]
    fn base64_is_found_wherever_the_value_begins() {
        let value = b"correct horse battery";
        let mut forms = Vec::new();
        base64(value, true, |form| {
            forms.push(String::from_utf8(form).expect("text"))
        });
        for ahead in 0..6 {
            for behind in 0..4 {
                let around = [&b"user:x"[..ahead], value, &b"zzz"[..behind]].concat();
                let encoded = BASE64.encode(&around);
                assert!(
                    forms.iter().any(|form| encoded.contains(form.as_str())),
                    "{encoded}"
                );
            }
        }
    }
}
