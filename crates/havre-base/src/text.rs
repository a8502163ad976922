//! Texts.

/// The start of a text: at most so many bytes, and whole characters.
pub fn clipped(text: &str, most_bytes: usize) -> &str {
    let mut end = text.len().min(most_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// One word for a shell, as somebody pastes it: quoted where it has to be.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-:[]".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_for_a_shell() {
        for (text, word) in [
            ("", "''"),
            ("db/key-1", "db/key-1"),
            ("a$b", "'a$b'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }

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
