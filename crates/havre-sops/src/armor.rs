//! age's armour: PEM around an age file (RFC 7468, strict, lines of 64).

use data_encoding::BASE64;

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
const LINE: usize = 64;

pub(crate) fn armored(file: &[u8]) -> String {
    let text = BASE64.encode(file);
    let mut out = format!("{BEGIN}\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str(END);
    out.push('\n');
    out
}

pub(crate) fn unarmored(text: &str) -> Option<Vec<u8>> {
    let inner = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let lines: String = inner.split_whitespace().collect();
    BASE64.decode(lines.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armour_goes_on_and_comes_off() {
        for length in [0, 1, 48, 49, 200] {
            let file = vec![0xa5; length];
            let text = armored(&file);
            assert!(text.lines().all(|line| line.len() <= LINE));
            assert_eq!(unarmored(&text), Some(file));
        }
        assert_eq!(unarmored("age-encryption.org/v1"), None);
    }
}
