//! Texts.

/// The start of a text: at most so many bytes, and whole characters.
pub fn clipped(text: &str, most_bytes: usize) -> &str {
    let mut end = text.len().min(most_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_cut() {
        for (most, start) in [
            (0, ""),
            (1, "a"),
            (2, "a"),
            (3, "aü"),
            (4, "aüb"),
            (9, "aüb"),
        ] {
            assert_eq!(clipped("aüb", most), start, "{most}");
        }
    }
}
